//! The bitrate that the delay allows: raised while the queue is steady, lowered to what gets through when it grows. After
//! libwebrtc's `aimd_rate_control.cc` and `link_capacity_estimator.cc`.

use std::time::Duration;

use super::trendline::Usage;
use crate::now::Now;

/// `kDefaultBackoffFactor`
const BACKOFF: f64 = 0.85;
/// Per second while nothing is known of the capacity (`MultiplicativeRateIncrease`), and at least this, bit/s.
const GROWTH: f64 = 1.08;
const MIN_GROWTH: f64 = 1_000.0;
/// `1.5 * estimated_throughput + 10 kbps`: the delay says nothing of a rate that is not sent.
const MAX_AHEAD: (f64, f64) = (1.5, 10_000.0);
/// Near the capacity: a packet for each response time; at least 4 kbit/s each second (`GetNearMaxIncreaseRateBpsPerSecond`).
const MIN_NEAR_GROWTH: f64 = 4_000.0;
const FRAMES: f64 = 30.0;
const PACKET: f64 = 8.0 * 1_200.0;
/// `kDefaultRtt`, and what the answer takes besides.
const ROUND_TRIP: Duration = Duration::from_millis(200);
const RESPONSE: Duration = Duration::from_millis(100);
/// Between two reductions, in round trips held to these (`TimeToReduceFurther`, which counts from increases too).
const REDUCTION: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// With less than this share of what is sent not delivered in time, and less than this in the queue, the queue of one who
/// sends little is not his: see `reduce`.
const UNDELIVERED: f64 = 0.1;
const OWN_QUEUE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Hold,
    Increase,
}

#[derive(Debug)]
pub(super) struct Rate {
    bps: f64,
    state: State,
    capacity: Capacity,
    changed: Now,
    reduced: Now,
    round_trip: Duration,
}

/// What a feedback has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub usage: Usage,
    /// What gets through, bit/s.
    pub acknowledged: Option<f64>,
    /// What is sent is far below the estimate.
    pub limited: bool,
    /// Of what was sent, the share that was not delivered in the same time.
    pub slope: f64,
    /// What waits in the link.
    pub queue: Duration,
}

impl Rate {
    pub fn new(now: Now, bps: f64) -> Self {
        Self {
            bps,
            state: State::Hold,
            capacity: Capacity::default(),
            changed: now,
            reduced: now,
            round_trip: ROUND_TRIP,
        }
    }

    pub const fn bps(&self) -> f64 {
        self.bps
    }

    pub const fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    pub const fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// A probe, or the lack of any feedback, has told.
    pub fn set(&mut self, now: Now, bps: f64, probed: bool) {
        self.bps = bps;
        self.changed = now;
        if probed {
            self.capacity.update(bps, 0.5); // `OnProbeRate`
        }
    }

    pub fn update(&mut self, now: Now, observed: Observed) {
        match (observed.usage, self.state) {
            (Usage::Over, _) => self.reduce(now, observed),
            (Usage::Under, _) => self.state = State::Hold,
            (Usage::Normal, State::Hold) => {
                self.state = State::Increase;
                self.changed = now;
            }
            (Usage::Normal, State::Increase) => self.increase(now, observed),
        }
    }

    fn increase(&mut self, now: Now, observed: Observed) {
        let Some(through) = observed.acknowledged else {
            return; // who tells no times that mean something raises nothing
        };
        if self.capacity.is_below(through) {
            self.capacity = Capacity::default();
        }
        let limit = MAX_AHEAD.0 * through + MAX_AHEAD.1;
        let elapsed = now.since(self.changed).as_secs_f64().min(1.0);
        if self.bps < limit {
            let growth = if self.capacity.known.is_some() {
                self.near_growth() * elapsed
            } else {
                (self.bps * (GROWTH.powf(elapsed) - 1.0)).max(MIN_GROWTH * elapsed)
            };
            self.bps = (self.bps + growth).min(limit);
        }
        self.changed = now;
    }

    fn near_growth(&self) -> f64 {
        let frame = self.bps / FRAMES;
        let packet = frame / (frame / PACKET).ceil().max(1.0);
        let response = (self.round_trip + RESPONSE) * 2;
        (packet / response.as_secs_f64()).max(MIN_NEAR_GROWTH)
    }

    fn reduce(&mut self, now: Now, observed: Observed) {
        let apart = self.round_trip.clamp(REDUCTION.0, REDUCTION.1);
        let through = observed.acknowledged;
        let soon = now.since(self.reduced) < apart;
        let others = observed.limited && observed.slope < UNDELIVERED && observed.queue < OWN_QUEUE;
        // Much less gets through: that cannot wait.
        if soon && through.is_none_or(|through| others || through >= self.bps / 2.0) {
            return;
        }
        self.state = State::Hold;
        (self.changed, self.reduced) = (now, now);
        let Some(through) = through else {
            self.bps /= 2.0; // `DelayBasedBwe`: nothing is known yet
            return;
        };
        // Who sends little compared with the estimate and gets through nearly all of it has not met his own limit: another's
        // traffic has come. Then the estimate gives way by itself (as in libwebrtc's `WebRTC-Bwe-AlrLimitedBackoff`),
        // instead of falling to what a voice needs.
        if others {
            self.bps *= BACKOFF;
            return;
        }
        let mut reduced = BACKOFF * through;
        if reduced > self.bps
            && let Some((capacity, _)) = self.capacity.known
        {
            reduced = BACKOFF * capacity;
        }
        if self.capacity.is_above(through) {
            self.capacity = Capacity::default();
        }
        self.bps = self.bps.min(reduced);
        self.capacity.update(through, 0.05); // `OnOveruseDetected`
    }
}

/// What got through when the link was full: its mean and how far it strays.
#[derive(Debug, Default)]
struct Capacity {
    known: Option<(f64, f64)>,
}

impl Capacity {
    /// bit/s; the deviation is kept in kbit/s, by the mean, between these (`link_capacity_estimator.cc`).
    const DEVIATIONS: (f64, f64) = (0.4, 2.5);
    const FIRST: f64 = 0.4;

    fn update(&mut self, bps: f64, alpha: f64) {
        let sample = bps / 1e3;
        let (mean, deviation) = self
            .known
            .map_or((sample, Self::FIRST), |(mean, deviation)| {
                let mean = mean / 1e3;
                (mean + alpha * (sample - mean), deviation)
            });
        let error = mean - sample;
        let deviation = (1.0 - alpha) * deviation + alpha * error * error / mean.max(1.0);
        self.known = Some((
            mean * 1e3,
            deviation.clamp(Self::DEVIATIONS.0, Self::DEVIATIONS.1),
        ));
    }

    fn stray(mean: f64, deviation: f64) -> f64 {
        3.0 * (deviation * mean / 1e3).sqrt() * 1e3
    }

    fn is_below(&self, bps: f64) -> bool {
        self.known
            .is_some_and(|(mean, deviation)| bps > mean + Self::stray(mean, deviation))
    }

    fn is_above(&self, bps: f64) -> bool {
        self.known
            .is_some_and(|(mean, deviation)| bps < mean - Self::stray(mean, deviation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(usage: Usage, acknowledged: f64) -> Observed {
        Observed {
            usage,
            acknowledged: Some(acknowledged),
            limited: false,
            slope: 0.5,
            queue: Duration::ZERO,
        }
    }

    #[test]
    fn it_falls_to_a_share_of_what_gets_through_and_rises_no_further_than_what_was_sent_shows() {
        let mut rate = Rate::new(Now(0), 1e6);
        rate.update(Now::from_millis(300), observed(Usage::Over, 500e3));
        assert_eq!(rate.bps(), 425e3);
        for ms in (400..120_000).step_by(100) {
            rate.update(Now::from_millis(ms), observed(Usage::Normal, 100e3));
        }
        assert_eq!(rate.bps(), 425e3);
        for ms in (120_000..900_000).step_by(100) {
            rate.update(Now::from_millis(ms), observed(Usage::Normal, 400e3));
        }
        assert_eq!(rate.bps(), 610e3);
    }

    #[test]
    fn a_voice_that_meets_anothers_traffic_keeps_most_of_its_estimate() {
        let mut rate = Rate::new(Now(0), 1e6);
        let seen = Observed {
            usage: Usage::Over,
            acknowledged: Some(40e3),
            limited: true,
            slope: 0.06,
            queue: Duration::ZERO,
        };
        rate.update(Now::from_millis(300), seen);
        assert_eq!(rate.bps(), 850e3);
        rate.update(Now::from_millis(310), seen);
        assert_eq!(rate.bps(), 850e3);
        rate.update(Now::from_millis(900), Observed { slope: 0.3, ..seen });
        assert_eq!(rate.bps(), 34e3);
    }
}
