//! From the cache to the subscribers: the second half of the media path, and the hottest loop here. Subscriber by
//! subscriber, so that the packets of a frame to one address lie side by side in the send slots.

use std::time::Duration;

use super::Router;
use super::ask::ask;
use super::blame;
use super::counters::{Counters, Kind};
use super::write::{Stamp, write};
use crate::api::{Event, MAX_ENCODINGS};
use crate::cache::{Cached, Facts, Packet};
use crate::now::Now;
use crate::outlet::Outlet;
use crate::pacer::{Next, Repair, Waiting};
use crate::publication::Publication;
use crate::publication::encoding::{Encoding, Picture};
use crate::subscription::{Rewrite, Subscription, Verdict};
use crate::transport::Sending;
use crate::wire::codec::red::Redundant;
use crate::wire::drop::DropReason;
use crate::wire::rtcp;
use crate::wire::seq::{ExtSeq, SeqNo};

/// Between two sender reports of a voice whose clock goes on as it was: no oftener than RFC 3550 §6.2 has it (5 s, and some
/// of it for chance). Four voices that report each second take a twentieth of a thin link.
const VOICE_REPORTS: Duration = Duration::from_millis(4_500);

/// One subscription that is offered its publication's news.
pub(super) struct Turn {
    transport: u32,
    publication: u32,
    subscription: u32,
}

impl Router {
    /// Offers what has come since the last time to every subscription, then asks publishers for what is missing. Subscriber
    /// by subscriber, whatever the number of publications that have news: what leaves for one address leaves in one piece.
    pub(super) fn forward(&mut self, now: Now, out: &mut impl Outlet) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut turns = std::mem::take(&mut self.turns);
        for &row in &dirty {
            let Some(publication) = self.publications.get_mut(row) else {
                continue;
            };
            publication.dirty = false;
            publication.watched = [false; MAX_ENCODINGS];
            let subscriptions = &self.subscriptions;
            turns.extend(
                publication
                    .subscriptions
                    .iter()
                    .filter_map(|&subscription| {
                        Some(Turn {
                            transport: subscriptions.get(subscription)?.transport,
                            publication: row,
                            subscription,
                        })
                    }),
            );
        }
        if dirty.len() > 1 {
            turns.sort_unstable_by_key(|turn| (turn.transport, turn.publication));
        }
        for turn in turns.drain(..) {
            self.offer(now, &turn, out);
        }
        for row in dirty.drain(..) {
            self.settle(now, row, out);
        }
        (self.dirty, self.turns) = (dirty, turns);
    }

    /// The news of one publication for one of its subscriptions.
    fn offer(&mut self, now: Now, turn: &Turn, out: &mut impl Outlet) {
        let (Some(publication), Some(subscription)) = (
            self.publications.get_mut(turn.publication),
            self.subscriptions.get_mut(turn.subscription),
        ) else {
            return;
        };
        blame::set(self.transports.get(publication.transport).map(|t| t.id));
        if let (true, Some(wanted)) = (publication.unsettled, subscription.wanted()) {
            subscription.aim(now, publication.best(wanted));
        }
        let transport = self.transports.get_mut(turn.transport);
        if let Some(sending) = transport.and_then(|transport| transport.sending()) {
            let counters = &mut self.counters;
            Delivery {
                now,
                out,
                publication: &*publication,
                row: turn.subscription,
                subscription: &mut *subscription,
                sending,
                counters,
            }
            .run();
            let transport = self.transports.get_mut(turn.transport);
            let Some(pacer) = transport.map(|transport| &mut transport.link.pacer) else {
                return;
            };
            if pacer.waits() && !std::mem::replace(&mut pacer.listed, true) {
                self.pacing.push(turn.transport);
            }
            let rests = subscription.is_held() && (subscription.rests(now) || !pacer.open(now));
            let awaited = match (publication.is_voice() || rests, subscription.awaits()) {
                (true, _) => None,
                (false, Some(awaited)) => {
                    let coming = coming(now, publication, subscription, awaited);
                    coming.is_none().then_some(awaited)
                }
                (false, None) => subscription
                    .current()
                    .filter(|_| subscription.awaits_layer()),
            };
            if let Some(awaited) = awaited {
                publication.encodings[usize::from(awaited)].keyframes.want();
            }
        } else {
            for _ in &publication.fresh {
                self.counters.drops.count(DropReason::NotConnected);
            }
        }
        for layer in [subscription.target(), subscription.current()] {
            if let Some(seen) = layer.and_then(|at| publication.watched.get_mut(usize::from(at))) {
                *seen = true;
            }
        }
        self.tell_layer(turn.subscription);
    }

    fn tell_layer(&mut self, row: u32) {
        let Some(subscription) = self.subscriptions.get_mut(row) else {
            return;
        };
        if subscription.told != subscription.spatial() {
            subscription.told = subscription.spatial();
            self.counters.layer_switches += 1;
            let (subscription, spatial) = (subscription.id, subscription.told);
            self.events.push(Event::LayerChanged {
                subscription,
                spatial,
            });
        }
    }

    /// What has waited at a pacer and may leave now.
    pub(super) fn pace(&mut self, now: Now, out: &mut impl Outlet) {
        let mut pacing = std::mem::take(&mut self.pacing);
        pacing.retain(|&row| self.pace_one(now, row, out));
        self.pacing = pacing;
    }

    /// True while something waits there.
    fn pace_one(&mut self, now: Now, row: u32, out: &mut impl Outlet) -> bool {
        while let Some(transport) = self.transports.get_mut(row)
            && let Some(next) = transport.link.pacer.next(now)
        {
            match next {
                Next::Picture(waiting) => self.let_go(now, row, &waiting, out),
                Next::Repair(repair) => self.resend(now, row, repair, out),
                Next::Late(_) => self.counters.drops.count(DropReason::Late),
                Next::Shed => self.counters.drops.count(DropReason::CopyShed),
                Next::Padding => self.pad(now, row, out),
            }
        }
        let Some(transport) = self.transports.get_mut(row) else {
            return false;
        };
        transport.link.pacer.listed = transport.link.pacer.waits();
        transport.link.pacer.listed
    }

    /// A picture's packet has waited, and is decided about now.
    fn let_go(&mut self, now: Now, row: u32, waiting: &Waiting, out: &mut impl Outlet) {
        let Some(subscription) = self.subscriptions.get_mut(waiting.subscription) else {
            return;
        };
        let Some(publication) = self.publications.get(subscription.publication) else {
            return;
        };
        blame::set(self.transports.get(publication.transport).map(|t| t.id));
        let Some(sending) = self
            .transports
            .get_mut(row)
            .and_then(|transport| transport.sending())
        else {
            self.counters.drops.count(DropReason::NotConnected);
            return;
        };
        let waited = now.since(waiting.since);
        self.counters.paced(waited);
        Delivery {
            now,
            out,
            publication,
            row: waiting.subscription,
            subscription,
            sending,
            counters: &mut self.counters,
        }
        .consider(waiting.encoding, waiting.seq, waited);
        self.tell_layer(waiting.subscription);
    }

    /// Every subscription has had the news of this publication.
    fn settle(&mut self, now: Now, row: u32, out: &mut impl Outlet) {
        let Some(publication) = self.publications.get_mut(row) else {
            return;
        };
        blame::set(self.transports.get(publication.transport).map(|t| t.id));
        publication.unsettled = false;
        publication.fresh.clear();
        for encoding in &mut publication.encodings {
            encoding.report_fresh = false;
        }
        if let Some(transport) = self.transports.get_mut(publication.transport)
            && let Some(sending) = transport.sending()
        {
            ask(now, publication, sending, out, &mut self.counters);
        }
    }
}

/// One publication's news on their way to one subscription.
struct Delivery<'a, O: Outlet> {
    now: Now,
    out: &'a mut O,
    publication: &'a Publication,
    /// Of the subscription.
    row: u32,
    subscription: &'a mut Subscription,
    sending: Sending<'a>,
    counters: &'a mut Counters,
}

impl<O: Outlet> Delivery<'_, O> {
    fn run(mut self) {
        let publication = self.publication;
        // Up to here everything of that encoding has been dealt with.
        let mut caught_up: Option<(u8, ExtSeq)> = None;
        for fresh in &publication.fresh {
            if caught_up
                .is_some_and(|(encoding, newest)| encoding == fresh.encoding && fresh.seq <= newest)
            {
                continue;
            }
            caught_up = if self.must_wait(fresh.encoding) {
                self.wait(fresh.encoding, fresh.seq);
                caught_up
            } else {
                self.consider(fresh.encoding, fresh.seq, Duration::ZERO)
                    .or(caught_up)
            };
        }
        self.switch();
        self.report();
    }

    /// The link is the limit, and this is a picture that the subscriber watches or is about to.
    fn must_wait(&self, encoding: u8) -> bool {
        !self.sending.link.pacer.open(self.now)
            && !self.publication.is_voice()
            && (self.subscription.current() == Some(encoding)
                || self.subscription.target() == Some(encoding))
    }

    fn wait(&mut self, encoding: u8, seq: ExtSeq) {
        let waiting = Waiting {
            subscription: self.row,
            encoding,
            seq,
            since: self.now,
        };
        if !self.sending.link.pacer.wait(waiting) {
            self.hold();
        }
    }

    /// The link does not carry this picture.
    fn hold(&mut self) {
        self.subscription.hold(self.now);
        self.counters.pictures_held += 1;
        self.counters.drops.count(DropReason::QueueFull);
        self.sending.link.pacer.count_limited(self.now);
    }

    /// A packet in the cache that has `waited` for its turn. Up to what is returned everything of that encoding has been
    /// dealt with.
    fn consider(&mut self, encoding: u8, seq: ExtSeq, waited: Duration) -> Option<(u8, ExtSeq)> {
        let row = &self.publication.encodings[usize::from(encoding)];
        let Some(cached) = row.cache.as_ref().and_then(|cache| cache.get(seq)) else {
            self.counters.drops.count(DropReason::Late);
            return None;
        };
        if cached.packet.waits {
            return None;
        }
        if !self.picked(encoding, cached.packet) {
            self.subscription.pass_over(encoding, cached.packet);
            self.counters.drops.count(DropReason::NotPicked);
            return None;
        }
        let mut caught_up = None;
        match self
            .subscription
            .decide(encoding, row.epoch, cached.packet, waited)
        {
            Verdict::Forward(rewrite) => self.send(row, cached, &rewrite),
            Verdict::Start => caught_up = self.start(encoding, seq),
            Verdict::Hold => self.hold(),
            Verdict::Drop(reason) => self.counters.drops.count(reason),
        }
        self.switch().or(caught_up)
    }

    /// Takes up the encoding that is waited for, if it can be seamless now. Who sees nothing is shown what there is of the picture, be it
    /// from the cache; who sees another encoding goes on seeing it until the new picture is whole and the old one has ended.
    fn switch(&mut self) -> Option<(u8, ExtSeq)> {
        let target = self.subscription.awaits()?;
        let picture = coming(self.now, self.publication, self.subscription, target)?;
        if self.subscription.is_held() && !self.sending.link.pacer.open(self.now) {
            return None;
        }
        if self.subscription.current().is_none() {
            self.counters.pictures_from_cache += u64::from(picture.since < self.now);
        } else if !picture.whole || !self.subscription.may_leave(self.now, picture.seq) {
            return None;
        }
        self.start(target, picture.seq)
    }

    /// The switch itself: from the keyframe that starts at `seq` to the newest packet there is. In order that is the one packet;
    /// when the keyframe's start was repaired late, or is a joiner's, the rest waits in the cache.
    fn start(&mut self, encoding: u8, seq: ExtSeq) -> Option<(u8, ExtSeq)> {
        let row = &self.publication.encodings[usize::from(encoding)];
        let (cache, newest) = (row.cache.as_ref()?, row.gaps.highest()?);
        let first = cache.get(seq)?;
        self.subscription.start(
            encoding,
            row.epoch,
            first.packet,
            &self.publication.clocks(),
        );
        self.sending.link.pacer.forget(self.row, Some(encoding));
        for seq in seq.0..=newest.0 {
            let Some(cached) = cache.recent(self.now, ExtSeq(seq)) else {
                continue;
            };
            if cached.packet.waits {
                continue;
            }
            if self.must_wait(encoding) {
                self.wait(encoding, ExtSeq(seq));
                continue;
            }
            let epoch = row.epoch;
            match self
                .subscription
                .decide(encoding, epoch, cached.packet, Duration::ZERO)
            {
                Verdict::Forward(rewrite) => self.send(row, cached, &rewrite),
                Verdict::Drop(reason) => self.counters.drops.count(reason),
                Verdict::Start | Verdict::Hold => {}
            }
        }
        Some((encoding, newest))
    }

    fn send(&mut self, encoding: &Encoding, cached: Cached<'_>, rewrite: &Rewrite) {
        let redundant = self.redundant(encoding, &cached);
        let subscription = &mut *self.subscription;
        let own = subscription
            .payload_type_of(cached.packet.facts)
            .unwrap_or(subscription.payload_type);
        let stamp = Stamp {
            ssrc: subscription.ssrc,
            payload_type: subscription
                .red_payload_type
                .filter(|_| !redundant.is_empty())
                .unwrap_or(own),
            seq: rewrite.seq,
            original: None,
            transport_wide: subscription.transport_wide,
            redundant,
        };
        self.sending.keep = subscription.sealed.take();
        let sent = write(
            self.now,
            self.out,
            &mut self.sending,
            &subscription.mid,
            stamp,
            encoding,
            cached,
            rewrite,
        );
        subscription.sealed = self.sending.keep.take();
        let Some(len) = sent else {
            self.counters.drops.count(DropReason::Oversized);
            return;
        };
        if cached.packet.keyframe_start {
            subscription.keyframe_sent = Some(self.now);
        }
        subscription.packets = subscription.packets.wrapping_add(1);
        subscription.octets = subscription
            .octets
            .wrapping_add((redundant.len() + cached.payload.len()) as u32);
        if self.publication.is_voice() {
            let seq = cached.packet.seq;
            self.sending.link.was_voice(self.row, seq);
        }
        self.counters.redundant_bytes += redundant.len() as u64;
        subscription.repairs.count(self.now, len);
        let kind = if self.publication.is_voice() {
            Kind::Audio
        } else {
            self.copy(rewrite.seq.seq());
            Kind::Video
        };
        self.counters.sent(kind, len);
    }

    /// Sends a picture's packet again before anybody asks, where so much is lost that repairs are as well.
    fn copy(&mut self, number: SeqNo) {
        let link = &mut self.sending.link;
        if self.subscription.rtx_ssrc.is_none() || self.subscription.rtx_payload_type.is_none() {
            return;
        }
        for _ in 0..link.losses.copies() {
            let copy = Repair {
                subscription: self.row,
                number,
                since: self.now,
            };
            if !link.pacer.copy(copy) {
                self.counters.drops.count(DropReason::CopyShed);
            }
        }
    }

    /// Has this packet a place among the voices that he hears, if it is a voice's?
    fn picked(&mut self, encoding: u8, packet: &Packet) -> bool {
        let voices = &mut self.sending.link.voices;
        if !voices.limited()
            || !self.publication.is_voice()
            || !self.subscription.undecided(encoding, packet)
        {
            return true;
        }
        let level = packet.carried.audio_level;
        voices.pass(self.now, self.row, self.subscription.rank, level)
    }

    /// What goes with a packet of a voice, for one who loses some and has agreed to get it.
    fn redundant<'c>(&mut self, encoding: &'c Encoding, cached: &Cached<'_>) -> Redundant<'c> {
        let subscription = &mut *self.subscription;
        let (losses, row) = (&self.sending.link.losses, self.row);
        let (Some(cache), Some(first)) = (&encoding.cache, subscription.run_began()) else {
            return Redundant::default();
        };
        if cached.packet.facts != Facts::Audio || subscription.red_payload_type.is_none() {
            return Redundant::default();
        }
        let payload_type = subscription.payload_type;
        subscription
            .redundancy
            .of(losses.plan(), payload_type, cache, cached, first, |seq| {
                losses.has(row, seq)
            })
    }

    /// The publisher's sender report, in the subscriber's numbers: the same NTP time, so that voice and picture of one
    /// publisher stay together (RFC 3550 §6.4.1).
    fn report(&mut self) {
        let Some(current) = self.subscription.current() else {
            return;
        };
        let encoding = &self.publication.encodings[usize::from(current)];
        let (reported, voice) = (self.subscription.reported, self.publication.is_voice());
        let within = |time| voice && reported.is_some_and(|(_, sent)| self.now.since(sent) < time);
        self.subscription.report_owed |= encoding.report_fresh && !within(VOICE_REPORTS);
        // Several at once, or one with a repair, would stand before what has no time to wait.
        let soon = within(2 * VOICE_REPORTS) && !self.sending.link.pacer.idle(self.now);
        let owed = self.subscription.report_owed && !soon;
        let Some(report) = encoding.report.filter(|_| owed) else {
            return;
        };
        let Some(rtp) = self.subscription.timestamp(current, report.rtp) else {
            return;
        };
        let subscription = &mut *self.subscription;
        let info = rtcp::SenderInfo {
            ntp: report.ntp,
            rtp,
            packets: subscription.packets,
            octets: subscription.octets,
        };
        let sent = self.sending.rtcp(self.out, |slot| {
            let len = rtcp::write_sender_report(slot, subscription.ssrc, &info, &[])?;
            Some(len + rtcp::write_sdes(&mut slot[len..], subscription.ssrc, &subscription.cname)?)
        });
        if let Some(len) = sent {
            subscription.report_owed = false;
            subscription.reported = Some(((report.ntp >> 16) as u32, self.now));
            self.counters.sent(Kind::Rtcp, len);
        }
    }
}

/// The picture of `target`, whole or not yet, with which this subscription will go on.
fn coming(
    now: Now,
    publication: &Publication,
    subscription: &Subscription,
    target: u8,
) -> Option<Picture> {
    let alive = subscription
        .current()
        .is_some_and(|current| publication.encodings[usize::from(current)].active);
    let encoding = &publication.encodings[usize::from(target)];
    let picture = encoding.picture(now)?;
    let old = || {
        let first = encoding.cache.as_ref()?.get(picture.seq)?;
        Some(subscription.turns_back(now, target, first.packet, &publication.clocks()))
    };
    let refused = picture.holed && alive && old().unwrap_or(false);
    (!refused && subscription.may_show(target, picture.seq, picture.since, alive))
        .then_some(picture)
}
