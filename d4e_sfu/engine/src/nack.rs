//! Which packets of one incoming encoding are missing, and when to ask for them again. Knows what has been seen (so that a
//! number is accepted once), not what was in it. Asked by `publication` for every packet, and by the router's tick.

use std::time::Duration;

use crate::now::Now;
use crate::wire::seq::{ExtSeq, SeqNo};

/// Numbers remembered behind the newest: 2,048 packets are over a second of any stream here.
pub const WINDOW: u64 = 2_048;
/// A jump by more than this is a break in the stream, not a loss: nothing is asked for (libwebrtc gives up at 1,000).
pub const MAX_GAP: u64 = 256;
/// Missing at the same time; older ones are given up.
const MAX_MISSING: usize = 256;
/// RFC 4585 leaves it open; libwebrtc's `kMaxNackRetries`.
const MAX_TRIES: u8 = 10;
/// A packet that is missing may be late. It counts as lost after 10 ms, or a quarter more than packets have been late
/// on this path (RFC 9002 §6.1.2 has the same idea). Not by how many have passed it: encoders send in bursts.
const LATENESS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: ExtSeq,
    since: Now,
    first_asked: Option<Now>,
    asked: Option<Now>,
    tries: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The newest so far, next in order or after a gap.
    New,
    /// Over [`MAX_GAP`] numbers are missing: what came before is over.
    Break,
    /// Fills a gap: how long after that was noticed, and after it was first asked for, if it was. Which of several requests
    /// it answers cannot be known (Karn's ambiguity); counted from the last, a long way would look ever shorter, and be
    /// asked over it ever more often.
    Repair {
        late: Duration,
        after: Option<Duration>,
    },
    Duplicate,
    TooOld,
}

#[derive(Debug)]
pub struct Gaps {
    highest: Option<ExtSeq>,
    seen: [u64; (WINDOW / 64) as usize],
    missing: Vec<Missing>,
    given_up: bool,
    /// How long a packet may be late and is not lost.
    patience: Duration,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            highest: None,
            seen: [0; (WINDOW / 64) as usize],
            missing: Vec::with_capacity(MAX_MISSING),
            given_up: false,
            patience: *LATENESS.start(),
        }
    }
}

impl Gaps {
    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.highest
    }

    /// The full number that a 16-bit one means: the nearest to the newest.
    #[must_use]
    pub fn extend(&self, seq: SeqNo) -> ExtSeq {
        match self.highest {
            // Far from zero, so that what was sent just before the first packet has a number as well.
            None => ExtSeq((1 << 32) | u64::from(seq.0)),
            Some(highest) => ExtSeq(
                highest
                    .0
                    .wrapping_add_signed(i64::from(seq.since(highest.seq()))),
            ),
        }
    }

    /// A stream with a new SSRC takes over: its numbers continue far above the old ones, so that the two never meet.
    pub fn restart(&mut self, first: SeqNo) -> ExtSeq {
        let above = self
            .highest
            .map_or(1 << 32, |highest| ((highest.0 >> 16) + 2) << 16);
        self.missing.clear();
        self.seen = [0; (WINDOW / 64) as usize];
        let first = ExtSeq(above | u64::from(first.0));
        self.highest = Some(first);
        self.mark(first);
        first
    }

    /// `seq` counts as not received yet.
    pub fn forget(&mut self, seq: ExtSeq) {
        self.unmark(seq);
    }

    pub fn receive(&mut self, now: Now, seq: ExtSeq) -> Seen {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            self.mark(seq);
            return Seen::New;
        };
        if seq > highest {
            let gap = seq.0 - highest.0 - 1;
            for passed in highest.0 + 1..=seq.0.min(highest.0 + WINDOW) {
                self.unmark(ExtSeq(passed));
            }
            self.highest = Some(seq);
            self.mark(seq);
            if gap > MAX_GAP {
                self.seen = [0; (WINDOW / 64) as usize];
                self.mark(seq);
                self.missing.clear();
                return Seen::Break;
            }
            for lost in highest.0 + 1..seq.0 {
                if self.missing.len() == MAX_MISSING {
                    self.missing.remove(0);
                    self.given_up = true;
                }
                self.missing.push(Missing {
                    seq: ExtSeq(lost),
                    since: now,
                    first_asked: None,
                    asked: None,
                    tries: 0,
                });
            }
            return Seen::New;
        }
        if highest.0 - seq.0 >= WINDOW {
            return Seen::TooOld;
        }
        if self.is_marked(seq) {
            return Seen::Duplicate;
        }
        self.mark(seq);
        let found = self.missing.binary_search_by_key(&seq, |m| m.seq);
        let missing = found.ok().map(|at| self.missing.remove(at));
        Seen::Repair {
            late: missing.map_or(Duration::ZERO, |missing| now.since(missing.since)),
            after: missing
                .and_then(|missing| missing.first_asked)
                .map(|at| now.since(at)),
        }
    }

    /// An original packet came out of order: from now on such a one is waited for. Forgotten by a sixteenth each time.
    pub fn reordered(&mut self, late: Duration) {
        let patience = (self.patience - self.patience / 16).max(late * 5 / 4);
        self.patience = patience.clamp(*LATENESS.start(), *LATENESS.end());
    }

    /// Writes the numbers to ask for now into `out`, oldest first, and returns how many. `round_trip` spaces the tries.
    pub fn due(&mut self, now: Now, round_trip: Duration, out: &mut [SeqNo]) -> usize {
        let patience = self.patience;
        let mut count = 0;
        let mut given_up = false;
        self.missing.retain_mut(|missing| {
            let due = match missing.asked {
                None => now.since(missing.since) >= patience,
                Some(at) => now.since(at) >= round_trip,
            };
            if !due || count == out.len() {
                return true;
            }
            if missing.tries == MAX_TRIES {
                given_up = true;
                return false;
            }
            missing.first_asked.get_or_insert(now);
            missing.asked = Some(now);
            missing.tries += 1;
            out[count] = missing.seq.seq();
            count += 1;
            true
        });
        self.given_up |= given_up;
        count
    }

    /// What has been missing for longer than `age` would come too late.
    pub fn let_go_after(&mut self, now: Now, age: Duration) {
        self.missing
            .retain(|missing| now.since(missing.since) <= age);
    }

    /// Nobody asks: what is missing stays missing.
    pub fn let_go(&mut self) {
        self.missing.clear();
        self.given_up = false;
    }

    /// True once after packets were given up: only a keyframe can mend the picture now.
    pub fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.given_up)
    }

    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    fn bit(seq: ExtSeq) -> (usize, u64) {
        let at = seq.0 % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
    fn mark(&mut self, seq: ExtSeq) {
        let (word, bit) = Self::bit(seq);
        self.seen[word] |= bit;
    }
    fn unmark(&mut self, seq: ExtSeq) {
        let (word, bit) = Self::bit(seq);
        self.seen[word] &= !bit;
    }
    fn is_marked(&self, seq: ExtSeq) -> bool {
        let (word, bit) = Self::bit(seq);
        self.seen[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    /// Where wrap-around bugs live; the idea is pion's (`pkg/nack/receive_log_test.go`).
    const STARTS: [u16; 16] = [
        0, 1, 127, 128, 511, 512, 32_766, 32_767, 32_768, 32_769, 65_023, 65_024, 65_407, 65_533,
        65_534, 65_535,
    ];

    fn asked(gaps: &mut Gaps, now: Now) -> Vec<u16> {
        let mut out = [SeqNo(0); 64];
        let count = gaps.due(now, RTT, &mut out);
        out[..count].iter().map(|s| s.0).collect()
    }

    fn receive(gaps: &mut Gaps, now: Now, seq: u16) -> Seen {
        let seq = gaps.extend(SeqNo(seq));
        gaps.receive(now, seq)
    }

    #[test]
    fn a_gap_is_asked_for_after_ten_milliseconds_from_every_start() {
        for start in STARTS {
            let mut gaps = Gaps::default();
            let at = |n: u16| start.wrapping_add(n);
            for n in [0, 1, 3, 4, 5, 6, 7] {
                assert_eq!(
                    receive(&mut gaps, Now(0), at(n)),
                    Seen::New,
                    "start {start}"
                );
            }
            assert!(
                asked(&mut gaps, Now::from_millis(9)).is_empty(),
                "start {start}"
            );
            assert_eq!(
                asked(&mut gaps, Now::from_millis(10)),
                vec![at(2)],
                "start {start}"
            );
            let ms = Duration::from_millis;
            assert_eq!(
                receive(&mut gaps, Now::from_millis(40), at(2)),
                Seen::Repair {
                    late: ms(40),
                    after: Some(ms(30))
                }
            );
            assert_eq!(
                receive(&mut gaps, Now::from_millis(40), at(2)),
                Seen::Duplicate
            );
            assert!(asked(&mut gaps, Now::from_millis(500)).is_empty());
        }
    }

    #[test]
    fn a_path_that_reorders_is_given_more_time_and_forgiven_again() {
        let mut gaps = Gaps::default();
        let wait = |gaps: &mut Gaps, seq: u16| {
            receive(gaps, Now(0), seq);
            receive(gaps, Now(0), seq + 2);
            let wait = (0..100).find(|&ms| !asked(gaps, Now::from_millis(ms)).is_empty());
            receive(gaps, Now::from_millis(100), seq + 1);
            wait.unwrap()
        };
        assert_eq!(wait(&mut gaps, 10), 10);
        gaps.reordered(Duration::from_millis(24));
        assert_eq!(wait(&mut gaps, 20), 30);
        gaps.reordered(Duration::from_secs(9));
        assert_eq!(wait(&mut gaps, 30), 50, "but not for ever");
        for _ in 0..50 {
            gaps.reordered(Duration::ZERO);
        }
        assert_eq!(wait(&mut gaps, 40), 10);
    }

    #[test]
    fn ten_tries_a_round_trip_apart_and_then_it_is_given_up() {
        let mut gaps = Gaps::default();
        receive(&mut gaps, Now(0), 10);
        receive(&mut gaps, Now(0), 12);
        let mut tries = 0;
        for ms in (20..3_000).step_by(10) {
            tries += asked(&mut gaps, Now::from_millis(ms)).len();
        }
        assert_eq!(tries, 10);
        assert_eq!(gaps.missing(), 0);
        assert!(gaps.take_given_up());
        assert!(!gaps.take_given_up());
    }

    #[test]
    fn a_jump_is_a_break_and_asks_for_nothing() {
        let mut gaps = Gaps::default();
        receive(&mut gaps, Now(0), 10);
        assert_eq!(receive(&mut gaps, Now(0), 11 + 257), Seen::Break);
        assert!(asked(&mut gaps, Now::from_millis(100)).is_empty());
        assert_eq!(receive(&mut gaps, Now(0), 12 + 257), Seen::New);
    }

    #[test]
    fn packets_before_the_first_one_are_accepted_once() {
        for start in STARTS {
            let mut gaps = Gaps::default();
            receive(&mut gaps, Now(0), start);
            let before = start.wrapping_sub(1);
            assert_eq!(
                receive(&mut gaps, Now(0), before),
                Seen::Repair {
                    late: Duration::ZERO,
                    after: None
                },
                "start {start}"
            );
            assert_eq!(receive(&mut gaps, Now(0), before), Seen::Duplicate);
        }
    }

    #[test]
    fn a_whole_turn_of_the_circle_is_all_new() {
        let mut gaps = Gaps::default();
        for n in 0..200_000u32 {
            assert_eq!(receive(&mut gaps, Now(0), n as u16), Seen::New);
        }
        assert_eq!(gaps.missing(), 0);
    }

    #[test]
    fn a_new_ssrc_continues_above_the_old_numbers() {
        let mut gaps = Gaps::default();
        receive(&mut gaps, Now(0), 65_000);
        let old = gaps.highest().unwrap();
        let first = gaps.restart(SeqNo(3));
        assert!(first > old && first.seq() == SeqNo(3));
        assert_eq!(receive(&mut gaps, Now(0), 4), Seen::New);
        assert_eq!(receive(&mut gaps, Now(0), 3), Seen::Duplicate);
    }

    #[test]
    fn the_list_of_missing_packets_is_bounded() {
        let mut gaps = Gaps::default();
        let mut seq = ExtSeq(1 << 32);
        for _ in 0..100 {
            gaps.receive(Now(0), seq);
            seq = ExtSeq(seq.0 + 200);
        }
        assert!(gaps.missing() <= MAX_MISSING);
        assert!(gaps.take_given_up());
    }
}
