//! One published source: an encoder's timing and frame sizes without its pictures, every encoding of it, and the answers
//! to NACK, PLI and receiver reports. Frames leave as a burst of packets, as encoders hand them out.

use std::collections::VecDeque;

use serde::Serialize;

use crate::wire::packet::Fields;
use crate::wire::rtcp::{self, SenderInfo};
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc, Timestamp};

use super::canary::Stamp;
use super::chance::Chance;
use super::outlet::{Marks, Outlet};
use super::payload::{Frame, Layer, packetize};
use super::scalability::{Described, Made, Referable, References};
use super::spec::{Codec, EncodingSpec, PublishSpec};
use super::{Nanos, SECOND, ntp, seconds};

/// Packets kept for RTX: about a second of the largest encoding.
const HISTORY: usize = 1024;
/// An encoder answers keyframe requests at most this often.
const KEYFRAME_GAP: Nanos = 300 * SECOND / 1000;
/// RFC 3550 §6.2 would allow more; clients send sender reports about once a second.
const REPORT_INTERVAL: Nanos = SECOND;
const VOICE_FRAME: Nanos = 20 * SECOND / 1000;
/// Voice: libopus' interval of packets in silence.
const SILENCE_PACKET: u64 = 20;
/// Behind by more than this the source skips frames instead of catching up.
const MAX_CATCH_UP: Nanos = SECOND / 5;
const VOICE_LEVEL: u8 = 30;
const SILENT_LEVEL: u8 = 127;

pub struct Publication {
    pub spec: PublishSpec,
    pub active: bool,
    encodings: Vec<Encoding>,
    interval: Nanos,
    next: Nanos,
    started: Nanos,
    ticks: u64,
    next_report: Nanos,
    talking: bool,
}

struct Encoding {
    spec: EncodingSpec,
    active: bool,
    next_index: ExtSeq,
    next_rtx_index: ExtSeq,
    timestamp_base: u32,
    frame: u32,
    referable: Referable,
    /// Pictures since the last keyframe.
    since_keyframe: u64,
    /// Where the template ids of its structures begin: another place after each keyframe.
    templates: u8,
    picture_id: u16,
    tl0_pic_idx: u8,
    keyframe_wanted: bool,
    last_keyframe: Option<Nanos>,
    /// Bytes that a keyframe took above the budget, paid back by smaller frames.
    debt: f64,
    history: VecDeque<Sent>,
    /// A receiver report named the SSRC: MID and RID need no repeating.
    acknowledged: bool,
    rtx_acknowledged: bool,
    last_timestamp: Timestamp,
    last_sent: Nanos,
    stats: EncodingStats,
}

struct Sent {
    index: ExtSeq,
    timestamp: Timestamp,
    marker: bool,
    packet: Packet,
}

/// What goes into one RTP packet.
struct Packet {
    payload: Vec<u8>,
    /// Its dependency descriptor.
    dependency: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct EncodingStats {
    pub ssrc: u32,
    pub rid: Option<String>,
    pub frames: u64,
    pub keyframes: u64,
    pub packets: u64,
    pub octets: u64,
    pub rtx: u64,
    /// Asked for and no longer kept.
    pub rtx_missing: u64,
    pub nacked: u64,
    pub plis: u64,
    pub firs: u64,
    /// Of 256, from the last receiver report.
    pub fraction_lost: u8,
    pub reports: u64,
}

impl Publication {
    pub fn new(spec: PublishSpec, now: Nanos, chance: &mut Chance) -> Self {
        let interval = if spec.codec == Codec::Opus {
            VOICE_FRAME
        } else {
            seconds(1.0 / spec.fps.max(0.1))
        };
        let encodings = spec.encodings.iter().map(|encoding| Encoding {
            spec: encoding.clone(),
            active: true,
            // Below 2^15: the first wrap must not be hidden by an early loss (RFC 3711 §3.3.1).
            next_index: ExtSeq(or_start(encoding.start.sequence, chance.word() & 0x7fff)),
            next_rtx_index: ExtSeq(chance.word() & 0x7fff),
            timestamp_base: or_start(encoding.start.timestamp, chance.word() as u32),
            frame: 0,
            referable: Referable::default(),
            since_keyframe: 0,
            templates: encoding.ssrc as u8 & 63,
            picture_id: or_start(encoding.start.picture_id, chance.word() as u16 & 0x7fff),
            tl0_pic_idx: or_start(encoding.start.tl0_pic_idx, chance.word() as u8),
            keyframe_wanted: true,
            last_keyframe: None,
            debt: 0.0,
            history: VecDeque::new(),
            acknowledged: false,
            rtx_acknowledged: false,
            last_timestamp: Timestamp(0),
            last_sent: 0,
            stats: EncodingStats {
                ssrc: encoding.ssrc,
                rid: encoding.rid.clone(),
                ..EncodingStats::default()
            },
        });
        Self {
            active: true,
            encodings: encodings.collect(),
            interval,
            next: now,
            started: now,
            ticks: 0,
            next_report: now + REPORT_INTERVAL / 5,
            talking: true,
            spec,
        }
    }

    pub fn next_timeout(&self) -> Nanos {
        if self.active {
            self.next.min(self.next_report)
        } else {
            self.next_report
        }
    }

    pub fn stats(&self) -> Vec<EncodingStats> {
        self.encodings
            .iter()
            .map(|encoding| encoding.stats.clone())
            .collect()
    }

    pub fn set_encoding(&mut self, at: usize, active: bool, bitrate: Option<u32>) {
        if let Some(encoding) = self.encodings.get_mut(at) {
            // An encoder that starts again starts with a keyframe.
            encoding.keyframe_wanted |= active && !encoding.active;
            encoding.active = active;
            encoding.spec.bitrate = bitrate.unwrap_or(encoding.spec.bitrate);
        }
    }

    pub fn advance(&mut self, now: Nanos, outlet: &mut Outlet, chance: &mut Chance) {
        if !outlet.open() {
            // An encoder whose connection is not up does not queue pictures for it.
            self.next = now + self.interval;
            self.next_report = self.next;
            return;
        }
        if now > self.next + MAX_CATCH_UP {
            let behind = (now - self.next) / self.interval;
            self.ticks += behind;
            self.next += behind * self.interval;
        }
        while self.active && now >= self.next {
            if self.spec.codec == Codec::Opus {
                self.voice(now, outlet);
            } else {
                self.picture(now, outlet, chance);
            }
            self.ticks += 1;
            self.next += self.interval;
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now, outlet);
        }
    }

    /// Capture time in the codec's clock, from the source's own start.
    fn clock(&self) -> u32 {
        let elapsed = u128::from(self.ticks) * u128::from(self.interval);
        (elapsed * u128::from(self.spec.codec.clock_rate()) / u128::from(SECOND)) as u32
    }

    fn voice(&mut self, now: Nanos, outlet: &mut Outlet) {
        let [talk, silence, begin] = self.spec.turns.map(seconds);
        let into = (self.next - self.started + begin) % (talk + silence).max(1);
        let talking = !self.spec.dtx || into < talk;
        let starts = talking && !self.talking;
        self.talking = talking;
        let clock = self.clock();
        let silent = into.saturating_sub(talk) / VOICE_FRAME;
        if !talking && !silent.is_multiple_of(SILENCE_PACKET) {
            return;
        }
        let spec = &self.spec;
        for (n, encoding) in self
            .encodings
            .iter_mut()
            .enumerate()
            .filter(|(_, encoding)| encoding.active)
        {
            let payloads = if talking {
                let len = encoding.spec.bitrate as usize / 8 / 50;
                let mut frame = Frame {
                    keyframe: true,
                    layer: Layer::default(),
                    body: Vec::new(),
                };
                encoding
                    .stamp(spec, n, now, clock)
                    .write(&mut frame.body, len.saturating_sub(1));
                packetize(Codec::Opus, &frame, (0, 0), spec.max_payload)
            } else {
                vec![vec![0xf8]]
            };
            let packets = payloads
                .into_iter()
                .map(|payload| Packet {
                    payload,
                    dependency: None,
                })
                .collect();
            if talking {
                encoding.frame += 1;
                encoding.stats.frames += 1;
            }
            let timestamp = Timestamp(encoding.timestamp_base).add(clock);
            let level = if talking {
                (VOICE_LEVEL, true)
            } else {
                (SILENT_LEVEL, false)
            };
            // RFC 7587 §4.1 has no marker of its own; RFC 3551 §4.1: the first packet of a talkspurt.
            encoding.send(
                now,
                spec,
                timestamp,
                packets,
                Some(level),
                |_, _| starts,
                outlet,
            );
        }
    }

    fn picture(&mut self, now: Nanos, outlet: &mut Outlet, chance: &mut Chance) {
        let clock = self.clock();
        let spec = &self.spec;
        let periodic = seconds(spec.keyframe_interval);
        for (n, encoding) in self
            .encodings
            .iter_mut()
            .enumerate()
            .filter(|(_, encoding)| encoding.active)
        {
            let since = encoding.last_keyframe.map(|last| now - last);
            let keyframe = since.is_none_or(|since| {
                (encoding.keyframe_wanted && since >= KEYFRAME_GAP)
                    || (periodic > 0 && since >= periodic)
            });
            let budget = f64::from(encoding.spec.bitrate) / 8.0 / spec.fps;
            let varied = budget * chance.between(1.0 - spec.spread, 1.0 + spec.spread);
            let size = if keyframe {
                encoding.debt += budget * (spec.keyframe_factor - 1.0);
                varied * spec.keyframe_factor
            } else {
                let paid = encoding.debt.min(budget * 0.4);
                encoding.debt -= paid;
                varied - paid
            };
            if keyframe {
                (encoding.since_keyframe, encoding.referable) = (0, Referable::default());
                encoding.keyframe_wanted = false;
                encoding.last_keyframe = Some(now);
                encoding.stats.keyframes += 1;
            }
            let packets = encoding.encode(spec, n, now, clock, keyframe, size);
            let timestamp = Timestamp(encoding.timestamp_base).add(clock);
            let last = |at, last| at == last;
            encoding.send(now, spec, timestamp, packets, None, last, outlet);
        }
    }

    fn report(&mut self, now: Nanos, outlet: &mut Outlet) {
        for encoding in self
            .encodings
            .iter()
            .filter(|encoding| encoding.stats.packets > 0)
        {
            // RFC 3550 §6.4.1: the RTP timestamp of the same instant as the NTP time.
            let since = now.saturating_sub(encoding.last_sent);
            let ticks =
                u128::from(since) * u128::from(self.spec.codec.clock_rate()) / u128::from(SECOND);
            let info = SenderInfo {
                ntp: ntp(now),
                rtp: encoding.last_timestamp.add(ticks as u32),
                packets: encoding.stats.packets as u32,
                octets: encoding.stats.octets as u32,
            };
            let mut compound = [0; 400];
            let ssrc = Ssrc(encoding.spec.ssrc);
            let len = rtcp::write_sender_report(&mut compound, ssrc, &info, &[]).and_then(|len| {
                Some(len + rtcp::write_sdes(&mut compound[len..], ssrc, &self.spec.cname)?)
            });
            if let Some(len) = len {
                outlet.rtcp(&compound[..len]);
            }
        }
    }

    fn encoding(&mut self, ssrc: Ssrc) -> Option<&mut Encoding> {
        self.encodings
            .iter_mut()
            .find(|encoding| encoding.spec.ssrc == ssrc.0)
    }

    /// PLI or FIR; true when it is about this publication.
    pub fn keyframe_request(&mut self, ssrc: Ssrc, fir: bool) -> bool {
        let Some(encoding) = self.encoding(ssrc) else {
            return false;
        };
        encoding.keyframe_wanted = true;
        if fir {
            encoding.stats.firs += 1;
        } else {
            encoding.stats.plis += 1;
        }
        true
    }

    pub fn receiver_report(&mut self, block: &rtcp::Block) {
        if let Some(encoding) = self
            .encodings
            .iter_mut()
            .find(|encoding| encoding.spec.rtx_ssrc == Some(block.ssrc.0))
        {
            encoding.rtx_acknowledged = true;
        }
        if let Some(encoding) = self.encoding(block.ssrc) {
            encoding.acknowledged = true;
            encoding.stats.reports += 1;
            encoding.stats.fraction_lost = block.fraction_lost;
        }
    }

    /// Retransmits (RFC 4588); without RTX the packet would have to leave as it was, which SRTP forbids anew.
    pub fn nack(
        &mut self,
        now: Nanos,
        ssrc: Ssrc,
        lost: impl Iterator<Item = SeqNo>,
        outlet: &mut Outlet,
    ) {
        let rtx_payload_type = self.spec.rtx_payload_type;
        let mid = self.spec.mid.clone();
        let identified = self.spec.identified;
        let Some(encoding) = self.encoding(ssrc) else {
            return;
        };
        for seq in lost {
            encoding.stats.nacked += 1;
            let (Some(rtx_ssrc), Some(payload_type)) = (encoding.spec.rtx_ssrc, rtx_payload_type)
            else {
                continue;
            };
            let Some(sent) = encoding
                .history
                .iter()
                .rev()
                .find(|sent| sent.index.seq() == seq)
            else {
                encoding.stats.rtx_missing += 1;
                continue;
            };
            let payload = [&seq.0.to_be_bytes()[..], &sent.packet.payload].concat();
            let fields = Fields {
                marker: sent.marker,
                padding: false,
                payload_type,
                seq: SeqNo(0),
                timestamp: sent.timestamp,
                ssrc: Ssrc(rtx_ssrc),
            };
            let identify = !encoding.rtx_acknowledged && encoding.stats.rtx < identified;
            let marks = Marks {
                mid: identify.then_some(mid.as_str()),
                repaired_rid: encoding.spec.rid.as_deref().filter(|_| identify),
                dependency: sent.packet.dependency.as_deref(),
                ..Marks::default()
            };
            outlet.rtp(now, fields, encoding.next_rtx_index, marks, &payload);
            encoding.next_rtx_index = encoding.next_rtx_index.next();
            encoding.stats.rtx += 1;
        }
    }
}

/// The number asked for, else the one drawn (drawn in any case, so that what follows is the same).
fn or_start<T, N: From<T>>(asked: Option<T>, drawn: N) -> N {
    asked.map_or(drawn, N::from)
}

impl Encoding {
    /// One picture: a frame for each spatial layer, packed.
    fn encode(
        &mut self,
        spec: &PublishSpec,
        n: usize,
        now: Nanos,
        clock: u32,
        keyframe: bool,
        size: f64,
    ) -> Vec<Packet> {
        let mode = spec.scalability();
        let temporal = mode.temporal_layer(self.since_keyframe);
        self.since_keyframe += 1;
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(u8::from(temporal == 0));
        if keyframe {
            self.templates = (self.templates + mode.spatial * mode.temporal) & 63;
        }
        let mut packets = Vec::new();
        let mut below = None;
        for spatial in 0..mode.spatial {
            let made = Made {
                frame: self.frame,
                picture_id: self.picture_id,
            };
            let references = References {
                earlier: self.referable.reference(spatial, temporal),
                below: below.filter(|_| keyframe || !mode.k_svc),
            };
            let top = spatial + 1 == mode.spatial;
            let layered = mode.temporal > 1;
            let difference = references
                .earlier
                .map(|earlier| (self.picture_id.wrapping_sub(earlier.picture_id) & 0x7fff) as u8);
            let layer = match spec.codec {
                Codec::Vp8 => Layer {
                    picture_id: Some(self.picture_id),
                    tl0_pic_idx: layered.then_some(self.tl0_pic_idx),
                    tid: layered.then_some(temporal),
                    // Refers to the lowest layer alone.
                    layer_sync: temporal > 0
                        && references.earlier == self.referable.reference(spatial, 0),
                    not_reference: layered && temporal + 1 == mode.temporal,
                    ..Layer::default()
                },
                Codec::Vp9 => Layer {
                    picture_id: Some(self.picture_id),
                    tid: Some(temporal),
                    // In this order of pictures every one in the lowest layer is a switching point, and T1 for T2.
                    layer_sync: temporal + 1 < mode.temporal,
                    spatial,
                    spatial_layers: mode.spatial,
                    inter_layer: references.below.is_some(),
                    not_reference: top || (mode.k_svc && !keyframe),
                    difference,
                    ..Layer::default()
                },
                Codec::Av1 => Layer {
                    tid: Some(temporal),
                    spatial,
                    ..Layer::default()
                },
                Codec::Opus | Codec::H264 => Layer::default(),
            };
            let mut frame = Frame {
                keyframe: keyframe && spatial == 0,
                layer,
                body: Vec::new(),
            };
            let needs = |made: Option<Made>| made.map(|made| made.frame);
            let reference = needs(references.earlier).or(needs(references.below));
            Stamp {
                reference: reference.unwrap_or(self.frame),
                below: needs(references.below).or(reference).unwrap_or(self.frame),
                spatial,
                temporal,
                template: mode.template(spatial, temporal),
                ..self.stamp(spec, n, now, clock)
            }
            .write(&mut frame.body, (size * mode.share(spatial)) as usize);
            let dimensions = (self.spec.width, self.spec.height);
            let payloads = packetize(spec.codec, &frame, dimensions, spec.max_payload);
            let last = payloads.len() - 1;
            let distance =
                |made: Option<Made>| made.map(|made| self.frame.wrapping_sub(made.frame) as u16);
            for (at, payload) in payloads.into_iter().enumerate() {
                let described = Described {
                    start: at == 0,
                    end: at == last,
                    layer: (spatial, temporal),
                    number: self.frame as u16,
                    keyframe,
                    differences: [distance(references.earlier), distance(references.below)],
                };
                packets.push(Packet {
                    payload,
                    dependency: spec
                        .dependency_descriptor
                        .then(|| mode.describe(&described, self.templates)),
                });
            }
            self.referable.made(spatial, temporal, made);
            below = Some(made);
            self.frame += 1;
        }
        self.stats.frames += 1;
        packets
    }

    fn stamp(&self, spec: &PublishSpec, n: usize, now: Nanos, clock: u32) -> Stamp {
        Stamp {
            publication: spec.publication,
            encoding: n as u8,
            ssrc: Ssrc(self.spec.ssrc),
            frame: self.frame,
            reference: self.frame,
            below: self.frame,
            spatial: 0,
            temporal: 0,
            template: 0,
            clock,
            sent: now,
        }
    }

    #[allow(clippy::too_many_arguments)] // one call for voice, one for pictures
    fn send(
        &mut self,
        now: Nanos,
        spec: &PublishSpec,
        timestamp: Timestamp,
        packets: Vec<Packet>,
        audio_level: Option<(u8, bool)>,
        marker: impl Fn(usize, usize) -> bool,
        outlet: &mut Outlet,
    ) {
        let last = packets.len().saturating_sub(1);
        for (at, packet) in packets.into_iter().enumerate() {
            let marker = marker(at, last);
            let fields = Fields {
                marker,
                padding: false,
                payload_type: spec.payload_type,
                seq: SeqNo(0),
                timestamp,
                ssrc: Ssrc(self.spec.ssrc),
            };
            let identify = !self.acknowledged && self.stats.packets < spec.identified;
            let marks = Marks {
                mid: identify.then_some(spec.mid.as_str()),
                rid: self.spec.rid.as_deref().filter(|_| identify),
                audio_level,
                dependency: packet.dependency.as_deref(),
                ..Marks::default()
            };
            outlet.rtp(now, fields, self.next_index, marks, &packet.payload);
            self.stats.packets += 1;
            self.stats.octets += packet.payload.len() as u64;
            if self.spec.rtx_ssrc.is_some() {
                if self.history.len() == HISTORY {
                    self.history.pop_front();
                }
                self.history.push_back(Sent {
                    index: self.next_index,
                    timestamp,
                    marker,
                    packet,
                });
            }
            self.next_index = self.next_index.next();
        }
        self.last_timestamp = timestamp;
        self.last_sent = now;
    }
}
