//! STUN Binding messages as ICE uses them (RFC 8489, RFC 8445): checked reading, and writing with integrity.

use std::net::SocketAddr;

use super::drop::DropReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

pub type TransactionId = [u8; 12];

/// Short-term credential: HMAC-SHA1 keyed with the ICE password (RFC 8489 §9.1.1), set up once.
pub struct IntegrityKey {
    key: aws_lc_rs::hmac::Key,
}
impl IntegrityKey {
    #[must_use]
    pub fn new(password: &str) -> Self {
        todo!()
    }
}

/// A Binding message whose framing, cookie and (where present) FINGERPRINT are right. Nothing in it is trusted before
/// [`Message::verify`]; attributes after MESSAGE-INTEGRITY are ignored, as RFC 8489 §14.5 demands.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub class: Class,
    pub transaction: TransactionId,
    pub fingerprint: bool,
    pub username: Option<&'a [u8]>,
    pub priority: Option<u32>,
    pub use_candidate: bool,
    pub controlling: Option<u64>,
    pub controlled: Option<u64>,
    pub mapped: Option<SocketAddr>,
    pub error: Option<u16>,
    /// The first few unknown comprehension-required attributes (RFC 8489 §6.3.1), and how many there are.
    pub unknown: [u16; 4],
    pub unknown_count: usize,
    raw: &'a [u8],
    integrity_at: Option<usize>,
}

impl<'a> Message<'a> {
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        todo!()
    }
    /// USERNAME split at its first colon: (receiver's ufrag, sender's ufrag).
    #[must_use]
    pub fn ufrags(&self) -> Option<(&'a str, &'a str)> {
        todo!()
    }
    /// MESSAGE-INTEGRITY is present and right, compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        todo!()
    }
}

/// A connectivity check as the controlling side sends it.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    pub transaction: TransactionId,
    /// "receiver:sender"
    pub username: &'a str,
    pub priority: u32,
    pub controlling: Option<u64>,
    pub use_candidate: bool,
}

// Writers return the length, `None` when `out` is too short. All end with MESSAGE-INTEGRITY and FINGERPRINT.

#[must_use]
pub fn write_binding_request(
    out: &mut [u8],
    request: &BindingRequest<'_>,
    key: &IntegrityKey,
) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_binding_success(
    out: &mut [u8],
    transaction: &TransactionId,
    mapped: SocketAddr,
    key: &IntegrityKey,
) -> Option<usize> {
    todo!()
}
/// `unknown` becomes UNKNOWN-ATTRIBUTES (with code 420).
#[must_use]
pub fn write_binding_error(
    out: &mut [u8],
    transaction: &TransactionId,
    code: u16,
    reason: &str,
    unknown: &[u16],
    key: &IntegrityKey,
) -> Option<usize> {
    todo!()
}
