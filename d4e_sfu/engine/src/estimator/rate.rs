//! The bitrate that the delay allows: raised while the queue is steady, lowered to what gets through when it grows. After
//! libwebrtc's `aimd_rate_control.cc` and `link_capacity_estimator.cc`.

use std::time::Duration;

use super::trendline::Usage;
use crate::now::Now;

/// What is left where the queue has become long: so much of what comes out of it, and the less the longer it is, so that it is gone
/// within two seconds; but no less than libwebrtc leaves (`kDefaultBackoffFactor`). That sends what is left to the last bit; we
/// send in steps, and leave room for the next picture's variation besides.
const BACKOFF: f64 = 0.9;
const LEAST_LEFT: f64 = 0.85;
const DRAIN: (f64, f64) = (0.95, 2.0);
/// bit/s, which it falls further by where there is so much (`ChangeBitrate`).
const MARGIN: f64 = 5_000.0;
/// Per second while nothing is known of the capacity (`MultiplicativeRateIncrease`), and at least this, bit/s.
const GROWTH: f64 = 1.08;
const MIN_GROWTH: f64 = 1_000.0;
/// `1.5 * estimated_throughput + 10 kbps`: the delay says nothing of a rate that is not sent.
pub const MAX_AHEAD: (f64, f64) = (1.5, 10_000.0);
/// Where a limit has been met, more than this is for a probe to find: a picture's next step is often half as much again, and the
/// rise alone would not have met it.
const NEAR_AHEAD: f64 = 1.25;
/// Where another keeps the link full no probe asks, and a picture's next step may be twice of what is had.
const SHARED_AHEAD: f64 = 2.0;
/// Near the capacity: a full packet for each two response times, whatever the rate, for only who rises as fast as the other comes
/// to have as much (Chiu and Jain, 1989). Libwebrtc takes the packets of a frame of this rate (`GetNearMaxIncreaseRateBpsPerSecond`),
/// so that who has less rises more slowly; we do so on a thin link alone, by 4 kbit/s each second at least. Beside a download: a
/// packet a round trip each round trip, as it does itself (RFC 5681 §3.1).
const MIN_NEAR_GROWTH: f64 = 4_000.0;
const FRAMES: f64 = 30.0;
const PACKET: f64 = 8.0 * 1_200.0;
/// Who has fewer packets of his own in the queue has not filled it (Vegas's α, Brakmo and Peterson, 1995; Copa's 1/δ, Arun and
/// Balakrishnan, 2018).
const OWN_PACKETS: f64 = 2.0;
/// `kDefaultRtt`, and what the answer takes besides.
const ROUND_TRIP: Duration = Duration::from_millis(200);
const RESPONSE: Duration = Duration::from_millis(100);
/// Between two reductions, in round trips held to these (`TimeToReduceFurther`, which counts from increases too).
const REDUCTION: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// Below this, bit/s, no margin is left: it would be a tenth of a voice.
pub const THIN: f64 = 100_000.0;
const THIN_AHEAD: f64 = 1.1;
/// See `refill`; the share is `kTargetUtilizationFraction` (`probe_bitrate_estimator.cc`).
const REFILL_WITHIN: Duration = Duration::from_secs(5);
const DRAINED: Duration = Duration::from_millis(15);
const UTILIZATION: f64 = 0.95;
/// With less in the queue it is not yet his own: see `reduce`. And nobody's with less than the other: several pictures have begun
/// at once.
pub const SHORT_QUEUE: Duration = Duration::from_millis(50);
const OWN_QUEUE: Duration = Duration::from_millis(100);
/// Where another keeps the link full he decides how long its queue is, and losses say when it overflows; but for this.
const SHARED_QUEUE: Duration = Duration::from_millis(400);
const LONG_QUEUE: Duration = Duration::from_millis(200);

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
    /// What came through when it was last reduced, if the link was full, and when.
    full: Option<(f64, Now)>,
    /// What gets through, as of the last feedback.
    through: Option<f64>,
    gave_way: Option<GaveWay>,
}

/// To a queue, which was so long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaveWay {
    /// The estimate, bit/s.
    pub before: f64,
    pub queue: Duration,
}

/// What a feedback has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub usage: Usage,
    /// What gets through, bit/s.
    pub acknowledged: Option<f64>,
    /// What gets through while the link is full, bit/s, if it is or has just been.
    pub full: Option<f64>,
    /// What waits in the link.
    pub queue: Duration,
    /// That has long been there, and does not grow.
    pub stands: bool,
    /// Another keeps it full.
    pub shared: bool,
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
            full: None,
            through: None,
            gave_way: None,
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

    /// It is divided among those who share the link.
    pub const fn share(&mut self, bps: f64) {
        self.bps = bps;
    }

    /// It was reduced for a queue, or ought to be, since this was last taken.
    pub const fn gave_way(&mut self) -> &mut Option<GaveWay> {
        &mut self.gave_way
    }

    /// Another who shares the link has, for all of them.
    pub const fn give_way(&mut self, now: Now, bps: f64) {
        self.state = State::Hold;
        self.gave_way = None;
        (self.changed, self.reduced, self.bps) = (now, now, bps);
    }

    /// What gets through, as far as is known.
    pub fn through(&self) -> f64 {
        self.through.unwrap_or(self.bps)
    }

    pub fn update(&mut self, now: Now, mut observed: Observed) {
        if observed.usage == Usage::Over && self.has_little_of(observed) {
            observed.usage = Usage::Normal;
        }
        self.through = self.carried(observed);
        match (observed.usage, self.state) {
            (Usage::Over, _) => self.reduce(now, observed),
            (Usage::Under, _) => self.state = State::Hold,
            (Usage::Normal, State::Hold) => {
                self.state = State::Increase;
                self.changed = now;
                self.refill(now, observed.queue);
            }
            (Usage::Normal, State::Increase) => {
                self.refill(now, observed.queue);
                self.increase(now, observed);
            }
        }
    }

    fn increase(&mut self, now: Now, observed: Observed) {
        let Some(through) = observed.acknowledged else {
            return; // who tells no times that mean something raises nothing
        };
        if self.capacity.is_below(through) {
            self.capacity = Capacity::default();
        }
        let ahead = if observed.shared {
            SHARED_AHEAD
        } else if self.capacity.known.is_some() {
            NEAR_AHEAD
        } else {
            MAX_AHEAD.0
        };
        let mut limit = ahead * through + MAX_AHEAD.1;
        // Beyond what a thin link is known to carry a probe asks, not a voice.
        if let Some((mean, _)) = self.capacity.known
            && mean < THIN
        {
            limit = limit.min(mean * THIN_AHEAD);
        }
        let elapsed = now.since(self.changed).as_secs_f64().min(1.0);
        if self.bps < limit {
            let growth = if self.capacity.known.is_some() {
                self.near_growth(observed.shared) * elapsed
            } else {
                (self.bps * (GROWTH.powf(elapsed) - 1.0)).max(MIN_GROWTH * elapsed)
            };
            self.bps = (self.bps + growth).min(limit);
        }
        self.changed = now;
    }

    fn near_growth(&self, shared: bool) -> f64 {
        let response = ((self.round_trip + RESPONSE) * 2).as_secs_f64();
        if self.bps <= THIN {
            return (self.bps / FRAMES / response).max(MIN_NEAR_GROWTH);
        }
        if shared {
            let round_trip = self.round_trip.max(REDUCTION.0).as_secs_f64();
            return PACKET / (round_trip * round_trip);
        }
        PACKET / response
    }

    /// Another has filled the queue, who gives way: so two come to share a link evenly. A thin link's queue is made of few packets.
    fn has_little_of(&self, observed: Observed) -> bool {
        let through = observed.acknowledged.unwrap_or_default();
        let least = THIN.max(self.bps / 2.0);
        let part = through * observed.queue.as_secs_f64();
        let others = part < OWN_PACKETS * PACKET && observed.queue < OWN_QUEUE;
        through > least && others && !observed.stands
    }

    fn reduce(&mut self, now: Now, observed: Observed) {
        self.state = State::Hold;
        // A line that has risen a little where nothing has waited long is another's traffic, or chance: the rate is not raised.
        // Nor is it more than that on a link that another keeps full.
        let others = if observed.shared && self.bps > THIN {
            observed.queue < SHARED_QUEUE && !observed.stands
        } else {
            observed.full.is_none() && observed.queue < OWN_QUEUE
                || self.bps > THIN && observed.queue < SHORT_QUEUE
        };
        if others {
            self.changed = now;
            return;
        }
        let through = self.carried(observed);
        let apart = self.round_trip.clamp(REDUCTION.0, REDUCTION.1);
        let soon = now.since(self.reduced) < apart;
        // Much less gets through: that cannot wait.
        if soon && through.is_none_or(|through| through >= self.bps / 2.0) {
            return;
        }
        (self.changed, self.reduced) = (now, now);
        self.gave_way = Some(GaveWay {
            before: self.gave_way.map_or(self.bps, |earlier| earlier.before),
            queue: observed.queue,
        });
        // What stands may be the way itself: of what a thin link carries that says nothing.
        if observed.stands && self.bps < THIN {
            self.bps *= BACKOFF;
            return;
        }
        let Some(through) = through else {
            self.bps /= 2.0; // `DelayBasedBwe`: nothing is known yet
            return;
        };
        let left = backoff(observed.queue);
        let mut reduced = left * through;
        if reduced > THIN {
            reduced -= MARGIN;
        }
        // What has just come out of the full link is no older knowledge of it.
        let fresh = observed.full.is_some() && self.capacity.is_below(through);
        if fresh || self.capacity.is_above(through) {
            self.capacity = Capacity::default();
        }
        if reduced > self.bps
            && let Some((capacity, _)) = self.capacity.known
        {
            reduced = left * capacity;
        }
        // A thin link is known for one at once: voices wait there.
        if self.bps.min(reduced) > THIN {
            reduced = with_short_queue(observed.queue, self.bps, reduced);
        }
        self.bps = self.bps.min(reduced);
        self.capacity.update(through, 0.05); // `OnOveruseDetected`
        self.full = observed
            .full
            .filter(|_| through < THIN)
            .map(|_| (through, now));
    }

    /// What the link carries, as far as its overuse shows.
    fn carried(&self, observed: Observed) -> Option<f64> {
        let full = observed.full.or(observed.acknowledged)?;
        // Another's burst takes most of a link for some frames: what got through in the last second was no more than the link
        // carries, unless the queue has become long since.
        let through = observed.acknowledged.unwrap_or(full);
        let mut carried = if observed.queue < LONG_QUEUE {
            full.max(through)
        } else {
            full
        };
        // A loss more or less among ten packets of a voice is a tenth: it is what it was known to be, if it may be that.
        if let Some((mean, _)) = self.capacity.known
            && mean < THIN
            && !self.capacity.is_above(carried)
        {
            carried = carried.max(mean);
        }
        Some(carried)
    }

    /// The queue of a thin link is gone, and by now it is known what it carries, as after a probe. Libwebrtc comes back by a packet a
    /// round trip, so that two who share a link come to share it evenly; but what is missing here is a part of a voice.
    fn refill(&mut self, now: Now, queue: Duration) {
        let Some((full, at)) = self.full else {
            return;
        };
        if now.since(at) > REFILL_WITHIN {
            self.full = None;
        } else if queue < DRAINED {
            self.bps = self.bps.max(UTILIZATION * full);
            self.full = None;
        }
    }
}

/// What is left of `bps`, if it were `reduced` otherwise. Of a link that has only just been filled, what got through in the last
/// second says little.
pub(super) fn with_short_queue(queue: Duration, bps: f64, reduced: f64) -> f64 {
    if queue < OWN_QUEUE {
        reduced.max(LEAST_LEFT * bps)
    } else {
        reduced
    }
}

pub(super) fn backoff(queue: Duration) -> f64 {
    (DRAIN.0 - queue.as_secs_f64() / DRAIN.1).clamp(LEAST_LEFT, BACKOFF)
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
            full: None,
            queue: Duration::from_millis(200),
            stands: false,
            shared: false,
        }
    }

    #[test]
    fn it_falls_to_a_share_of_what_gets_through_and_rises_no_further_than_what_was_sent_shows() {
        let mut rate = Rate::new(Now(0), 1e6);
        rate.update(Now::from_millis(300), observed(Usage::Over, 500e3));
        assert_eq!(rate.bps(), 420e3);
        for ms in (400..120_000).step_by(100) {
            rate.update(Now::from_millis(ms), observed(Usage::Normal, 100e3));
        }
        assert_eq!(rate.bps(), 420e3);
        for ms in (120_000..900_000).step_by(100) {
            rate.update(Now::from_millis(ms), observed(Usage::Normal, 400e3));
        }
        assert_eq!(rate.bps(), 510e3);
    }

    #[test]
    fn where_nothing_waits_a_rising_line_raises_and_lowers_nothing() {
        let mut rate = Rate::new(Now(0), 1e6);
        let seen = Observed {
            queue: Duration::from_millis(40),
            ..observed(Usage::Over, 40e3)
        };
        for ms in (300..3_000).step_by(100) {
            rate.update(Now::from_millis(ms), seen);
            assert_eq!(rate.bps(), 1e6);
        }
        rate.update(Now::from_millis(3_000), observed(Usage::Over, 40e3));
        assert_eq!(rate.bps(), 34e3);
    }

    #[test]
    fn what_a_thin_link_carried_is_used_again_once_its_queue_is_gone() {
        let mut rate = Rate::new(Now(0), 2e6);
        let full = Observed {
            full: Some(64e3),
            ..observed(Usage::Over, 30e3)
        };
        rate.update(Now::from_millis(300), full);
        assert_eq!(rate.bps(), 54.4e3);
        let normal = observed(Usage::Normal, 30e3);
        rate.update(Now::from_millis(600), normal);
        assert_eq!(rate.bps(), 54.4e3);
        let queue = Duration::ZERO;
        rate.update(Now::from_millis(900), Observed { queue, ..normal });
        assert_eq!(rate.bps(), 60.8e3);
    }

    #[test]
    fn who_has_little_of_a_queue_does_not_give_way() {
        for (through, reduced) in [(210e3, false), (400e3, true)] {
            let mut rate = Rate::new(Now(0), 400e3);
            let seen = Observed {
                full: Some(through),
                queue: Duration::from_millis(80),
                ..observed(Usage::Over, through)
            };
            rate.update(Now::from_millis(300), seen);
            assert_eq!(rate.bps() < 400e3, reduced, "{through}");
        }
    }
}
