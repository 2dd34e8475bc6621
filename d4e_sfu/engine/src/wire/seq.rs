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
///
/// The first number lands in cycle 1, so that packets sent before it and delivered after it stay below it instead of
/// wrapping. (SRTP's own count starts in cycle 0: that is `srtp::ReplayWindow`.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    highest: Option<u64>,
}

const FIRST_CYCLE: u64 = 1 << 16;

impl Unwrapper {
    /// The count nearest to the highest accepted so far.
    #[must_use]
    pub fn peek(&self, seq: SeqNo) -> ExtSeq {
        let Some(highest) = self.highest else {
            return ExtSeq(FIRST_CYCLE + u64::from(seq.0));
        };
        let ahead = i64::from(seq.since(SeqNo(highest as u16)));
        ExtSeq(highest.saturating_add_signed(ahead))
    }

    /// `peek`, and remember it if it is the highest.
    pub fn unwrap(&mut self, seq: SeqNo) -> ExtSeq {
        let ext = self.peek(seq);
        if self.highest.is_none_or(|highest| ext.0 > highest) {
            self.highest = Some(ext.0);
        }
        ext
    }

    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.highest.map(ExtSeq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen starts around the circle; among them both sides of the wrap and of the sign.
    fn starts() -> impl Iterator<Item = u16> {
        (0..16u16).map(|i| (i * 4096).wrapping_sub(3))
    }

    #[test]
    fn two_laps_unwrap_without_a_step_from_sixteen_starts() {
        for start in starts() {
            let mut unwrapper = Unwrapper::default();
            let first = unwrapper.unwrap(SeqNo(start)).0;
            for n in 1..140_000u64 {
                let ext = unwrapper.unwrap(SeqNo(start.wrapping_add(n as u16)));
                assert_eq!(ext.0, first + n);
                assert_eq!(ext.seq().0, start.wrapping_add(n as u16));
            }
        }
    }

    #[test]
    fn late_packets_stay_behind_even_before_the_first() {
        for start in starts() {
            let mut unwrapper = Unwrapper::default();
            let first = unwrapper.unwrap(SeqNo(start)).0;
            assert_eq!(unwrapper.unwrap(SeqNo(start.wrapping_sub(5))).0, first - 5);
            assert_eq!(unwrapper.highest(), Some(ExtSeq(first)));
            assert_eq!(
                unwrapper.peek(SeqNo(start.wrapping_add(32_767))).0,
                first + 32_767
            );
            assert_eq!(
                unwrapper.peek(SeqNo(start.wrapping_add(32_768))).0,
                first - 32_768
            );
        }
    }

    #[test]
    fn order_on_the_circle() {
        for start in starts() {
            let (seq, next) = (SeqNo(start), SeqNo(start).add(1));
            assert!(next.newer_than(seq) && !seq.newer_than(next) && !seq.newer_than(seq));
            assert_eq!(seq.since(next), -1);
            let time = Timestamp(u32::from(start).wrapping_mul(65_537));
            assert!(time.add(90_000).newer_than(time));
            assert_eq!(time.since(time.add(90_000)), -90_000);
        }
    }
}
