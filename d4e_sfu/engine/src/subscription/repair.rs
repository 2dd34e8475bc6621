//! Retransmissions to one subscriber: how many he may have, and which he has just had. A NACK of 1,400 bytes can name
//! 5,900 packets; whoever asks for more than half of his stream again gets no more than that.

use std::time::Duration;

use crate::now::Now;
use crate::wire::seq::{ExtSeq, SeqNo};

/// Remembered retransmissions; more than can be in flight within a round trip at any sane rate.
const REMEMBERED: usize = 256;
/// What may be saved up on a stream of any rate: seven packets, for a first keyframe that is hit.
const FLOOR: u64 = 8_000;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Repairs {
    /// By the low bits of the number: when one of these went last. Made at the first NACK.
    log: Vec<Option<Now>>,
    second: Now,
    sent: u64,
    sent_before: u64,
    /// Bytes that may be repaired: half of what was sent, saved up for a second at most.
    credit: u64,
    /// Next number of the RTX stream.
    next: ExtSeq,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            log: Vec::new(),
            second: Now(0),
            sent: 0,
            sent_before: 0,
            credit: FLOOR,
            next: ExtSeq(1),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The same packet (or one 256 numbers away) went less than a round trip ago.
    Repeated,
    /// Over half of the stream's rate.
    Share,
}

impl Repairs {
    /// A packet of `bytes` went out for the first time.
    pub fn count(&mut self, now: Now, bytes: usize) {
        self.turn(now);
        self.sent += bytes as u64;
        let most = (self.sent.max(self.sent_before) / 2).max(FLOOR);
        self.credit = (self.credit + bytes as u64 / 2).min(most);
    }

    /// The next number on the RTX stream.
    pub fn number(&mut self) -> ExtSeq {
        let number = self.next;
        self.next = number.next();
        number
    }

    /// May `seq` (of `bytes` on the wire) go again? If so it counts as sent.
    pub fn allow(
        &mut self,
        now: Now,
        seq: SeqNo,
        bytes: usize,
        round_trip: Duration,
    ) -> Result<(), Refusal> {
        self.turn(now);
        if self.log.is_empty() {
            self.log.resize(REMEMBERED, None);
        }
        let entry = &mut self.log[usize::from(seq.0) % REMEMBERED];
        // Another number that shares the place waits as well: were it to overwrite, asking for both in turn would get both
        // without end.
        if entry.is_some_and(|sent| now.since(sent) < round_trip) {
            return Err(Refusal::Repeated);
        }
        let Some(credit) = self.credit.checked_sub(bytes as u64) else {
            return Err(Refusal::Share);
        };
        self.credit = credit;
        *entry = Some(now);
        Ok(())
    }

    fn turn(&mut self, now: Now) {
        let elapsed = now.since(self.second);
        if elapsed >= SECOND {
            self.sent_before = if elapsed < 2 * SECOND { self.sent } else { 0 };
            (self.second, self.sent) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn no_packet_twice_within_a_round_trip() {
        let mut repairs = Repairs::default();
        let at = Now::from_millis;
        assert_eq!(repairs.allow(at(0), SeqNo(7), 100, RTT), Ok(()));
        assert_eq!(
            repairs.allow(at(99), SeqNo(7), 100, RTT),
            Err(Refusal::Repeated)
        );
        assert_eq!(repairs.allow(at(99), SeqNo(8), 100, RTT), Ok(()));
        assert_eq!(repairs.allow(at(100), SeqNo(7), 100, RTT), Ok(()));
    }

    #[test]
    fn two_numbers_of_one_place_do_not_undo_each_other() {
        let mut repairs = Repairs::default();
        let mut went = 0;
        for _ in 0..4 {
            for seq in [7, 7 + REMEMBERED as u16] {
                went += u32::from(repairs.allow(Now(0), SeqNo(seq), 100, RTT).is_ok());
            }
        }
        assert_eq!(
            went, 1,
            "the second waits until the first is a round trip old"
        );
        let later = Now::from_millis(100);
        assert!(
            repairs
                .allow(later, SeqNo(7 + REMEMBERED as u16), 100, RTT)
                .is_ok()
        );
    }

    #[test]
    fn a_thousand_nacks_a_second_get_half_of_the_stream() {
        let mut repairs = Repairs::default();
        let (mut sent, mut repaired) = (0, 0);
        for ms in 0..10_000u64 {
            if ms % 4 == 0 {
                repairs.count(Now::from_millis(ms), 1_000);
                sent += 1_000;
            }
            for n in 0..5u64 {
                if repairs
                    .allow(Now::from_millis(ms), SeqNo((ms * 5 + n) as u16), 1_000, RTT)
                    .is_ok()
                {
                    repaired += 1_000;
                }
            }
        }
        assert!(repaired <= sent / 2 + FLOOR, "{repaired} of {sent}");
        assert!(
            repaired >= sent / 3,
            "{repaired} of {sent}: honest repairs must fit too"
        );
    }
}
