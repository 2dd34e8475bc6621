//! What one client loses of the voices that he is sent, and how many in a row: from transport-wide feedback, which names
//! each packet, else from his receiver reports, which only count. By it redundancy is switched on and off. A link's losses
//! are those of its voices here: pictures leave in bursts and fill queues, and lose in other ways.

use std::collections::VecDeque;

use crate::wire::codec::red::MAX_WRITTEN;
use crate::wire::rtcp::TransportFeedback;
use crate::wire::seq::{ExtSeq, SeqNo};

/// Voice packets whose fate is not known yet: five seconds of one voice.
const UNDERWAY: usize = 256;
/// The mean goes over about so many packets: 15 % of losses show within 1.5 s of one voice, and 0.9 % hardly ever look like 2.
const MEMORY: f32 = 500.0;
/// A short mean besides, over half a second of one voice, and the share of it that begins a run of losses with which the link
/// is another one from now on: the long mean begins anew with the short one. Fewer than 1 % of losses never look like that,
/// even where many are lost in a row; and of 5 % at random it hardly ever does.
const SHORT_MEMORY: f32 = 30.0;
const SUDDEN: f32 = 0.14;
/// Arrivals remembered: more than redundancy reaches back, of some voices at a time.
const REMEMBERED: usize = 256;
/// Losses of a link with which redundancy begins and ends, those of a second block, and of as many as help: none below 1 %.
const ONE: Hysteresis = Hysteresis {
    on: 0.02,
    off: 0.01,
};
const TWO: Hysteresis = Hysteresis {
    on: 0.05,
    off: 0.03,
};
const MANY: Hysteresis = Hysteresis { on: 0.1, off: 0.07 };
/// Where so much is lost, most pictures of several packets have one that was, and what is sent again is often lost as well.
const HEAVY: Hysteresis = Hysteresis { on: 0.2, off: 0.13 };
/// Of three that are sent one comes, also where a third is lost, in all but 3 % of cases.
const COPIES: u8 = 2;
/// In a row, where only counts are known.
const ASSUMED_RUN: f32 = 2.0;
/// Single losses: the packet before is enough. The distance grows with the runs, up to here, where
const MAX_DISTANCE: u8 = 4;
/// a second block is not at twice it but further: 180 ms are what a playout of 250 ms leaves where the way takes 50.
const FARTHEST: u8 = 9;
const SINGLE: f32 = 1.5;

struct Hysteresis {
    on: f32,
    off: f32,
}

impl Hysteresis {
    fn next(&self, before: bool, loss: f32) -> bool {
        loss >= if before { self.off } else { self.on }
    }
}

/// Which earlier packets go with each packet of a voice, the nearest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How far back, in packets; 0: none.
    pub distances: [u8; MAX_WRITTEN],
}

impl Plan {
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.distances.iter().filter(|&&back| back > 0).count()
    }
}

#[derive(Clone, Copy, Debug)]
struct Voice {
    number: SeqNo,
    stream: u32,
    seq: ExtSeq,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// As it looked in the feedback of that count. It may still come, and is lost when the next feedback has not named it.
    Missing(u32),
    /// It was asked for again, and has gone again under its number: what comes now is not what was sent first.
    Lost,
    Came,
}

#[derive(Debug)]
pub struct Losses {
    /// Python may forbid redundancy, where it does not fit.
    pub allowed: bool,
    /// Share of packets lost, and of those that begin a run of losses.
    loss: f32,
    runs: f32,
    /// Packets that they are of, up to [`MEMORY`].
    memory: f32,
    recent_loss: f32,
    recent_runs: f32,
    one: bool,
    two: bool,
    many: bool,
    heavy: bool,
    underway: VecDeque<Voice>,
    /// Streams, by the low bits, whose last packet was lost; two that share them blur what is a run.
    lost: u16,
    /// Of which stream and which packet of it is known that it has come; by the low bits of both.
    came: Vec<(u32, ExtSeq)>,
    /// Feedback packets heard; from the first on reports do not count.
    feedbacks: u32,
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            allowed: true,
            loss: 0.0,
            runs: 0.0,
            memory: MEMORY,
            recent_loss: 0.0,
            recent_runs: 0.0,
            one: false,
            two: false,
            many: false,
            heavy: false,
            underway: VecDeque::new(),
            lost: 0,
            came: Vec::new(),
            feedbacks: 0,
        }
    }
}

impl Losses {
    /// Packet `seq` of a voice has left under this transport-wide number.
    pub fn sent(&mut self, number: u16, stream: u32, seq: ExtSeq) {
        if self.underway.capacity() == 0 {
            self.underway.reserve_exact(UNDERWAY);
        }
        if self.underway.len() == UNDERWAY {
            self.underway.pop_front(); // Nobody has told of it.
        }
        self.underway.push_back(Voice {
            number: SeqNo(number),
            stream,
            seq,
            fate: Fate::Unknown,
        });
    }

    pub fn feedback(&mut self, feedback: &TransportFeedback<'_>) {
        self.feedbacks = self.feedbacks.wrapping_add(1);
        let this = self.feedbacks;
        let mut voices = self.underway.iter_mut().peekable();
        for (number, arrival) in feedback.statuses() {
            while voices
                .next_if(|voice| number.newer_than(voice.number))
                .is_some()
            {}
            let Some(voice) = voices.next_if(|voice| voice.number == number) else {
                continue;
            };
            match (voice.fate, arrival) {
                (fate, Some(_)) => {
                    if fate != Fate::Lost {
                        voice.fate = Fate::Came;
                    }
                    let arrival = (voice.stream, voice.seq);
                    self.came.resize(REMEMBERED, (u32::MAX, ExtSeq(0)));
                    self.came[place(voice.stream, voice.seq)] = arrival;
                }
                (Fate::Unknown, None) => voice.fate = Fate::Missing(this),
                _ => {}
            }
        }
        while let Some(&voice) = self.underway.front() {
            match voice.fate {
                Fate::Came => self.count(voice.stream, false),
                Fate::Lost => self.count(voice.stream, true),
                Fate::Missing(told) if told != this => self.count(voice.stream, true),
                Fate::Missing(_) => break,
                Fate::Unknown if feedback.base.newer_than(voice.number) => {} // That feedback was lost.
                Fate::Unknown => break,
            }
            self.underway.pop_front();
        }
        self.judge();
    }

    /// The packet that left under this number was asked for again.
    pub fn lost(&mut self, number: SeqNo) {
        let asked = self
            .underway
            .iter_mut()
            .find(|voice| voice.number == number);
        if let Some(voice) = asked {
            voice.fate = Fate::Lost;
        }
    }

    /// A receiver report: so many packets of a voice were expected, and so many of them lost.
    pub fn report(&mut self, expected: u64, lost: u64) {
        if self.feedbacks > 0 || expected == 0 {
            return;
        }
        let share = lost as f32 / expected as f32;
        let kept = (1.0 - 1.0 / MEMORY).powi(expected.min(1 << 16) as i32);
        self.loss = share + (self.loss - share) * kept;
        self.runs = self.loss / ASSUMED_RUN;
        self.judge();
    }

    /// He has told that this packet has come.
    #[must_use]
    pub fn has(&self, stream: u32, seq: ExtSeq) -> bool {
        self.came.get(place(stream, seq)) == Some(&(stream, seq))
    }

    /// How often each packet of a picture goes again before anybody asks.
    #[must_use]
    pub fn copies(&self) -> u8 {
        if self.heavy { COPIES } else { 0 }
    }

    /// What goes with each packet of a voice now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        if self.allowed {
            self.needed()
        } else {
            Plan::default()
        }
    }

    /// What would go with it, if it may.
    #[must_use]
    pub fn needed(&self) -> Plan {
        if !self.one {
            return Plan::default();
        }
        // Losses at random come in runs too, of 1 / (1 - loss) on average.
        let run = (1.0 - self.loss) * self.loss / self.runs.max(f32::MIN_POSITIVE);
        let distance = if run < SINGLE {
            1
        } else {
            (run.round() as u8).saturating_add(1).min(MAX_DISTANCE)
        };
        let distances = if self.many {
            // In a row: as far apart as they can be. One by one: the next few.
            if distance > 1 {
                [3, 5, 7, FARTHEST]
            } else {
                [1, 2, 3, 0]
            }
        } else if !self.two {
            [distance, 0, 0, 0]
        } else if distance < MAX_DISTANCE {
            [distance, 2 * distance, 0, 0]
        } else {
            [distance, FARTHEST, 0, 0]
        };
        Plan { distances }
    }

    fn count(&mut self, stream: u32, lost: bool) {
        let bit = 1 << (stream & 15);
        let begins = lost && self.lost & bit == 0;
        if lost {
            self.lost |= bit;
        } else {
            self.lost &= !bit;
        }
        let step = |mean: &mut f32, now: bool, memory: f32| {
            *mean += (f32::from(u8::from(now)) - *mean) / memory;
        };
        self.memory = (self.memory + 1.0).min(MEMORY);
        step(&mut self.loss, lost, self.memory);
        step(&mut self.runs, begins, self.memory);
        step(&mut self.recent_loss, lost, SHORT_MEMORY);
        step(&mut self.recent_runs, begins, SHORT_MEMORY);
        if self.recent_runs > SUDDEN && self.runs < self.recent_runs / 2.0 {
            (self.loss, self.runs) = (self.recent_loss, self.recent_runs);
            self.memory = SHORT_MEMORY;
        }
    }

    fn judge(&mut self) {
        self.one = ONE.next(self.one, self.loss);
        self.two = self.one && TWO.next(self.two, self.loss);
        self.many = self.two && MANY.next(self.many, self.loss);
        self.heavy = self.many && HEAVY.next(self.heavy, self.loss);
    }
}

fn place(stream: u32, seq: ExtSeq) -> usize {
    (u64::from(stream).wrapping_mul(37).wrapping_add(seq.0) % REMEMBERED as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtcp::{Compound, Packet, write_transport_feedback};
    use crate::wire::seq::Ssrc;

    /// Chance without a dependency: xorshift, by seed.
    pub struct Chance(pub u64);
    impl Chance {
        pub fn share(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Gilbert and Elliott: `loss` in the long run, `run` lost in a row on average.
    struct Link {
        chance: Chance,
        bad: bool,
        loss: f64,
        run: f64,
    }
    impl Link {
        fn loses(&mut self) -> bool {
            let turn = if self.bad {
                1.0 / self.run
            } else {
                self.loss / (1.0 - self.loss) / self.run
            };
            self.bad ^= self.chance.share() < turn;
            self.bad
        }
    }

    fn feedback(losses: &mut Losses, base: u16, count: u8, arrivals: &[Option<i64>]) {
        let mut out = [0; 1_500];
        let written =
            write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), SeqNo(base), count, arrivals)
                .unwrap();
        for packet in Compound::parse(&out[..written.len]).unwrap() {
            if let Packet::TransportFeedback(feedback) = packet {
                losses.feedback(&feedback);
            }
        }
    }

    /// `rounds` feedbacks of five packets, of which every other is a voice's; `late` come one feedback late.
    fn drive(losses: &mut Losses, link: &mut Link, start: u16, rounds: u16, late: bool) -> bool {
        let mut ever = false;
        let mut behind = None;
        for round in 0..rounds {
            let first = start.wrapping_add(round * 10);
            let mut arrivals = vec![];
            let mut base = first;
            if let Some(number) = behind.take() {
                base = number;
                arrivals = vec![None; usize::from(first.wrapping_sub(number))];
                arrivals[0] = Some(i64::from(round) * 400);
            }
            for n in 0..10 {
                let number = first.wrapping_add(n);
                let tick = i64::from(round) * 400 + i64::from(n) * 10;
                if n % 2 == 1 {
                    arrivals.push(Some(tick)); // a picture's
                    continue;
                }
                losses.sent(number, 7, ExtSeq(u64::from(number)));
                let lost = link.loses();
                let is_late = late && !lost && n == 6 && round + 1 < rounds;
                if is_late {
                    behind = Some(number);
                }
                arrivals.push((!lost && !is_late).then_some(tick));
            }
            feedback(losses, base, round as u8, &arrivals);
            ever |= losses.plan().blocks() > 0;
        }
        ever
    }

    fn link(seed: u64, loss: f64, run: f64) -> Link {
        Link {
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            bad: false,
            loss,
            run,
        }
    }

    #[test]
    fn the_distance_follows_the_length_of_the_runs() {
        for seed in 1..=20 {
            for (loss, run, blocks, distances) in [
                (0.2, 1.0 / 0.8, 3, 1..=1),
                (0.2, 3.0, 4, 3..=3),
                (0.2, 6.0, 4, 3..=3),
                (0.06, 1.0 / 0.94, 2, 1..=1),
                (0.035, 1.0 / 0.965, 1, 1..=1),
            ] {
                let mut losses = Losses::default();
                drive(&mut losses, &mut link(seed, loss, run), 65_000, 600, false);
                let plan = losses.plan();
                assert!(
                    plan.blocks().abs_diff(blocks) <= usize::from(loss < 0.1),
                    "{seed} {loss} {run}: {plan:?}"
                );
                assert!(
                    plan.blocks() == 0 || distances.contains(&plan.distances[0]),
                    "{seed} {loss} {run}: {plan:?}"
                );
            }
        }
    }

    #[test]
    fn below_one_percent_there_is_none_and_it_ends_when_losses_end() {
        for seed in 1..=20 {
            let mut losses = Losses::default();
            let ever = drive(&mut losses, &mut link(seed, 0.007, 1.01), 7, 2_000, false);
            assert!(!ever, "seed {seed}");
            assert!(
                drive(&mut losses, &mut link(seed, 0.15, 3.0), 7, 60, false),
                "within six seconds"
            );
            drive(&mut losses, &mut link(seed, 0.0, 1.0), 7, 400, false);
            assert_eq!(losses.plan(), Plan::default());
        }
    }

    #[test]
    fn a_link_that_suddenly_loses_a_third_is_known_within_a_second_and_a_half() {
        let (mut known, mut bursts, mut spread) = (0, 0, 0);
        for seed in 1..=100 {
            let mut losses = Losses::default();
            drive(&mut losses, &mut link(seed, 0.0, 1.0), 7, 100, false);
            let mut lossy = link(seed, 0.3, 1.0 / 0.7);
            drive(&mut losses, &mut lossy, 1_007, 15, false); // 75 packets of the voice
            known += u32::from(losses.copies() > 0 && losses.plan().distances == [1, 2, 3, 0]);
            drive(&mut losses, &mut link(seed, 0.0, 1.0), 1_157, 400, false);
            assert_eq!((losses.copies(), losses.plan()), (0, Plan::default()));
            let mut few = link(seed, 0.009, 3.0);
            bursts += u32::from((0..40).any(|n| {
                drive(&mut losses, &mut few, 5_157 + n * 500, 50, false);
                losses.copies() > 0
            }));
            let mut one_in_twenty = link(seed, 0.05, 1.0 / 0.95);
            spread += u32::from((0..40).any(|n| {
                drive(&mut losses, &mut one_in_twenty, 25_157 + n * 500, 50, false);
                losses.copies() > 0
            }));
        }
        assert!(known >= 85, "{known} of 100");
        assert_eq!((bursts, spread), (0, 0), "in over three minutes of a voice");
    }

    #[test]
    fn what_comes_late_is_not_lost_and_feedback_that_is_lost_tells_nothing() {
        let mut losses = Losses::default();
        assert!(!drive(
            &mut losses,
            &mut link(1, 0.0, 1.0),
            65_500,
            500,
            true
        ));
        for round in 0..500_u16 {
            let first = round * 10;
            (0..10).for_each(|n| losses.sent(first.wrapping_add(n), 7, ExtSeq(n.into())));
            if round % 3 == 0 {
                feedback(
                    &mut losses,
                    first,
                    round as u8,
                    &[Some(i64::from(round) * 400); 10],
                );
            }
        }
        assert_eq!(losses.loss, 0.0);
        assert!(losses.underway.len() <= 30);
        (0..10_000).for_each(|n| losses.sent(n, 7, ExtSeq(n.into())));
        assert!(losses.underway.len() <= UNDERWAY && losses.underway.capacity() < 2 * UNDERWAY);
    }

    #[test]
    fn what_has_come_is_known_by_stream_and_packet() {
        let mut losses = Losses::default();
        assert!(!losses.has(3, ExtSeq(70_000)));
        for n in 0..20_u16 {
            losses.sent(n, 3 + u32::from(n % 2), ExtSeq(70_000 + u64::from(n / 2)));
        }
        let arrivals: Vec<_> = (0..20).map(|n| (n % 3 > 0).then_some(n * 80)).collect();
        feedback(&mut losses, 0, 0, &arrivals);
        for n in 0..20 {
            let seq = ExtSeq(70_000 + n / 2);
            assert_eq!(losses.has(3 + (n % 2) as u32, seq), n % 3 > 0, "{n}");
            assert!(!losses.has(9, seq) && !losses.has(3, ExtSeq(seq.0 - 65_536)));
        }
        for n in 20..2_000_u16 {
            losses.sent(n, 3, ExtSeq(80_000 + u64::from(n)));
            feedback(&mut losses, n, 0, &[Some(2_000)]);
        }
        assert!(losses.came.len() == REMEMBERED && !losses.has(4, ExtSeq(70_000)));
    }

    #[test]
    fn reports_count_until_there_is_feedback() {
        let mut losses = Losses::default();
        losses.report(0, 0);
        losses.report(250, 30);
        assert_eq!(losses.plan().distances, [3, 0, 0, 0]);
        losses.report(250, 30);
        assert_eq!(losses.plan().distances, [3, 6, 0, 0]);
        for _ in 0..4 {
            losses.report(250, 40);
        }
        assert_eq!(losses.plan().distances, [3, 5, 7, 9]);
        losses.allowed = false;
        assert_eq!(losses.plan(), Plan::default(), "Python has forbidden it");
        assert_eq!(losses.needed().blocks(), 4, "and can still see the need");
        losses.allowed = true;
        for _ in 0..20 {
            losses.report(250, 1);
        }
        assert_eq!(losses.plan(), Plan::default());
        feedback(&mut losses, 0, 0, &[Some(0)]);
        losses.report(250, 250);
        assert_eq!(losses.plan(), Plan::default());
    }
}
