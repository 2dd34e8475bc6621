//! One source that a participant offers to the room: its encodings, what of each has come, and what must be asked of the
//! publisher (packets again, a keyframe). It fills the caches that subscriptions are served from; it knows subscriptions
//! only as row keys that the router gave it. Second stop of a media packet, after the transport has opened it.

mod apart;
pub mod dependencies;
pub mod encoding;
pub mod voice;
pub mod weight;

use std::time::Duration;

use self::apart::Carrier;
use self::encoding::{Accepted, Encoding};
use self::voice::Voice;
use crate::api::{Codec, MAX_ENCODINGS, PublicationId, PublicationSpec};
use crate::bucket::Bucket;
use crate::cache::{Carried, Facts};
use crate::clock::Clocks;
use crate::now::Now;
use crate::wire::codec::{layer::Layer, red};
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, SeqNo, Timestamp};

/// What a burst of video may save up: a keyframe at the cap is over within a second, and probing for bandwidth comes in
/// bursts. A voice may save up one second.
const MIN_BURST_BITS: u64 = 2_000_000;
/// The encodings of one picture leave within a few milliseconds of each other; one that is this late is not coming.
const GOES_ON_WITHOUT: Duration = Duration::from_millis(200);

/// A voice that comes later than this is played by nobody: receivers wait for a few hundred milliseconds at most, on a
/// satellite's link for 700.
pub const PLAYOUT: Duration = Duration::from_millis(700);

/// Where a third is lost on the way, half of all repairs need more than one request: of eight, one hardly ever.
const ROUND_TRIPS: usize = 8;

/// A packet in the cache that has not been offered to the subscriptions yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    pub encoding: u8,
    pub seq: ExtSeq,
}

pub struct Publication {
    pub id: PublicationId,
    /// Row of the publisher's transport.
    pub transport: u32,
    pub codec: Codec,
    pub mid: String,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    red_payload_type: Option<u8>,
    event_payload_type: Option<u8>,
    pub nack: bool,
    pub encodings: Vec<Encoding>,
    /// Rows of the subscriptions.
    pub subscriptions: Vec<u32>,
    pub fresh: Vec<Fresh>,
    /// Already in the router's list of publications to forward.
    pub dirty: bool,
    /// Which encodings there are, or what is wanted, has changed: its subscriptions aim anew.
    pub unsettled: bool,
    /// Encodings that somebody gets or waits for, by the last round of forwarding.
    pub watched: [bool; MAX_ENCODINGS],
    pub voice: Voice,
    rate: Bucket,
    /// From a packet's first request to its repair, the latest ones; the shortest is a round trip on which nothing was lost.
    round_trips: [Duration; ROUND_TRIPS],
    repairs: usize,
}

impl Publication {
    #[must_use]
    pub fn new(now: Now, id: PublicationId, transport: u32, spec: PublicationSpec) -> Self {
        let encodings = spec
            .encodings
            .into_iter()
            .take(MAX_ENCODINGS)
            .map(|encoding| Encoding::new(spec.codec, encoding, spec.max_bitrate))
            .collect();
        Self {
            id,
            transport,
            codec: spec.codec,
            mid: spec.mid,
            payload_type: spec.payload_type,
            rtx_payload_type: spec.rtx_payload_type,
            red_payload_type: spec.red_payload_type,
            event_payload_type: spec.event_payload_type,
            nack: spec.nack,
            encodings,
            subscriptions: Vec::new(),
            fresh: Vec::with_capacity(128),
            dirty: false,
            unsettled: true,
            watched: [false; MAX_ENCODINGS],
            voice: Voice::default(),
            rate: rate(now, spec.codec, spec.max_bitrate),
            round_trips: [Duration::from_millis(100); ROUND_TRIPS],
            repairs: 0,
        }
    }

    #[must_use]
    pub fn is_voice(&self) -> bool {
        is_voice(self.codec)
    }

    /// May this payload type come on the stream itself, not as a retransmission?
    #[must_use]
    pub fn takes(&self, payload_type: u8) -> bool {
        payload_type == self.payload_type
            || Some(payload_type) == self.red_payload_type
            || Some(payload_type) == self.event_payload_type
    }

    /// What a payload of a voice is; `None` when it breaks its format's rules.
    fn sound(&self, payload_type: u8, payload: &[u8]) -> Option<Facts> {
        if Some(payload_type) == self.event_payload_type {
            // RFC 4733 §2.3: events of four bytes each.
            return payload.len().is_multiple_of(4).then_some(Facts::Event);
        }
        Some(Facts::Audio)
    }

    /// Hz of the RTP timestamp (RFC 7587 §4.1, RFC 3551 §4.5, RFC 7741 §4.1, RFC 6184 §8.2.1, RFC 9628 §4.1).
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        clock_rate(self.codec)
    }

    #[must_use]
    pub fn clocks(&self) -> Clocks {
        let mut reports = [None; MAX_ENCODINGS];
        for (report, encoding) in reports.iter_mut().zip(&self.encodings) {
            *report = encoding.report;
        }
        Clocks {
            rate: self.clock_rate(),
            reports,
        }
    }

    pub fn set_max_bitrate(&mut self, now: Now, max_bitrate: u32) {
        let (bits, burst) = limits(self.codec, max_bitrate);
        self.rate.set(now, bits, burst);
    }

    /// A packet of `encoding` has been opened. `sealed_len` is what it took on the wire, `rtx` that it is a
    /// retransmission (RFC 4588). On success it waits in `fresh`.
    pub fn receive(
        &mut self,
        now: Now,
        encoding: u8,
        incoming: &Incoming<'_>,
    ) -> Result<Received, DropReason> {
        if !self.rate.take(now, incoming.wire_len as u64 * 8) {
            return Err(DropReason::OverBitrate);
        }
        let expected = if incoming.rtx {
            Some(incoming.payload_type) == self.rtx_payload_type
        } else {
            self.takes(incoming.payload_type)
        };
        if !expected {
            return Err(DropReason::BadPayload);
        }
        let mut sound = self.sound(incoming.payload_type, incoming.payload);
        let mut redundant = None;
        if Some(incoming.payload_type) == self.red_payload_type {
            redundant = red::Payload::parse(incoming.payload, self.payload_type);
            sound = redundant.and(sound);
        }
        let row = self
            .encodings
            .get_mut(usize::from(encoding))
            .ok_or(DropReason::UnknownStream)?;
        let (seq, payload) = if incoming.rtx {
            match incoming.payload {
                // Probe padding on the RTX stream has no original sequence number (RFC 4588 §4 knows no such packet).
                [] => return Err(DropReason::Padding),
                [high, low, rest @ ..] => (SeqNo(u16::from_be_bytes([*high, *low])), rest),
                [_] => return Err(DropReason::BadPayload),
            }
        } else {
            let own = redundant.map(|redundant| redundant.primary());
            (incoming.seq, own.unwrap_or(incoming.payload))
        };
        let Accepted {
            seq,
            repaired,
            malformed,
            waits,
            amended,
        } = row.receive(now, seq, incoming, payload, sound)?;
        // Without RTX it may as well be the packet itself, late.
        if let Some(after) = repaired.filter(|_| incoming.rtx || self.rtx_payload_type.is_none()) {
            let row = &mut self.round_trips[self.repairs % ROUND_TRIPS];
            *row = after.clamp(Duration::from_millis(10), Duration::from_millis(500));
            self.repairs = self.repairs.wrapping_add(1);
        }
        if let Some(level) = incoming.carried.audio_level {
            self.voice
                .hear(level, incoming.timestamp, clock_rate(self.codec));
        }
        let mut restored = 0;
        if let Some(redundant) = redundant {
            let carrier = Carrier {
                seq,
                timestamp: incoming.timestamp,
                carried: incoming.carried,
            };
            apart::restore(now, row, &carrier, &redundant, |seq| {
                restored += 1;
                self.fresh.push(Fresh { encoding, seq });
            });
        }
        if !waits {
            self.fresh.push(Fresh { encoding, seq });
        }
        // An outgoing number is given once: only what has not been offered before.
        let mut amended = amended;
        while amended != 0 {
            let seq = ExtSeq(seq.0 + 1 + u64::from(amended.trailing_zeros()));
            amended &= amended - 1;
            self.fresh.push(Fresh { encoding, seq });
        }
        let activated = row.activate(now, payload);
        for other in self.encodings.iter_mut().filter(|other| !other.active) {
            other.outlived.get_or_insert(now);
        }
        Ok(Received {
            activated,
            malformed,
            repaired: repaired.is_some(),
            restored,
        })
    }

    /// By the clock: has `encoding` fallen silent, and has it stopped? A screen that stands still silences all encodings for
    /// seconds, and then they come back one after the other: one has stopped only when others go on without it.
    pub fn expire(&mut self, now: Now, encoding: usize) -> Expired {
        let latest = self.encodings.iter().map(|row| row.heard).max();
        let Some(row) = self.encodings.get_mut(encoding) else {
            return Expired::default();
        };
        let silent = row.expire(now);
        let ahead = latest.is_some_and(|latest| latest.since(row.heard) >= GOES_ON_WITHOUT);
        let alone = row
            .outlived
            .is_some_and(|at| now.since(at) >= GOES_ON_WITHOUT);
        let stopped = !row.active && !row.stopped && ((silent && ahead) || alone);
        row.stopped |= stopped;
        self.unsettled |= stopped;
        Expired { silent, stopped }
    }

    /// Asks `encoding` for packets that are missing; see [`crate::nack::Gaps::due`].
    pub fn missing(&mut self, now: Now, encoding: u8, out: &mut [SeqNo]) -> usize {
        if !self.nack {
            return 0;
        }
        // A quarter more, or half of all answers would just miss the second request.
        let shortest = self.round_trips.iter().min().copied().unwrap_or_default();
        let patience = shortest * 5 / 4;
        let voice = self.is_voice();
        let Some(row) = self.encodings.get_mut(usize::from(encoding)) else {
            return 0;
        };
        if voice {
            row.gaps.let_go_after(now, PLAYOUT.saturating_sub(shortest));
        }
        row.gaps.due(now, patience, out)
    }

    /// The encoding that a subscriber who wants at most `wanted` should get, and the spatial layer in it. Of several
    /// encodings the highest that has not stopped; when all have, the highest that had a stream at all; else the wanted one.
    /// Where there is only one, what is wanted is a spatial layer of it.
    #[must_use]
    pub fn best(&self, wanted: u8) -> (u8, u8) {
        if self.encodings.len() == 1 {
            return (0, wanted);
        }
        let allowed = &self.encodings[..self.encodings.len().min(usize::from(wanted) + 1)];
        let last = |test: fn(&Encoding) -> bool| allowed.iter().rposition(test);
        let best = last(|encoding| encoding.ssrc.is_some() && !encoding.stopped)
            .or_else(|| last(|encoding| encoding.ssrc.is_some()))
            .unwrap_or(allowed.len().saturating_sub(1));
        (best as u8, Layer::TOP.spatial)
    }
}

/// What the router knows of a packet when it hands it over.
pub struct Incoming<'a> {
    pub rtx: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub timestamp: Timestamp,
    pub marker: bool,
    pub carried: Carried,
    /// The bytes of its dependency descriptor, if it has one.
    pub dependency: &'a [u8],
    pub payload: &'a [u8],
    pub wire_len: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// It was active until now.
    pub silent: bool,
    /// It counted as one to watch until now.
    pub stopped: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// The encoding was silent before.
    pub activated: bool,
    /// Its payload breaks its codec's rules, or its descriptor those of its format: it takes part as if it were padding,
    /// and is counted.
    pub malformed: Option<DropReason>,
    /// It had been asked for.
    pub repaired: bool,
    /// Packets before it that had not come, and that it brought with it.
    pub restored: u8,
}

#[must_use]
pub fn clock_rate(codec: Codec) -> u32 {
    match codec {
        Codec::Opus => 48_000,
        Codec::Pcmu | Codec::Pcma => 8_000,
        _ => 90_000,
    }
}

#[must_use]
pub fn is_voice(codec: Codec) -> bool {
    matches!(codec, Codec::Opus | Codec::Pcmu | Codec::Pcma)
}

fn limits(codec: Codec, max_bitrate: u32) -> (u64, u64) {
    let bits = u64::from(max_bitrate);
    let burst = if bits == 0 || is_voice(codec) {
        bits
    } else {
        bits.max(MIN_BURST_BITS)
    };
    (bits, burst)
}

fn rate(now: Now, codec: Codec, max_bitrate: u32) -> Bucket {
    let (bits, burst) = limits(codec, max_bitrate);
    Bucket::new(bits, burst, now)
}
