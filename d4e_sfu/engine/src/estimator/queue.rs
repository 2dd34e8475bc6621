//! What waits in the link, as time: one-way delay above the least one of the last minute. The clocks are never compared, only
//! differences; a minute is so short that their drift (50 ppm: 3 ms) does not matter.

use std::time::Duration;

use crate::now::Now;

/// µs, and how many such spans the least delay is taken from.
const SPAN: i64 = 10_000_000;
const SPANS: usize = 6;
/// Share of a new packet in what is told.
const SMOOTHING: f64 = 0.125;
/// A queue above this (µs) for so long stands.
const STANDING: f64 = 100_000.0;
const STANDS_AFTER: Duration = Duration::from_millis(500);
/// From one look at it to the next; twice as long, up to the last, each time that sending less has not made it shorter: then it is
/// the queue of another, who would take all that we leave.
const LOOK: Duration = Duration::from_secs(1);
const MAX_LOOK: Duration = Duration::from_secs(32);
const SHORTER: f64 = 0.7;

#[derive(Debug, Default)]
pub(super) struct Queue {
    least: [Option<i64>; SPANS],
    span: i64,
    /// µs
    smoothed: Option<f64>,
    /// Above `STANDING` since then.
    since: Option<Now>,
    /// When it was last said to stand, and how long it was.
    said: Option<(Now, f64)>,
    look: Duration,
}

impl Queue {
    /// µs, by our clock and by his.
    pub fn add(&mut self, sent: i64, arrived: i64) {
        let span = sent / SPAN;
        for gone in (self.span + 1..=span).take(SPANS) {
            self.least[gone as usize % SPANS] = None;
        }
        if span > self.span + SPANS as i64 {
            self.least = [None; SPANS];
        }
        self.span = self.span.max(span);
        let delay = arrived - sent;
        let least = &mut self.least[self.span as usize % SPANS];
        *least = Some(least.map_or(delay, |least| least.min(delay)));
        let base = self.least.iter().flatten().min().copied().unwrap_or(delay);
        let above = (delay - base) as f64;
        self.smoothed = Some(
            self.smoothed
                .map_or(above, |old| old + SMOOTHING * (above - old)),
        );
    }

    pub fn get(&self) -> Duration {
        Duration::from_micros(self.smoothed.unwrap_or_default() as u64)
    }

    /// It neither grows nor drains and is longer than a talk bears. A line through delays sees no queue that is always full
    /// (libwebrtc does not look for one).
    pub fn stands(&mut self, now: Now) -> bool {
        let length = self.smoothed.unwrap_or_default();
        if length < STANDING {
            (self.since, self.look) = (None, LOOK);
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < STANDS_AFTER {
            return false;
        }
        if let Some((at, before)) = self.said {
            if now.since(at) < self.look {
                return false;
            }
            if length > SHORTER * before && now.since(at) < self.look * 2 {
                self.look = (self.look * 2).min(MAX_LOOK);
            }
        }
        self.said = Some((now, length));
        true
    }

    /// His clock has stepped.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_what_is_above_the_least_delay_of_a_minute() {
        let mut queue = Queue::default();
        let mut after = |seconds: i64, delay: i64| {
            for ms in (0..1_000).step_by(20) {
                let sent = seconds * 1_000_000 + ms * 1_000;
                queue.add(sent, sent - 5_000_000_000 + delay);
            }
            queue.get().as_millis()
        };
        assert_eq!(after(0, 30_000), 0);
        assert_eq!(after(1, 80_000), 49);
        assert!((49..=50).contains(&after(50, 80_000)));
        assert_eq!(after(100, 80_000), 0);
    }
}
