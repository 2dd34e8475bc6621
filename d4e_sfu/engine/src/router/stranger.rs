//! Who has moved, and knows it as little as we do: his NAT has forgotten him, and what he sends comes from an address that
//! nobody has proven. A client who only listens checks his path every 2.5 s (libwebrtc) and until then tells of nothing
//! that counts; but his reports come from the new address at once. Whose they are is tried, and there he is asked by a
//! check of ours, which he alone can answer. The path follows the answer.
//!
//! RFC 8445 has lite agents send no checks; but what this is is the check of RFC 7675, and every full agent answers one.
//! The packets themselves drop as `UnknownAddress`, as ever: whoever has copied one gains a check, which is no larger than
//! [`AMPLIFICATION`] allows, and learns nothing by it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Router;
use super::blame;
use super::counters::Kind;
use crate::bucket::Bucket;
use crate::now::Now;
use crate::outlet::{Class, Outlet};
use crate::transport::Transport;
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::stun::{self, BindingRequest};

/// What a search may cost, in rows looked at; a row that is tried costs as much as so many (a microsecond). A second of
/// nothing but strangers takes a thousandth of a core, and then everybody waits for the client's own check.
const ROWS: u64 = 20_000;
const TRIED: u64 = 16;
/// Whoever was heard on his path this recently is there. Reports come every 50 ms or more, voices every 20 ms.
const THERE: Duration = Duration::from_millis(30);
/// A check of ours is at most so much larger than what it is due to: as in QUIC (RFC 9000 §8.1).
const AMPLIFICATION: usize = 3;
/// What a check takes beside the names in it, at most.
const CHECK: usize = 20 + (4 + 3) + 8 + 12 + 24 + 8;
/// Peer-reflexive, component 1 (RFC 8445 §5.1.2.1). It means nothing here, and is a must (§7.1.1).
const PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 255;

/// Where a search goes on, and what it may still cost.
pub(super) struct Search {
    next: u32,
    limit: Bucket,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            next: 0,
            limit: Bucket::new(ROWS, ROWS, Now(0)),
        }
    }
}

impl Router {
    /// Media, or a report where there is no header, from an address that is nobody's.
    pub(super) fn stranger(
        &mut self,
        now: Now,
        (local, remote): (SocketAddr, SocketAddr),
        header: Option<&Header>,
        datagram: &[u8],
        out: &mut impl Outlet,
    ) -> DropReason {
        let rows = self.transports.rows();
        for _ in 0..rows {
            if !self.search.limit.take(now, 1) {
                break;
            }
            self.search.next = (self.search.next + 1) % rows;
            let Some(transport) = self.transports.get_mut(self.search.next) else {
                continue;
            };
            if transport.path.quiet(now) < THERE || !transport.may_be_from(header, datagram) {
                continue;
            }
            if !self.search.limit.take(now, TRIED) {
                break;
            }
            blame::set(Some(transport.id));
            let Some(slot) = out.slot().get_mut(..datagram.len()) else {
                break;
            };
            slot.copy_from_slice(datagram);
            if transport.is_from(header, slot) {
                if let Some(len) = ask(now, transport, (local, remote), datagram.len(), out) {
                    self.counters.sent(Kind::Stun, len);
                    self.counters.checks_sent += 1;
                }
                break;
            }
        }
        DropReason::UnknownAddress
    }

    /// To a check of ours, whoever says so.
    pub(super) fn answered(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        message: &stun::Message<'_>,
        len: usize,
    ) -> Result<(), DropReason> {
        let [a, b, c, d, ..] = message.transaction;
        let row = self
            .transports
            .row(u32::from_be_bytes([a, b, c, d]))
            .ok_or(DropReason::BadStun)?;
        let transport = self.transports.get_mut(row).ok_or(DropReason::BadStun)?;
        blame::set(Some(transport.id));
        let inquiries = &mut transport.path.inquiries;
        if !inquiries.waits(now, local, remote, &message.transaction) {
            return Err(DropReason::BadStun);
        }
        // RFC 8489 §9.1.4: an answer is signed as the request was.
        let key = transport.credentials.theirs.as_ref();
        if !key.is_some_and(|key| message.verify(key)) {
            return Err(DropReason::BadIntegrity);
        }
        self.counters.received(Kind::Stun, len);
        inquiries.answered(&message.transaction);
        self.busy = true;
        match transport.path.inquiries.settled(now) {
            Some(pair) => self.arrive(now, row, pair),
            None => Ok(()), // The tick will.
        }
    }

    /// The client has been found at this pair.
    pub(super) fn arrive(
        &mut self,
        now: Now,
        row: u32,
        (local, remote): (SocketAddr, SocketAddr),
    ) -> Result<(), DropReason> {
        if let Some(transport) = self.transports.get_mut(row) {
            transport.path.inquiries.end();
        }
        self.claim(now, row, local, remote)?;
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        let silence = transport.path.silence(now);
        let change = transport.path.arrive(now, local, remote);
        self.moved(now, row, (local, remote), silence, &change);
        Ok(())
    }
}

/// Sends a check, if one is due. Returns its length.
fn ask(
    now: Now,
    transport: &mut Transport,
    (local, remote): (SocketAddr, SocketAddr),
    due_to: usize,
    out: &mut impl Outlet,
) -> Option<usize> {
    transport.ready()?;
    let (id, credentials) = (transport.id, &transport.credentials);
    let key = credentials.theirs.as_ref()?;
    let slot = out.slot();
    let room = slot.len().min(AMPLIFICATION * due_to);
    if room < CHECK + credentials.asking.len() {
        return None; // It has nothing of the pace.
    }
    let transaction = transport.path.inquiries.ask(now, local, remote, |number| {
        credentials.integrity.transaction(id, number)
    })?;
    let request = BindingRequest {
        transaction,
        username: &credentials.asking,
        priority: PRIORITY,
        controlling: None,
        controlled: Some(0),
        use_candidate: false,
    };
    let len = stun::write_binding_request(&mut slot[..room], &request, key)?;
    out.commit(local, remote, len, Class::Picture);
    Some(len)
}
