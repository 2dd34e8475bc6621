//! A link with a rate, a queue, a delay and losses, and a client at its end who tells what arrives (`twcc`, as we tell our
//! publishers); and a sender who sends what the estimate allows.

use std::time::Duration;

use crate::estimator::Estimator;
use crate::now::Now;
use crate::pacer::Probe;
use crate::twcc::Arrivals;
use crate::wire::rtcp::{Compound, Packet};
use crate::wire::seq::{SeqNo, Ssrc};

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub struct Link {
    /// bit/s; 0 = cut, in both directions
    pub rate: f64,
    pub queue: Duration,
    /// Each way.
    pub delay: Duration,
    pub loss: f64,
    /// Packets that a loss takes with it, on average.
    pub burst: f64,
    free: Now,
    bad: bool,
    chance: Chance,
}

impl Link {
    pub fn new(seed: u64, rate: f64, delay_ms: u64) -> Self {
        Self {
            rate,
            queue: Duration::from_millis(300),
            delay: Duration::from_millis(delay_ms),
            loss: 0.0,
            burst: 1.0,
            free: Now(0),
            bad: false,
            chance: Chance(seed),
        }
    }

    /// When a packet arrives.
    fn carry(&mut self, now: Now, size: usize) -> Option<Now> {
        if self.rate <= 0.0 || self.is_lost() {
            return None;
        }
        let start = self.free.max(now);
        if start.since(now) > self.queue {
            return None;
        }
        self.free = start.plus(Duration::from_secs_f64(size as f64 * 8.0 / self.rate));
        Some(self.free.plus(self.delay))
    }

    /// Gilbert–Elliott; with a burst of 1, independent.
    fn is_lost(&mut self) -> bool {
        let chance = self.chance.unit();
        self.bad = if self.burst <= 1.0 {
            chance < self.loss
        } else if self.bad {
            chance >= 1.0 / self.burst
        } else {
            chance < self.loss / (self.burst * (1.0 - self.loss))
        };
        self.bad
    }
}

/// What one sends, and how he is told.
pub struct Flow {
    pub estimator: Estimator,
    /// Never sends more than this, bit/s; a voice of 50 packets a second of 110 bytes comes out of it first.
    pub demand: f64,
    pub voice: bool,
    /// Where not empty, pictures are sent at the highest of these rates (bit/s) that fits, in frames of 30 a second, and a larger one
    /// begins with a keyframe.
    pub steps: &'static [f64],
    /// He talks for eight seconds, then another a little, and so on.
    pub pauses: bool,
    step: usize,
    waiting: f64,
    client: Arrivals,
    arriving: Vec<(Now, u16)>,
    telling: Vec<(Now, Vec<u8>)>,
    credit: f64,
    probe: Option<(Probe, f64)>,
    pub arrived: u64,
    pub sent: u64,
    /// One-way delay beyond the link's, of what arrived lately.
    pub queued: Duration,
}

const VOICE: usize = 110;
const PICTURE: usize = 1_200;
const PADDING: usize = 300;

impl Flow {
    pub fn new(now: Now, start: u32, demand: f64) -> Self {
        let mut estimator = Estimator::new(now, start);
        estimator.set_demand(demand as u32);
        Self {
            estimator,
            demand,
            voice: true,
            steps: &[],
            pauses: false,
            step: 0,
            waiting: 0.0,
            client: Arrivals::new(now),
            arriving: Vec::new(),
            telling: Vec::new(),
            credit: 0.0,
            probe: None,
            arrived: 0,
            sent: 0,
            queued: Duration::ZERO,
        }
    }

    /// One millisecond.
    pub fn step(&mut self, now: Now, link: &mut Link) {
        self.arrive(now, link);
        let due = (now.0 / 1_000_000).is_multiple_of(5);
        if due {
            self.estimator.advance(now);
        }
        if due
            && self.probe.is_none()
            && let Some(probe) = self.estimator.probe(now, false)
        {
            self.probe = Some((probe, 0.0));
        }
        self.send(now, link);
    }

    fn send(&mut self, now: Now, link: &mut Link) {
        let talks = !self.pauses || (now.0 / 1_000_000_000) % 10 < 8;
        let apart = if talks { 20 } else { 400 };
        if self.voice && (now.0 / 1_000_000).is_multiple_of(apart) {
            self.packet(now, VOICE, link);
        }
        let voice = if self.voice { 44e3 } else { 0.0 };
        let pictures = f64::from(self.estimator.bitrate()).min(self.demand) - voice;
        if self.steps.is_empty() {
            self.credit = (self.credit + pictures.max(0.0) / 8e3).min(6.0 * PICTURE as f64);
        } else {
            self.frames(now, pictures);
        }
        while self.credit >= PICTURE as f64 {
            self.credit -= PICTURE as f64;
            self.packet(now, PICTURE, link);
        }
        let Some((probe, credit)) = &mut self.probe else {
            return;
        };
        *credit += f64::from(probe.bps) / 8e3;
        let size = if probe.bps > 1_000_000 {
            PICTURE
        } else {
            PADDING
        };
        while let Some((_, credit)) = &mut self.probe
            && *credit >= size as f64
        {
            *credit -= size as f64;
            self.packet(now, size, link);
        }
    }

    /// What a forwarder has to send, paced as it paces it.
    fn frames(&mut self, now: Now, pictures: f64) {
        let ms = now.0 / 1_000_000;
        let fits = |budget: f64| self.steps.iter().filter(|&&step| step <= budget).count();
        // Down at once, up once a second at most and with a tenth to spare.
        let (most, more) = (fits(pictures), fits(pictures * 0.9));
        let rises = more > self.step && ms.is_multiple_of(1_000);
        self.step = if rises { more } else { self.step.min(most) };
        let rate = self.step.checked_sub(1).map_or(0.0, |at| self.steps[at]);
        if ms.is_multiple_of(33) {
            self.waiting += rate / 30.0 / 8.0;
        }
        if rises {
            self.waiting += 4.0 * rate / 30.0 / 8.0;
        }
        let paced = self
            .waiting
            .min(f64::from(self.estimator.bitrate()) * 1.25 / 8e3);
        self.waiting -= paced;
        self.credit += paced;
    }

    fn packet(&mut self, now: Now, size: usize, link: &mut Link) {
        let id = self.probe.as_mut().map(|(probe, _)| {
            probe.bytes = probe.bytes.saturating_sub(size as u32);
            probe.packets = probe.packets.saturating_sub(1);
            probe.id
        });
        if self
            .probe
            .is_some_and(|(probe, _)| probe.bytes == 0 && probe.packets == 0)
        {
            self.probe = None;
        }
        self.sent += size as u64;
        let number = self.estimator.sent(now, size, id);
        if let Some(at) = link.carry(now, size) {
            self.queued = at.since(now).saturating_sub(link.delay);
            self.arriving.push((at, number));
            self.arrived += size as u64;
        }
    }

    fn arrive(&mut self, now: Now, link: &Link) {
        let client = &mut self.client;
        self.arriving.retain(|&(at, number)| {
            if at <= now {
                client.record(at, SeqNo(number), Ssrc(2));
            }
            at > now
        });
        if client.due(now) {
            let mut out = [0; 1_200];
            while let Some(len) = client.write(now, &mut out, Ssrc(1)) {
                if link.rate > 0.0 {
                    self.telling
                        .push((now.plus(link.delay), out[..len].to_vec()));
                }
            }
        }
        let estimator = &mut self.estimator;
        self.telling.retain(|(at, bytes)| {
            if *at <= now {
                for packet in Compound::parse(bytes).unwrap() {
                    if let Packet::TransportFeedback(feedback) = packet {
                        estimator.feedback(now, &feedback).unwrap();
                    }
                }
            }
            *at > now
        });
    }
}

/// One who sends until something is lost, halves his window, and begins anew (RFC 5681, without its slow start and timeouts).
pub struct Download {
    window: f64,
    underway: usize,
    coming: Vec<(Now, bool)>,
    reduced: Now,
    pub arrived: u64,
}

const SEGMENT: usize = 1_500;

impl Download {
    pub const fn new() -> Self {
        Self {
            window: 10.0,
            underway: 0,
            coming: Vec::new(),
            reduced: Now(0),
            arrived: 0,
        }
    }

    /// One millisecond.
    pub fn step(&mut self, now: Now, link: &mut Link) {
        let (window, reduced) = (&mut self.window, &mut self.reduced);
        let (underway, arrived) = (&mut self.underway, &mut self.arrived);
        let round_trip = link.delay * 2 + link.queue;
        self.coming.retain(|&(at, came)| {
            if at > now {
                return true;
            }
            *underway -= 1;
            if came {
                *arrived += SEGMENT as u64;
                *window += 1.0 / *window;
            } else if now.since(*reduced) > round_trip {
                (*window, *reduced) = ((*window / 2.0).max(2.0), now);
            }
            false
        });
        while (self.underway as f64) < self.window {
            self.underway += 1;
            let came = link.carry(now, SEGMENT);
            let told = came.unwrap_or_else(|| now.plus(link.queue + link.delay));
            self.coming.push((told.plus(link.delay), came.is_some()));
        }
    }
}

/// All flows over one link, until `end` ms; `each` looks after every millisecond.
pub fn run(
    clock: &mut u64,
    end: u64,
    link: &mut Link,
    flows: &mut [Flow],
    mut each: impl FnMut(u64, &[Flow]),
) {
    while *clock < end {
        let now = Now::from_millis(*clock);
        for flow in flows.iter_mut() {
            flow.step(now, link);
        }
        each(*clock, flows);
        *clock += 1;
    }
}
