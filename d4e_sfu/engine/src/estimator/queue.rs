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
/// So long after less was sent it must have become shorter, by this factor; or what stands is not ours: the way has become longer,
/// or the queue is another's, who would take all that we leave. Then that is the least delay from now on.
const LOOK: Duration = Duration::from_secs(1);
const SHORTER: f64 = 0.7;
/// Then another is taken to be there for so long; then it is asked again.
const SHARED_FOR: Duration = Duration::from_secs(30);

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
    /// The least delay since then.
    latest: Option<i64>,
    /// What stood was not ours, at that time.
    begun: Option<Now>,
}

impl Queue {
    /// µs, by our clock and by his. Returns how long it was in the link beyond the least.
    pub fn add(&mut self, sent: i64, arrived: i64) -> i64 {
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
        self.latest = Some(self.latest.map_or(delay, |least| least.min(delay)));
        delay - base
    }

    pub fn get(&self) -> Duration {
        Duration::from_micros(self.smoothed.unwrap_or_default() as u64)
    }

    /// Longer than a talk bears.
    pub fn is_long(&self) -> bool {
        self.smoothed.is_some_and(|smoothed| smoothed > STANDING)
    }

    /// It neither grows nor drains and is longer than a talk bears. A line through delays sees no queue that is always full
    /// (libwebrtc does not look for one).
    pub fn stands(&mut self, now: Now, round_trip: Duration) -> bool {
        let length = self.smoothed.unwrap_or_default();
        if length < STANDING || self.is_shared(now) {
            (self.since, self.said) = (None, None);
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < STANDS_AFTER {
            return false;
        }
        if let Some((at, before)) = self.said {
            if now.since(at) < LOOK + round_trip {
                return false;
            }
            if length > SHORTER * before {
                self.begin_anew(now);
                return false;
            }
        }
        self.said = Some((now, length));
        self.latest = None;
        true
    }

    /// Another keeps the link full, as far as is known.
    pub fn is_shared(&self, now: Now) -> bool {
        self.begun.is_some_and(|at| now.since(at) < SHARED_FOR)
    }

    /// From what has arrived since it was said to stand.
    fn begin_anew(&mut self, now: Now) {
        let Some(latest) = self.latest else {
            return;
        };
        let base = self.least.iter().flatten().min().copied();
        let base = base.unwrap_or(latest);
        let longer = (latest - base) as f64;
        self.begun = Some(now);
        self.least = [None; SPANS];
        self.least[self.span as usize % SPANS] = Some(latest);
        self.smoothed = self.smoothed.map(|smoothed| (smoothed - longer).max(0.0));
        (self.since, self.said) = (None, None);
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

    #[test]
    fn what_does_not_become_shorter_when_less_is_sent_is_the_way_itself() {
        let mut queue = Queue::default();
        let mut said = Vec::new();
        for ms in (0..20_000).step_by(20) {
            let delay = if ms < 5_000 { 30_000 } else { 230_000 };
            queue.add(ms * 1_000, ms * 1_000 + delay);
            let now = Now::from_millis(ms as u64);
            if ms % 100 == 0 && queue.stands(now, Duration::from_millis(200)) {
                said.push(ms);
            }
        }
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(queue.get(), Duration::ZERO);
    }
}
