//! Our own checks of addresses from which something authentic has come and that nobody has proven: which are asked, and
//! which have answered. Few, and not often: whoever has a copy of a packet can have one sent. It knows neither keys nor
//! pairs, and reads no datagram.

use std::net::SocketAddr;
use std::time::Duration;

use super::path::GRACE;
use crate::bucket::Bucket;
use crate::now::Now;
use crate::wire::stun::TransactionId;

/// Addresses asked at a time.
pub const MAX_INQUIRIES: usize = 4;
/// Checks a second, and at once: a client's reports come every 50 to 100 ms, and each may ask again.
const RATE: u64 = 10;
const BURST: u64 = 5;
/// An address is asked again after this long, should something come from there.
const AGAIN: Duration = Duration::from_millis(100);
/// An answer after this long counts no more: no path takes longer.
const LIFE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Inquiry {
    local: SocketAddr,
    remote: SocketAddr,
    transaction: TransactionId,
    since: Now,
    sent: Now,
    answered: bool,
}

#[derive(Debug)]
pub struct Inquiries {
    open: Vec<Inquiry>,
    limit: Bucket,
    number: u64,
}

impl Inquiries {
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            open: Vec::new(),
            limit: Bucket::new(RATE, BURST, now),
            number: 0,
        }
    }

    /// Something authentic came from `remote` to `local`. The transaction of the check that is due, drawn by its number
    /// where it is a new one: what is sent again is the same check (RFC 8489 §6.2.1).
    pub fn ask(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        draw: impl FnOnce(u64) -> TransactionId,
    ) -> Option<TransactionId> {
        self.open.retain(|each| now.since(each.since) < LIFE);
        let known = self
            .open
            .iter_mut()
            .find(|each| (each.local, each.remote) == (local, remote));
        if let Some(known) = known {
            let due = !known.answered && now.since(known.sent) >= AGAIN;
            return (due && self.limit.take(now, 1)).then(|| {
                known.sent = now;
                known.transaction
            });
        }
        if self.open.len() == MAX_INQUIRIES || !self.limit.take(now, 1) {
            return None;
        }
        self.number += 1;
        let transaction = draw(self.number);
        self.open.push(Inquiry {
            local,
            remote,
            transaction,
            since: now,
            sent: now,
            answered: false,
        });
        Some(transaction)
    }

    /// This answers a check of ours, if it is authentic: ask that before it is [`Inquiries::answered`].
    #[must_use]
    pub fn waits(
        &self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        transaction: &TransactionId,
    ) -> bool {
        self.open.iter().any(|each| {
            (each.local, each.remote) == (local, remote)
                && each.transaction == *transaction
                && !each.answered
                && now.since(each.since) < LIFE
        })
    }

    pub fn answered(&mut self, transaction: &TransactionId) {
        for each in &mut self.open {
            each.answered |= each.transaction == *transaction;
        }
    }

    /// An answer waits for its time.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.open.iter().any(|each| each.answered)
    }

    /// Where somebody has answered, and [`GRACE`] after something first came from there nothing has ended this.
    #[must_use]
    pub fn settled(&self, now: Now) -> Option<(SocketAddr, SocketAddr)> {
        self.open
            .iter()
            .find(|each| each.answered && now.since(each.since) >= GRACE)
            .map(|each| (each.local, each.remote))
    }

    /// He is where he was, or is known to be elsewhere: what has been asked means nothing any more.
    pub fn end(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 7882))
    }
    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }
    fn ms(ms: u64) -> Now {
        Now::from_millis(ms)
    }
    fn draw(number: u64) -> TransactionId {
        let mut transaction = [0; 12];
        transaction[4..].copy_from_slice(&number.to_be_bytes());
        transaction
    }

    #[test]
    fn an_address_is_asked_again_with_the_same_check_and_not_often() {
        let mut inquiries = Inquiries::new(ms(0));
        let mut ask = |at| inquiries.ask(ms(at), local(), remote(1), draw);
        let first = ask(0);
        assert_eq!(first, Some(draw(1)));
        assert_eq!((ask(0), ask(99)), (None, None));
        assert_eq!((ask(100), ask(101)), (first, None));
        assert_eq!(ask(200), first);
        assert_eq!(ask(2_000), Some(draw(2)), "another, when it is over");
    }

    #[test]
    fn however_many_addresses_a_few_are_asked() {
        let mut inquiries = Inquiries::new(ms(0));
        let asked =
            (1..=100).filter(|&port| inquiries.ask(ms(0), local(), remote(port), draw).is_some());
        assert_eq!(asked.count(), MAX_INQUIRIES);
        let mut sent = 0;
        for at in 1..=10_000 {
            let port = 1_000 + at as u16;
            sent += u64::from(inquiries.ask(ms(at), local(), remote(port), draw).is_some());
            sent += u64::from(inquiries.ask(ms(at), local(), remote(port), draw).is_some());
            assert!(inquiries.open.len() <= MAX_INQUIRIES);
        }
        assert!((1..=10 * RATE + BURST).contains(&sent), "{sent}");
        inquiries.end();
        let again = (1..=1_000).filter(|&at| {
            inquiries.end();
            let now = ms(20_000 + at);
            inquiries.ask(now, local(), remote(1), draw).is_some()
        });
        assert!(again.count() as u64 <= RATE + BURST);
    }

    #[test]
    fn only_an_answer_from_there_to_what_was_asked_settles_it_and_only_once_its_time_has_come() {
        let mut inquiries = Inquiries::new(ms(0));
        let transaction = inquiries.ask(ms(0), local(), remote(1), draw).unwrap();
        inquiries.ask(ms(0), local(), remote(2), draw).unwrap();
        let waits = |inquiries: &Inquiries, at, port, n| {
            inquiries.waits(ms(at), local(), remote(port), &draw(n))
        };
        assert!(!waits(&inquiries, 1, 1, 2) && !waits(&inquiries, 1, 2, 1));
        assert!(!waits(&inquiries, 1, 3, 1) && !waits(&inquiries, 2_000, 1, 1));
        assert!(waits(&inquiries, 1, 1, 1) && waits(&inquiries, 1_999, 1, 1));
        assert_eq!(inquiries.settled(ms(500)), None, "nobody has answered");
        assert!(!inquiries.is_unsettled());
        inquiries.answered(&transaction);
        assert!(inquiries.is_unsettled());
        assert!(!waits(&inquiries, 1, 1, 1), "once");
        assert_eq!(inquiries.settled(ms(79)), None);
        assert_eq!(inquiries.settled(ms(80)), Some((local(), remote(1))));
        inquiries.end();
        assert_eq!(inquiries.settled(ms(80)), None);
    }
}
