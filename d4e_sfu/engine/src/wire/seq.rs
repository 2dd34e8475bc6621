//! Numbers that wrap: SSRC, sequence number, timestamp, and the 64-bit count behind a 16-bit one.

/// Synchronisation source (RFC 3550 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// RTP sequence number or transport-wide sequence number: counts modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    #[must_use]
    pub const fn add(self, n: u16) -> Self {
        Self(self.0.wrapping_add(n))
    }
    /// Signed distance from `earlier` to `self` on the circle, −32768 ..= 32767.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }
    #[must_use]
    pub const fn newer_than(self, other: Self) -> bool {
        self.since(other) > 0
    }
}

/// RTP timestamp: counts modulo 2^32 in the codec's clock rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp(pub u32);

impl Timestamp {
    #[must_use]
    pub const fn add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
    #[must_use]
    pub const fn newer_than(self, other: Self) -> bool {
        self.since(other) > 0
    }
}

/// A sequence number that no longer wraps: the low 16 bits are what is on the wire, the rest is the roll-over count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    #[must_use]
    pub const fn seq(self) -> SeqNo {
        SeqNo(self.0 as u16)
    }
    /// Roll-over counter as SRTP wants it (RFC 3711 §3.3.1).
    #[must_use]
    pub const fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Unwraps 16-bit numbers around the highest one accepted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    highest: Option<u64>,
}

impl Unwrapper {
    /// The count nearest to the highest accepted so far. Below the first one ever seen the answer saturates at its cycle 0.
    #[must_use]
    pub fn peek(&self, seq: SeqNo) -> ExtSeq {
        todo!()
    }
    /// `peek`, and remember it if it is the highest.
    pub fn unwrap(&mut self, seq: SeqNo) -> ExtSeq {
        todo!()
    }
    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.highest.map(ExtSeq)
    }
}
