//! One participant's receipt of one publication: the gate (paused, waiting for a keyframe, forwarding), the switch between
//! encodings, and the numbers that the subscriber sees. It decides about a packet in the cache; it does not read or write
//! one. Third stop of a media packet, between the publication's cache and the subscriber's transport.
//!
//! | `target` | `current` | state |
//! |---|---|---|
//! | none | none | paused |
//! | t | none | waiting for a keyframe of t |
//! | t | t | forwarding t |
//! | t | c ≠ t | forwarding c, until a keyframe of t is here as a whole and a frame of c has ended |

pub mod numbering;
pub mod repair;

use std::time::Duration;

use self::numbering::{Numbering, Place, Run, Shifts};
use self::repair::Repairs;
use crate::api::{SubscriptionId, SubscriptionSpec};
use crate::cache::{Facts, Packet};
use crate::clock::Clocks;
use crate::legs::Reported;
use crate::now::{Now, ticks};
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, Ssrc, Timestamp};

/// Every temporal layer.
pub const ALL_LAYERS: u8 = 255;
/// Two ways of measuring the same instant may differ by this much; beyond it the sender reports are not believed.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub seq: ExtSeq,
    pub timestamp: Timestamp,
    pub picture_id: Option<u16>,
    pub tl0: Option<u8>,
    /// Its number is kept, its payload is not for this subscriber: an empty packet fills the place.
    pub filler: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Forward(Rewrite),
    /// Nothing is forwarded yet, and this packet opens the gate: begin here.
    Start,
    Drop(DropReason),
}

pub struct Subscription {
    pub id: SubscriptionId,
    /// Rows in the router.
    pub publication: u32,
    pub transport: u32,
    pub mid: String,
    pub cname: String,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Option<Ssrc>,
    pub repairs: Repairs,
    /// For sender reports (RFC 3550 §6.4.1).
    pub packets: u32,
    pub octets: u32,
    /// A sender report is owed: forwarding has just begun or changed clocks.
    pub report_owed: bool,
    /// Middle of the NTP time in our last sender report, and when it went: the round trip comes back by it.
    pub reported: Option<(u32, Now)>,
    /// What the subscriber last reported of it.
    pub receipt: Reported,
    /// When the start of a keyframe was last sent to him.
    pub keyframe_sent: Option<Now>,
    /// The layer last told to Python.
    pub told: Option<u8>,
    wanted: Option<u8>,
    target: Option<u8>,
    /// Since when it is the target.
    aimed: Now,
    current: Option<u8>,
    wanted_temporal: u8,
    temporal: u8,
    numbering: Numbering,
    /// Picture left out last, so that each counts once.
    left_out: Option<u16>,
    last: Option<Last>,
}

/// The newest packet sent, as the subscriber saw it.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// It ended a frame.
    marker: bool,
    timestamp: Timestamp,
    arrival: Now,
    picture_id: Option<u16>,
    tl0: Option<u8>,
}

impl Subscription {
    #[must_use]
    pub fn new(
        id: SubscriptionId,
        publication: u32,
        transport: u32,
        spec: SubscriptionSpec,
    ) -> Self {
        Self {
            id,
            publication,
            transport,
            mid: spec.mid,
            cname: spec.cname,
            payload_type: spec.payload_type,
            rtx_payload_type: spec.rtx_payload_type,
            ssrc: Ssrc(spec.ssrc),
            rtx_ssrc: spec.rtx_ssrc.map(Ssrc),
            repairs: Repairs::default(),
            packets: 0,
            octets: 0,
            report_owed: false,
            reported: None,
            receipt: Reported::default(),
            keyframe_sent: None,
            told: None,
            wanted: spec.spatial,
            target: None,
            aimed: Now(0),
            current: None,
            wanted_temporal: spec.temporal,
            temporal: spec.temporal,
            // Chance is not needed: SRTP hides nothing by it, and tests can say what comes.
            numbering: Numbering::new(spec.ssrc as u16),
            left_out: None,
            last: None,
        }
    }

    #[must_use]
    pub fn wanted(&self) -> Option<u8> {
        self.wanted
    }
    #[must_use]
    pub fn current(&self) -> Option<u8> {
        self.current
    }
    #[must_use]
    pub fn target(&self) -> Option<u8> {
        self.target
    }

    /// The encoding whose keyframe this subscription waits for.
    #[must_use]
    pub fn awaits(&self) -> Option<u8> {
        self.target.filter(|&target| self.current != Some(target))
    }

    pub fn set_layer(&mut self, spatial: Option<u8>, temporal: u8) {
        self.wanted = spatial;
        self.wanted_temporal = temporal;
        if spatial.is_none() {
            (self.target, self.current) = (None, None);
        }
    }

    /// The best encoding that the publication has now for what is wanted. The one in use goes on until its keyframe comes.
    pub fn aim(&mut self, now: Now, best: u8) {
        if self.wanted.is_some() && self.target != Some(best) {
            (self.target, self.aimed) = (Some(best), now);
        }
    }

    /// What becomes of a packet of `encoding`, whose stream began at `epoch`. Changes the numbers: call once per packet.
    pub fn decide(&mut self, encoding: u8, epoch: ExtSeq, packet: &Packet) -> Verdict {
        if self.target.is_none() {
            return Verdict::Drop(DropReason::Paused);
        }
        let opens = packet.keyframe_start
            && self.target == Some(encoding)
            && self.numbering.is_new(encoding, packet.seq);
        if self.current == Some(encoding)
            && self.numbering.open().is_some_and(|open| open.first < epoch)
        {
            self.current = None; // Its sender has started anew: nothing of the old stream helps to decode the new one.
        }
        match self.numbering.place(encoding, packet.seq) {
            Place::Reserved(run) if packet.seq >= epoch => Verdict::Forward(reserved(&run, packet)),
            Place::Ahead if self.current == Some(encoding) => self.ahead(packet),
            _ if opens && self.current.is_none() => Verdict::Start,
            _ if self.current == Some(encoding) => Verdict::Drop(DropReason::Late),
            _ if self.target == Some(encoding) => Verdict::Drop(DropReason::AwaitingKeyframe),
            _ => Verdict::Drop(DropReason::OtherLayer),
        }
    }

    /// May a picture that starts at `seq` and has been coming `since` then be shown? Nothing of it may have been sent before.
    /// One who sees something that lives is shown no picture from before he asked: that would turn back time.
    #[must_use]
    pub fn may_show(&self, encoding: u8, seq: ExtSeq, since: Now, alive: bool) -> bool {
        (self.current.is_none() || !alive || since >= self.aimed)
            && self.numbering.is_new(encoding, seq)
    }

    /// The last packet sent ended a frame: nobody misses the rest of it when another encoding takes over.
    #[must_use]
    pub fn at_frame_end(&self) -> bool {
        self.last.is_none_or(|last| last.marker)
    }

    /// Begins to forward `encoding` with `packet`: the switch. The packet itself is then decided like any other.
    pub fn start(&mut self, encoding: u8, epoch: ExtSeq, packet: &Packet, clocks: &Clocks) {
        let before = self.numbering.open().copied();
        let shifts = match (before, self.last) {
            (Some(run), Some(last)) => {
                let same_clock = run.encoding == encoding && run.first >= epoch;
                let timestamp = if same_clock {
                    run.timestamp_shift
                } else {
                    let out = continued(&run, &last, encoding, packet, clocks);
                    packet.timestamp.0.wrapping_sub(out.0)
                };
                let Facts::Vp8(descriptor) = packet.facts else {
                    return self.begin(
                        encoding,
                        packet,
                        Shifts {
                            timestamp,
                            picture: 0,
                            tl0: 0,
                        },
                    );
                };
                let picture = descriptor.picture_id.unwrap_or(0);
                let tl0 = descriptor.tl0_pic_idx.unwrap_or(0);
                Shifts {
                    timestamp,
                    picture: picture
                        .wrapping_sub(last.picture_id.map_or(picture, |id| id.wrapping_add(1))),
                    tl0: tl0.wrapping_sub(last.tl0.map_or(tl0, |index| index.wrapping_add(1))),
                }
            }
            _ => Shifts::default(),
        };
        self.begin(encoding, packet, shifts);
    }

    fn begin(&mut self, encoding: u8, packet: &Packet, shifts: Shifts) {
        self.temporal = self.wanted_temporal;
        self.numbering
            .start(encoding, packet.seq, self.temporal, shifts);
        self.current = Some(encoding);
        self.left_out = None;
        self.report_owed = true;
    }

    /// The next packet in order, or one after a gap.
    fn ahead(&mut self, packet: &Packet) -> Verdict {
        let (mut picture_id, mut tl0) = (None, None);
        match packet.facts {
            Facts::Padding => {
                self.numbering.leave_out(packet.seq, false);
                return Verdict::Drop(DropReason::Padding);
            }
            Facts::Vp8(descriptor) => {
                let tid = descriptor.tid.unwrap_or(0);
                if descriptor.start_of_frame() {
                    self.choose_temporal(
                        packet.seq,
                        tid,
                        descriptor.layer_sync || descriptor.keyframe,
                    );
                }
                if tid > self.temporal {
                    let first =
                        descriptor.picture_id.is_some() && self.left_out != descriptor.picture_id;
                    self.left_out = descriptor.picture_id;
                    self.numbering.leave_out(packet.seq, first);
                    return Verdict::Drop(DropReason::OtherLayer);
                }
                (picture_id, tl0) = (descriptor.picture_id, descriptor.tl0_pic_idx);
            }
            Facts::Audio | Facts::H264 => {}
        }
        self.numbering.take(packet.seq);
        let Some(run) = self.numbering.open() else {
            return Verdict::Drop(DropReason::AwaitingKeyframe);
        };
        let rewrite = Rewrite {
            seq: run.out(packet.seq),
            timestamp: run.timestamp(packet.timestamp),
            picture_id: picture_id.map(|id| run.picture_id(id)),
            tl0: tl0.map(|index| run.tl0(index)),
            filler: false,
        };
        self.last = Some(Last {
            marker: packet.marker,
            timestamp: rewrite.timestamp,
            arrival: packet.arrival,
            picture_id: rewrite.picture_id,
            tl0: rewrite.tl0,
        });
        Verdict::Forward(rewrite)
    }

    /// Down at the start of any frame; up where the frame refers to nothing that was left out (RFC 7741 §4.2: Y).
    fn choose_temporal(&mut self, seq: ExtSeq, tid: u8, switching_point: bool) {
        let up = self.wanted_temporal > self.temporal
            && tid > self.temporal
            && tid <= self.wanted_temporal;
        let temporal = if self.wanted_temporal < self.temporal {
            self.wanted_temporal
        } else if up && switching_point {
            tid
        } else {
            return;
        };
        self.temporal = temporal;
        self.numbering.limit(seq, temporal);
    }

    /// The clock of the sender reports for what is forwarded now: our timestamp for the publisher's.
    #[must_use]
    pub fn timestamp(&self, encoding: u8, timestamp: Timestamp) -> Option<Timestamp> {
        let run = self
            .numbering
            .open()
            .filter(|run| run.encoding == encoding)?;
        Some(run.timestamp(timestamp))
    }

    /// The cached packet behind an outgoing number, and how it was written when it went first.
    #[must_use]
    pub fn source(&self, out: crate::wire::seq::SeqNo) -> Option<(Run, ExtSeq)> {
        self.numbering.source(out)
    }
}

/// A packet whose place was kept for it: as its run says, or empty when its run leaves such packets out.
#[must_use]
pub fn reserved(run: &Run, packet: &Packet) -> Rewrite {
    let (picture_id, tl0, filler) = match packet.facts {
        Facts::Vp8(descriptor) => (
            descriptor.picture_id.map(|id| run.picture_id(id)),
            descriptor.tl0_pic_idx.map(|index| run.tl0(index)),
            descriptor.tid.unwrap_or(0) > run.temporal,
        ),
        Facts::Padding => (None, None, true),
        Facts::Audio | Facts::H264 => (None, None, false),
    };
    Rewrite {
        seq: run.out(packet.seq),
        timestamp: run.timestamp(packet.timestamp),
        picture_id,
        tl0,
        filler,
    }
}

/// The outgoing timestamp at which another clock takes over: by the two sender reports, which relate both clocks to one
/// (RFC 3550 §6.4.1), else by the time between arrivals. Always later than the last one sent.
fn continued(run: &Run, last: &Last, encoding: u8, packet: &Packet, clocks: &Clocks) -> Timestamp {
    let elapsed = ticks(packet.arrival.since(last.arrival), clocks.rate).max(1);
    let by_arrival = last.timestamp.add(elapsed);
    let by_reports = (run.encoding != encoding)
        .then(|| clocks.translate(run.encoding, encoding, packet.timestamp))
        .flatten()
        .map(|captured| run.timestamp(captured));
    let tolerance = ticks(CLOCK_TOLERANCE, clocks.rate) as i32;
    by_reports
        .filter(|by_reports| by_reports.since(by_arrival).saturating_abs() <= tolerance)
        .map_or(by_arrival, |by_reports| {
            if by_reports.newer_than(last.timestamp) {
                by_reports
            } else {
                last.timestamp.add(1)
            }
        })
}
