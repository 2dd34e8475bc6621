//! What happens by the clock: feedback and reports to publishers, encodings that have fallen silent, requests repeated,
//! paths and transports that have expired. Every 10 ms while media flows, ten times a second otherwise.

use std::time::Duration;

use super::Router;
use super::blame;
use super::counters::Kind;
use crate::api::Event;
use crate::legs::jitter;
use crate::now::Now;
use crate::outlet::Outlet;
use crate::transport::{FORMER_LIFE, OUR_CNAME, OUR_SSRC, Transport};
use crate::wire::rtcp::{self, Block};
use crate::wire::seq::Ssrc;

const BUSY_TICK: Duration = Duration::from_millis(10);
const IDLE_TICK: Duration = Duration::from_millis(100);
/// libwebrtc reports on video every second; browsers stop sending MID and RID once a report has named the stream.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Report blocks in one packet (RFC 3550 §6.4.2: 5 bits).
const MAX_BLOCKS: usize = 31;

impl Router {
    pub(super) fn tick_interval(&self) -> Duration {
        if self.busy { BUSY_TICK } else { IDLE_TICK }
    }

    pub(super) fn tick(&mut self, now: Now, out: &mut impl Outlet) {
        self.ticked = now;
        self.busy = false;
        self.tick_transports(now, out);
        self.tick_publications(now);
        self.probe(now);
        self.couple(now);
        self.measure(now);
    }

    fn tick_transports(&mut self, now: Now, out: &mut impl Outlet) {
        let mut gone = Vec::new();
        let mut moved = Vec::new();
        let mut followed = Vec::new();
        let mut found = Vec::new();
        for (row, transport) in self.transports.iter_mut() {
            blame::set(Some(transport.id));
            if transport.path.gone(now, transport.signal_lost) {
                gone.push(transport.id);
                continue;
            }
            let over = |(_, since): &mut (_, Now)| now.since(*since) >= FORMER_LIFE;
            if let Some((former, _)) = transport.former.take_if(over) {
                self.by_ufrag.remove(&former.local_ufrag);
            }
            if transport.path.settle(now) {
                followed.push((row, transport.path.silence(now)));
            }
            if let Some(pair) = transport.path.inquiries.settled(now) {
                found.push((row, pair));
            }
            self.busy |= transport.path.is_unsettled();
            // All of them now: after a pause of the thread the selected one may be the last in line.
            while let (changed, Some(pair)) = transport.path.expire(now) {
                self.by_address.remove(&pair);
                if changed {
                    moved.push(row);
                }
            }
            self.busy |= feedback(now, transport, out, |len| {
                self.counters.sent(Kind::Rtcp, len)
            });
            let due = !transport.streams.is_empty() || transport.owes_time();
            if now.since(transport.reported) >= REPORT_INTERVAL && due {
                transport.reported = now;
                if let Some(len) = receiver_report(now, transport, out) {
                    self.counters.sent(Kind::Rtcp, len);
                }
            }
        }
        for row in moved {
            self.path_changed(row);
        }
        for (row, silence) in followed {
            self.path_changed(row);
            self.back(now, row, silence, true);
        }
        for (row, pair) in found {
            if let Err(reason) = self.arrive(now, row, pair) {
                self.counters.drops.count(reason);
            }
        }
        for id in gone {
            self.remove_transport(id, out);
            self.counters.transports_gone += 1;
            self.events.push(Event::TransportGone { transport: id });
        }
    }

    fn tick_publications(&mut self, now: Now) {
        for (row, publication) in self.publications.iter_mut() {
            blame::set(self.transports.get(publication.transport).map(|t| t.id));
            let mut wake = false;
            for at in 0..publication.encodings.len() {
                let expired = publication.expire(now, at);
                wake |= expired.stopped;
                if expired.silent {
                    self.events.push(Event::EncodingActive {
                        publication: publication.id,
                        encoding: at as u8,
                        active: false,
                    });
                }
                let encoding = &mut publication.encodings[at];
                if encoding.keyframes.wanted() {
                    let watched = publication
                        .subscriptions
                        .iter()
                        .filter_map(|&row| self.subscriptions.get(row))
                        .any(|subscription| {
                            subscription.target() == Some(at as u8)
                                || subscription.current() == Some(at as u8)
                        });
                    if !watched {
                        encoding.keyframes.withdraw();
                    }
                }
                wake |= encoding.keyframes.wanted() || encoding.gaps.missing() > 0;
                self.busy |= encoding.active;
            }
            self.busy |= wake;
            if wake && !std::mem::replace(&mut publication.dirty, true) {
                self.dirty.push(row);
            }
        }
    }
}

/// Transport-wide feedback, when it is time. True while arrivals wait to be told.
fn feedback(
    now: Now,
    transport: &mut Transport,
    out: &mut impl Outlet,
    mut sent: impl FnMut(usize),
) -> bool {
    let Some(mut arrivals) = transport.arrivals.take() else {
        return false;
    };
    if arrivals.due(now)
        && let Some(mut sending) = transport.sending()
    {
        while let Some(len) = sending.rtcp(out, |slot| {
            arrivals.write(now, &mut slot[..MAX_FEEDBACK], OUR_SSRC)
        }) {
            sent(len);
        }
    }
    let waiting = arrivals.waiting();
    transport.arrivals = Some(arrivals);
    waiting
}

/// Stays below every MTU, with room for the seal.
const MAX_FEEDBACK: usize = 1_100;

/// What of his streams has come here, and answers to the times that his receivers have told.
fn receiver_report(now: Now, transport: &mut Transport, out: &mut impl Outlet) -> Option<usize> {
    let mut blocks = [Block {
        ssrc: Ssrc(0),
        fraction_lost: 0,
        lost: 0,
        highest: 0,
        jitter: 0,
        last_sr: 0,
        delay: 0,
    }; MAX_BLOCKS];
    let mut count = 0;
    let (mut voice, mut queue) = (Duration::ZERO, Duration::ZERO);
    for stream in transport.streams.iter_mut().take(MAX_BLOCKS) {
        let (expected, lost) = stream.reception.interval();
        transport.up.count(expected, lost);
        if stream.binding.is_voice() {
            let rate = stream.binding.clock_rate;
            voice = voice.max(jitter(stream.reception.jitter(), rate));
            queue = queue.max(jitter(stream.reception.waited(rate), rate));
        }
        if let Some(block) = stream.reception.block(now, stream.ssrc, (expected, lost)) {
            blocks[count] = block;
            count += 1;
        }
    }
    transport.up.jitter(voice);
    transport.up.queue(queue);
    transport.voice_jitter = voice;
    let (answers, answered) = transport.time_answers(now);
    transport.sending()?.rtcp(out, |slot| {
        // RFC 3550 §6.1: a report comes first, and a CNAME is in every compound.
        let mut len = rtcp::write_receiver_report(slot, OUR_SSRC, &blocks[..count])?;
        len += rtcp::write_sdes(&mut slot[len..], OUR_SSRC, OUR_CNAME)?;
        if answered > 0 {
            let answers = &answers[..answered];
            len += rtcp::write_reference_answers(&mut slot[len..], OUR_SSRC, answers)?;
        }
        Some(len)
    })
}
