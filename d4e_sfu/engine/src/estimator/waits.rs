//! What waited in the link, by when it was sent: two clients whose packets wait whenever those of the other do are behind
//! the same link. RFC 8382 tells that by statistics of the delay; we send to both by one clock, and can look at the delay.

/// µs of a span, and how many are kept.
const SPAN: i64 = 100_000;
const SPANS: usize = 64;
/// The latest of them are not told of yet.
const UNTOLD: i64 = 5;
/// ms of a step; `NOTHING` is no step at all.
const STEP: i64 = 4;
const NOTHING: u8 = u8::MAX;
/// So many spans of both must be known, and of what waited in all of them there must be so much, in steps.
const KNOWN: u32 = 24;
const ENOUGH: u32 = 150;
const PLENTY: u32 = 600;
/// No more than this share of it may differ; and what differs by more than that is another link.
const ALIKE: f64 = 0.3;
const UNLIKE: f64 = 0.6;

#[derive(Debug)]
pub struct Waits {
    /// The longest of each.
    spans: [u8; SPANS],
    newest: i64,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            spans: [NOTHING; SPANS],
            newest: 0,
        }
    }
}

impl Waits {
    /// What was sent at `sent` was in the link for `queued` longer than it must; µs.
    pub fn add(&mut self, sent: i64, queued: i64) {
        let at = sent / SPAN;
        if at > self.newest {
            for gone in (self.newest + 1..=at).take(SPANS) {
                self.spans[slot(gone)] = NOTHING;
            }
            self.newest = at;
        } else if at <= self.newest - SPANS as i64 {
            return;
        }
        let steps = (queued / 1_000 / STEP).clamp(0, i64::from(NOTHING) - 1) as u8;
        let kept = &mut self.spans[slot(at)];
        *kept = if *kept == NOTHING {
            steps
        } else {
            steps.max(*kept)
        };
    }

    /// Enough has waited to tell anything by.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let spans = || self.spans.iter().filter(|&&steps| steps != NOTHING);
        let least = spans().min().copied().unwrap_or_default();
        spans().map(|&steps| u32::from(steps - least)).sum::<u32>() >= ENOUGH
    }

    /// Are both behind one link? `None` where too little has waited to tell.
    #[must_use]
    pub fn alike(&self, other: &Self) -> Option<bool> {
        let newest = self.newest.min(other.newest) - UNTOLD;
        let oldest = self.newest.max(other.newest) - SPANS as i64;
        let both = || {
            (oldest + 1..=newest).filter_map(|at| {
                let (a, b) = (self.spans[slot(at)], other.spans[slot(at)]);
                (a != NOTHING && b != NOTHING).then_some((u32::from(a), u32::from(b)))
            })
        };
        // The least delay that one has met the other may not have.
        let (least_a, least_b) = both().fold((u32::MAX, u32::MAX), |least, (a, b)| {
            (least.0.min(a), least.1.min(b))
        });
        let (mut known, mut waited, mut apart) = (0, 0, 0);
        for (a, b) in both() {
            let (a, b) = (a - least_a, b - least_b);
            known += 1;
            waited += a.max(b);
            apart += a.abs_diff(b);
        }
        if known < KNOWN || waited < ENOUGH {
            return None;
        }
        let share = f64::from(apart) / f64::from(waited);
        match share {
            ..=ALIKE => Some(true),
            UNLIKE.. if waited >= PLENTY => Some(false),
            _ => None,
        }
    }
}

const fn slot(span: i64) -> usize {
    span.rem_euclid(SPANS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten seconds, where `queue(ms)` ms wait of what is sent each 20 ms, `every` of them.
    fn seen(every: usize, queue: impl Fn(i64) -> i64) -> Waits {
        let mut waits = Waits::default();
        for ms in (0..10_000).step_by(20 * every) {
            waits.add(ms * 1_000, queue(ms) * 1_000);
        }
        waits
    }

    /// It grows by 50 ms a second, from a beginning in each, and is drained.
    fn saw(ms: i64) -> i64 {
        ms % 3_000 / 20
    }

    #[test]
    fn who_wait_at_the_same_time_are_behind_one_link() {
        let one = seen(1, saw);
        assert!(one.is_known());
        assert_eq!(one.alike(&seen(1, saw)), Some(true));
        assert_eq!(one.alike(&seen(3, saw)), Some(true), "one is sent less");
        let late = |ms| saw(ms) + 80;
        assert_eq!(
            one.alike(&seen(1, late)),
            Some(true),
            "he has never met it empty"
        );
        let noisy = |ms| saw(ms) + ms * 7 % 13;
        assert_eq!(
            one.alike(&seen(1, noisy)),
            Some(true),
            "his radio adds some"
        );
    }

    #[test]
    fn who_wait_at_other_times_are_not() {
        let one = seen(1, saw);
        for other in [
            |ms| saw(ms + 1_500),
            |ms: i64| (ms % 700 - 500).max(0),
            |_| 0,
        ] {
            let other = seen(1, other);
            assert_eq!(one.alike(&other), Some(false));
            assert_eq!(other.alike(&one), Some(false));
        }
    }

    #[test]
    fn where_nothing_waits_nothing_is_known() {
        let quiet = |ms| ms % 100 / 20;
        assert!(!seen(1, quiet).is_known());
        assert_eq!(seen(1, quiet).alike(&seen(1, quiet)), None);
        assert_eq!(Waits::default().alike(&seen(1, saw)), None);
        assert_eq!(seen(1, saw).alike(&Waits::default()), None);
        // What little there is differs: no reason to part.
        let little = |ms| if ms % 1_000 < 100 { 80 } else { 0 };
        assert_eq!(seen(1, little).alike(&seen(1, |_| 0)), None);
    }

    #[test]
    fn what_is_long_ago_or_absurd_costs_nothing() {
        let mut waits = seen(1, saw);
        for (sent, queued) in [(i64::MAX, i64::MAX), (0, i64::MIN), (i64::MIN, 0)] {
            waits.add(sent, queued);
            let _ = waits.alike(&seen(1, saw));
            let _ = seen(1, saw).alike(&waits);
        }
    }
}
