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
/// µs: who keeps a link full leaves its queue no shorter.
const EMPTY: i64 = 20_000;
/// µs: what waits has meanwhile been this much longer at one time than at another, or no one else is there and the way is longer.
const BREATH: f64 = 30_000.0;

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
    /// What stood was not ours, at that time, and the least delay before.
    begun: Option<(Now, i64)>,
    /// The shortest and the longest queue since then, µs.
    breath: Option<(f64, f64)>,
    /// It has been another's, and is asked whether it still is.
    asks: bool,
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
        if let Some((_, before)) = self.begun
            && delay - before < EMPTY
        {
            (self.begun, self.breath) = (None, None);
        }
        if let (Some((low, high)), Some(smoothed)) = (&mut self.breath, self.smoothed) {
            (*low, *high) = (low.min(smoothed), high.max(smoothed));
        }
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
        if self
            .begun
            .is_some_and(|(at, _)| now.since(at) >= SHARED_FOR)
        {
            self.ask_again();
        }
        let length = self.smoothed.unwrap_or_default();
        if length < STANDING || self.begun.is_some() {
            (self.since, self.said, self.asks) = (None, None, false);
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
    pub const fn is_shared(&self) -> bool {
        self.begun.is_some() || self.asks
    }

    /// From what has arrived since it was said to stand.
    fn begin_anew(&mut self, now: Now) {
        let Some(latest) = self.latest else {
            return;
        };
        let base = self.least.iter().flatten().min().copied();
        let base = base.unwrap_or(latest);
        let longer = (latest - base) as f64;
        self.begun = Some((now, base));
        (self.breath, self.asks) = (Some((f64::MAX, 0.0)), false);
        self.least = [None; SPANS];
        self.least[self.span as usize % SPANS] = Some(latest);
        self.smoothed = self.smoothed.map(|smoothed| (smoothed - longer).max(0.0));
        (self.since, self.said) = (None, None);
    }

    /// Where the queue has breathed, it is held against the least delay of old again, and whether it follows what we send.
    fn ask_again(&mut self) {
        let (Some((_, before)), Some((low, high))) = (self.begun.take(), self.breath.take()) else {
            return;
        };
        if high - low < BREATH {
            return;
        }
        let base = self.least.iter().flatten().min().copied();
        let longer = (base.unwrap_or(before) - before) as f64;
        self.least = [None; SPANS];
        self.least[self.span as usize % SPANS] = Some(before);
        self.smoothed = self.smoothed.map(|smoothed| smoothed + longer.max(0.0));
        self.asks = true;
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

    /// Seconds at which it is shared, and how often it was said to stand, where the delay is `delay(ms)`.
    fn shared(end: i64, delay: impl Fn(i64) -> i64) -> (Vec<i64>, usize) {
        let (mut queue, mut shared, mut said) = (Queue::default(), Vec::new(), 0);
        for ms in (0..end).step_by(20) {
            queue.add(ms * 1_000, (ms + delay(ms)) * 1_000);
            if ms % 100 == 0 {
                let now = Now::from_millis(ms as u64);
                said += usize::from(queue.stands(now, Duration::from_millis(200)));
            }
            if ms % 1_000 == 0 && queue.is_shared() {
                shared.push(ms / 1_000);
            }
        }
        (shared, said)
    }

    #[test]
    fn a_queue_that_another_keeps_full_is_asked_for_each_half_minute_until_it_empties() {
        let download = |ms: i64| match ms {
            5_000..150_000 => 250 + ms % 4_000 / 40,
            _ => 30,
        };
        let (shared, said) = shared(160_000, download);
        assert_eq!(shared, (7..150).collect::<Vec<_>>());
        assert!((4..=6).contains(&said), "{said}");
    }

    #[test]
    fn a_way_that_became_longer_is_nobodys_queue_after_half_a_minute() {
        let (shared, said) = shared(120_000, |ms| if ms < 5_000 { 30 } else { 230 });
        assert_eq!((shared.len(), said), (30, 1));
    }
}
