//! The sans-IO selective-forwarding router: the tables, and the way of every datagram. It owns no socket and no clock.
//!
//! Invariant: after a batch of [`Router::handle`] and [`Router::apply`], call [`Router::advance`] with the same `now`, and
//! again no later than [`Router::next_timeout`]. `handle` takes a datagram in, `advance` sends what it led to.
//!
//! A media packet: `handle_rtp` (the transport opens it, the publication receives it into the cache of its encoding), then
//! `forward::forward` (for each subscription: gate, numbers; its transport seals it from the cache into the send slot).
//! Nothing calls back up. What is not forwarded has a `DropReason` and is counted.

mod ask;
mod binding;
pub mod blame;
mod bottleneck;
mod command;
pub mod counters;
mod debug;
pub mod events;
mod forward;
mod measure;
mod probe;
mod rtcp;
mod stranger;
mod table;
mod tick;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use self::bottleneck::Bottlenecks;
pub use self::command::fault;
use self::counters::{Counters, Kind, Snapshot};
use self::events::Events;
use self::stranger::Search;
use self::table::Table;
use crate::api::{Event, Extension};
use crate::cache::Carried;
use crate::now::Now;
use crate::outlet::{Class, DATAGRAM, Outlet};
use crate::publication::{Incoming, Publication};
use crate::subscription::Subscription;
use crate::transport::path::{Change, PAIR_LIFE};
use crate::transport::{ExtensionIds, Transport};
use crate::wire::drop::DropReason;
use crate::wire::packet::{self, Header};
use crate::wire::stun;

/// A record header is 13 bytes (RFC 6347 §4.1); no flight of ours or theirs needs a larger datagram than this.
const DTLS_LEN: std::ops::RangeInclusive<usize> = 13..=2_048;
/// Whoever has proven an address keeps it against other transports for this long after his last check: as long as he may
/// send there, for some clients check every 6 s only (RFC 7675 §5.1) and a check may be lost.
const ADDRESS_KEPT: Duration = PAIR_LIFE;

#[derive(Default)]
pub struct Router {
    transports: Table<Transport>,
    publications: Table<Publication>,
    subscriptions: Table<Subscription>,
    /// (local, remote) → transport. Filled by authenticated checks, answers to ours among them, and by nothing else.
    by_address: HashMap<(SocketAddr, SocketAddr), u32>,
    /// Our ufrag → transport, for checks from addresses not known yet.
    by_ufrag: HashMap<String, u32>,
    /// Publications with fresh packets or changed subscriptions.
    dirty: Vec<u32>,
    /// Empty between two calls of `forward`; kept for its room.
    turns: Vec<forward::Turn>,
    /// Transports at whose pacer something waits.
    pacing: Vec<u32>,
    search: Search,
    bottlenecks: Bottlenecks,
    events: Events,
    counters: Counters,
    /// When the periodic work was last done, and whether there is media to do it for.
    ticked: Now,
    busy: bool,
    voices_told: Now,
    links_told: Now,
    estimates_told: Now,
    rates_told: Now,
}

impl Router {
    /// Takes one datagram in: `remote` sent it to our address `local`. It is decrypted where it lies.
    pub fn handle(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &mut [u8],
        out: &mut impl Outlet,
    ) {
        blame::set(None);
        let handled = if datagram.len() > DATAGRAM {
            Err(DropReason::Oversized)
        } else {
            match packet::classify(datagram) {
                Some(packet::Kind::Stun) => self.handle_stun(now, local, remote, datagram, out),
                Some(packet::Kind::Dtls) => self.handle_dtls(now, local, remote, datagram),
                Some(packet::Kind::Rtp) => self.handle_rtp(now, local, remote, datagram, out),
                Some(packet::Kind::Rtcp) => self.handle_rtcp(now, local, remote, datagram, out),
                None => Err(DropReason::UnknownProtocol),
            }
        };
        if let Err(reason) = handled {
            self.counters.drops.count(reason);
        }
    }

    /// Sends what waits, and does the periodic work when it is time.
    pub fn advance(&mut self, now: Now, out: &mut impl Outlet) {
        self.forward(now, out);
        if now.since(self.ticked) >= self.tick_interval() {
            self.tick(now, out);
            self.forward(now, out);
        }
        if !self.pacing.is_empty() {
            self.pace(now, out);
        }
    }

    /// When `advance` must be called at the latest; `None` while there is nothing to wait for.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Now> {
        let tick = (!self.transports.is_empty()).then(|| self.ticked.plus(self.tick_interval()))?;
        let paced = self
            .pacing
            .iter()
            .filter_map(|&row| self.transports.get(row)?.link.pacer.due());
        Some(paced.fold(tick, Now::min))
    }

    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// For what happens to datagrams outside: the kernel did not take one, or cut one off.
    pub fn count_drop(&mut self, reason: DropReason) {
        self.counters.drops.count(reason);
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: self.counters.clone(),
            transports: self.transports.len(),
            transports_connected: self
                .transports
                .iter()
                .filter(|(_, t)| t.ready().is_some())
                .count(),
            publications: self.publications.len(),
            subscriptions: self.subscriptions.len(),
            subscriptions_forwarding: self
                .subscriptions
                .iter()
                .filter(|(_, s)| s.current().is_some())
                .count(),
            events_waiting: self.events.len(),
        }
    }

    /// A media packet comes in: it ends in the cache, and its publication in the list to forward.
    fn handle_rtp(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &mut [u8],
        out: &mut impl Outlet,
    ) -> Result<(), DropReason> {
        let header = Header::parse(datagram)?;
        let Some(&row) = self.by_address.get(&(local, remote)) else {
            return Err(self.stranger(now, (local, remote), Some(&header), datagram, out));
        };
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        blame::set(Some(transport.id));
        let (len, index) = transport.open_rtp(now, &header, datagram)?;
        let opened = &datagram[..len];
        self.busy = true;
        let binding = self.bind(now, row, &header, opened, index);
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        // A packet of no stream has no replay window: whoever has a copy could send it again, and must not move the path.
        let fresh = transport.streams.find(header.ssrc).is_some();
        if fresh {
            self.heard(now, row, local, remote);
        }
        let binding = binding?;
        let transport = self.transports.get(row).ok_or(DropReason::UnknownAddress)?;
        let publication = self
            .publications
            .get_mut(binding.publication)
            .ok_or(DropReason::UnknownStream)?;
        let kind = match (binding.rtx, publication.is_voice()) {
            (true, _) => Kind::Rtx,
            (false, true) => Kind::Audio,
            (false, false) => Kind::Video,
        };
        self.counters.received(kind, datagram.len());
        let payload = header.payload(opened)?;
        let received = publication.receive(
            now,
            binding.encoding,
            &Incoming {
                rtx: binding.rtx,
                payload_type: header.payload_type,
                seq: header.seq,
                timestamp: header.timestamp,
                marker: header.marker,
                carried: carried(&transport.extensions, &header, opened),
                dependency: transport
                    .extensions
                    .get(Extension::DependencyDescriptor)
                    .and_then(|id| header.extension(opened, id))
                    .unwrap_or_default(),
                payload: &opened[payload],
                wire_len: datagram.len(),
            },
        )?;
        if received.activated {
            publication.unsettled = true;
            self.events.push(Event::EncodingActive {
                publication: publication.id,
                encoding: binding.encoding,
                active: true,
            });
        }
        if received.repaired {
            self.counters.packets_repaired += 1;
        }
        self.counters.packets_restored += u64::from(received.restored);
        self.wake(binding.publication);
        received.malformed.map_or(Ok(()), Err)
    }

    /// Not before the address is proven, not without end, not more than Python can take.
    fn handle_dtls(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let row = *self
            .by_address
            .get(&(local, remote))
            .ok_or(DropReason::UnknownAddress)?;
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        blame::set(Some(transport.id));
        if !DTLS_LEN.contains(&datagram.len()) || !transport.dtls.take(now, 1) {
            return Err(DropReason::DtlsLimit);
        }
        self.counters.received(Kind::Dtls, datagram.len());
        let event = Event::Dtls {
            transport: transport.id,
            datagram: datagram.to_vec(),
        };
        if self.events.push(event) {
            Ok(())
        } else {
            Err(DropReason::EventQueueFull)
        }
    }

    /// A connectivity check (RFC 8445 §7.3, RFC 8489 §9.1.3): everything about it is checked before anything changes, and
    /// what is not beyond doubt gets silence.
    fn handle_stun(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
        out: &mut impl Outlet,
    ) -> Result<(), DropReason> {
        let message = stun::Message::parse(datagram)?;
        if message.class == stun::Class::Success {
            return self.answered(now, local, remote, &message, datagram.len());
        }
        // RFC 8445 §7.1: FINGERPRINT is a must in checks.
        if message.class != stun::Class::Request || !message.fingerprint {
            return Err(DropReason::BadStun);
        }
        let (ours, theirs) = message.ufrags().ok_or(DropReason::UnknownUfrag)?;
        let row = *self.by_ufrag.get(ours).ok_or(DropReason::UnknownUfrag)?;
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownUfrag)?;
        blame::set(Some(transport.id));
        let newest = transport.credentials.local_ufrag == ours;
        let credentials = match &transport.former {
            Some((former, _)) if !newest => former,
            _ => &transport.credentials,
        };
        if credentials.remote_ufrag != theirs {
            return Err(DropReason::UnknownUfrag);
        }
        let key = &credentials.integrity;
        if !message.verify(key) {
            return Err(DropReason::BadIntegrity);
        }
        if !transport.checks.take(now, 1) {
            return Err(DropReason::CheckLimit);
        }
        self.counters.received(Kind::Stun, datagram.len());
        let slot = out.slot();
        let unknown = &message.unknown[..message.unknown_count.min(message.unknown.len())];
        let (response, accepted) = if !unknown.is_empty() {
            // RFC 8489 §6.3.1
            let reason = "Unknown Attribute";
            (
                stun::write_binding_error(slot, &message.transaction, 420, reason, unknown, key),
                false,
            )
        } else if message.controlled.is_some() {
            // RFC 8445 §7.3.1.1: we are lite, and so always the controlled side.
            (
                stun::write_binding_error(
                    slot,
                    &message.transaction,
                    487,
                    "Role Conflict",
                    &[],
                    key,
                ),
                false,
            )
        } else {
            (
                stun::write_binding_success(slot, &message.transaction, remote, key),
                true,
            )
        };
        // Never more bytes than came, so that a forged source gains nothing.
        let len = response
            .filter(|&len| len <= datagram.len())
            .ok_or(DropReason::BadStun)?;
        if accepted {
            self.checked(now, row, (local, remote), &message, newest)?;
        }
        out.commit(local, remote, len, Class::Picture);
        self.counters.sent(Kind::Stun, len);
        self.counters.checks_answered += u64::from(accepted);
        Ok(())
    }

    /// The address `remote` is proven to belong to this transport, seen at our `local`. `newest`: by the credentials of the
    /// last ICE restart.
    fn checked(
        &mut self,
        now: Now,
        row: u32,
        (local, remote): (SocketAddr, SocketAddr),
        message: &stun::Message<'_>,
        newest: bool,
    ) -> Result<(), DropReason> {
        self.claim(now, row, local, remote)?;
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownUfrag)?;
        let (use_candidate, transaction) = (message.use_candidate, &message.transaction);
        let path = &mut transport.path;
        let silence = path.silence(now);
        let mut change = path.check(now, local, remote, use_candidate, transaction);
        if use_candidate && newest {
            change.moved |= path.renominated(local, remote);
        }
        self.moved(now, row, (local, remote), silence, &change);
        Ok(())
    }

    /// Nobody else has this address, or not any more.
    fn claim(
        &mut self,
        now: Now,
        row: u32,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), DropReason> {
        let owner = self
            .by_address
            .get(&(local, remote))
            .copied()
            .filter(|&owner| owner != row);
        if let Some(other) = owner.and_then(|owner| self.transports.get_mut(owner)) {
            let kept = other
                .path
                .last_checked(local, remote)
                .is_some_and(|at| now.since(at) < ADDRESS_KEPT);
            if kept {
                return Err(DropReason::AddressTaken);
            }
            other.path.remove(local, remote);
        }
        Ok(())
    }

    /// This pair is one of his, and the path may be another.
    fn moved(
        &mut self,
        now: Now,
        row: u32,
        pair: (SocketAddr, SocketAddr),
        silence: Duration,
        change: &Change,
    ) {
        if let Some(evicted) = change.evicted {
            self.by_address.remove(&evicted);
        }
        self.by_address.insert(pair, row);
        self.busy |= self
            .transports
            .get(row)
            .is_some_and(|transport| transport.path.is_unsettled());
        if change.moved {
            self.path_changed(row);
            self.back(now, row, silence, true);
        }
    }

    /// Something other than a check has authenticated.
    fn heard(&mut self, now: Now, row: u32, local: SocketAddr, remote: SocketAddr) {
        let Some(transport) = self.transports.get_mut(row) else {
            return;
        };
        let silence = transport.path.silence(now);
        let moved = transport.path.media(now, local, remote);
        if moved {
            self.path_changed(row);
        }
        self.back(now, row, silence, moved);
    }

    /// A subscriber is heard again, or elsewhere. What he has missed is a gap that no repair will fill, and libwebrtc waits
    /// for three seconds without a picture before it asks for another: so he gets keyframes unasked.
    fn back(&mut self, now: Now, row: u32, silence: Duration, moved: bool) {
        if silence < if moved { LEFT } else { GONE } {
            return;
        }
        let Some(transport) = self.transports.get(row) else {
            return;
        };
        for at in transport.subscriptions.clone() {
            self.refresh(now, row, at);
        }
    }

    fn path_changed(&mut self, row: u32) {
        let Some(transport) = self.transports.get(row) else {
            return;
        };
        let Some((local, remote)) = transport.path.selected() else {
            return;
        };
        self.counters.path_changes += 1;
        self.events.push(Event::PathChanged {
            transport: transport.id,
            local: local.to_string(),
            remote: remote.to_string(),
        });
        self.part(row);
        self.wake_subscriptions(row);
    }

    /// This publication has something to forward, or someone new to forward to.
    fn wake(&mut self, row: u32) {
        if let Some(publication) = self.publications.get_mut(row)
            && !std::mem::replace(&mut publication.dirty, true)
        {
            self.dirty.push(row);
        }
    }

    /// A subscriber can be reached now.
    fn wake_subscriptions(&mut self, transport: u32) {
        let Some(transport) = self.transports.get(transport) else {
            return;
        };
        let rows = transport.subscriptions.clone();
        for publication in rows
            .iter()
            .filter_map(|&row| Some(self.subscriptions.get(row)?.publication))
            .collect::<Vec<_>>()
        {
            self.wake(publication);
        }
    }
}

/// Where somebody has moved and was not heard for so long, packets were lost that he would have told of.
const LEFT: Duration = Duration::from_millis(300);
/// Where he has not moved. Who receives pictures reports at least every 1.5 s (libwebrtc: every second, give or take half).
const GONE: Duration = Duration::from_secs(2);

/// The least delay that a publisher may ask of his viewers, in units of 10 ms. The field can say 40 s, and a receiver
/// obeys it: one publisher could make a conversation of others impossible. Half a second is more than smooth playing of a
/// screen or a film needs. The other bound, the longest delay, is only ever an allowance, and passes as it came.
const MAX_MIN_PLAYOUT_DELAY: u32 = 50;

/// What the publisher's header extensions say that subscribers get to see.
fn carried(ids: &ExtensionIds, header: &Header, packet: &[u8]) -> Carried {
    let mut carried = Carried::default();
    for (id, value) in header.extensions(packet) {
        let is = |extension| ids.get(extension) == Some(id);
        match *value {
            [level] if is(Extension::AudioLevel) => carried.audio_level = Some(level),
            [rotation] if is(Extension::VideoOrientation) => carried.orientation = Some(rotation),
            [a, b, c] if is(Extension::PlayoutDelay) => {
                carried.playout_delay = playout_delay([a, b, c]);
            }
            _ if is(Extension::AbsCaptureTime) && (value.len() == 8 || value.len() == 16) => {
                carried.capture_time[..value.len()].copy_from_slice(value);
                carried.capture_time_len = value.len() as u8;
            }
            _ => {}
        }
    }
    carried
}

/// Two numbers of 12 bits, the least delay and the longest (webrtc.org/experiments/rtp-hdrext/playout-delay). The least is
/// bounded; a least above the longest says nothing.
fn playout_delay([a, b, c]: [u8; 3]) -> Option<[u8; 3]> {
    let (least, longest) = (
        u32::from(a) << 4 | u32::from(b) >> 4,
        u32::from(b & 15) << 8 | u32::from(c),
    );
    if least > longest {
        return None;
    }
    let [_, a, b, c] = (least.min(MAX_MIN_PLAYOUT_DELAY) << 12 | longest).to_be_bytes();
    Some([a, b, c])
}
