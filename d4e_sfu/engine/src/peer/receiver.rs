//! One received section: jitter buffer, repair by NACK and RTX, reports, and the frames handed to the checker in order.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::wire::rtcp::{self, Block, SenderInfo};
use crate::wire::seq::{SeqNo, Ssrc, Timestamp, Unwrapper};

use super::canary::Stamp;
use super::checker::{Arrival, Checker, FrameStats};
use super::latency::Quantiles;
use super::outlet::Outlet;
use super::payload::{assemble, redundancy, starts_frame};
use super::scalability::{Known, Read};
use super::spec::{Codec, ReceiveSpec};
use super::{Nanos, SECOND, seconds};

/// A leap of the sequence number over more than this is no loss: the buffer starts anew.
const MAX_LEAP: u64 = 2000;
const MAX_TRIES: u32 = 12;
/// How far a reordered start may reach back.
const MAX_START: u64 = 100;
/// Between two keyframe requests while stuck.
const PLI_INTERVAL: Nanos = SECOND / 2;
/// A stream of packets without a decodable frame for so long is stuck.
const STUCK: Nanos = SECOND / 4;

pub struct Receiver {
    pub spec: ReceiveSpec,
    pub ssrc: Option<Ssrc>,
    pub rtx_ssrc: Option<Ssrc>,
    unwrapper: Unwrapper,
    /// The next number to hand on; everything below is done with.
    next: Option<u64>,
    buffer: BTreeMap<u64, Held>,
    missing: BTreeMap<u64, Missing>,
    partial: Vec<Held>,
    /// Packets of the current frame are given up: the rest of it is dropped.
    broken: bool,
    /// No frame was handed on yet: a packet from before the first to come may still move the beginning back.
    beginning: bool,
    checker: Checker,
    dependencies: Known,
    waiting: bool,
    waiting_since: Nanos,
    last_pli: Option<Nanos>,
    reception: Reception,
    counts: Counts,
    /// Of a voice, when somebody asked for it: number of the frame, when it was made, when it came, and whether by repair.
    arrivals: Vec<(u32, Nanos, Nanos, bool)>,
}

struct Held {
    at: u64,
    timestamp: Timestamp,
    marker: bool,
    payload: Vec<u8>,
    dependency: Vec<u8>,
}

/// A packet as it came, from its own stream or by RTX.
pub struct Arrived<'a> {
    pub timestamp: Timestamp,
    pub marker: bool,
    pub payload: &'a [u8],
    /// The bytes of its dependency descriptor, if it had one.
    pub dependency: &'a [u8],
}

struct Missing {
    since: Nanos,
    next_try: Nanos,
    tries: u32,
}

/// RFC 3550 A.3, A.8.
#[derive(Default)]
struct Reception {
    first: Option<u64>,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    jitter: f64,
    transit: Option<i64>,
    last_sr: Option<(u32, Nanos)>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    packets: u64,
    bytes: u64,
    padding: u64,
    /// Came behind its repair or behind the end of our patience. (Twice the same packet is `replayed` of the peer.)
    late: u64,
    rtx: u64,
    /// A repair of what we had already: it crossed the original, or the other side sent it twice.
    rtx_duplicates: u64,
    recovered: u64,
    /// Blocks of earlier sound that came with later packets, and payloads of them that lie.
    redundant: u64,
    bad_redundancy: u64,
    nacked: u64,
    lost: u64,
    plis: u64,
    sender_reports: u64,
    byes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReceiverStats {
    pub receiver: u32,
    pub ssrc: Option<u32>,
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    pub frames: FrameStats,
    pub seam_total: u64,
    /// Publisher's clock to the last packet of the frame, microseconds.
    pub latency: Quantiles,
}

impl Receiver {
    pub fn new(spec: ReceiveSpec, now: Nanos) -> Self {
        Self {
            ssrc: spec.ssrc.map(Ssrc),
            rtx_ssrc: spec.rtx_ssrc.map(Ssrc),
            unwrapper: Unwrapper::default(),
            next: None,
            buffer: BTreeMap::new(),
            missing: BTreeMap::new(),
            partial: Vec::new(),
            broken: false,
            beginning: true,
            checker: Checker::new(spec.codec),
            dependencies: Known::default(),
            waiting: spec.codec.is_video(),
            waiting_since: now,
            last_pli: None,
            reception: Reception::default(),
            counts: Counts::default(),
            arrivals: Vec::new(),
            spec,
        }
    }

    pub fn stats(&self) -> ReceiverStats {
        ReceiverStats {
            receiver: self.spec.receiver,
            ssrc: self.ssrc.map(|ssrc| ssrc.0),
            counts: self.counts.clone(),
            frames: self.checker.stats.clone(),
            seam_total: self.checker.stats.seams.total(),
            latency: self.checker.quantiles(),
        }
    }

    pub fn latency(&mut self) -> &mut super::latency::Latency {
        &mut self.checker.latency
    }

    pub fn frames(&self) -> u64 {
        self.checker.stats.frames
    }

    /// A packet of our stream, opened.
    pub fn media(&mut self, now: Nanos, seq: SeqNo, payload_type: u8, arrived: Arrived<'_>) {
        self.counts.packets += 1;
        self.counts.bytes += arrived.payload.len() as u64;
        self.reception
            .arrived(now, arrived.timestamp, self.spec.codec.clock_rate());
        if self.spec.red_payload_type != Some(payload_type) {
            self.packet(now, seq, arrived, false);
            return;
        }
        let Some((earlier, own)) = redundancy(arrived.payload, self.spec.payload_type) else {
            self.counts.bad_redundancy += 1;
            return;
        };
        for sound in earlier {
            self.counts.redundant += 1;
            self.log_arrival(now, sound, true);
        }
        let payload = own;
        self.packet(now, seq, Arrived { payload, ..arrived }, false);
    }

    /// May this payload type come on the stream?
    pub fn takes(&self, payload_type: u8) -> bool {
        payload_type == self.spec.payload_type || self.spec.red_payload_type == Some(payload_type)
    }

    fn log_arrival(&mut self, now: Nanos, payload: &[u8], repaired: bool) {
        if !self.spec.log || self.spec.codec.is_video() {
            return;
        }
        let frame = assemble(self.spec.codec, &[payload.to_vec()]);
        if let Some(stamp) = frame.and_then(|frame| Stamp::read(&frame.body)) {
            self.arrivals.push((stamp.frame, stamp.sent, now, repaired));
        }
    }

    /// A packet of our RTX stream (RFC 4588 §4): the original number, then the original payload.
    pub fn rtx(&mut self, now: Nanos, arrived: Arrived<'_>) {
        let Some((original, payload)) = arrived.payload.split_first_chunk::<2>() else {
            self.counts.padding += 1;
            return;
        };
        self.counts.rtx += 1;
        let seq = SeqNo(u16::from_be_bytes(*original));
        self.packet(now, seq, Arrived { payload, ..arrived }, true);
    }

    /// A NACK has named it: who has no RTX for it gets it again under its own number.
    fn asked(&self, seq: SeqNo) -> bool {
        let mut missing = self.missing.iter();
        missing.any(|(&at, missing)| at as u16 == seq.0 && missing.tries > 0)
    }

    pub fn take_arrivals(&mut self) -> Vec<(u32, Nanos, Nanos, bool)> {
        std::mem::take(&mut self.arrivals)
    }

    fn packet(&mut self, now: Nanos, seq: SeqNo, arrived: Arrived<'_>, repaired: bool) {
        self.log_arrival(now, arrived.payload, repaired || self.asked(seq));
        if repaired && self.next.is_none() {
            // Only the media stream says where numbering begins.
            self.counts.rtx_duplicates += 1;
            return;
        }
        let before = self.unwrapper.highest().map(|highest| highest.0);
        let at = self.unwrapper.unwrap(seq).0;
        if !repaired {
            self.reception.received += 1;
            self.reception.first.get_or_insert(at);
        }
        self.next.get_or_insert(at);
        if let Some(before) = before {
            if at > before + MAX_LEAP {
                self.checker.stats.seams.sequence += 1;
                self.start_anew(at);
            }
            for lost in (before + 1).max(self.next.unwrap_or(at))..at {
                self.missing.insert(
                    lost,
                    Missing {
                        since: now,
                        next_try: now,
                        tries: 0,
                    },
                );
            }
        }
        if self.beginning {
            self.begin_at(now, at);
        }
        if self.next.is_some_and(|next| at < next) || self.buffer.contains_key(&at) {
            if repaired {
                self.counts.rtx_duplicates += 1;
            } else {
                self.counts.late += 1;
            }
            return;
        }
        if self.missing.remove(&at).is_some() && repaired {
            self.counts.recovered += 1;
        }
        self.buffer.insert(
            at,
            Held {
                at,
                timestamp: arrived.timestamp,
                marker: arrived.marker,
                payload: arrived.payload.to_vec(),
                dependency: arrived.dependency.to_vec(),
            },
        );
        self.consume(now);
    }

    fn begin_at(&mut self, now: Nanos, at: u64) {
        let Some(next) = self.next else { return };
        // What a frame under way holds already is no earlier beginning, however late its repair comes.
        let first = self.partial.first().map_or(next, |held| held.at);
        if at >= first || next - at >= MAX_START {
            return;
        }
        for held in self.partial.drain(..) {
            self.buffer.insert(held.at, held);
        }
        self.broken = false;
        for lost in at..first {
            self.missing.insert(
                lost,
                Missing {
                    since: now,
                    next_try: now,
                    tries: 0,
                },
            );
        }
        self.next = Some(at);
    }

    fn start_anew(&mut self, at: u64) {
        self.counts.lost += self.missing.len() as u64;
        self.missing.clear();
        self.buffer.clear();
        self.partial.clear();
        self.broken = true;
        self.checker.hole();
        self.next = Some(at);
    }

    fn consume(&mut self, now: Nanos) {
        while let Some(next) = self.next {
            if let Some(held) = self.buffer.remove(&next) {
                self.next = Some(next + 1);
                self.in_order(now, held);
                continue;
            }
            // A hole at the front: wait, and then give everything up to the next packet up.
            let max_wait = seconds(self.spec.max_wait);
            let expired = self
                .missing
                .get(&next)
                .is_some_and(|missing| now >= missing.since + max_wait);
            let Some((&resume, _)) = self.buffer.first_key_value().filter(|_| expired) else {
                break;
            };
            self.counts.lost += resume - next;
            self.missing = self.missing.split_off(&resume);
            self.next = Some(resume);
            self.give_up_frame();
        }
    }

    fn give_up_frame(&mut self) {
        if self.spec.codec.is_video() {
            self.checker.stats.broken += u64::from(!self.broken);
            self.partial.clear();
            self.broken = true;
        }
        self.checker.hole();
    }

    fn in_order(&mut self, now: Nanos, held: Held) {
        if held.payload.is_empty() {
            self.counts.padding += 1;
            return;
        }
        if self.spec.codec == Codec::Opus {
            if held.payload.len() <= 2 {
                self.checker.silence(held.timestamp);
            } else {
                self.frame(now, vec![held]);
            }
            return;
        }
        if self.broken && self.partial.is_empty() {
            // Packets up to the next marker may belong to the frame that lost some: a start is taken only behind it,
            // or at a new timestamp's first packet, which `assemble` recognises.
            if assemble_starts(self.spec.codec, &held.payload) {
                self.broken = false;
            } else {
                self.broken = !held.marker;
                return;
            }
        }
        if let Some(first) = self.partial.first()
            && first.timestamp != held.timestamp
        {
            self.checker.stats.seams.marker += 1;
            let frame = std::mem::take(&mut self.partial);
            self.frame(now, frame);
        }
        let marker = held.marker;
        self.partial.push(held);
        if marker {
            let frame = std::mem::take(&mut self.partial);
            self.frame(now, frame);
        }
    }

    /// The packets of one picture, in order: one frame, or one for each spatial layer.
    fn frame(&mut self, now: Nanos, packets: Vec<Held>) {
        let beginning = std::mem::replace(&mut self.beginning, false);
        let codec = self.spec.codec;
        let Some((timestamp, first)) = packets
            .first()
            .map(|packet| (packet.timestamp, packet.payload.clone()))
        else {
            return;
        };
        let mut parts: Vec<(Vec<Vec<u8>>, Option<Read>)> = Vec::new();
        for packet in packets {
            let described = self.dependencies.read(&packet.dependency);
            if parts.is_empty() || starts_frame(codec, &packet.payload) {
                parts.push((Vec::new(), described));
            }
            if let Some((payloads, _)) = parts.last_mut() {
                payloads.push(packet.payload);
            }
        }
        let last = parts.len() - 1;
        let mut decodable = true;
        for (at, (payloads, described)) in parts.into_iter().enumerate() {
            let Some(frame) = assemble(codec, &payloads) else {
                if beginning && !assemble_starts(codec, &first) {
                    // We came in the middle of it: nobody's fault.
                    self.checker.stats.broken += 1;
                } else {
                    self.checker.stats.corrupt += 1;
                }
                decodable = false;
                break;
            };
            let arrived = Arrival {
                timestamp,
                layer: frame.layer,
                keyframe: frame.keyframe,
                stamp: Stamp::read(&frame.body),
                described,
                opens: at == 0,
                closes: at == last,
            };
            decodable &= self.checker.frame(now, arrived);
        }
        if decodable {
            self.waiting = false;
        } else if codec.is_video() && !self.waiting {
            self.waiting = true;
            self.waiting_since = now;
        }
    }

    pub fn next_timeout(&self, now: Nanos) -> Option<Nanos> {
        let retry = self
            .missing
            .values()
            .filter(|missing| missing.tries < MAX_TRIES)
            .map(|missing| missing.next_try)
            .min();
        let give_up = self
            .missing
            .first_key_value()
            .map(|(_, missing)| missing.since + seconds(self.spec.max_wait));
        let give_up = give_up.filter(|_| !self.buffer.is_empty());
        let pli = self.pli_due().map(|due| due.max(now));
        [retry.filter(|_| self.spec.nack), give_up, pli]
            .into_iter()
            .flatten()
            .min()
    }

    fn pli_due(&self) -> Option<Nanos> {
        if !self.waiting || self.ssrc.is_none() || self.counts.packets == 0 {
            return None;
        }
        Some((self.waiting_since + STUCK).max(self.last_pli.map_or(0, |last| last + PLI_INTERVAL)))
    }

    pub fn advance(&mut self, now: Nanos, us: Ssrc, outlet: &mut Outlet) {
        self.consume(now);
        let Some(ssrc) = self.ssrc else { return };
        if self.spec.nack {
            let retry = seconds(self.spec.retry);
            let due = self
                .missing
                .iter_mut()
                .filter(|(_, missing)| now >= missing.next_try && missing.tries < MAX_TRIES);
            let mut lost = Vec::new();
            for (&at, missing) in due.take(200) {
                missing.tries += 1;
                missing.next_try = now + retry;
                lost.push(SeqNo(at as u16));
            }
            self.counts.nacked += lost.len() as u64;
            let mut compound = [0; 1000];
            if let Some(len) = rtcp::write_nack(&mut compound, us, ssrc, &lost) {
                outlet.rtcp(&compound[..len]);
            }
        }
        if self.pli_due().is_some_and(|due| now >= due) {
            self.last_pli = Some(now);
            self.request_keyframe(us, outlet);
        }
    }

    pub fn request_keyframe(&mut self, us: Ssrc, outlet: &mut Outlet) {
        let Some(ssrc) = self.ssrc else { return };
        self.counts.plis += 1;
        let mut compound = [0; 16];
        if let Some(len) = rtcp::write_pli(&mut compound, us, ssrc) {
            outlet.rtcp(&compound[..len]);
        }
    }

    pub fn sender_report(&mut self, now: Nanos, info: &SenderInfo) {
        self.counts.sender_reports += 1;
        self.reception.last_sr = Some(((info.ntp >> 16) as u32, now));
    }

    pub fn bye(&mut self) {
        self.counts.byes += 1;
    }

    /// A block for the next receiver report, once anything has come.
    pub fn block(&mut self, now: Nanos) -> Option<Block> {
        let (ssrc, highest) = (self.ssrc?, self.unwrapper.highest()?.0);
        let reception = &mut self.reception;
        // The unwrapper starts in cycle 1; on the wire cycles start at 0.
        let (first, extended) = (reception.first?, highest.saturating_sub(1 << 16));
        let expected = highest - first + 1;
        let lost = expected as i64 - reception.received as i64;
        let expected_interval = expected - reception.expected_prior;
        let lost_interval =
            expected_interval as i64 - (reception.received - reception.received_prior) as i64;
        reception.expected_prior = expected;
        reception.received_prior = reception.received;
        let fraction_lost = (lost_interval.max(0) as u64 * 256)
            .checked_div(expected_interval)
            .map_or(0, |fraction| fraction.min(255) as u8);
        let (last_sr, delay) = reception.last_sr.map_or((0, 0), |(last_sr, at)| {
            (
                last_sr,
                (u128::from(now.saturating_sub(at)) * 65_536 / u128::from(SECOND)) as u32,
            )
        });
        Some(Block {
            ssrc,
            fraction_lost,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: extended as u32,
            jitter: reception.jitter as u32,
            last_sr,
            delay,
        })
    }
}

/// The payload is, as far as it shows, the first of a frame.
fn assemble_starts(codec: Codec, payload: &[u8]) -> bool {
    use crate::wire::codec::{h264, vp8};
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => {
            vp8::Descriptor::parse(payload).is_some_and(|descriptor| descriptor.start_of_frame())
        }
        // A picture starts with its lowest frame; one that starts with a higher one is known by what it lacks.
        Codec::Vp9 | Codec::Av1 => starts_frame(codec, payload),
        // Behind parameter sets the slice looks like a start as well: a keyframe starts at its parameter sets.
        Codec::H264 => h264::Facts::parse(payload)
            .is_some_and(|facts| facts.sps || (facts.start_of_frame && !facts.idr)),
    }
}

impl Reception {
    /// RFC 3550 A.8.
    fn arrived(&mut self, now: Nanos, timestamp: Timestamp, clock_rate: u32) {
        let arrival = (u128::from(now) * u128::from(clock_rate) / u128::from(SECOND)) as i64;
        let transit = arrival.wrapping_sub(i64::from(timestamp.0));
        if let Some(before) = self.transit.replace(transit) {
            let change = i64::from(transit.wrapping_sub(before) as i32).unsigned_abs() as f64;
            self.jitter += (change - self.jitter) / 16.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repair_of_what_a_first_frame_holds_already_is_one_too_many_and_no_new_beginning() {
        let spec =
            serde_json::json!({"receiver": 1, "codec": "vp8", "payload_type": 96, "ssrc": 7});
        let mut receiver = Receiver::new(serde_json::from_value(spec).unwrap(), 0);
        let packet = |payload| Arrived {
            timestamp: Timestamp(1),
            marker: false,
            payload,
            dependency: &[],
        };
        for seq in [5, 6] {
            receiver.media(0, SeqNo(seq), 96, packet(&[0x10, 0]));
        }
        receiver.rtx(0, packet(&[0, 6, 0x10, 0]));
        receiver.media(0, SeqNo(8), 96, packet(&[0x10, 0]));
        receiver.consume(2 * SECOND);
        assert_eq!(receiver.counts.rtx_duplicates, 1);
        assert_eq!(
            (receiver.counts.lost, receiver.next),
            (1, receiver.unwrapper.highest().map(|at| at.0 + 1))
        );
    }
}
