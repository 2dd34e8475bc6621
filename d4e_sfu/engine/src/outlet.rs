//! Where outgoing datagrams are written: the caller's send slots. The router asks for a slot, writes one sealed datagram
//! into it and commits it; when and how slots leave the machine is the caller's business (`driver::Batch` uses sendmmsg).

use std::net::SocketAddr;

/// Largest datagram that is ever received or sent. Browsers keep RTP near 1,200 bytes; a DTLS flight stays below this.
pub const DATAGRAM: usize = 2_048;

pub trait Outlet {
    /// Room for one datagram, at least [`DATAGRAM`] bytes. Asking again without `commit` gives the same slot.
    fn slot(&mut self) -> &mut [u8];
    /// The first `len` bytes of the slot last asked for leave from `local` for `remote`.
    fn commit(&mut self, local: SocketAddr, remote: SocketAddr, len: usize);
}

/// Keeps everything: for virtual time and tests.
#[derive(Debug)]
pub struct Kept {
    slot: Box<[u8]>,
    pub datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            slot: vec![0; DATAGRAM].into_boxed_slice(),
            datagrams: Vec::new(),
        }
    }
}

impl Outlet for Kept {
    fn slot(&mut self) -> &mut [u8] {
        &mut self.slot
    }
    fn commit(&mut self, local: SocketAddr, remote: SocketAddr, len: usize) {
        self.datagrams
            .push((local, remote, self.slot[..len.min(DATAGRAM)].to_vec()));
    }
}
