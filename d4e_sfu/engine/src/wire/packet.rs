//! RTP packets: telling datagrams apart by their first byte, reading a header in place, writing a fresh one.

use std::ops::Range;

use super::drop::DropReason;
use super::seq::{SeqNo, Ssrc, Timestamp};

/// RFC 7983 §7 by first byte; RTP and RTCP by RFC 5761 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    todo!()
}

/// A parsed header: `Copy`, no borrow; offsets are relative to the packet it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub marker: bool,
    pub padding: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub timestamp: Timestamp,
    pub ssrc: Ssrc,
    /// Length of everything before the payload: what SRTP leaves in clear.
    pub len: usize,
    extensions: (u16, u16),
    two_byte: bool,
}

impl Header {
    /// Reads fixed header, CSRCs and the extension block's bounds; works on encrypted packets. Bad lengths: `BadRtp`.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        todo!()
    }
    /// Elements in order, padding skipped; ends at the first element that lies about its length, and at id 15 of the one-byte form.
    #[must_use]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        todo!()
    }
    /// First element with this id.
    #[must_use]
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        todo!()
    }
    /// Where the payload lies in a *decrypted* packet, padding taken off; may be empty (probe padding). A padding length that lies: `BadRtp`.
    pub fn payload(&self, packet: &[u8]) -> Result<Range<usize>, DropReason> {
        todo!()
    }
}

pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}
impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// What a fresh header says; no CSRCs are ever written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub marker: bool,
    pub padding: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub timestamp: Timestamp,
    pub ssrc: Ssrc,
}

/// Writes a header with these extension elements (one-byte form when every id is 1–14 and every length 1–16, else two-byte).
/// `None` when it does not fit into `out`, or an id is 0, or an element is over 255 bytes. Returns the header's length.
#[must_use]
pub fn write_header(out: &mut [u8], fields: &Fields, extensions: &[(u8, &[u8])]) -> Option<usize> {
    todo!()
}
