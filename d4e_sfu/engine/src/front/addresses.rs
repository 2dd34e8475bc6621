//! Who opens how many connections, and how quickly, by address: before anybody has said who he is. Of IPv6 a /64 counts as
//! one, which is one subscriber's (RFC 6177).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::tally::Refused;
use crate::bucket::Bucket;
use crate::now::Now;

/// Addresses that are remembered: whoever has more networks than that finds the door shut for new ones.
const MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub per_address: usize,
    /// New ones from one address, per second and at once.
    pub rate: u64,
    pub burst: u64,
}

struct Entry {
    open: usize,
    openings: Bucket,
    last: Now,
}

pub struct Addresses {
    limits: Limits,
    entries: HashMap<IpAddr, Entry>,
    open: usize,
}

impl Addresses {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            open: 0,
        }
    }

    /// One more from there; `leave` follows where it is let in.
    pub fn enter(&mut self, now: Now, ip: IpAddr) -> Result<(), Refused> {
        if self.open >= self.limits.connections {
            return Err(Refused::TooManyConnections);
        }
        let ip = subscriber(ip);
        if self.entries.len() >= MAX && !self.entries.contains_key(&ip) {
            return Err(Refused::TooManyConnections);
        }
        let Limits { rate, burst, .. } = self.limits;
        let entry = self.entries.entry(ip).or_insert_with(|| Entry {
            open: 0,
            openings: Bucket::new(rate, burst, now),
            last: now,
        });
        entry.last = now;
        if entry.open >= self.limits.per_address {
            return Err(Refused::TooManyFromAddress);
        }
        if !entry.openings.take(now, 1) {
            return Err(Refused::TooOften);
        }
        entry.open += 1;
        self.open += 1;
        Ok(())
    }

    pub fn leave(&mut self, ip: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&subscriber(ip)) {
            entry.open -= 1;
            self.open -= 1;
        }
    }

    /// Forgets who has nothing open, and has by now as much to spend as a stranger.
    pub fn forget(&mut self, now: Now) {
        let Limits { rate, burst, .. } = self.limits;
        let full = std::time::Duration::from_secs(burst / rate.max(1) + 1);
        self.entries
            .retain(|_, entry| entry.open > 0 || now.since(entry.last) < full);
    }
}

fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_share_and_all_together_theirs() {
        let limits = Limits {
            connections: 5,
            per_address: 3,
            rate: 1,
            burst: 4,
        };
        let (mut addresses, now) = (Addresses::new(limits), Now(1));
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(ip);
        for from in [one, same, one] {
            assert_eq!(addresses.enter(now, from), Ok(()));
        }
        assert_eq!(addresses.enter(now, same), Err(Refused::TooManyFromAddress));
        addresses.leave(one);
        assert_eq!(addresses.enter(now, same), Ok(()));
        addresses.leave(one);
        assert_eq!(addresses.enter(now, same), Err(Refused::TooOften));
        assert_eq!(
            addresses.enter(now.plus(Duration::from_secs(1)), one),
            Ok(())
        );
        for _ in 0..2 {
            assert_eq!(addresses.enter(now, other), Ok(()));
        }
        let third = ip("192.0.2.1");
        assert_eq!(
            addresses.enter(now, third),
            Err(Refused::TooManyConnections)
        );
    }

    #[test]
    fn who_has_gone_is_forgotten_when_it_makes_no_difference() {
        let limits = Limits {
            connections: 5,
            per_address: 3,
            rate: 1,
            burst: 4,
        };
        let (mut addresses, now) = (Addresses::new(limits), Now(1));
        let from = ip("::ffff:192.0.2.1");
        assert_eq!(addresses.enter(now, from), Ok(()));
        addresses.leave(ip("192.0.2.1"));
        addresses.forget(now);
        assert_eq!(addresses.entries.len(), 1);
        addresses.forget(now.plus(Duration::from_secs(5)));
        assert_eq!((addresses.entries.len(), addresses.open), (0, 0));
    }
}
