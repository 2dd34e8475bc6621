//! Which number of the incoming streams became which number of one outgoing stream, and back: sequence numbers without
//! holes of our making, one clock, one count of pictures, across layer switches, pauses and packets left out.
//!
//! The outgoing stream is a list of runs. Within a run every number is shifted by the same amounts, so a number is
//! *reserved* for a packet that is still missing, and a late packet finds its place. A packet left out ends a run.
//! Invariant: an outgoing number is given to one packet only, and never twice (SRTP must not seal two packets under one
//! index, RFC 3711 §9.1).

use std::collections::VecDeque;

use crate::wire::codec::layer::Layer;
use crate::wire::seq::{ExtSeq, SeqNo, Timestamp};

/// A filter of layers starts a run for every picture that it leaves something out of: 128 are two to four seconds of them.
const MAX_RUNS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub encoding: u8,
    /// First and last incoming number; the last run is open (`u64::MAX`).
    pub first: ExtSeq,
    last: u64,
    /// incoming minus outgoing
    shift: u64,
    pub timestamp_shift: u32,
    pub picture_shift: u16,
    pub tl0_shift: u8,
    /// Of the dependency descriptor: frame number and template id.
    pub frame_shift: u16,
    pub template_shift: u8,
    /// What is above this layer is left out of this run.
    pub layer: Layer,
    catch_up: Option<CatchUp>,
}

/// A run whose first picture was captured before the last one shown. Its clock is kept exact, for sender reports and for
/// what comes after it; until it has caught up, pictures are shown as if time went slower, so that it never runs back. If
/// all of the run were shown later instead, each switch would leave its step in the clock, and receivers that smooth their
/// sender reports (libwebrtc: over 20 of them) would be out of step with the voice for as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// When the first picture was captured.
    pub captured: Timestamp,
    /// When it is shown.
    pub shown: Timestamp,
}

impl CatchUp {
    /// Frames that are a millisecond apart still have times of their own, and half a second is made up for within 8 ms.
    const SLOWER: i32 = 64;

    fn slowed(&self, exact: Timestamp) -> Timestamp {
        let since = exact.since(self.captured).max(0) / Self::SLOWER;
        self.shown.add(since as u32)
    }
}

impl Run {
    #[must_use]
    pub fn out(&self, seq: ExtSeq) -> ExtSeq {
        ExtSeq(seq.0.wrapping_sub(self.shift))
    }
    /// By the clock of the run: when it was captured.
    #[must_use]
    pub fn exact(&self, timestamp: Timestamp) -> Timestamp {
        Timestamp(timestamp.0.wrapping_sub(self.timestamp_shift))
    }
    /// As the subscriber sees it.
    #[must_use]
    pub fn timestamp(&self, timestamp: Timestamp) -> Timestamp {
        let exact = self.exact(timestamp);
        match self.catch_up.map(|catch_up| catch_up.slowed(exact)) {
            Some(slowed) if slowed.newer_than(exact) => slowed,
            _ => exact,
        }
    }
    #[must_use]
    pub fn picture_id(&self, id: u16) -> u16 {
        id.wrapping_sub(self.picture_shift) & 0x7fff
    }
    #[must_use]
    pub fn tl0(&self, index: u8) -> u8 {
        index.wrapping_sub(self.tl0_shift)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Newer than anything sent, and the stream in use.
    Ahead,
    /// A number has been kept for it.
    Reserved(Run),
    /// It has none and gets none.
    Outside,
}

/// The shifts of a run that starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shifts {
    pub timestamp: u32,
    pub picture: u16,
    pub tl0: u8,
    pub frame: u16,
    pub template: u8,
    pub catch_up: Option<CatchUp>,
}

#[derive(Debug)]
pub struct Numbering {
    runs: VecDeque<Run>,
    /// Newest incoming number of the open run that was sent or left out.
    newest: ExtSeq,
    /// Outgoing number of the very first packet.
    initial: u64,
}

impl Numbering {
    /// `initial` below 2^15, so that the first roll-over count is certain to be 0 at the receiver.
    #[must_use]
    pub fn new(initial: u16) -> Self {
        Self {
            runs: VecDeque::with_capacity(MAX_RUNS),
            newest: ExtSeq(0),
            initial: u64::from(initial & 0x7fff),
        }
    }

    /// The number that the next packet in order gets.
    #[must_use]
    pub fn next(&self) -> ExtSeq {
        self.runs
            .back()
            .map_or(ExtSeq(self.initial), |open| open.out(self.newest.next()))
    }

    /// The run in use.
    #[must_use]
    pub fn open(&self) -> Option<&Run> {
        self.runs.back()
    }

    #[must_use]
    pub fn newest(&self) -> ExtSeq {
        self.newest
    }

    #[must_use]
    pub fn place(&self, encoding: u8, seq: ExtSeq) -> Place {
        match self.runs.back() {
            Some(open) if open.encoding == encoding && seq > self.newest => return Place::Ahead,
            _ => {}
        }
        self.runs
            .iter()
            .rev()
            .find(|run| run.encoding == encoding && run.first <= seq)
            .filter(|run| seq.0 <= run.last)
            .map_or(Place::Outside, |run| Place::Reserved(*run))
    }

    /// Nothing of `encoding` at `seq` or later has a number yet.
    #[must_use]
    pub fn is_new(&self, encoding: u8, seq: ExtSeq) -> bool {
        let latest = self
            .runs
            .iter()
            .enumerate()
            .rev()
            .find(|(_, run)| run.encoding == encoding);
        latest.is_none_or(|(at, run)| {
            let last = if at + 1 == self.runs.len() {
                self.newest.0
            } else {
                run.last
            };
            last < seq.0
        })
    }

    /// A new run at `seq`, which is then [`Place::Ahead`]: a switch, or the end of a pause.
    pub fn start(&mut self, encoding: u8, seq: ExtSeq, layer: Layer, shifts: Shifts) {
        let out = self.next();
        let newest = self.newest;
        if let Some(open) = self.runs.back_mut() {
            open.last = newest.0;
        }
        self.push(Run {
            encoding,
            first: seq,
            last: u64::MAX,
            shift: seq.0.wrapping_sub(out.0),
            timestamp_shift: shifts.timestamp,
            picture_shift: shifts.picture,
            tl0_shift: shifts.tl0,
            frame_shift: shifts.frame,
            template_shift: shifts.template,
            layer,
            catch_up: shifts.catch_up,
        });
        self.newest = ExtSeq(seq.0.wrapping_sub(1));
    }

    /// `seq`, which is ahead, takes its number. Numbers in between are reserved.
    pub fn take(&mut self, seq: ExtSeq) {
        self.newest = seq;
    }

    /// `seq`, which is ahead, gets no number; those in between are reserved. `picture`: its picture is left out as well,
    /// and this is the first we hear of it.
    pub fn leave_out(&mut self, seq: ExtSeq, picture: bool) {
        let Some(&open) = self.runs.back() else {
            return;
        };
        let next = Run {
            first: seq.next(),
            shift: open.shift.wrapping_add(1),
            picture_shift: open.picture_shift.wrapping_add(u16::from(picture)),
            ..open
        };
        self.split(seq, next);
        self.newest = seq;
    }

    /// As [`Self::leave_out`], where nothing of what comes before it is wanted either: what is missing since the last one
    /// that was left out gets no number, should it still come.
    pub fn pass_over(&mut self, seq: ExtSeq) {
        match self.runs.back() {
            Some(&open) if open.first > self.newest => {
                let next = Run {
                    first: seq.next(),
                    shift: open.shift.wrapping_add(seq.0 - self.newest.0),
                    ..open
                };
                self.split(open.first, next);
                self.newest = seq;
            }
            _ => self.leave_out(seq, false),
        }
    }

    /// From `seq`, which is ahead, another limit holds.
    pub fn limit(&mut self, seq: ExtSeq, layer: Layer) {
        if let Some(&open) = self.runs.back() {
            self.split(
                seq,
                Run {
                    first: seq,
                    layer,
                    ..open
                },
            );
        }
    }

    /// Ends catching up where `seq`, which is ahead, was captured after all that has been shown.
    pub fn caught_up(&mut self, seq: ExtSeq, timestamp: Timestamp) {
        if let Some(&open) = self.runs.back()
            && open.catch_up.is_some()
            && open.timestamp(timestamp) == open.exact(timestamp)
        {
            self.split(
                seq,
                Run {
                    first: seq,
                    catch_up: None,
                    ..open
                },
            );
        }
    }

    /// The incoming packet behind an outgoing number that a receiver asks for.
    #[must_use]
    pub fn source(&self, out: SeqNo) -> Option<(Run, ExtSeq)> {
        let newest = self.next().0.checked_sub(1)?;
        let out = newest.checked_add_signed(i64::from(out.since(ExtSeq(newest).seq())))?;
        if out > newest {
            return None;
        }
        let run = self
            .runs
            .iter()
            .rev()
            .find(|run| run.out(run.first).0 <= out)?;
        let seq = ExtSeq(out.wrapping_add(run.shift));
        let last = if run.last == u64::MAX {
            self.newest.0
        } else {
            run.last
        };
        (run.first <= seq && seq.0 <= last).then_some((*run, seq))
    }

    fn split(&mut self, at: ExtSeq, next: Run) {
        match self.runs.back_mut() {
            // Nothing has been given out of this run yet.
            Some(open) if open.first == at => *open = next,
            Some(open) => {
                open.last = at.0.wrapping_sub(1);
                self.push(next);
            }
            None => {}
        }
    }

    fn push(&mut self, run: Run) {
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u64) -> ExtSeq {
        ExtSeq((1 << 32) + n)
    }

    fn started(at: u64) -> Numbering {
        let mut numbering = Numbering::new(100);
        numbering.start(0, seq(at), Layer::TOP, Shifts::default());
        numbering
    }

    fn out(numbering: &Numbering, n: u64) -> Option<u64> {
        match numbering.place(0, seq(n)) {
            Place::Reserved(run) => Some(run.out(seq(n)).0),
            _ => None,
        }
    }

    #[test]
    fn a_clock_that_is_behind_catches_up_without_running_back_from_sixteen_starts() {
        for start in (0..16u32).map(|n| n.wrapping_mul(1 << 28).wrapping_sub(3_000)) {
            let mut numbering = started(0);
            // The first picture was captured 9,000 ticks before the one shown last; what is captured then is exact.
            let shifts = Shifts {
                timestamp: 77,
                catch_up: Some(CatchUp {
                    captured: Timestamp(start),
                    shown: Timestamp(start.wrapping_add(9_001)),
                }),
                ..Shifts::default()
            };
            numbering.start(1, seq(10), Layer::TOP, shifts);
            let mut last = Timestamp(start.wrapping_add(9_000));
            for n in 0..10u32 {
                let captured = Timestamp(start.wrapping_add(n * 1_500));
                let incoming = captured.add(77);
                numbering.caught_up(seq(10 + u64::from(n)), incoming);
                numbering.take(seq(10 + u64::from(n)));
                let run = *numbering.open().unwrap();
                let shown = run.timestamp(incoming);
                assert!(shown.newer_than(last), "{start:x} {n}");
                assert_eq!(run.exact(incoming), captured);
                assert_eq!(shown == captured, n > 6, "{start:x} {n}");
                last = shown;
            }
            // One that is asked for again is the same as it was, though the clock has caught up since.
            let Place::Reserved(run) = numbering.place(1, seq(12)) else {
                panic!("it has a place")
            };
            let again = run.timestamp(Timestamp(start.wrapping_add(3_077)));
            assert_eq!(again, Timestamp(start.wrapping_add(9_001 + 3_000 / 64)));
            // And half a day later nothing is left of it.
            let run = numbering.open().unwrap();
            let late = Timestamp(start.wrapping_add(1 << 31).wrapping_add(77));
            assert_eq!(run.timestamp(late), run.exact(late));
        }
    }

    #[test]
    fn a_gap_is_reserved_and_what_is_left_out_closes_ranks() {
        let mut numbering = started(10);
        numbering.take(seq(10)); // 100
        numbering.take(seq(12)); // 102, and 101 is kept for 11
        numbering.leave_out(seq(13), false);
        numbering.leave_out(seq(14), false);
        numbering.take(seq(15)); // 103
        numbering.leave_out(seq(17), false); // 104 is kept for 16
        numbering.take(seq(18)); // 105
        let given: Vec<_> = (10..=18).map(|n| out(&numbering, n)).collect();
        assert_eq!(
            given,
            [
                Some(100),
                Some(101),
                Some(102),
                None,
                None,
                Some(103),
                Some(104),
                None,
                Some(105)
            ]
        );
        assert_eq!(numbering.next(), ExtSeq(106));
    }

    #[test]
    fn a_late_packet_of_the_encoding_before_the_switch_finds_its_place() {
        let mut numbering = started(10);
        numbering.take(seq(10));
        numbering.take(seq(13));
        numbering.start(1, seq(7_000), Layer::TOP, Shifts::default());
        numbering.take(seq(7_000));
        assert_eq!(out(&numbering, 12), Some(102));
        assert_eq!(
            numbering.place(0, seq(14)),
            Place::Outside,
            "after the switch the old encoding gets nothing"
        );
        assert_eq!(
            numbering.place(1, seq(6_999)),
            Place::Outside,
            "before its keyframe neither"
        );
        assert_eq!(
            numbering
                .source(SeqNo(104))
                .map(|(run, at)| (run.encoding, at)),
            Some((1, seq(7_000)))
        );
        assert_eq!(
            numbering
                .source(SeqNo(103))
                .map(|(run, at)| (run.encoding, at)),
            Some((0, seq(13)))
        );
        assert_eq!(numbering.source(SeqNo(105)), None);
        assert_eq!(numbering.source(SeqNo(99)), None);
    }

    proptest! {
        /// Whatever is forwarded, left out, lost, switched: outgoing numbers are unique, have no hole but for reserved
        /// ones, and lead back to where they came from.
        #[test]
        fn numbers_are_unique_and_lead_back(steps in proptest::collection::vec((0u8..10, 1u64..4), 1..100)) {
            let mut numbering = started(0);
            let mut at = [0u64, 500_000];
            let mut encoding = 0u8;
            let mut given = std::collections::HashMap::new();
            for (what, step) in steps {
                if what == 9 {
                    encoding = 1 - encoding;
                    at[usize::from(encoding)] += step;
                    numbering.start(encoding, seq(at[usize::from(encoding)]), Layer::TOP, Shifts::default());
                } else {
                    at[usize::from(encoding)] += step;
                }
                let now = seq(at[usize::from(encoding)]);
                if numbering.place(encoding, now) != Place::Ahead { continue; }
                if what < 3 {
                    numbering.leave_out(now, false);
                    continue;
                }
                numbering.take(now);
                let out = numbering.open().unwrap().out(now);
                prop_assert!(given.insert(out, (encoding, now)).is_none(), "{:?} twice", out);
            }
            for (out, (encoding, seq)) in given {
                let (run, back) = numbering.source(out.seq()).unwrap();
                prop_assert_eq!((run.encoding, back), (encoding, seq));
                prop_assert_eq!(numbering.place(encoding, seq), Place::Reserved(run));
            }
        }
    }
}
