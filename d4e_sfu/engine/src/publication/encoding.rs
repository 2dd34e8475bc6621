//! One encoding of a publication (one simulcast version, or the only one): what has come of it, the cache of its last
//! second, where its latest picture starts, and the keyframe requests that all its viewers share.

use std::time::Duration;

use super::dependencies::{Dependencies, Reading};
use super::weight::Weight;
use super::{Incoming, is_voice};
use crate::api::{self, Codec};
use crate::cache::{Cache, Cached, Facts, MAX_AGE, Packet};
use crate::clock::Report;
use crate::nack::{Gaps, Seen, WINDOW};
use crate::now::Now;
use crate::wire::codec::layer::{Frame, Layers};
use crate::wire::codec::{av1, dependency, h264, vp8, vp9};
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc, Timestamp};

/// Between two keyframe requests: the first goes at once, the next not before.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// An encoding that has sent nothing for this long is no longer active.
pub const ACTIVE_FOR: Duration = Duration::from_secs(1);

const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// A structure that had to be repaired tells about so many packets that came before it: about what a keyframe takes.
const AMENDED: u64 = 128;

pub struct Encoding {
    pub rid: Option<String>,
    pub signalled_ssrc: Option<Ssrc>,
    pub signalled_rtx_ssrc: Option<Ssrc>,
    /// The stream bound to it now.
    pub ssrc: Option<Ssrc>,
    pub active: bool,
    /// Others of this publication go on without it.
    pub stopped: bool,
    /// When another one was first heard after it had fallen silent.
    pub outlived: Option<Now>,
    pub gaps: Gaps,
    pub cache: Option<Cache>,
    /// First number of the stream that is running now: after a new SSRC or a jump, older numbers mean nothing.
    pub epoch: ExtSeq,
    pub report: Option<Report>,
    /// `report` has not been told to the subscribers yet.
    pub report_fresh: bool,
    /// When a report was last passed on.
    reported: Option<Now>,
    pub keyframes: KeyframeRequests,
    /// Where the latest keyframe starts.
    picture: Option<Picture>,
    pub heard: Now,
    pub weight: Weight,
    codec: Codec,
    cache_bytes: usize,
    /// H.264: parameter sets come in band, so a picture starts with them and not with its first slice.
    sps_seen: bool,
    /// H.264: the first picture with an IDR slice. Its parameter sets may still be on their way.
    first_idr: Option<Timestamp>,
    /// VP8 and VP9: picture ids of 7 bits, continued in 15.
    picture_id: Option<u16>,
    /// VP9: the highest spatial layer, by the latest scalability structure.
    top: u8,
    /// Made when the first dependency descriptor comes.
    pub dependencies: Option<Box<Dependencies>>,
}

/// The latest keyframe, as far as it is here.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    pub seq: ExtSeq,
    /// When its first packet came.
    pub since: Now,
    /// All of it is here, up to `checked`.
    pub whole: bool,
    /// Something of it came after what follows it: lost and repaired, most likely.
    pub holed: bool,
    timestamp: Timestamp,
    checked: ExtSeq,
}

pub struct Accepted {
    pub seq: ExtSeq,
    /// It was asked for this long ago.
    pub repaired: Option<Duration>,
    pub malformed: Option<DropReason>,
    /// It waits for its structure.
    pub waits: bool,
    /// Which of the 128 packets behind this one waited for it; lowest bit: the next.
    pub amended: u128,
}

impl Encoding {
    #[must_use]
    pub fn new(codec: Codec, spec: api::Encoding, max_bitrate: u32) -> Self {
        // One second at the cap, within reason.
        let second = max_bitrate as usize / 8;
        Self {
            rid: spec.rid,
            signalled_ssrc: spec.ssrc.map(Ssrc),
            signalled_rtx_ssrc: spec.rtx_ssrc.map(Ssrc),
            ssrc: None,
            active: false,
            stopped: false,
            outlived: None,
            gaps: Gaps::default(),
            cache: None,
            epoch: ExtSeq(0),
            report: None,
            report_fresh: false,
            reported: None,
            keyframes: KeyframeRequests::default(),
            picture: None,
            heard: Now(0),
            weight: Weight::default(),
            codec,
            cache_bytes: match codec {
                _ if is_voice(codec) => second.clamp(32 << 10, 64 << 10),
                _ => second.clamp(256 << 10, 1 << 20),
            },
            sps_seen: false,
            first_idr: None,
            picture_id: None,
            top: 0,
            dependencies: None,
        }
    }

    /// A stream has been bound to this encoding. A second one means that its sender has started anew.
    pub fn bind(&mut self, ssrc: Ssrc, first: SeqNo) {
        let before = self.ssrc.replace(ssrc);
        if before.is_some_and(|before| before != ssrc) {
            let first = self.gaps.restart(first);
            // The first packet itself still has to be received.
            self.gaps.forget(first);
            // Its first packets may come in any order; what the old stream sent lies over 2^16 below.
            self.epoch = ExtSeq(first.0.saturating_sub(WINDOW));
            self.report = None;
            self.picture = None;
            self.picture_id = None;
            self.sps_seen = false;
            self.first_idr = None;
            self.top = 0;
            self.dependencies = None;
        }
    }

    pub fn receive(
        &mut self,
        now: Now,
        seq: SeqNo,
        incoming: &Incoming<'_>,
        payload: &[u8],
        sound: Option<Facts>,
    ) -> Result<Accepted, DropReason> {
        let seq = self.gaps.extend(seq);
        let before = self.gaps.highest();
        let repaired = match self.gaps.receive(now, seq) {
            Seen::New => None,
            Seen::Repair { late, after } => {
                if !incoming.rtx {
                    self.gaps.reordered(late);
                }
                after
            }
            Seen::Break => {
                self.epoch = before.map_or(seq, ExtSeq::next);
                self.picture = None;
                None
            }
            Seen::Duplicate => return Err(DropReason::Duplicate),
            Seen::TooOld => return Err(DropReason::TooOld),
        };
        if seq < self.epoch {
            return Err(DropReason::Late);
        }
        let (mut facts, mut malformed) = match self.facts(incoming.timestamp, payload, sound) {
            Some(facts) => (facts, None),
            None => (PayloadFacts::PADDING, Some(DropReason::BadPayload)),
        };
        let (mut dependency, mut waits, mut adopted) = (None, false, false);
        if !incoming.dependency.is_empty() && facts.facts != Facts::Padding {
            match self.depend(seq, incoming.dependency) {
                Ok(reading) => {
                    dependency = Some((reading.descriptor, reading.generation));
                    facts.frame = reading.frame.unwrap_or_default();
                    waits = reading.frame.is_none();
                    adopted = reading.adopted;
                }
                Err(dependency::Malformed) => {
                    (facts, malformed) = (PayloadFacts::PADDING, Some(DropReason::BadDependency));
                }
            }
        }
        let PayloadFacts {
            facts,
            frame,
            keyframe_start,
        } = facts;
        if facts != Facts::Padding {
            self.weight.count(frame.layer, incoming.wire_len);
        }
        let (payload, bytes) = match facts {
            Facts::Padding => (&[][..], &[][..]),
            _ => (payload, incoming.dependency),
        };
        if keyframe_start && !is_voice(self.codec) {
            self.keyframe(now, seq, incoming.timestamp);
        }
        let (packets, size) = (
            if is_voice(self.codec) { 256 } else { 1_024 },
            self.cache_bytes,
        );
        self.cache
            .get_or_insert_with(|| Cache::new(packets, size))
            .insert(
                Packet {
                    seq,
                    timestamp: incoming.timestamp,
                    marker: incoming.marker,
                    keyframe_start,
                    arrival: now,
                    facts,
                    frame,
                    dependency,
                    waits,
                    carried: incoming.carried,
                },
                payload,
                bytes,
            );
        let amended = if adopted { self.amend(seq) } else { 0 };
        self.complete();
        Ok(Accepted {
            seq,
            repaired,
            malformed,
            waits,
            amended,
        })
    }

    /// The publisher's own report. Passed on at most four times a second, however many he sends.
    pub fn sender_report(&mut self, now: Now, report: Report) {
        self.report = Some(report);
        if self
            .reported
            .is_none_or(|at| now.since(at) >= REPORT_INTERVAL)
        {
            self.reported = Some(now);
            self.report_fresh = true;
        }
    }

    /// True when it was not active before.
    pub fn activate(&mut self, now: Now, payload: &[u8]) -> bool {
        if payload.is_empty() {
            return false;
        }
        self.heard = now;
        self.stopped = false;
        self.outlived = None;
        !std::mem::replace(&mut self.active, true)
    }

    /// True when it has just fallen silent.
    pub fn expire(&mut self, now: Now) -> bool {
        if self.active && now.since(self.heard) >= ACTIVE_FOR {
            self.active = false;
            return true;
        }
        false
    }

    /// Where a viewer can start: the latest keyframe, if its first packet is here and not too old.
    #[must_use]
    pub fn picture(&self, now: Now) -> Option<Picture> {
        let picture = self.picture?;
        self.cache
            .as_ref()?
            .recent(now, picture.seq)
            .map(|_| picture)
    }

    /// Something on the way: what a viewer who waits can expect.
    fn keyframe(&mut self, now: Now, seq: ExtSeq, timestamp: Timestamp) {
        self.keyframes.arrived();
        let new = Picture {
            seq,
            since: now,
            whole: false,
            holed: self.gaps.highest() > Some(seq),
            timestamp,
            checked: seq,
        };
        self.picture = Some(match self.picture {
            // Several packets of one picture say that it starts here, in any order: the first one counts.
            Some(before) if before.timestamp == timestamp => Picture {
                seq: before.seq.min(seq),
                checked: before.seq.min(seq),
                ..before
            },
            // A keyframe older than the latest one, repaired late.
            Some(before) if before.seq > seq => before,
            _ => new,
        });
    }

    /// Follows the latest keyframe's packets as far as they are here: it ends with the marker, or where another begins.
    fn complete(&mut self) {
        let (Some(picture), Some(cache)) = (&mut self.picture, &self.cache) else {
            return;
        };
        while !picture.whole {
            let Some(Cached { packet, .. }) = cache.get(picture.checked) else {
                picture.holed |= self.gaps.highest() > Some(picture.checked);
                return;
            };
            picture.whole = packet.marker || packet.timestamp != picture.timestamp;
            picture.checked = picture.checked.next();
        }
    }

    fn depend(&mut self, seq: ExtSeq, bytes: &[u8]) -> Result<Reading, dependency::Malformed> {
        self.dependencies.get_or_insert_default().read(seq, bytes)
    }

    /// A structure has come late: packets behind it, which waited for it, can be read now.
    fn amend(&mut self, structure: ExtSeq) -> u128 {
        let (Some(cache), Some(dependencies), Some(newest)) =
            (&mut self.cache, &mut self.dependencies, self.gaps.highest())
        else {
            return 0;
        };
        let mut amended = 0;
        let last = newest.0.min(structure.0 + AMENDED);
        for seq in (structure.0 + 1..=last).map(ExtSeq) {
            let Some((packet, bytes)) = cache.amend(seq) else {
                continue;
            };
            // What lies stays unread: its time to be dropped is over.
            if packet.waits
                && let Ok(reading) = dependencies.read(seq, bytes)
            {
                packet.dependency = Some((reading.descriptor, reading.generation));
                packet.frame = reading.frame.unwrap_or_default();
                packet.waits = reading.frame.is_none();
                amended |= u128::from(!packet.waits) << (seq.0 - structure.0 - 1);
            }
        }
        amended
    }

    /// What the payload is, and whether a decoder may start at it; `None` when it breaks its format's rules.
    fn facts(
        &mut self,
        timestamp: Timestamp,
        payload: &[u8],
        sound: Option<Facts>,
    ) -> Option<PayloadFacts> {
        if payload.is_empty() {
            return Some(PayloadFacts::PADDING);
        }
        let known = |facts, frame, keyframe_start| {
            Some(PayloadFacts {
                facts,
                frame,
                keyframe_start,
            })
        };
        match self.codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => known(sound?, Frame::default(), true),
            Codec::Vp8 => {
                let mut descriptor = vp8::Descriptor::parse(payload)?;
                descriptor.picture_id = descriptor
                    .picture_id
                    .map(|id| self.lengthen(id, descriptor.long_picture_id));
                known(
                    Facts::Vp8(descriptor),
                    descriptor.frame(),
                    descriptor.keyframe,
                )
            }
            Codec::Vp9 => {
                let mut descriptor = vp9::Descriptor::parse(payload)?;
                descriptor.picture_id = descriptor
                    .picture_id
                    .map(|id| self.lengthen(id, descriptor.long_picture_id));
                let spatial = descriptor.layer().spatial;
                self.top = descriptor
                    .spatial_layers
                    .map_or(self.top.max(spatial), |count| count - 1);
                known(
                    Facts::Vp9(descriptor),
                    descriptor.frame(self.top),
                    descriptor.keyframe(),
                )
            }
            Codec::Av1 => {
                let facts = av1::Facts::parse(payload)?;
                known(Facts::Av1, Frame::default(), facts.keyframe)
            }
            Codec::H264 => {
                let facts = h264::Facts::parse(payload)?;
                self.sps_seen |= facts.sps;
                if facts.idr {
                    self.first_idr.get_or_insert(timestamp);
                }
                // Where they come out of band (RFC 6184 §8.2.2), later pictures start with their first slice.
                let bare = facts.keyframe
                    && !self.sps_seen
                    && self.first_idr.is_some_and(|first| first != timestamp);
                known(Facts::H264, Frame::default(), facts.sps || bare)
            }
        }
    }

    /// Picture ids of 7 bits continue in 15 bits, so that every subscriber gets one unbroken count.
    fn lengthen(&mut self, id: u16, long: bool) -> u16 {
        let id = match self.picture_id {
            Some(newest) if !long => {
                let step = ((i32::from(id) - i32::from(newest & 0x7f)) + 64).rem_euclid(128) - 64;
                (i32::from(newest) + step).rem_euclid(1 << 15) as u16
            }
            _ => id,
        };
        let ahead = |newest: u16| (id.wrapping_sub(newest) & 0x7fff) < 0x4000;
        if self.picture_id.is_none_or(ahead) {
            self.picture_id = Some(id);
        }
        id
    }
}

/// What a payload says of itself.
struct PayloadFacts {
    facts: Facts,
    frame: Frame,
    /// A decoder may start here.
    keyframe_start: bool,
}

impl PayloadFacts {
    const PADDING: Self = Self {
        facts: Facts::Padding,
        frame: Frame {
            needed: Layers::NONE,
            ..Frame::UNKNOWN
        },
        keyframe_start: false,
    };
}

/// The requests of all viewers of one encoding, merged: the first at once, the next not within [`KEYFRAME_INTERVAL`] of
/// the last one sent. Repeated at that pace until a keyframe comes.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    wanted: bool,
    sent: Option<Now>,
}

impl KeyframeRequests {
    pub fn want(&mut self) {
        self.wanted = true;
    }
    /// A keyframe has started to arrive: it answers all that was asked before.
    pub fn arrived(&mut self) {
        self.wanted = false;
    }
    /// Nobody watches any more.
    pub fn withdraw(&mut self) {
        self.wanted = false;
    }
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.wanted
    }
    /// True when a request is to be sent now; it counts as sent.
    pub fn due(&mut self, now: Now) -> bool {
        let due = self.wanted
            && self
                .sent
                .is_none_or(|sent| now.since(sent) >= KEYFRAME_INTERVAL);
        if due {
            self.sent = Some(now);
        }
        due
    }
}

const _: () = assert!(MAX_AGE.as_millis() >= KEYFRAME_INTERVAL.as_millis()); // a joiner inside the interval finds the picture
