//! What was sent and how it fared, by extended transport-wide number: a ring, so that a packet costs a write and a status of a
//! feedback a look. Libwebrtc's `TransportFeedbackAdapter` keeps a map of the last 60 s instead.

use crate::now::Now;
use crate::wire::drop::DropReason;
use crate::wire::seq::SeqNo;

/// 32 KiB; two seconds of 10 Mbit/s, and longer than any feedback takes that is still of use.
pub(super) const KEPT: usize = 2_048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Unknown,
    /// Said to be lost; may still turn up in a later feedback.
    Lost,
    Received,
}

#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub at: Now,
    /// Number of the probe that it is part of; 0 = none.
    pub probe: u32,
    /// Bytes, down to the IP header.
    pub size: u16,
    pub(super) fate: Fate,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// Number n is at n % `KEPT`. Allocated with the first packet: who is estimated by REMB needs none.
    ring: Vec<Sent>,
    /// Numbers given so far; the next packet gets this + 1, so that 0 is never used.
    count: u64,
}

impl History {
    pub fn push(&mut self, sent: Sent) -> u16 {
        self.count += 1;
        let at = self.count as usize % KEPT;
        if self.ring.capacity() == 0 {
            self.ring.reserve_exact(KEPT);
            // Number 0, which nobody can be told of.
            self.ring.push(Sent {
                fate: Fate::Received,
                ..sent
            });
        }
        match self.ring.get_mut(at) {
            Some(old) => *old = sent,
            None => self.ring.push(sent),
        }
        self.count as u16
    }

    /// Newest number given.
    pub const fn newest(&self) -> u64 {
        self.count
    }

    /// Whether a feedback of `count` statuses from `base` on can be about what is kept: at once, whatever it claims.
    pub fn covers(&self, base: SeqNo, count: u16) -> Result<(), DropReason> {
        let behind = u64::from(SeqNo(self.count as u16).0.wrapping_sub(base.0));
        let last = u64::from(count).saturating_sub(1);
        // The base may be a number that is no longer kept, the last may not; nor may it be one that was never given.
        if last > behind || behind - last >= self.count.min(KEPT as u64) {
            return Err(DropReason::BadFeedback);
        }
        Ok(())
    }

    /// The packet that a client means by `seq`, and its number.
    pub fn find(&mut self, seq: SeqNo) -> Option<(u64, &mut Sent)> {
        let behind = u64::from((self.count as u16).wrapping_sub(seq.0));
        if behind >= self.count.min(KEPT as u64) {
            return None;
        }
        let number = self.count - behind;
        Some((number, self.ring.get_mut(number as usize % KEPT)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ms: u64) -> Sent {
        Sent {
            at: Now::from_millis(ms),
            probe: 0,
            size: 100,
            fate: Fate::Unknown,
        }
    }

    #[test]
    fn a_number_means_the_last_packet_that_had_it_over_three_laps() {
        let mut history = History::default();
        for n in 1..200_000u64 {
            assert_eq!(history.push(sent(n)), n as u16);
            for back in [0, 1, 1_000, KEPT as u64 - 1] {
                if back < n {
                    let (number, found) = history.find(SeqNo((n - back) as u16)).unwrap();
                    assert_eq!((number, found.at), (n - back, Now::from_millis(n - back)));
                }
            }
        }
        assert_eq!(history.ring.capacity(), KEPT);
        assert_eq!(size_of::<Sent>(), 16);
    }

    #[test]
    fn what_was_never_sent_or_is_no_longer_kept_is_not_found() {
        let mut history = History::default();
        assert!(history.find(SeqNo(0)).is_none() && history.find(SeqNo(1)).is_none());
        assert!(history.covers(SeqNo(1), 1).is_err());
        for n in 1..=10 {
            history.push(sent(n));
        }
        assert!(history.find(SeqNo(0)).is_none() && history.find(SeqNo(11)).is_none());
        assert!(history.covers(SeqNo(1), 10).is_ok());
        assert!(history.covers(SeqNo(1), 11).is_err());
        assert!(history.covers(SeqNo(11), 1).is_err());
        assert!(history.covers(SeqNo(60_000), 6_000).is_err());
        for n in 11..=5_000 {
            history.push(sent(n));
        }
        assert!(history.find(SeqNo(5_000 - KEPT as u16)).is_none());
        assert!(history.covers(SeqNo(1), 5_000).is_ok());
        assert!(history.covers(SeqNo(1), 2_000).is_err());
    }
}
