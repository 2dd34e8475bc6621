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
//!
//! Where his link is the limit, packets wait at the pacer before they are decided about, and how long they have waited
//! says what is shed: first higher temporal layers, then the picture pauses where a frame begins (*held*), until nothing
//! waits any more and a keyframe comes. What is shed has no number, so nobody asks for it.
//!
//! Inside an encoding there may be layers. `goal` is the highest that is wanted, `layer` the one that is forwarded, and
//! `whole` are all those that the subscriber's decoder could follow from here: it has, or needs nothing of, what they need.
//! At the start of a picture `layer` becomes the one in `whole` that is nearest to `goal`.

pub mod numbering;
pub mod redundancy;
pub mod repair;

use std::time::Duration;

use self::numbering::{CatchUp, Numbering, Place, Run, Shifts};
use self::redundancy::Redundancy;
use self::repair::Repairs;
use crate::api::{SubscriptionId, SubscriptionSpec};
use crate::cache::{Facts, Packet};
use crate::clock::Clocks;
use crate::legs::Reported;
use crate::now::{Now, ticks};
use crate::pacer::MAX_WAIT;
use crate::sealed;
use crate::wire::codec::layer::{Layer, Layers};
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc, Timestamp};

/// Two ways of measuring the same instant may differ by this much, of which a repair that came late may be a second; beyond
/// it the sender reports are not believed.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(1_500);
/// A frame that has not ended after this time has lost its end.
const FRAME_END_PATIENCE: Duration = Duration::from_millis(200);
/// A switch may show again what was seen this long ago. A keyframe whose repair took longer is let go for the next one,
const LOOK_BACK: Duration = Duration::from_millis(90);
/// but not for ever: where every repair takes so long, that is how it is there. Keyframes come once a second at most; of a
/// thousand switches with 5 % loss one saw four in a row whose repair came too late.
const LOOK_BACK_PATIENCE: Duration = Duration::from_secs(6);

/// Having waited no longer than this, nothing is shed, and what was is taken up again: it is what the pacer lets go in one
/// piece.
const IN_TIME: Duration = Duration::from_millis(40);
/// Having waited for this long, only the lowest temporal layer goes on.
const THIN: Duration = Duration::from_millis(150);
/// Having waited for this long no further frame begins: a keyframe of a thin link may take so long, and whoever sees a
/// picture half a second after the voice sees it with somebody else's words.
const PAUSE: Duration = Duration::from_millis(400);
/// Who was held asks for a keyframe after this: publishers are not to make one oftener for a link that cannot carry it.
const HOLD: Duration = Duration::from_secs(2);

/// Between two keyframes that one viewer asks his publisher for by PLI or FIR: as all viewers together at first,
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// and twice as long each time, up to here, until he has not asked for twice that time. His link or his client may be
/// such that no keyframe helps, and each costs all others a part of their picture.
const ASK_SELDOM: Duration = Duration::from_secs(4);

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub seq: ExtSeq,
    pub timestamp: Timestamp,
    pub marker: bool,
    pub picture_id: Option<u16>,
    pub tl0: Option<u8>,
    /// Of the dependency descriptor: what is taken off its frame number and template id.
    pub frame_shift: u16,
    pub template_shift: u8,
    /// What is above this layer is left out.
    pub layer: Layer,
    /// The first packet of which that is so.
    pub first: bool,
    /// Its number is kept, its payload is not for this subscriber: an empty packet fills the place.
    pub filler: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Forward(Rewrite),
    /// Nothing is forwarded yet, and this packet opens the gate: begin here.
    Start,
    /// It has waited for too long: call [`Subscription::hold`].
    Hold,
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
    pub red_payload_type: Option<u8>,
    event_payload_type: Option<u8>,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Option<Ssrc>,
    pub repairs: Repairs,
    pub redundancy: Redundancy,
    /// Of a voice whose listener asks for packets again without a stream for them, since he first did.
    pub sealed: Option<Box<sealed::Voice>>,
    /// Of a voice, where only so many may pass: the higher goes first.
    pub rank: u8,
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
    /// When his own request was last passed on, and how long the next has to wait.
    asked: Option<(Now, Duration)>,
    /// The layer last told to Python.
    pub told: Option<u8>,
    wanted: Option<u8>,
    target: Option<u8>,
    /// Since when it is the target.
    aimed: Now,
    current: Option<u8>,
    /// The picture to switch to, and since when only the end of the frame that he is being sent has been waited for.
    ready: Option<(ExtSeq, Now)>,
    wanted_temporal: u8,
    /// The link could not carry the picture, since then.
    held: Option<Now>,
    /// It carries no higher temporal layers.
    thinned: bool,
    /// Packets bear transport-wide numbers.
    pub transport_wide: bool,
    goal: Layer,
    layer: Layer,
    whole: Layers,
    /// Limits that have needed what was left out for others: of what is missing they may need something too.
    beyond: Layers,
    /// Highest spatial layer of the encoding, by its latest frame.
    top: u8,
    /// The picture that the newest packet of the encoding belongs to.
    picture: Option<Timestamp>,
    numbering: Numbering,
    /// Picture left out last, so that each counts once.
    left_out: Option<u16>,
    last: Option<Last>,
    /// Where the template ids of the latest structure sent end.
    template_end: Option<u8>,
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
    /// Of the dependency descriptor.
    frame: Option<u16>,
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
            red_payload_type: spec.red_payload_type,
            event_payload_type: spec.event_payload_type,
            ssrc: Ssrc(spec.ssrc),
            rtx_ssrc: spec.rtx_ssrc.map(Ssrc),
            repairs: Repairs::default(),
            redundancy: Redundancy::default(),
            sealed: None,
            rank: 0,
            packets: 0,
            octets: 0,
            report_owed: false,
            reported: None,
            receipt: Reported::default(),
            keyframe_sent: None,
            asked: None,
            told: None,
            wanted: spec.spatial,
            target: None,
            aimed: Now(0),
            current: None,
            ready: None,
            wanted_temporal: spec.temporal,
            held: None,
            thinned: false,
            transport_wide: spec.transport_wide,
            goal: Layer::TOP,
            layer: Layer::TOP,
            whole: Layers::NONE,
            beyond: Layers::NONE,
            top: 0,
            picture: None,
            // Chance is not needed: SRTP hides nothing by it, and tests can say what comes.
            numbering: Numbering::new(spec.ssrc as u16),
            left_out: None,
            last: None,
            template_end: None,
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

    /// The layer that is forwarded, counted as in `SubscriptionSpec.spatial`.
    #[must_use]
    pub fn spatial(&self) -> Option<u8> {
        self.current
            .map(|encoding| encoding + self.layer.spatial.min(self.top))
    }

    /// He sees the right encoding, and only a keyframe can bring him to the right spatial layer of it.
    #[must_use]
    pub fn awaits_layer(&self) -> bool {
        let size = |layer: Layer| layer.spatial.min(self.top);
        self.current.is_some()
            && self.current == self.target
            && size(self.layer) != size(self.goal)
            && size(self.nearest()) != size(self.goal)
    }

    /// The link could not carry the picture; it goes on with a keyframe, when nothing waits any more.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// It was held so lately that no keyframe should be made for it.
    #[must_use]
    pub fn rests(&self, now: Now) -> bool {
        self.held.is_some_and(|since| now.since(since) < HOLD)
    }

    /// Nothing more is forwarded, until the pacer has nothing that waits and a keyframe comes.
    pub fn hold(&mut self, now: Now) {
        self.current = None;
        self.held = Some(now);
    }

    /// He asks for a keyframe. May it be passed on?
    pub fn may_ask(&mut self, now: Now) -> bool {
        let patience = match self.asked {
            Some((asked, patience)) if now.since(asked) < patience => return false,
            Some((asked, patience)) if now.since(asked) < 2 * patience => {
                (2 * patience).min(ASK_SELDOM)
            }
            _ => ASK_AGAIN,
        };
        self.asked = Some((now, patience));
        true
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
            (self.target, self.current, self.held) = (None, None, None);
        }
    }

    /// The best encoding that the publication has now for what is wanted, and the spatial layer in it. The one in use goes
    /// on until its keyframe comes.
    pub fn aim(&mut self, now: Now, (best, spatial): (u8, u8)) {
        self.goal = Layer::at_most(spatial, self.wanted_temporal);
        if self.wanted.is_some() && self.target != Some(best) {
            (self.target, self.aimed) = (Some(best), now);
        }
    }

    #[must_use]
    pub fn sends_as(&self, ssrc: Ssrc) -> bool {
        self.ssrc == ssrc || self.rtx_ssrc == Some(ssrc)
    }

    /// As what this subscriber gets such a packet; `None`: he has agreed to nothing of the kind.
    #[must_use]
    pub fn payload_type_of(&self, facts: Facts) -> Option<u8> {
        match facts {
            Facts::Event => self.event_payload_type,
            _ => Some(self.payload_type),
        }
    }

    /// What becomes of a packet of `encoding`, whose stream began at `epoch`, after it has `waited` at the pacer. Changes the
    /// numbers: call once per packet.
    pub fn decide(
        &mut self,
        encoding: u8,
        epoch: ExtSeq,
        packet: &Packet,
        waited: Duration,
    ) -> Verdict {
        if self.target.is_none() {
            return Verdict::Drop(DropReason::Paused);
        }
        if waited > MAX_WAIT {
            // The rest of this frame would come too late as well, or not at all.
            return match self.current == Some(encoding) {
                true => Verdict::Hold,
                false => Verdict::Drop(DropReason::QueueFull),
            };
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
            Place::Reserved(run) if packet.seq >= epoch => {
                let mut rewrite = reserved(&run, packet);
                rewrite.filler |= self.payload_type_of(packet.facts).is_none();
                self.structure(&run, packet);
                Verdict::Forward(rewrite)
            }
            Place::Ahead if self.current == Some(encoding) => self.ahead(packet, waited),
            _ if opens && self.current.is_none() && (self.held.is_none() || waited <= IN_TIME) => {
                Verdict::Start
            }
            _ if self.current == Some(encoding) => Verdict::Drop(DropReason::Late),
            _ if self.held.is_some() => Verdict::Drop(DropReason::QueueFull),
            _ if self.target == Some(encoding) => Verdict::Drop(DropReason::AwaitingKeyframe),
            _ => Verdict::Drop(DropReason::OtherLayer),
        }
    }

    /// Is it still to be decided whether he hears this packet of a voice? One that a number was kept for goes its way.
    #[must_use]
    pub fn undecided(&self, encoding: u8, packet: &Packet) -> bool {
        let place = self.numbering.place(encoding, packet.seq);
        self.target.is_some() && !matches!(place, Place::Reserved(_))
    }

    /// A packet of a voice that he does not hear. It leaves no hole.
    pub fn pass_over(&mut self, encoding: u8, packet: &Packet) {
        if self.current == Some(encoding)
            && self.numbering.place(encoding, packet.seq) == Place::Ahead
        {
            self.numbering.pass_over(packet.seq);
        }
    }

    /// May a picture that starts at `seq` and has been coming `since` then be shown? Nothing of it may have been sent before.
    /// One who sees something that lives is shown no picture from before he asked: that would turn back time.
    #[must_use]
    pub fn may_show(&self, encoding: u8, seq: ExtSeq, since: Now, alive: bool) -> bool {
        (self.current.is_none() || !alive || since >= self.aimed)
            && self.numbering.is_new(encoding, seq)
    }

    /// Would a picture that starts with `packet` take him back further than a switch may?
    #[must_use]
    pub fn turns_back(&self, now: Now, encoding: u8, packet: &Packet, clocks: &Clocks) -> bool {
        let (Some(run), Some(last)) = (self.numbering.open(), self.last) else {
            return false;
        };
        if now.since(self.aimed) > LOOK_BACK_PATIENCE {
            return false;
        }
        let captured = continued(run, &last, encoding, packet, clocks);
        last.timestamp.since(captured) > ticks(LOOK_BACK, clocks.rate) as i32
    }

    /// May another encoding take over, with the picture at `seq` that is here as a whole? The last packet sent ended a
    /// frame, so that nobody misses the rest of it; or its end has been waited for long enough.
    pub fn may_leave(&mut self, now: Now, seq: ExtSeq) -> bool {
        let (_, since) = *self.ready.insert(
            self.ready
                .filter(|ready| ready.0 == seq)
                .unwrap_or((seq, now)),
        );
        self.last.is_none_or(|last| last.marker) || now.since(since) > FRAME_END_PATIENCE
    }

    /// Begins to forward `encoding` with `packet`: the switch. The packet itself is then decided like any other.
    pub fn start(&mut self, encoding: u8, epoch: ExtSeq, packet: &Packet, clocks: &Clocks) {
        let before = self.numbering.open().copied();
        let shifts = match (before, self.last) {
            (Some(run), Some(last)) => {
                let same_clock = run.encoding == encoding && run.first >= epoch;
                let (timestamp, catch_up) = if same_clock {
                    (run.timestamp_shift, None)
                } else {
                    let captured = continued(&run, &last, encoding, packet, clocks);
                    let catch_up = CatchUp {
                        captured,
                        shown: last.timestamp.add(1),
                    };
                    (
                        packet.timestamp.0.wrapping_sub(captured.0),
                        (!captured.newer_than(last.timestamp)).then_some(catch_up),
                    )
                };
                let (picture, tl0) = numbers(&packet.facts);
                let after = |number: Option<u16>, last: Option<u16>| {
                    let number = number.unwrap_or(0);
                    number.wrapping_sub(last.map_or(number, |last| last.wrapping_add(1)))
                };
                let described = packet.dependency.map(|(descriptor, _)| descriptor);
                Shifts {
                    timestamp,
                    picture: after(picture, last.picture_id),
                    tl0: after(tl0.map(u16::from), last.tl0.map(u16::from)) as u8,
                    frame: after(described.map(|descriptor| descriptor.number), last.frame),
                    // Templates of another sender of structures: their ids begin where the last ones end.
                    template: described
                        .and_then(|descriptor| descriptor.structure)
                        .zip(self.template_end)
                        .map_or(0, |(ids, end)| ids.start.wrapping_sub(end) & 63),
                    catch_up,
                }
            }
            _ => Shifts::default(),
        };
        // A keyframe opens every layer.
        (self.layer, self.whole) = (self.goal, Layers::ALL);
        (self.held, self.thinned) = (None, false);
        self.top = packet.frame.top;
        self.picture = None;
        self.numbering
            .start(encoding, packet.seq, self.layer, shifts);
        self.current = Some(encoding);
        self.ready = None;
        self.left_out = None;
        self.report_owed = true;
    }

    /// The next packet in order, or one after a gap.
    fn ahead(&mut self, packet: &Packet, waited: Duration) -> Verdict {
        if packet.facts == Facts::Padding {
            self.numbering.leave_out(packet.seq, false);
            return Verdict::Drop(DropReason::Padding);
        }
        if packet.facts == Facts::Event && self.event_payload_type.is_none() {
            self.numbering.leave_out(packet.seq, false);
            return Verdict::Drop(DropReason::UnmappedPayload);
        }
        let gap = packet.seq > self.numbering.newest().next();
        if gap {
            self.whole = self
                .whole
                .without(self.beyond)
                .with(Layers::only(self.layer));
        }
        let frame = &packet.frame;
        let opening = self.picture.replace(packet.timestamp) != Some(packet.timestamp);
        if opening {
            if waited > PAUSE {
                return Verdict::Hold;
            }
            self.thinned = waited > THIN || self.thinned && waited > IN_TIME;
        }
        if frame.start {
            // Behind a gap a higher frame may not be the first of its picture: what is missing has kept its layer.
            let opening = opening && (!gap || frame.layer.spatial == 0);
            self.choose(packet, opening);
        }
        if !frame.needed.contains(self.layer) {
            self.whole = self.whole.without(frame.needed);
            self.beyond = self.beyond.with(frame.needed);
            // VP8 counts pictures without a gap; in VP9 the distance between picture ids has a meaning.
            let picture_id = match packet.facts {
                Facts::Vp8(descriptor) => descriptor.picture_id,
                _ => None,
            };
            let first = picture_id.is_some() && self.left_out != picture_id;
            self.left_out = picture_id;
            self.numbering.leave_out(packet.seq, first);
            let shed = self.thinned && frame.needed.contains(self.goal);
            return Verdict::Drop(if shed {
                DropReason::QueueFull
            } else {
                DropReason::OtherLayer
            });
        }
        if frame.start {
            self.whole = self.whole.with(frame.switches);
        }
        self.numbering.caught_up(packet.seq, packet.timestamp);
        self.numbering.take(packet.seq);
        let Some(&run) = self.numbering.open() else {
            return Verdict::Drop(DropReason::AwaitingKeyframe);
        };
        self.structure(&run, packet);
        let rewrite = reserved(&run, packet);
        self.last = Some(Last {
            marker: rewrite.marker,
            timestamp: rewrite.timestamp,
            arrival: packet.arrival,
            picture_id: rewrite.picture_id,
            tl0: rewrite.tl0,
            frame: packet
                .dependency
                .map(|(descriptor, _)| descriptor.number.wrapping_sub(run.frame_shift)),
        });
        Verdict::Forward(rewrite)
    }

    /// Which layer is forwarded from this frame on. It changes where a picture opens, so that the last packet of each has
    /// its marker; and at a frame that refers to nothing at all.
    fn choose(&mut self, packet: &Packet, opening: bool) {
        let frame = &packet.frame;
        if frame.top != self.top {
            self.whole = self.whole.retopped(self.top, frame.top);
            if frame.top > self.top && self.layer.spatial <= self.top {
                let new = Layers::from_spatial(self.top + 1);
                self.whole = self.whole.without(new);
            }
            self.top = frame.top;
        }
        self.whole = self.whole.with(frame.opens);
        let goal = self.carried_goal();
        if self.layer == goal || !(opening || frame.opens.contains(goal)) {
            return;
        }
        let nearest = self.nearest();
        if nearest != self.layer {
            self.layer = nearest;
            self.numbering.limit(packet.seq, nearest);
        }
    }

    /// The highest layer that is wanted, as far as the link carries it.
    fn carried_goal(&self) -> Layer {
        Layer {
            temporal: if self.thinned { 0 } else { self.goal.temporal },
            ..self.goal
        }
    }

    /// The layer nearest to the goal that he could follow from here: a smaller picture rather than a larger one than he
    /// wants, a larger one rather than none.
    fn nearest(&self) -> Layer {
        let goal = self.carried_goal();
        let below = (0..=goal.spatial).rev();
        let above = goal.spatial + 1..=self.layer.spatial;
        for spatial in below.chain(above) {
            for temporal in (0..=goal.temporal).rev() {
                let layer = Layer { spatial, temporal };
                if self.whole.contains(layer) {
                    return layer;
                }
            }
        }
        self.layer
    }

    /// Where the ids of the templates sent end, for whoever comes next.
    fn structure(&mut self, run: &Run, packet: &Packet) {
        if let Some(ids) = packet
            .dependency
            .and_then(|(descriptor, _)| descriptor.structure)
        {
            self.template_end = Some(ids.end.wrapping_sub(run.template_shift) & 63);
        }
    }

    /// The clock of the sender reports for what is forwarded now: our timestamp for the publisher's.
    #[must_use]
    pub fn timestamp(&self, encoding: u8, timestamp: Timestamp) -> Option<Timestamp> {
        let run = self
            .numbering
            .open()
            .filter(|run| run.encoding == encoding)?;
        Some(run.exact(timestamp))
    }

    /// When the newest packet sent is shown.
    #[must_use]
    pub fn shown(&self) -> Option<Timestamp> {
        self.last.map(|last| last.timestamp)
    }

    /// The number that the last packet bore, as a report counts (RFC 3550 §6.4.1).
    #[must_use]
    pub fn newest(&self) -> u32 {
        (self.numbering.next().0 as u32).wrapping_sub(1)
    }

    /// The first packet that has got a number since the last one that was left out.
    #[must_use]
    pub fn run_began(&self) -> Option<ExtSeq> {
        self.numbering.open().map(|run| run.first)
    }

    /// The cached packet behind an outgoing number, and how it was written when it went first.
    #[must_use]
    pub fn source(&self, out: SeqNo) -> Option<(Run, ExtSeq)> {
        self.numbering.source(out)
    }
}

/// A packet that has its place in a run: as the run says, or empty when the run leaves such packets out.
#[must_use]
pub fn reserved(run: &Run, packet: &Packet) -> Rewrite {
    let (picture_id, tl0) = numbers(&packet.facts);
    Rewrite {
        seq: run.out(packet.seq),
        timestamp: run.timestamp(packet.timestamp),
        // The last packet of the highest layer that he gets ends the picture for him.
        marker: packet.marker || packet.frame.ends.contains(run.layer),
        picture_id: picture_id.map(|id| run.picture_id(id)),
        tl0: tl0.map(|index| run.tl0(index)),
        frame_shift: run.frame_shift,
        template_shift: run.template_shift,
        layer: run.layer,
        first: packet.seq == run.first,
        filler: !packet.frame.needed.contains(run.layer),
    }
}

/// Picture id and TL0PICIDX of a payload that has them.
fn numbers(facts: &Facts) -> (Option<u16>, Option<u8>) {
    match facts {
        Facts::Vp8(descriptor) => (descriptor.picture_id, descriptor.tl0_pic_idx),
        Facts::Vp9(descriptor) => (descriptor.picture_id, descriptor.tl0_pic_idx),
        Facts::Audio | Facts::Event | Facts::H264 | Facts::Av1 | Facts::Padding => (None, None),
    }
}

/// The outgoing timestamp at which another clock takes over: by the two sender reports, which relate both clocks to one
/// (RFC 3550 §6.4.1), else by the time between arrivals. By the reports it may be earlier than the last one sent.
fn continued(run: &Run, last: &Last, encoding: u8, packet: &Packet, clocks: &Clocks) -> Timestamp {
    let elapsed = ticks(packet.arrival.since(last.arrival), clocks.rate).max(1);
    let by_arrival = last.timestamp.add(elapsed);
    let by_reports = (run.encoding != encoding)
        .then(|| clocks.translate(run.encoding, encoding, packet.timestamp))
        .flatten()
        .map(|captured| run.exact(captured));
    let tolerance = ticks(CLOCK_TOLERANCE, clocks.rate) as i32;
    by_reports
        .filter(|by_reports| by_reports.since(by_arrival).saturating_abs() <= tolerance)
        .unwrap_or(by_arrival)
}
