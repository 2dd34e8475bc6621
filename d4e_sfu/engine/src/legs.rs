//! What went over one client's link, both ways, as far as it can be told from here: packets expected and lost since it began, jitter.
//! Counts only grow, so whoever misses one telling loses nothing. It judges nothing: what is good and what is poor is Python's.

use std::time::Duration;

/// A report that jumps further than this in one step is of another stream, or a lie.
const LONGEST_STEP: u32 = 1 << 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    pub expected: u64,
    pub lost: u64,
    /// The worst of a voice since it was last taken. A picture's says little: its packets leave in bursts.
    pub jitter: Duration,
    /// How long a voice has waited on the way beyond the shortest time, the worst since it was last taken. Known only of the
    /// way to us.
    pub queue: Duration,
}

impl Leg {
    pub fn count(&mut self, expected: u64, lost: u64) {
        self.expected = self.expected.saturating_add(expected);
        self.lost = self.lost.saturating_add(lost.min(expected));
    }

    /// RFC 3550 §6.4.1.
    pub fn jitter(&mut self, jitter: Duration) {
        self.jitter = self.jitter.max(jitter);
    }

    pub fn queue(&mut self, queue: Duration) {
        self.queue = self.queue.max(queue);
    }

    pub fn take(&mut self) -> Self {
        let taken = *self;
        (self.jitter, self.queue) = (Duration::ZERO, Duration::ZERO);
        taken
    }
}

/// `jitter` of a report, in ticks of a clock of `rate` Hz.
#[must_use]
pub fn jitter(ticks: u32, rate: u32) -> Duration {
    Duration::from_micros(u64::from(ticks) * 1_000_000 / u64::from(rate.max(1)))
}

/// What a subscriber has said of one stream (RFC 3550 §6.4.1): his counts run on, so each report is worth what it adds. What
/// never came to us from the publisher he misses as well, but that is not the fault of his own link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    before: Option<Report>,
    /// What he misses of what was sent. Numbers left out on the way to him at the time of a report make it go up and down, and
    /// the true value only grows: so it is worth what its peaks add.
    missed: i64,
    peak: i64,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    highest: u32,
    lost: i32,
    never_sent: u32,
}

impl Reported {
    /// Expected and lost since the report before; nothing for the first, and for one that goes back or jumps. `sent` counts
    /// the packets that left until now, `newest` is the number of the last of them: what is on its way is in both, however
    /// long a report has taken.
    pub fn since(&mut self, highest: u32, lost: i32, sent: u32, newest: u32) -> (u64, u64) {
        let report = Report {
            highest,
            lost,
            never_sent: newest.wrapping_sub(sent),
        };
        let Some(before) = self.before.replace(report) else {
            return (0, 0);
        };
        let expected = highest.wrapping_sub(before.highest);
        if expected > LONGEST_STEP {
            self.missed = self.peak;
            return (0, 0);
        }
        let expected = i64::from(expected);
        let lost = (i64::from(lost) - i64::from(before.lost)).clamp(-expected, expected);
        let never_sent = i64::from(report.never_sent.wrapping_sub(before.never_sent) as i32);
        self.missed += lost - never_sent;
        let more = (self.missed - self.peak).clamp(0, expected);
        self.peak += more;
        (expected as u64, more as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_worth_what_they_add_from_sixteen_starts() {
        for start in (0..16).map(|n| (u32::MAX / 16 * n).wrapping_sub(30)) {
            let mut reported = Reported::default();
            let mut since = |numbers: u32, lost| {
                let at = start.wrapping_add(numbers);
                reported.since(at, lost, at, at)
            };
            assert_eq!(since(0, 7), (0, 0), "what was before is not known");
            assert_eq!(since(50, 12), (50, 5));
            assert_eq!(since(50, 12), (0, 0));
            assert_eq!(since(60, 10), (10, 0), "late ones came");
            assert_eq!(since(0, 10), (0, 0), "it went back");
            assert_eq!(since(4, i32::MAX), (4, 4), "a lie");
        }
    }

    #[test]
    fn what_was_never_sent_is_not_lost_on_this_way() {
        let mut reported = Reported::default();
        let (mut highest, mut sent, mut missed, mut lost) = (0, 0, 0, 0);
        for round in 0..100 {
            // 100 numbers, of which 30 never came from the publisher; what is on its way varies.
            let underway = [5, 0, 20, 9][round % 4];
            (highest, sent, missed) = (highest + 100, sent + 70, missed + 30);
            let (_, of_this) = reported.since(highest, missed, sent + underway, highest + underway);
            lost += of_this;
        }
        assert!(lost <= 20, "{lost}: not more than what may be on its way");
        for _ in 0..10 {
            (highest, sent, missed) = (highest + 100, sent + 70, missed + 40);
            lost += reported.since(highest, missed, sent, highest).1;
        }
        assert!(
            (80..=120).contains(&lost),
            "{lost}: ten of each hundred are his"
        );
    }

    #[test]
    fn a_report_that_takes_longer_finds_no_more_lost() {
        let mut reported = Reported::default();
        reported.since(100, 0, 105, 105);
        for (round, underway) in [5, 40, 80, 80, 10].into_iter().enumerate() {
            let highest = 200 + 100 * round as u32;
            let newest = highest + underway;
            assert_eq!(reported.since(highest, 0, newest, newest), (100, 0));
        }
    }

    #[test]
    fn counts_grow_and_jitter_is_the_worst_since_it_was_taken() {
        let mut leg = Leg::default();
        leg.count(10, 20);
        leg.count(10, 0);
        leg.jitter(jitter(480, 48_000));
        leg.jitter(jitter(48, 48_000));
        let queue = Duration::from_millis(70);
        leg.queue(queue);
        leg.queue(Duration::from_millis(7));
        let jitter = Duration::from_millis(10);
        let expected = 20;
        let lost = 10;
        assert_eq!(
            leg.take(),
            Leg {
                expected,
                lost,
                jitter,
                queue
            }
        );
        let Leg { jitter, queue, .. } = leg.take();
        assert_eq!((jitter, queue), (Duration::ZERO, Duration::ZERO));
        assert_eq!(leg.take().expected, 20);
    }
}
