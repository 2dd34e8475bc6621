//! What clients report and ask: publishers tell their clocks, subscribers ask for packets and keyframes. A compound with
//! one bad packet is refused whole.

use std::net::SocketAddr;
use std::time::Duration;

use super::Router;
use super::blame;
use super::counters::Kind;
use super::write::{Stamp, write};
use crate::api::Event;
use crate::cache::{Cached, Facts, MAX_AGE};
use crate::clock::Report;
use crate::legs::jitter;
use crate::now::Now;
use crate::outlet::Outlet;
use crate::pacer::Repair;
use crate::publication::encoding::Encoding;
use crate::publication::{PLAYOUT, Publication};
use crate::subscription::repair::Refusal;
use crate::subscription::{Rewrite, Subscription, reserved};
use crate::transport::{Sending, Transport};
use crate::wire::codec::red::Redundant;
use crate::wire::drop::DropReason;
use crate::wire::rtcp::{Blocks, Compound, Nacks, Packet};
use crate::wire::seq::{SeqNo, Ssrc};

/// A packet that went to a subscriber under some number, as it is in the cache.
struct Original<'a> {
    encoding: &'a Encoding,
    cached: Cached<'a>,
    rewrite: Rewrite,
}

fn original<'a>(
    now: Now,
    publication: &'a Publication,
    subscription: &Subscription,
    number: SeqNo,
) -> Option<Original<'a>> {
    let (run, seq) = subscription.source(number)?;
    let encoding = publication.encodings.get(usize::from(run.encoding))?;
    let cached = encoding
        .cache
        .as_ref()?
        .recent(now, seq)
        // Keys repeat themselves (RFC 4733 §2.5).
        .filter(|cached| !cached.packet.waits && cached.packet.facts != Facts::Event)?;
    let rewrite = reserved(&run, cached.packet);
    Some(Original {
        encoding,
        cached,
        rewrite,
    })
}

/// Sends it again on the RTX stream; returns the datagram's length.
fn retransmit(
    now: Now,
    out: &mut impl Outlet,
    sending: &mut Sending<'_>,
    subscription: &mut Subscription,
    number: SeqNo,
    original: &Original<'_>,
) -> Option<usize> {
    let stamp = Stamp {
        ssrc: subscription.rtx_ssrc?,
        payload_type: subscription.rtx_payload_type?,
        seq: subscription.repairs.number(),
        original: Some(number),
        transport_wide: subscription.transport_wide,
        // RTX stands for one format, the voice's own (RFC 4588 §8.6).
        redundant: Redundant::default(),
    };
    let Original {
        encoding,
        cached,
        rewrite,
    } = original;
    write(
        now,
        out,
        sending,
        &subscription.mid,
        stamp,
        encoding,
        *cached,
        rewrite,
    )
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Repeated => Self::RepeatedNack,
            Refusal::Share => Self::RepairLimit,
        }
    }
}

/// By so much half of a round trip may be taken for too long, where reports are few and wait in queues: on a satellite's
/// link every repair of a voice would come too late by the measure, and in time by the clock.
const ROUND_TRIP_ERROR: Duration = Duration::from_millis(100);

/// Header, MID, original number and tag, for the account of what is retransmitted.
const RTX_OVERHEAD: usize = 12 + 8 + 2 + 16;

impl Router {
    pub(super) fn handle_rtcp(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &mut [u8],
        out: &mut impl Outlet,
    ) -> Result<(), DropReason> {
        let Some(&row) = self.by_address.get(&(local, remote)) else {
            return Err(self.stranger(now, (local, remote), None, datagram, out));
        };
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        blame::set(Some(transport.id));
        let len = transport.open_rtcp(now, datagram)?;
        self.counters.received(Kind::Rtcp, datagram.len());
        self.heard(now, row, local, remote);
        for packet in Compound::parse(&datagram[..len])? {
            match packet {
                Packet::SenderReport {
                    sender,
                    info,
                    blocks,
                } => {
                    self.sender_report(
                        now,
                        row,
                        sender,
                        Report {
                            ntp: info.ntp,
                            rtp: info.rtp,
                        },
                    );
                    self.receiver_report(now, row, blocks);
                }
                Packet::ReceiverReport { blocks, .. } => self.receiver_report(now, row, blocks),
                Packet::Nack { media, lost, .. } => self.repair(now, row, media, lost, out),
                Packet::Pli { media, .. } => self.keyframe_request(now, row, media),
                Packet::Fir { entries, .. } => {
                    entries.for_each(|(media, _)| self.keyframe_request(now, row, media))
                }
                Packet::Bye(ssrcs) => ssrcs.for_each(|ssrc| self.bye(row, ssrc)),
                Packet::ExtendedReport { sender, reference } => {
                    if let (Some(ntp), Some(transport)) = (reference, self.transports.get_mut(row))
                    {
                        transport.told_time(now, sender, ntp);
                    }
                }
                Packet::TransportFeedback(feedback) => {
                    if let Some(transport) = self.transports.get_mut(row)
                        && let Err(reason) = transport.link.feedback(now, &feedback)
                    {
                        self.counters.drops.count(reason);
                    }
                }
                Packet::Remb { bitrate, .. } => {
                    if let Some(transport) = self.transports.get_mut(row) {
                        transport.link.remb(now, bitrate);
                    }
                }
                Packet::Sdes(_) | Packet::Other { .. } => {}
            }
        }
        Ok(())
    }

    /// A publisher relates the clock of one of his streams to his wall clock.
    fn sender_report(&mut self, now: Now, row: u32, sender: Ssrc, report: Report) {
        let Some(stream) = self
            .transports
            .get_mut(row)
            .and_then(|transport| transport.streams.bound(sender))
        else {
            return;
        };
        stream.reception.sender_report(now, report.ntp);
        let binding = stream.binding;
        if binding.rtx {
            return;
        }
        if let Some(publication) = self.publications.get_mut(binding.publication) {
            publication.encodings[usize::from(binding.encoding)].sender_report(now, report);
            self.wake(binding.publication);
        }
    }

    /// A subscriber's view of what we send: what was lost on the way, and the round trip (RFC 3550 §6.4.1, LSR and DLSR).
    fn receiver_report(&mut self, now: Now, row: u32, blocks: Blocks<'_>) {
        for block in blocks {
            let found = self.subscription_of(row, block.ssrc);
            let Some(subscription) = found.and_then(|at| self.subscriptions.get_mut(at)) else {
                continue;
            };
            // What the publisher's link has done is not the fault of this one.
            let voice = self
                .publications
                .get(subscription.publication)
                .filter(|publication| publication.is_voice());
            let of_publisher = voice
                .and_then(|voice| self.transports.get(voice.transport))
                .map_or(Duration::ZERO, |publisher| publisher.voice_jitter);
            let rate = voice.map(Publication::clock_rate);
            let Some(transport) = self.transports.get_mut(row) else {
                continue;
            };
            let (sent, newest) = (subscription.packets, subscription.newest());
            let (expected, lost) =
                subscription
                    .receipt
                    .since(block.highest, block.lost, sent, newest);
            transport.down.count(expected, lost);
            if let Some(rate) = rate {
                transport.link.losses.report(expected, lost);
                let own = jitter(block.jitter, rate).saturating_sub(of_publisher);
                transport.down.jitter(own);
            }
            let asked = subscription
                .reported
                .filter(|&(ntp, _)| block.last_sr != 0 && ntp == block.last_sr);
            if let Some((_, sent)) = asked {
                let held = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
                if let Some(sample) = now.since(sent).checked_sub(held) {
                    transport.measured(sample);
                }
            }
        }
    }

    /// Retransmits from the cache on the RTX stream. Without one pictures are not repaired, and a voice's packet goes again
    /// as it left: under its first number anything else would use an SRTP key stream again (sealed.rs).
    fn repair(&mut self, now: Now, row: u32, media: Ssrc, lost: Nacks<'_>, out: &mut impl Outlet) {
        let Some(at) = self.subscription_of(row, media) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get_mut(at) else {
            return;
        };
        let Some(publication) = self.publications.get(subscription.publication) else {
            return;
        };
        let Some(transport) = self.transports.get_mut(row) else {
            return;
        };
        let count = lost.count() as u64;
        self.counters.nacks_received += count;
        if !transport.asks.take(now, count) {
            self.counters.drops.count(DropReason::RepairLimit);
            return;
        }
        let round_trip = transport.round_trip();
        // It has another half of the round trip to go, of which the measure is no better than that.
        let oldest = if publication.is_voice() {
            (PLAYOUT + ROUND_TRIP_ERROR).saturating_sub(round_trip / 2)
        } else {
            MAX_AGE
        };
        let Some(mut sending) = transport.sending() else {
            return;
        };
        let counters = &mut self.counters;
        if subscription.rtx_ssrc.is_none() || subscription.rtx_payload_type.is_none() {
            if publication.is_voice() {
                let voice = subscription.sealed.get_or_insert_default();
                for number in lost {
                    let repairs = &mut subscription.repairs;
                    let sealed = voice
                        .get(number)
                        .filter(|sealed| now.since(sealed.at) <= oldest);
                    let outcome = sealed.ok_or(DropReason::NotCached).and_then(|sealed| {
                        repairs.allow(now, number, sealed.datagram.len(), round_trip)?;
                        let sent = sending.again(now, out, sealed);
                        sent.ok_or(DropReason::Oversized)
                    });
                    match outcome {
                        Ok(len) => counters.sent(Kind::Rtx, len),
                        Err(reason) => counters.drops.count(reason),
                    }
                }
            }
            return;
        }
        for number in lost {
            let found = original(now, publication, subscription, number)
                .filter(|found| now.since(found.cached.packet.arrival) <= oldest);
            let Some(original) = found else {
                counters.drops.count(DropReason::NotCached);
                continue;
            };
            let bytes = original.cached.payload.len() + RTX_OVERHEAD;
            if let Err(refusal) = subscription.repairs.allow(now, number, bytes, round_trip) {
                counters.drops.count(refusal.into());
                continue;
            }
            let pacer = &mut sending.link.pacer;
            if !publication.is_voice() && !pacer.open_to_repair(now) {
                let repair = Repair {
                    subscription: at,
                    number,
                    since: now,
                };
                if !pacer.wait_to_repair(repair) {
                    counters.drops.count(DropReason::RepairLimit);
                } else if !std::mem::replace(&mut pacer.listed, true) {
                    self.pacing.push(row);
                }
                continue;
            }
            match retransmit(now, out, &mut sending, subscription, number, &original) {
                Some(len) => counters.sent(Kind::Rtx, len),
                None => counters.drops.count(DropReason::Oversized),
            }
        }
    }

    /// A retransmission that has waited at the pacer.
    pub(super) fn resend(&mut self, now: Now, row: u32, repair: Repair, out: &mut impl Outlet) {
        let Some(subscription) = self.subscriptions.get_mut(repair.subscription) else {
            return;
        };
        let Some(publication) = self.publications.get(subscription.publication) else {
            return;
        };
        let Some(mut sending) = self.transports.get_mut(row).and_then(Transport::sending) else {
            self.counters.drops.count(DropReason::NotConnected);
            return;
        };
        let Some(original) = original(now, publication, subscription, repair.number) else {
            self.counters.drops.count(DropReason::NotCached);
            return;
        };
        let number = repair.number;
        match retransmit(now, out, &mut sending, subscription, number, &original) {
            Some(len) => self.counters.sent(Kind::Rtx, len),
            None => self.counters.drops.count(DropReason::Oversized),
        }
    }

    /// A subscriber cannot go on without a keyframe: it joins the requests of all others.
    fn keyframe_request(&mut self, now: Now, row: u32, media: Ssrc) {
        if let Some(at) = self.subscription_of(row, media) {
            self.counters.keyframe_requests_received += 1;
            self.refresh(now, row, at);
        }
    }

    /// The picture of this subscription has to begin anew.
    pub(super) fn refresh(&mut self, now: Now, row: u32, at: u32) {
        let Some(subscription) = self.subscriptions.get_mut(at) else {
            return;
        };
        if subscription.is_held() {
            return; // His link could not carry it: one is asked for when it can.
        }
        let round_trip = self
            .transports
            .get(row)
            .map_or(Duration::ZERO, Transport::round_trip);
        if subscription
            .keyframe_sent
            .is_some_and(|sent| now.since(sent) < round_trip)
        {
            return; // He asked before he could have it: it is on its way.
        }
        let Some(encoding) = subscription.current().or(subscription.target()) else {
            return;
        };
        let publication = subscription.publication;
        if let Some(noun) = self
            .publications
            .get_mut(publication)
            .filter(|publication| !publication.is_voice() && subscription.may_ask(now))
        {
            noun.encodings[usize::from(encoding)].keyframes.want();
            self.wake(publication);
        }
    }

    /// The publisher has ended a stream: no need to wait until it is missed.
    fn bye(&mut self, row: u32, ssrc: Ssrc) {
        let Some(stream) = self
            .transports
            .get_mut(row)
            .and_then(|transport| transport.streams.bound(ssrc))
        else {
            return;
        };
        let binding = stream.binding;
        if binding.rtx {
            return;
        }
        if let Some(publication) = self.publications.get_mut(binding.publication) {
            let encoding = &mut publication.encodings[usize::from(binding.encoding)];
            encoding.stopped = true;
            if std::mem::replace(&mut encoding.active, false) {
                publication.unsettled = true;
                self.events.push(Event::EncodingActive {
                    publication: publication.id,
                    encoding: binding.encoding,
                    active: false,
                });
                self.wake(binding.publication);
            }
        }
    }

    /// The subscription on this transport that sends under `ssrc`.
    fn subscription_of(&self, row: u32, ssrc: Ssrc) -> Option<u32> {
        let rows = &self.transports.get(row)?.subscriptions;
        rows.iter()
            .copied()
            .find(|&row| self.subscriptions.get(row).is_some_and(|s| s.ssrc == ssrc))
    }
}
