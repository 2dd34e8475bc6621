//! SRTP and SRTCP: framing, key derivation and replay windows (RFC 3711, RFC 7714); the ciphers are AWS-LC's.
//!
//! One [`Sealer`] and one [`Opener`] per transport, for all of its SSRCs. The per-SSRC state (roll-over, replay) is the
//! caller's: a `ReplayWindow` for each stream received; for each stream sent the roll-over counter of its `ExtSeq`.

use super::drop::DropReason;
use super::seq::{ExtSeq, SeqNo};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    AeadAes128Gcm,
    Aes128CmHmacSha1_80,
}

impl Profile {
    #[must_use]
    pub const fn key_len(self) -> usize {
        todo!()
    }
    #[must_use]
    pub const fn salt_len(self) -> usize {
        todo!()
    }
    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn rtp_overhead(self) -> usize {
        todo!()
    }
    /// Bytes that sealing adds to an RTCP compound (tag and E-index).
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        todo!()
    }
}

/// The master key and salt have the wrong length for the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

pub struct Sealer {
    profile: Profile,
}
impl Sealer {
    /// `master` = master key followed by master salt.
    pub fn new(profile: Profile, master: &[u8]) -> Result<Self, BadKey> {
        todo!()
    }
    /// Seals one RTP packet in its send slot without a copy: `slot[..header_len]` is the header, `slot[header_len..][..prefix_len]`
    /// the rewritten first bytes of the payload (RTX sequence number, VP8 descriptor; often none), both already written;
    /// `rest` is the remainder of the payload, read from the ring and encrypted into the slot behind them, then the tag.
    /// Returns the datagram's length; `None` when the slot is too short or a length lies.
    #[must_use]
    pub fn seal_rtp(
        &mut self,
        slot: &mut [u8],
        header_len: usize,
        prefix_len: usize,
        rest: &[u8],
        roc: u32,
    ) -> Option<usize> {
        todo!()
    }
    /// Seals the compound in `slot[..len]` in place. `index` counts up per transport, below 2^31.
    #[must_use]
    pub fn seal_rtcp(&mut self, slot: &mut [u8], len: usize, index: u32) -> Option<usize> {
        todo!()
    }
}

pub struct Opener {
    profile: Profile,
}
impl Opener {
    pub fn new(profile: Profile, master: &[u8]) -> Result<Self, BadKey> {
        todo!()
    }
    /// Authenticates and decrypts in place; returns the plain packet's length (header included). `header_len` is `Header::len`,
    /// `index` what `ReplayWindow::check` allowed. On error the packet's bytes are undefined.
    pub fn open_rtp(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        index: ExtSeq,
    ) -> Result<usize, DropReason> {
        todo!()
    }
    /// Returns the plain compound's length and its SRTCP index, for the caller's replay window (`ReplayWindow::check_index`).
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<(usize, u32), DropReason> {
        todo!()
    }
}

/// Roll-over and replay state of one received stream: 1024 packets wide (RFC 3711 §3.3.2 asks for at least 64).
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: Option<u64>,
    seen: [u64; 16],
}
impl Default for ReplayWindow {
    fn default() -> Self {
        todo!()
    }
}
impl ReplayWindow {
    /// Before authentication: the packet index that this sequence number means (RFC 3711 §3.3.1), or `Replayed` / `TooOld`. Changes nothing.
    pub fn check(&self, seq: SeqNo) -> Result<ExtSeq, DropReason> {
        todo!()
    }
    /// The same for an explicit index (SRTCP).
    pub fn check_index(&self, index: u64) -> Result<ExtSeq, DropReason> {
        todo!()
    }
    /// After authentication: mark it seen.
    pub fn accept(&mut self, index: ExtSeq) {
        todo!()
    }
    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.highest.map(ExtSeq)
    }
}
