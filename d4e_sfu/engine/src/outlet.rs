//! Where outgoing datagrams are written: the caller's send slots. The router asks for a slot, writes one sealed datagram
//! into it and commits it; when and how slots leave the machine is the caller's business (`driver::Batch` uses sendmmsg).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Largest datagram that is ever received or sent. Browsers keep RTP near 1,200 bytes; a DTLS flight stays below this.
pub const DATAGRAM: usize = 2_048;

pub trait Outlet {
    /// Room for one datagram, at least [`DATAGRAM`] bytes. Asking again without `commit` gives the same slot.
    fn slot(&mut self) -> &mut [u8];
    /// The first `len` bytes of the slot last asked for leave from `local` for `remote`.
    fn commit(&mut self, local: SocketAddr, remote: SocketAddr, len: usize, class: Class);
}

/// What a datagram is to the networks on its way (RFC 8837 §5), and who goes first where all cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    Voice,
    /// Pictures, and what belongs to a call without being media: reports, checks.
    #[default]
    Picture,
    /// DTLS: handshakes, chat, files.
    Data,
}

/// Clients who come by TCP have no socket of ours that a router could name. Their `local` is an address of the discard
/// prefix (RFC 6666), to which nothing can be bound and from which nothing can come: so no datagram of UDP ever passes
/// for one of theirs. It holds the number of the connection, and a number of the way within it.
#[must_use]
pub fn stream(connection: u64, way: u16) -> SocketAddr {
    let address = u128::from(DISCARD) << 64 | u128::from(connection);
    SocketAddr::from((Ipv6Addr::from_bits(address), way))
}

/// The connection and the way, if `local` names one.
#[must_use]
pub fn stream_of(local: SocketAddr) -> Option<(u64, u16)> {
    match local.ip() {
        IpAddr::V6(ip) if (ip.to_bits() >> 64) as u64 == DISCARD => {
            Some((ip.to_bits() as u64, local.port()))
        }
        _ => None,
    }
}

/// 100::/64
const DISCARD: u64 = 0x0100_0000_0000_0000;

/// Keeps everything: for virtual time and tests.
#[derive(Debug)]
pub struct Kept {
    slot: Box<[u8]>,
    pub datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Of the last one.
    pub class: Option<Class>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            slot: vec![0; DATAGRAM].into_boxed_slice(),
            datagrams: Vec::new(),
            class: None,
        }
    }
}

impl Outlet for Kept {
    fn slot(&mut self) -> &mut [u8] {
        &mut self.slot
    }
    fn commit(&mut self, local: SocketAddr, remote: SocketAddr, len: usize, class: Class) {
        self.datagrams
            .push((local, remote, self.slot[..len.min(DATAGRAM)].to_vec()));
        self.class = Some(class);
    }
}
