//! The TURN server (RFC 8656) of one connection. Its relay is a hand-over in memory: the only peers that there are, are our
//! own media addresses, so there is no socket to a peer, nothing that could be reached through it, and an allocation is a
//! few words. It reads no clock and owns no socket.
//!
//! Written here, and not taken from a crate: turn-server-proto 0.7, which is kept and without I/O, holds a table of users,
//! asks for a socket for each allocation, and has no rule about peers, which is all that this one is for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::credentials::{Credentials, MAX_USERNAME};
use super::tally::Dropped;
use crate::now::Now;
use crate::wire::stun::Class;
use crate::wire::turn::{Answer, Integrity, LongTermKey, MAX_PEERS, Message, Method};

/// RFC 8656 §3.2, §9, §12: of an allocation at least and at most, of a permission, of a channel.
const LIFETIME: u32 = 600;
const MAX_LIFETIME: u32 = 3_600;
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);
/// Of one name at the same time: two connections of a client, on each of his networks.
const QUOTA: u8 = 12;
/// So often one connection may be refused before it is closed. A client needs one or two.
const PATIENCE: u8 = 16;
/// IP protocol number of UDP.
const UDP: u8 = 17;
/// From here on ports of relayed addresses are numbered (RFC 6335 §6); nothing is bound there.
const FIRST_PORT: u16 = 49_152;

/// A media address, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub worker: usize,
}

/// What all connections share.
pub struct Server {
    pub credentials: Credentials,
    pub peers: Vec<Peer>,
    allocations: HashMap<Vec<u8>, u8>,
}

impl Server {
    #[must_use]
    pub fn new(credentials: Credentials, peers: Vec<Peer>) -> Self {
        Self {
            credentials,
            peers,
            allocations: HashMap::new(),
        }
    }

    fn exactly(&self, address: SocketAddr) -> Option<usize> {
        self.peers.iter().position(|peer| peer.address == address)
    }

    /// Permissions are for an address, whatever its port (RFC 8656 §9); a port that is said has to be one of media.
    fn permits(&self, address: SocketAddr) -> bool {
        self.peers.iter().any(|peer| {
            peer.address.ip() == address.ip()
                && (address.port() == 0 || peer.address.port() == address.port())
        })
    }

    fn release(&mut self, username: &[u8]) {
        if let Some(count) = self.allocations.get_mut(username) {
            *count -= 1;
            if *count == 0 {
                self.allocations.remove(username);
            }
        }
    }
}

struct Allocation {
    username: Vec<u8>,
    relayed: SocketAddr,
    ends: Now,
    permissions: Vec<(IpAddr, Now)>,
    /// Number, index of the peer, end.
    channels: Vec<(u16, usize, Now)>,
}

/// What a message leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    Nothing,
    /// This much of the buffer is for the client.
    Answer(usize),
    /// For the peer of that index.
    Relay(usize, &'a [u8]),
    Refused(Dropped),
    /// No more of him.
    Close,
}

#[derive(Default)]
pub struct Turn {
    connection: u64,
    refused: u8,
    allocation: Option<Allocation>,
}

/// An error of RFC 8656 §19.
struct Failure(u16, &'static str);

impl Turn {
    #[must_use]
    pub fn new(connection: u64) -> Self {
        Self {
            connection,
            ..Self::default()
        }
    }

    /// He has proven who he is, and holds what he came for.
    #[must_use]
    pub fn is_allocated(&self) -> bool {
        self.allocation.is_some()
    }

    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        Some(self.allocation.as_ref()?.relayed)
    }

    /// Gives back what it holds; at the end, too.
    pub fn release(&mut self, server: &mut Server) {
        if let Some(allocation) = self.allocation.take() {
            server.release(&allocation.username);
        }
    }

    /// True when its time is over.
    pub fn expire(&mut self, now: Now, server: &mut Server) -> bool {
        let over = self.allocation.as_ref().is_some_and(|it| it.ends <= now);
        if over {
            self.release(server);
        }
        over
    }

    /// A message from `client`. `wall` are seconds since 1970; answers are written into `out`.
    pub fn message<'a>(
        &mut self,
        now: Now,
        wall: u64,
        client: SocketAddr,
        bytes: &'a [u8],
        server: &mut Server,
        out: &mut [u8],
    ) -> Effect<'a> {
        let Ok(message) = Message::parse(bytes) else {
            return Effect::Close;
        };
        match (message.class, message.method) {
            (Class::Indication, Method::Send) => self.send(now, &message, server),
            (Class::Indication, _) => Effect::Nothing,
            (Class::Request, Method::Binding) => {
                let answer = Answer::success(out, &message).and_then(|it| it.mapped(client));
                self.grudge(answer.and_then(|it| it.finish(None)))
            }
            (Class::Request, Method::Send | Method::Data) => Effect::Close,
            (Class::Request, _) => self.request(now, wall, client, &message, server, out),
            (Class::Success | Class::Error, _) => Effect::Close,
        }
    }

    /// ChannelData.
    pub fn channel<'a>(&self, now: Now, number: u16, data: &'a [u8]) -> Effect<'a> {
        let channels = self.allocation.iter().flat_map(|it| &it.channels);
        let bound = channels
            .filter(|(_, _, ends)| *ends > now)
            .find(|(bound, ..)| *bound == number);
        match bound {
            Some(&(_, peer, _)) => Effect::Relay(peer, data),
            None => Effect::Refused(Dropped::NoPermission),
        }
    }

    /// How what comes from this peer goes to the client: on a channel, or not; or not at all.
    #[must_use]
    pub fn way(&self, now: Now, peer: usize, server: &Server) -> Option<Option<u16>> {
        let allocation = self.allocation.as_ref()?;
        let channel = allocation
            .channels
            .iter()
            .find(|(_, bound, ends)| *bound == peer && *ends > now)
            .map(|(number, ..)| *number);
        let address = server.peers.get(peer)?.address.ip();
        (channel.is_some() || allocation.permits(now, address)).then_some(channel)
    }

    fn send<'a>(&self, now: Now, message: &Message<'a>, server: &Server) -> Effect<'a> {
        let (Some(allocation), Some(data), [Some(to), ..], 1) = (
            &self.allocation,
            message.data,
            message.peers,
            message.peer_count,
        ) else {
            return Effect::Refused(Dropped::NoPermission);
        };
        match server.exactly(to) {
            None => Effect::Refused(Dropped::PeerForbidden),
            Some(_) if !allocation.permits(now, to.ip()) => Effect::Refused(Dropped::NoPermission),
            Some(peer) => Effect::Relay(peer, data),
        }
    }

    fn request<'a>(
        &mut self,
        now: Now,
        wall: u64,
        client: SocketAddr,
        message: &Message<'_>,
        server: &mut Server,
        out: &mut [u8],
    ) -> Effect<'a> {
        let (key, integrity) = match self.authenticate(now, wall, message, server) {
            Ok(found) => found,
            Err(Failure(code, reason)) => {
                let answer = Answer::error(out, message, code, reason).and_then(|answer| {
                    if code == 400 {
                        return Some(answer);
                    }
                    let nonce = server.credentials.nonce(self.connection, now);
                    answer.challenge(server.credentials.realm(), &nonce)
                });
                return self.grudge(answer.and_then(|it| it.finish(None)));
            }
        };
        let unknown = &message.unknown[..message.unknown_count.min(message.unknown.len())];
        let done = if unknown.is_empty() {
            self.perform(now, message, server)
        } else {
            Err(Failure(420, "Unknown Attribute"))
        };
        let answer = match &done {
            Ok(done) => Answer::success(out, message).and_then(|it| match *done {
                Done::Allocated(relayed, lifetime) => {
                    it.relayed(relayed)?.mapped(client)?.lifetime(lifetime)
                }
                Done::Refreshed(lifetime) => it.lifetime(lifetime),
                Done::Bound => Some(it),
            }),
            Err(Failure(420, reason)) => {
                Answer::error(out, message, 420, reason).and_then(|it| it.unknown(unknown))
            }
            Err(Failure(code, reason)) => Answer::error(out, message, *code, reason),
        };
        let len = answer.and_then(|it| it.finish(Some((&key, integrity))));
        match (done, len) {
            (Ok(_), Some(len)) => Effect::Answer(len),
            (_, len) => self.grudge(len),
        }
    }

    /// RFC 8489 §9.2.4. A name counts until its time is over, and what was allocated by then goes on: a call does not end
    /// with its token.
    fn authenticate(
        &self,
        now: Now,
        wall: u64,
        message: &Message<'_>,
        server: &Server,
    ) -> Result<(LongTermKey, Integrity), Failure> {
        let Some(integrity) = message.integrity() else {
            return Err(Failure(401, "Unauthenticated"));
        };
        let (Some(username), Some(_), Some(nonce), Some(algorithm)) = (
            message.username,
            message.realm,
            message.nonce,
            message.chosen(),
        ) else {
            return Err(Failure(400, "Bad Request"));
        };
        if !server.credentials.knows(nonce, self.connection, now) {
            return Err(Failure(438, "Stale Nonce"));
        }
        let held = self.allocation.as_ref();
        let wall = held.is_none().then_some(wall);
        server
            .credentials
            .key(username, algorithm, wall)
            .filter(|key| message.verify(key))
            .map(|key| (key, integrity))
            .ok_or(Failure(401, "Unauthenticated"))
    }

    fn perform(
        &mut self,
        now: Now,
        message: &Message<'_>,
        server: &mut Server,
    ) -> Result<Done, Failure> {
        let username = message.username.unwrap_or_default();
        if message.method == Method::Allocate {
            return self.allocate(now, message, username, server);
        }
        let Some(allocation) = &mut self.allocation else {
            return Err(Failure(437, "Allocation Mismatch"));
        };
        if allocation.username != username {
            return Err(Failure(441, "Wrong Credentials"));
        }
        let peers = &message.peers[..message.peer_count.min(MAX_PEERS)];
        for peer in peers.iter().flatten() {
            if peer.is_ipv4() != allocation.relayed.is_ipv4() {
                return Err(Failure(443, "Peer Address Family Mismatch"));
            }
            if !server.permits(*peer) {
                return Err(Failure(403, "Forbidden"));
            }
        }
        match (message.method, peers) {
            (Method::Refresh, _) => match lifetime(message) {
                0 => {
                    self.release(server);
                    Ok(Done::Refreshed(0))
                }
                seconds => {
                    allocation.ends = now.plus(Duration::from_secs(seconds.into()));
                    Ok(Done::Refreshed(seconds))
                }
            },
            (Method::CreatePermission, [Some(_), ..]) if message.peer_count <= MAX_PEERS => {
                for peer in peers.iter().flatten() {
                    allocation.permit(now, peer.ip());
                }
                Ok(Done::Bound)
            }
            (Method::ChannelBind, &[Some(peer)]) => {
                let Some(index) = server.exactly(peer) else {
                    return Err(Failure(403, "Forbidden"));
                };
                allocation.bind(now, message.channel, index)?;
                allocation.permit(now, peer.ip());
                Ok(Done::Bound)
            }
            _ => Err(Failure(400, "Bad Request")),
        }
    }

    fn allocate(
        &mut self,
        now: Now,
        message: &Message<'_>,
        username: &[u8],
        server: &mut Server,
    ) -> Result<Done, Failure> {
        if self.allocation.is_some() {
            return Err(Failure(437, "Allocation Mismatch"));
        }
        match message.transport {
            None => return Err(Failure(400, "Bad Request")),
            Some(UDP) => {}
            Some(_) => return Err(Failure(442, "Unsupported Transport Protocol")),
        }
        let ipv6 = match message.family {
            None | Some(1) => false,
            Some(2) => true,
            Some(_) => return Err(Failure(440, "Address Family not Supported")),
        };
        let Some(peer) = server.peers.iter().find(|it| it.address.is_ipv6() == ipv6) else {
            return Err(Failure(440, "Address Family not Supported"));
        };
        debug_assert!(username.len() <= MAX_USERNAME, "or there would be no key");
        let count = server.allocations.entry(username.to_vec()).or_default();
        if *count >= QUOTA {
            return Err(Failure(486, "Allocation Quota Reached"));
        }
        *count += 1;
        let port = FIRST_PORT + (self.connection % u64::from(u16::MAX - FIRST_PORT)) as u16;
        let relayed = SocketAddr::new(peer.address.ip(), port);
        let seconds = lifetime(message).max(LIFETIME);
        self.allocation = Some(Allocation {
            username: username.to_vec(),
            relayed,
            ends: now.plus(Duration::from_secs(seconds.into())),
            permissions: Vec::new(),
            channels: Vec::new(),
        });
        Ok(Done::Allocated(relayed, seconds))
    }

    /// What costs us something and brings nobody further is answered a few times.
    fn grudge<'a>(&mut self, answer: Option<usize>) -> Effect<'a> {
        self.refused = self.refused.saturating_add(1);
        match answer {
            Some(len) if self.refused <= PATIENCE || self.is_allocated() => Effect::Answer(len),
            _ => Effect::Close,
        }
    }
}

enum Done {
    Allocated(SocketAddr, u32),
    Refreshed(u32),
    Bound,
}

fn lifetime(message: &Message<'_>) -> u32 {
    match message.lifetime {
        Some(0) => 0,
        asked => asked.unwrap_or(LIFETIME).clamp(LIFETIME, MAX_LIFETIME),
    }
}

impl Allocation {
    fn permits(&self, now: Now, address: IpAddr) -> bool {
        self.permissions
            .iter()
            .any(|(known, ends)| *known == address && *ends > now)
    }

    /// Bounded by how many addresses we have: nobody else's get here.
    fn permit(&mut self, now: Now, address: IpAddr) {
        let ends = now.plus(PERMISSION);
        match self.permissions.iter_mut().find(|(it, _)| *it == address) {
            Some(known) => known.1 = ends,
            None => self.permissions.push((address, ends)),
        }
    }

    /// RFC 8656 §12.2: neither the channel nor the peer may be bound to another.
    fn bind(&mut self, now: Now, number: Option<u16>, peer: usize) -> Result<(), Failure> {
        let number = number
            .filter(|number| (0x4000..=0x4fff).contains(number))
            .ok_or(Failure(400, "Bad Request"))?;
        self.channels.retain(|(_, _, ends)| *ends > now);
        let ends = now.plus(CHANNEL);
        let same = |it: &&mut (u16, usize, Now)| it.0 == number || it.1 == peer;
        match self.channels.iter_mut().find(same) {
            Some(bound) if (bound.0, bound.1) == (number, peer) => bound.2 = ends,
            Some(_) => return Err(Failure(400, "Bad Request")),
            None => self.channels.push((number, peer, ends)),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
