//! Asking the link: packets that leave faster than the estimate, and what their arrivals show. After libwebrtc's
//! `probe_controller.cc` and `probe_bitrate_estimator.cc`; its constants by their names there. Where we depart: one
//! cluster at a time (libwebrtc sends the first two at once; on a thin link the second would stand in its queue before the
//! first voice); and only the first probes may lower the estimate, for five packets after jitter prove little.

use std::time::Duration;

use super::MIN;
use crate::now::Now;
use crate::pacer::{Probe, ProbeId};

/// `first_exponential_probe_scale`; then `further_exponential_probe_scale`
const FIRST: f64 = 3.0;
const FURTHER: f64 = 2.0;
/// `further_probe_threshold`: a result above this share of what was asked for asks on.
const THRESHOLD: f64 = 0.7;
/// `kDefaultMaxProbingBitrate`, where the demand is not above it
const MAX: f64 = 5e6;
/// `alr_probing_interval`, `alr_probe_scale`
const INTERVAL: Duration = Duration::from_secs(5);
const SCALE: f64 = 2.0;
/// `loss_limited_probe_scale`; and for one who uses the link to the full: a burst gets more of a shared queue than its share.
const LOSS_LIMITED: f64 = 1.5;
/// `min_probe_packets_sent`, `min_probe_duration` (s)
const PACKETS: u32 = 5;
const DURATION: f64 = 0.015;
/// s: once something is known of the link a probe lasts from one picture to the next, so that it meets those of others.
const FRAME: f64 = 1.0 / 30.0;
/// s: for all who share a link, as long as what it meets of theirs is known to some percent.
const COUPLED: f64 = 3.0 * FRAME;
/// A link that it fills answers with the burst's share, which is more than ours where others send: by so much of the difference is the
/// estimate raised.
const BELIEVED: f64 = 0.3;
/// `kMaxWaitingTimeForProbingResult`, beside the round trip
const WAIT: Duration = Duration::from_secs(1);
/// `kBitrateDropThreshold`, `kBitrateDropTimeout`, `kProbeFractionAfterDrop`, `kProbeUncertainty`
const DROP: f64 = 0.66;
const DROP_TIMEOUT: Duration = Duration::from_secs(5);
const AFTER_DROP: f64 = 0.85;
const UNCERTAINTY: f64 = 0.05;
/// `kMinReceivedProbesRatio`, `kMinReceivedBytesRatio`
const RECEIVED: f64 = 0.8;
const MIN_PACKETS: u32 = 3;
/// `kMaxValidRatio`
const MAX_RATIO: f64 = 2.0;
/// `kMinRatioForUnsaturatedLink`, `kTargetUtilizationFraction`
const SATURATED: f64 = 0.9;
const UTILIZATION: f64 = 0.95;
/// With more in the link a probe asks nothing: it would get through in its turn, and stand in the way.
const MAX_QUEUE: Duration = Duration::from_millis(50);
/// On a link that carries less than this, bit/s, a probe has fewer packets: five of padding would be a fifth of a second.
const THIN: f64 = 200e3;
/// And smaller ones, no larger than a voice's: three of the largest stand in a link of 64 kbit/s for an eighth of a second, and what
/// is asked for again meanwhile comes too late. Bytes of padding, there and elsewhere (RFC 3550 §5.1: no packet has more).
const PADDING: (u8, u8) = (60, 255);
/// A probe's own queue is no overuse: groups that left until so long after it are not looked at.
const AFTERMATH: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Prober {
    last: u32,
    waiting: Option<(Cluster, Now)>,
    /// The next in a row of probes, bit/s.
    next: Option<f64>,
    starting: bool,
    ended: Now,
    /// The estimate before it fell, and when.
    fell: Option<(f64, Now)>,
    recover: bool,
    quiet: Now,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    probe: Probe,
    /// Nothing higher would be asked for.
    highest: bool,
    /// The estimate, where the answer of a full link is believed in part.
    above: Option<f64>,
    /// What others get through the same link meanwhile, as far as is known; bit/s.
    beside: f64,
    packets: u32,
    size: f64,
    /// (first, last, size of the last, how long that was in the link beyond the least) by our clock; (first, last, size
    /// of the first) by his; µs, bytes
    sent: Option<(i64, i64, f64, i64)>,
    arrived: Option<(i64, i64, f64)>,
}

/// What decides whether to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub estimate: f64,
    pub demand: f64,
    /// The link may well carry more.
    pub unused: bool,
    pub overused: bool,
    /// What waits in the link.
    pub queue: Duration,
    pub loss_limited: bool,
    /// Far less is sent than the estimate.
    pub limited: bool,
    /// He asks for others as well, who share the link.
    pub coupled: bool,
    pub round_trip: Duration,
}

/// What a probe has shown, bit/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shown {
    pub bps: f64,
    /// It is one of the first, so that it may lower the estimate.
    pub first: bool,
    /// What others got through the same link meanwhile, as far as is known.
    pub beside: f64,
}

impl Prober {
    pub const fn new(now: Now, start: f64) -> Self {
        Self {
            last: 0,
            waiting: None,
            next: Some(start * FIRST),
            starting: true,
            ended: now,
            fell: None,
            recover: false,
            quiet: Now(0),
        }
    }

    /// The next probe, when it is time for one.
    pub fn next(&mut self, now: Now, situation: Situation) -> Option<Probe> {
        if let Some((_, since)) = self.waiting {
            // The feedback that comes next may still end it.
            if now.since(since) < WAIT * 2 + situation.round_trip {
                return None;
            }
            self.end(now);
        }
        let estimate = situation.estimate;
        let mut above = Some(estimate);
        let chained = self.next.is_some();
        let bps = if let Some(next) = self.next.take() {
            if !self.starting && situation.queue > MAX_QUEUE {
                self.end(now);
                return None;
            }
            next
        } else if situation.overused || situation.queue > MAX_QUEUE {
            return None;
        } else if let Some(bps) = self.recovery(now, estimate) {
            above = None;
            bps
        } else if situation.unused
            && situation.demand > estimate
            && now.since(self.ended) >= INTERVAL
        {
            let scale = if situation.loss_limited || !situation.limited {
                LOSS_LIMITED
            } else {
                SCALE
            };
            scale * estimate
        } else {
            return None;
        };
        let most = MAX.max(SCALE * situation.demand);
        let bps = bps.min(most);
        if bps <= estimate * (1.0 + UNCERTAINTY) {
            self.end(now);
            return None;
        }
        self.last = self.last.wrapping_add(1).max(1);
        let thin = bps < THIN;
        let duration = if self.starting || thin {
            DURATION
        } else if situation.coupled && !chained {
            COUPLED
        } else {
            FRAME
        };
        let probe = Probe {
            id: ProbeId(self.last),
            bps: bps as u32,
            bytes: (bps * duration / 8.0) as u32,
            packets: if thin { MIN_PACKETS } else { PACKETS },
            padding: if thin { PADDING.0 } else { PADDING.1 },
        };
        let cluster = Cluster {
            probe,
            highest: bps >= most,
            above: above.filter(|_| !self.starting),
            beside: 0.0,
            packets: 0,
            size: 0.0,
            sent: None,
            arrived: None,
        };
        self.waiting = Some((cluster, now));
        self.quiet = now.plus(AFTERMATH);
        Some(probe)
    }

    fn recovery(&mut self, now: Now, estimate: f64) -> Option<f64> {
        let (before, at) = self.fell?;
        if now.since(at) > DROP_TIMEOUT {
            self.fell = None;
        }
        if !std::mem::take(&mut self.recover) {
            return None;
        }
        self.fell = None;
        let bps = AFTER_DROP * before;
        (bps * (1.0 - UNCERTAINTY) > estimate).then_some(bps)
    }

    fn end(&mut self, now: Now) {
        self.waiting = None;
        self.starting = false;
        self.ended = now;
    }

    /// The probe that has just left met so much of others', bit/s.
    pub const fn met(&mut self, bps: f64) {
        if let Some((cluster, _)) = &mut self.waiting {
            cluster.beside = bps;
        }
    }

    /// Another asks the same link, and is answered for all.
    pub fn another_probes(&mut self, now: Now) {
        self.ended = self.ended.max(now);
        self.quiet = self.quiet.max(now.plus(AFTERMATH + AFTERMATH));
    }

    /// A packet of a probe leaves.
    pub fn sent(&mut self, now: Now) {
        self.quiet = now.plus(AFTERMATH);
    }

    /// Until then what leaves meets the queue of a probe.
    pub const fn quiet(&self) -> Now {
        self.quiet
    }

    /// The row that began with the first packet goes on.
    pub const fn is_starting(&self) -> bool {
        self.starting
    }

    /// The estimate has become `after`.
    pub fn estimated(&mut self, now: Now, before: f64, after: f64) {
        if after < DROP * before {
            self.fell = Some((before, now));
        }
    }

    /// The queue has drained, or feedback is back after `before` was the estimate: what was lost may be asked for.
    pub fn recovered(&mut self, now: Now, before: Option<f64>) {
        self.recover = self.fell.is_some() || before.is_some();
        if let Some(before) = before {
            self.fell = Some((before, now));
        }
    }

    /// A packet of probe `id` has arrived, after it was in the link for so long beyond the least; µs.
    pub fn arrived(&mut self, id: u32, sent: i64, arrived: i64, queued: i64, size: u16) {
        let Some((cluster, _)) = &mut self.waiting else {
            return;
        };
        if cluster.probe.id.0 != id {
            return;
        }
        let size = f64::from(size);
        cluster.packets += 1;
        cluster.size += size;
        let (first, last, last_size, waited) = cluster.sent.unwrap_or((sent, sent, size, queued));
        cluster.sent = Some(if sent >= last {
            (first.min(sent), sent, size, queued)
        } else {
            (first.min(sent), last, last_size, waited)
        });
        let (first, last, first_size) = cluster.arrived.unwrap_or((arrived, arrived, size));
        cluster.arrived = Some(if arrived <= first {
            (arrived, last.max(arrived), size)
        } else {
            (first, last.max(arrived), first_size)
        });
    }

    /// What the probe has shown, once enough of it has arrived; asks on if that was much.
    pub fn shown(&mut self, now: Now, round_trip: Duration) -> Option<Shown> {
        let (cluster, since) = self.waiting.as_ref()?;
        let (complete, first) = (cluster.is_complete(), self.starting);
        if !complete && now.since(*since) < WAIT + round_trip {
            return None;
        }
        let asked = f64::from(cluster.probe.bps);
        let (packets, highest, above) = (cluster.packets, cluster.highest, cluster.above);
        // The first are of one who is alone.
        let beside = if first { 0.0 } else { cluster.beside };
        let shown = cluster.bps();
        self.end(now);
        let (mut shown, saturated) = shown?;
        let whole = shown;
        // It took its part of what the link carries from those beside it. And what was beside it is known to some
        // percent, so that no more than what a full link shows is taken for certain.
        if beside > 0.0 {
            let link = if saturated {
                shown * (1.0 + beside / asked)
            } else {
                UTILIZATION * (shown + beside)
            };
            shown = (link - beside).max(MIN);
        }
        if saturated && let Some(estimate) = above.filter(|&estimate| shown > estimate) {
            shown = estimate + BELIEVED * (shown - estimate);
        }
        // Of the first probe a short queue may have dropped most; how far apart the rest came still tells a thin link, if it
        // is further than they were sent. Else they were lost at random, and so few say nothing against more.
        let thin = first && saturated && packets >= MIN_PACKETS;
        if !complete && !thin {
            return None;
        }
        if complete && !highest && whole > THRESHOLD * asked {
            self.next = Some(FURTHER * shown.max(asked));
            self.starting = first;
        }
        Some(Shown {
            bps: shown,
            first,
            beside,
        })
    }
}

impl Cluster {
    fn is_complete(&self) -> bool {
        f64::from(self.packets) >= RECEIVED * f64::from(self.probe.packets)
            && self.size >= RECEIVED * f64::from(self.probe.bytes)
    }

    /// The lesser of the rates of sending and of arrival, and whether the link was the limit; `None` when they contradict
    /// each other.
    fn bps(&self) -> Option<(f64, bool)> {
        let (first_sent, last_sent, last_size, waited) = self.sent?;
        let (first_arrived, last_arrived, first_size) = self.arrived?;
        let (leaving, arriving) = (last_sent - first_sent, last_arrived - first_arrived);
        let rate = |size: f64, took: i64| {
            (0 < took && took <= 1_000_000).then(|| size * 8e6 / took as f64)
        };
        let sent = rate(self.size - last_size, leaving)?;
        let arrived = rate(self.size - first_size, arriving)?;
        // Of as many bytes: a voice first and a picture last would look like it.
        if leaving as f64 > MAX_RATIO * arriving as f64 {
            return None;
        }
        // Where we depart: a picture first and padding last would look like a thin link, for the one counts where it
        // left and the other where it arrived. But all before the last was through once that had waited.
        let through = rate(self.size - last_size, leaving + waited);
        let arrived = arrived.max(through.unwrap_or_default());
        let saturated = arrived < SATURATED * sent;
        let bps = if saturated {
            UTILIZATION * arrived
        } else {
            sent.min(arrived)
        };
        Some((bps, saturated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a probe of packets that left at so many µs shows of a link of this rate, and whether it was the limit.
    fn shown(bps: i64, packets: &[(i64, u16)]) -> Option<(f64, bool)> {
        let mut prober = Prober::new(Now(0), 200e3);
        let probe = prober.next(Now(0), SITUATION)?;
        let (mut free, least) = (0, 100 * 8_000_000 / bps);
        for &(sent, size) in packets {
            free = free.max(sent) + i64::from(size) * 8_000_000 / bps;
            prober.arrived(probe.id.0, sent, free, free - sent - least, size);
        }
        prober.waiting?.0.bps()
    }

    /// 600 kbit/s, as it met pictures and a voice.
    const MIXED: [(i64, u16); 5] = [
        (0, 995),
        (1_500, 122),
        (14_800, 996),
        (21_500, 122),
        (29_700, 317),
    ];

    #[test]
    fn a_picture_first_and_padding_last_are_no_thin_link() {
        let (bps, saturated) = shown(4_000_000, &MIXED).unwrap();
        assert!(!saturated && (570e3..=602e3).contains(&bps), "{bps}");
    }

    #[test]
    fn a_link_that_is_the_limit_shows_its_rate_whatever_the_sizes() {
        let (bps, saturated) = shown(437_000, &MIXED).unwrap();
        assert!(saturated && (400e3..=437e3).contains(&bps), "{bps}");
    }

    #[test]
    fn a_voice_first_and_a_picture_last_contradict_nothing() {
        let probe = [(0, 122), (8_000, 122), (16_000, 995)];
        let (bps, saturated) = shown(4_000_000, &probe).unwrap();
        assert!(!saturated && (bps - 122e3).abs() < 1.0, "{bps}");
    }

    const SITUATION: Situation = Situation {
        estimate: 200e3,
        demand: 2e6,
        unused: true,
        overused: false,
        queue: Duration::ZERO,
        loss_limited: true,
        limited: false,
        coupled: false,
        round_trip: Duration::from_millis(400),
    };

    /// Three of the largest took an eighth of a second of 64 kbit/s, and among a voice's packets they did not even show its rate:
    /// of three that differ in size the first and the last count for too much.
    #[test]
    fn on_a_thin_link_a_probe_is_three_packets_of_a_voices_size() {
        for (estimate, packets, padding) in [(64e3, 3, 60), (640e3, 5, 255)] {
            let mut prober = Prober::new(Now(0), estimate);
            (prober.next, prober.starting) = (None, false);
            let probe = prober.next(
                Now(0).plus(INTERVAL),
                Situation {
                    estimate,
                    ..SITUATION
                },
            );
            let found = probe.map(|probe| (probe.packets, probe.padding));
            assert_eq!(found, Some((packets, padding)));
        }
    }
}
