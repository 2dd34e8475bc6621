//! What the way to one client carries, from what it tells of the packets that it was sent (transport-wide feedback,
//! draft-holmer-rmcat-transport-wide-cc-extensions-01) or from what it says that it can take (REMB). Sans-IO: a packet that
//! leaves costs a write into a ring, a feedback a look for each status; nothing allocates after the first packet.
//!
//! The algorithm is Google congestion control as libwebrtc has it, `modules/congestion_controller/goog_cc` and
//! `modules/remote_bitrate_estimator`, at revision bb9331cfbe9812cb8968cf2b595e5c56714648a4 of the mirror
//! github.com/JumpingYang001/webrtc (20 June 2025); each part names its file, each constant its name there. The code is our own. Left out:
//! congestion window, network state estimates and every field trial that is off by default. Where we depart, the part says so
//! and why.
//!
//! Everything told is hostile. A feedback that names what was never sent, or nothing new, is dropped by name before or
//! without any effect; arrivals can raise the estimate only as far as what was really sent, by our own clock.

mod acknowledged;
mod arrivals;
mod coupled;
mod history;
mod limited;
mod loss;
mod probing;
mod queue;
mod rate;
mod trendline;
mod waits;

#[cfg(test)]
mod tests;

use std::time::Duration;

use acknowledged::Acknowledged;
use arrivals::{Arrival, Arrivals, Found};
use coupled::Probed;
use history::{Fate, History, Sent};
use limited::Limited;
use loss::Loss;
use probing::{Prober, Situation};
use queue::Queue;
use rate::{Observed, Rate};
use trendline::Trendline;

pub use coupled::reduced;
pub use rate::{MAX_AHEAD, SHORT_QUEUE, THIN};
pub use trendline::Usage;
pub use waits::Waits;

use crate::now::Now;
use crate::pacer::{Probe, ProbeId};
use crate::wire::drop::DropReason;
use crate::wire::rtcp::TransportFeedback;
use crate::wire::seq::SeqNo;

/// bit/s: `kCongestionControllerMinBitrate`, and what no consultation needs more of.
const MIN: f64 = 5_000.0;
const MAX: f64 = 30e6;
/// Packets were sent and nothing was told of any for this long, and a round trip: the way to or from the client is cut. Honest
/// feedback comes at least four times a second.
const SILENCE: Duration = Duration::from_secs(1);
/// Then the estimate is halved each second, down to this share: enough that what is sent meets the end of the outage.
const CUT: f64 = 0.5;
const MIN_CUT: f64 = 0.125;
/// Where nothing else is sent meanwhile, so many packets each second find out when it is over.
const KNOCK: u32 = 2;
/// The estimate may be low, and is asked about, while less than this share of it gets through, or when nothing has hinted at
/// a limit for this long. (libwebrtc asks in the application-limited region alone; but the layers of a picture are steps, and
/// the one below the limit is often more than that region's 65 %.)
const UNUSED: f64 = 0.8;
const STEADY: Duration = Duration::from_secs(5);
/// With no more than this waiting in the link, losses are not its queue's.
const QUIET: Duration = Duration::from_millis(50);
/// Arrivals that are put in order together.
const BATCH: usize = 128;
/// The rise of what REMB says goes no further than what was sent shows (libwebrtc's receivers say 1.5 times what came): no probe
/// asks there, and a picture's next encoding weighs three times as much as the one before.
const REMB_AHEAD: f64 = 3.0;
/// µs: libwebrtc's `kStreamTimeOut`, after which the groups are begun anew.
const STREAM_TIMEOUT: i64 = 2_000_000;

pub struct Estimator {
    history: History,
    clock: ClientClock,
    arrivals: Arrivals,
    trendline: Trendline,
    rate: Rate,
    acknowledged: Acknowledged,
    loss: Loss,
    limited: Limited,
    prober: Prober,
    queue: Queue,
    waits: Waits,
    /// What a probe has raised the estimate by.
    probed: Option<Probed>,
    /// bit/s, what REMB says; alone it is the estimate.
    remb: Option<f64>,
    demand: f64,
    /// Transport-wide feedback has come.
    told: Option<Now>,
    /// The first packet since then, and the last of all.
    unanswered: Option<Now>,
    latest: Now,
    outage: Option<Outage>,
    /// Losses up to this number are an outage's.
    excused: u64,
    usage: Usage,
    /// Last, or the beginning.
    overused: Now,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    /// The estimate before.
    before: f64,
    cut: Now,
}

/// For events and the state that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Of what was sent lately, per mille.
    pub loss: u16,
    /// What waits in the link.
    pub queue: Duration,
    pub usage: Usage,
    /// Far less is sent than the link carries.
    pub limited: bool,
    /// Another keeps it full.
    pub shared: bool,
    /// bit/s: what the delay allows, what losses allow (if they say anything), and what gets through.
    pub delay_bps: u32,
    pub loss_bps: Option<u32>,
    pub acknowledged: Option<u32>,
}

impl Estimator {
    #[must_use]
    pub fn new(now: Now, start_bps: u32) -> Self {
        let start = f64::from(start_bps).clamp(MIN, MAX);
        Self {
            history: History::default(),
            clock: ClientClock::default(),
            arrivals: Arrivals::default(),
            trendline: Trendline::default(),
            rate: Rate::new(now, start),
            acknowledged: Acknowledged::new(now),
            loss: Loss::default(),
            limited: Limited::new(now),
            prober: Prober::new(now, start),
            queue: Queue::default(),
            waits: Waits::default(),
            probed: None,
            remb: None,
            demand: 0.0,
            told: None,
            unanswered: None,
            latest: now,
            outage: None,
            excused: 0,
            usage: Usage::Normal,
            overused: now,
        }
    }

    /// A packet of `size` bytes, down to the IP header, leaves under the number returned.
    pub fn sent(&mut self, now: Now, size: usize, probe: Option<ProbeId>) -> u16 {
        self.account(now, size);
        self.unanswered.get_or_insert(now);
        self.latest = now;
        if probe.is_some() {
            self.prober.sent(now);
        }
        self.history.push(Sent {
            at: now,
            probe: probe.map_or(0, |probe| probe.0),
            size: size.min(usize::from(u16::MAX)) as u16,
            fate: Fate::Unknown,
        })
    }

    /// A packet of `size` bytes leaves of which nothing will be told.
    pub fn unnumbered(&mut self, now: Now, size: usize) {
        self.account(now, size);
    }

    /// It was asked for again, and has gone again under its number.
    pub fn lost(&mut self, seq: SeqNo) {
        if let Some((number, sent)) = self.history.find(seq) {
            if sent.fate == Fate::Unknown && number > self.excused {
                self.loss.add(micros(sent.at), sent.size, false);
            }
            sent.fate = Fate::Received;
        }
    }

    fn account(&mut self, now: Now, size: usize) {
        let estimate = self.bitrate();
        self.acknowledged.sent(now, size);
        self.limited.sent(now, size, estimate);
    }

    pub fn feedback(
        &mut self,
        now: Now,
        feedback: &TransportFeedback<'_>,
    ) -> Result<(), DropReason> {
        self.history.covers(feedback.base, feedback.count)?;
        let before = f64::from(self.bitrate());
        let offset = self.clock.offset(feedback.reference);
        self.end_outage(now);
        let mut batch = Batch::default();
        let mut news = false;
        for (seq, ticks) in feedback.statuses() {
            let Some((number, sent)) = self.history.find(seq) else {
                continue; // no longer kept
            };
            let at = micros(sent.at);
            match (sent.fate, ticks) {
                (Fate::Received, _) | (Fate::Lost, None) => continue,
                (Fate::Unknown, None) => {
                    sent.fate = Fate::Lost;
                    if number > self.excused {
                        self.loss.add(at, sent.size, false);
                    }
                }
                (fate, Some(ticks)) => {
                    sent.fate = Fate::Received;
                    let sent = *sent;
                    if fate == Fate::Unknown {
                        self.loss.add(at, sent.size, true);
                    } else if number > self.excused {
                        self.loss.found(sent.size);
                    }
                    if batch.is_full() {
                        self.arrived(now, &mut batch);
                    }
                    batch.push((ticks + offset) * TICK, sent);
                }
            }
            news = true;
        }
        self.arrived(now, &mut batch);
        if !news {
            return Err(DropReason::Duplicate);
        }
        self.told = Some(now);
        self.unanswered = None;
        self.conclude(now, before);
        Ok(())
    }

    /// Packets that have arrived, by the parts that look at each.
    fn arrived(&mut self, now: Now, batch: &mut Batch) {
        let told = micros(now);
        for (arrived, sent) in batch.in_order() {
            let (arrived, at) = (*arrived, micros(sent.at));
            let queued = self.queue.add(at, arrived);
            self.waits.add(at, queued);
            self.acknowledged.add(at, arrived, sent.size, queued);
            if sent.probe != 0 {
                self.prober
                    .arrived(sent.probe, at, arrived, queued, sent.size);
            }
            if self.clock.paused(told) {
                self.arrivals.reset();
                self.trendline = Trendline::default();
            }
            match self.arrivals.add(Arrival {
                sent: at,
                arrived,
                told,
            }) {
                Found::Nothing => {}
                Found::Apart(_) if sent.at <= self.prober.quiet() && !self.queue.is_long() => {}
                Found::Apart(apart) => self.trendline.add(apart),
                Found::Stepped => {
                    self.trendline = Trendline::default();
                    self.queue.reset();
                }
            }
        }
        batch.len = 0;
    }

    /// What all this means for the estimate.
    fn conclude(&mut self, now: Now, before: f64) {
        let mut usage = self.trendline.usage();
        // As in libwebrtc, for those alone who send little: who uses the link to the full has found its limit.
        if self.usage == Usage::Under && usage == Usage::Normal && self.limited.get() {
            self.prober.recovered(now, None);
        }
        let stands = usage == Usage::Normal && self.queue.stands(now, self.rate.round_trip());
        if stands {
            usage = Usage::Over;
        }
        self.usage = usage;
        if usage == Usage::Over {
            self.overused = now;
        }
        self.acknowledged.measure();
        let through = self.acknowledged.bps(now);
        let limited = self.limited.get();
        let shown = self.prober.shown(now, self.rate.round_trip());
        let raised = shown
            .filter(|shown| shown.first || shown.bps > self.rate.bps() && !self.queue.is_long())
            .filter(|_| usage != Usage::Over);
        if let Some(shown) = raised {
            self.probed = Some(Probed {
                before: self.rate.bps(),
                whole: shown.bps + shown.beside,
            });
            self.rate.set(now, shown.bps.clamp(MIN, MAX), true);
            self.loss.set(shown.bps);
        } else {
            self.rate.update(
                now,
                Observed {
                    usage,
                    acknowledged: through,
                    full: self.acknowledged.full(),
                    queue: self.queue.get(),
                    stands,
                    shared: self.queue.is_shared(),
                },
            );
        }
        let quiet = usage != Usage::Over && self.queue.get() < QUIET;
        let delay = self.rate.bps();
        self.loss.update(delay, through, limited, quiet);
        self.prober
            .estimated(now, before, f64::from(self.bitrate()));
    }

    fn end_outage(&mut self, now: Now) {
        let Some(outage) = self.outage.take() else {
            return;
        };
        // What was lost meanwhile says nothing of how much the link carries, and the delay begins anew.
        self.excused = self.history.newest();
        self.arrivals.reset();
        self.trendline = Trendline::default();
        self.prober.recovered(now, Some(outage.before));
    }

    /// Receiver Estimated Maximum Bitrate: all there is of clients without transport-wide feedback, a cap for others.
    pub fn remb(&mut self, now: Now, bps: u64) {
        let said = (bps as f64).clamp(MIN, MAX);
        let known = self.remb.unwrap_or(self.rate.bps());
        let most = if self.told.is_some() {
            MAX
        } else {
            (REMB_AHEAD * self.acknowledged.sent_bps(now)).max(known)
        };
        self.remb = Some(said.min(most));
    }

    pub const fn round_trip(&mut self, round_trip: Duration) {
        self.rate.set_round_trip(round_trip);
    }

    /// What would be sent if it could, bit/s.
    pub fn set_demand(&mut self, bps: u32) {
        self.demand = f64::from(bps);
    }

    /// What happens by the clock: nothing is sent, or nothing is told.
    pub fn advance(&mut self, now: Now) {
        self.account(now, 0);
        let Some(unanswered) = self.unanswered.filter(|_| self.told.is_some()) else {
            return;
        };
        let (before, since) = match self.outage {
            Some(outage) => (outage.before, outage.cut),
            None => (self.rate.bps(), unanswered.plus(self.rate.round_trip())),
        };
        if now.since(since) >= SILENCE {
            let cut = (self.rate.bps() * CUT).max(before * MIN_CUT).max(MIN);
            self.rate.set(now, cut, false);
            self.outage = Some(Outage { before, cut: now });
        }
    }

    /// What waits in the link.
    #[must_use]
    pub fn queue(&self) -> Duration {
        self.queue.get()
    }

    /// What the link carries now, bit/s.
    #[must_use]
    pub fn bitrate(&self) -> u32 {
        let estimate = match (self.remb, self.told) {
            (Some(remb), None) => remb,
            (remb, _) => self
                .rate
                .bps()
                .min(self.loss.bps())
                .min(remb.unwrap_or(MAX)),
        };
        estimate.clamp(MIN, MAX) as u32
    }

    /// A probe, when one is wanted. It is to leave at once; its packets are told to `sent`.
    pub fn probe(&mut self, now: Now, coupled: bool) -> Option<Probe> {
        // Without feedback a probe shows nothing.
        self.told?;
        let estimate = f64::from(self.bitrate());
        if self.outage.is_some() {
            // A picture that is paused for the outage would never be told of its end.
            return (now.since(self.latest) >= SILENCE).then_some(Probe {
                id: ProbeId(0),
                bps: estimate as u32,
                bytes: 0,
                packets: KNOCK,
                padding: u8::MAX,
            });
        }
        let through = self.acknowledged.bps(now);
        let unused = self.limited.get()
            || through.is_some_and(|through| through < UNUSED * estimate)
            || now.since(self.overused) >= STEADY;
        self.prober.next(
            now,
            Situation {
                estimate,
                unused,
                demand: self.demand,
                overused: self.usage == Usage::Over,
                queue: self.queue.get(),
                loss_limited: self.loss.limits(),
                limited: self.limited.get(),
                coupled,
                round_trip: self.rate.round_trip(),
            },
        )
    }

    /// The first probes have shown what they could: the estimate is no longer what it was set to begin with.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        !self.prober.is_starting()
    }

    /// More waits in the link than a probe or a keyframe leaves there.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.is_long()
    }

    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            loss: self.loss.per_mille(),
            queue: self.queue.get(),
            usage: self.usage,
            limited: self.limited.get(),
            shared: self.queue.is_shared(),
            delay_bps: self.rate.bps() as u32,
            loss_bps: self
                .loss
                .bps()
                .is_finite()
                .then_some(self.loss.bps() as u32),
            acknowledged: self
                .told
                .and_then(|at| self.acknowledged.bps(at))
                .map(|bps| bps as u32),
        }
    }
}

/// µs of a tick of a feedback's times.
const TICK: i64 = 250;

/// His clock: reference times are multiples of 64 ms in 24 bits, and begin anew after twelve days.
#[derive(Debug, Default)]
struct ClientClock {
    reference: Option<(i32, i64)>,
    told: Option<i64>,
}

impl ClientClock {
    /// What to add to the ticks of a feedback with this reference time.
    fn offset(&mut self, reference: i32) -> i64 {
        let unwrapped = match self.reference {
            None => i64::from(reference),
            Some((last, unwrapped)) => {
                unwrapped + i64::from((reference.wrapping_sub(last) << 8) >> 8)
            }
        };
        self.reference = Some((reference, unwrapped));
        (unwrapped - i64::from(reference)) * 256
    }

    /// Nothing has arrived for so long that groups before and after cannot be compared; µs.
    fn paused(&mut self, told: i64) -> bool {
        let last = self.told.replace(told);
        last.is_some_and(|last| told - last > STREAM_TIMEOUT)
    }
}

/// Arrivals of one feedback, in the order in which they came.
struct Batch {
    kept: [(i64, Sent); BATCH],
    len: usize,
    unordered: bool,
}

impl Default for Batch {
    fn default() -> Self {
        let nothing = Sent {
            at: Now(0),
            probe: 0,
            size: 0,
            fate: Fate::Received,
        };
        Self {
            kept: [(0, nothing); BATCH],
            len: 0,
            unordered: false,
        }
    }
}

impl Batch {
    const fn is_full(&self) -> bool {
        self.len == BATCH
    }

    fn push(&mut self, arrived: i64, sent: Sent) {
        self.unordered |= self.len > 0 && arrived < self.kept[self.len - 1].0;
        self.kept[self.len] = (arrived, sent);
        self.len += 1;
    }

    fn in_order(&mut self) -> &[(i64, Sent)] {
        let kept = &mut self.kept[..self.len];
        if std::mem::take(&mut self.unordered) {
            kept.sort_unstable_by_key(|&(arrived, sent)| (arrived, sent.at));
        }
        kept
    }
}

const fn micros(now: Now) -> i64 {
    (now.0 / 1_000) as i64
}
