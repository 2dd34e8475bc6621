//! RTCP compounds: a checked iterator over what a client sent, and builders that write one packet into a slice.

use super::drop::DropReason;
use super::seq::{SeqNo, Ssrc, Timestamp};

/// A compound whose every packet has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks the whole of a decrypted compound; a bad packet anywhere rejects it whole (`BadRtcp`).
    /// Reduced-size RTCP (RFC 5506) is accepted.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        todo!()
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Packet<'a>;
    fn next(&mut self) -> Option<Packet<'a>> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    SenderReport {
        sender: Ssrc,
        info: SenderInfo,
        blocks: Blocks<'a>,
    },
    ReceiverReport {
        sender: Ssrc,
        blocks: Blocks<'a>,
    },
    Sdes(Sdes<'a>),
    Bye(Ssrcs<'a>),
    Nack {
        sender: Ssrc,
        media: Ssrc,
        lost: Nacks<'a>,
    },
    Pli {
        sender: Ssrc,
        media: Ssrc,
    },
    Fir {
        sender: Ssrc,
        entries: FirEntries<'a>,
    },
    TransportFeedback(TransportFeedback<'a>),
    /// Receiver Estimated Maximum Bitrate: bits per second, and the SSRCs it is about.
    Remb {
        sender: Ssrc,
        bitrate: u64,
        ssrcs: Ssrcs<'a>,
    },
    /// Well-formed, and nothing to us: XR, APP, other feedback formats.
    Other {
        packet_type: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP time, 32.32 fixed point since 1900.
    pub ntp: u64,
    pub rtp: Timestamp,
    pub packets: u32,
    pub octets: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub ssrc: Ssrc,
    /// of 256
    pub fraction_lost: u8,
    /// signed 24 bit
    pub lost: i32,
    pub highest: u32,
    /// RTP clock units
    pub jitter: u32,
    /// middle 32 bits of the SR's NTP time
    pub last_sr: u32,
    /// 1/65536 s
    pub delay: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a>(&'a [u8]);
impl Iterator for Blocks<'_> {
    type Item = Block;
    fn next(&mut self) -> Option<Block> {
        todo!()
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Ssrcs<'a>(&'a [u8]);
impl Iterator for Ssrcs<'_> {
    type Item = Ssrc;
    fn next(&mut self) -> Option<Ssrc> {
        todo!()
    }
}
/// Lost sequence numbers, PID and BLP unrolled (≤ 17 for each four bytes).
#[derive(Clone, Copy, Debug)]
pub struct Nacks<'a> {
    rest: &'a [u8],
    seq: u16,
    mask: u32,
}
impl Iterator for Nacks<'_> {
    type Item = SeqNo;
    fn next(&mut self) -> Option<SeqNo> {
        todo!()
    }
}
/// (media SSRC, command sequence number)
#[derive(Clone, Copy, Debug)]
pub struct FirEntries<'a>(&'a [u8]);
impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);
    fn next(&mut self) -> Option<(Ssrc, u8)> {
        todo!()
    }
}
/// (SSRC, CNAME) of every chunk that has one.
#[derive(Clone, Copy, Debug)]
pub struct Sdes<'a> {
    rest: &'a [u8],
    chunks: u8,
}
impl<'a> Iterator for Sdes<'a> {
    type Item = (Ssrc, &'a [u8]);
    fn next(&mut self) -> Option<(Ssrc, &'a [u8])> {
        todo!()
    }
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    pub sender: Ssrc,
    pub media: Ssrc,
    pub base: SeqNo,
    pub count: u16,
    /// Multiples of 64 ms, signed 24 bit.
    pub reference: i32,
    pub feedback: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}
impl<'a> TransportFeedback<'a> {
    /// One item for every status: sequence number, and the arrival in ticks of 250 µs since the epoch of `reference`
    /// (`reference * 256` + deltas so far), `None` = not received. The check has bounded `count` by what the chunks hold.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'a> {
        todo!()
    }
}
pub struct Statuses<'a> {
    rest: &'a [u8],
}
impl Iterator for Statuses<'_> {
    type Item = (SeqNo, Option<i64>);
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

// Builders: each writes one RTCP packet at the start of `out`, returns its length, or `None` when it does not fit.
// A compound is made by calling them one after another on the rest of the slice.

#[must_use]
pub fn write_sender_report(
    out: &mut [u8],
    sender: Ssrc,
    info: &SenderInfo,
    blocks: &[Block],
) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_receiver_report(out: &mut [u8], sender: Ssrc, blocks: &[Block]) -> Option<usize> {
    todo!()
}
/// One SDES chunk with a CNAME (cut at 255 bytes).
#[must_use]
pub fn write_sdes(out: &mut [u8], ssrc: Ssrc, cname: &str) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_bye(out: &mut [u8], ssrcs: &[Ssrc]) -> Option<usize> {
    todo!()
}
/// `lost` in ascending order (on the circle); packs neighbours within 16 into one item.
#[must_use]
pub fn write_nack(out: &mut [u8], sender: Ssrc, media: Ssrc, lost: &[SeqNo]) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_pli(out: &mut [u8], sender: Ssrc, media: Ssrc) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_fir(out: &mut [u8], sender: Ssrc, media: Ssrc, command: u8) -> Option<usize> {
    todo!()
}
#[must_use]
pub fn write_remb(out: &mut [u8], sender: Ssrc, bitrate: u64, ssrcs: &[Ssrc]) -> Option<usize> {
    todo!()
}

/// What one transport feedback packet took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub len: usize,
    /// how many of `arrivals` it covers, from the front; the rest needs another packet
    pub covered: usize,
}
/// `arrivals[i]` is when `base + i` came, in ticks of 250 µs since any epoch of the caller (non-negative; the reference
/// time is its multiple of 256 modulo 2^24), or `None` for lost. Leading `None`s are the caller's to trim.
#[must_use]
pub fn write_transport_feedback(
    out: &mut [u8],
    sender: Ssrc,
    media: Ssrc,
    base: SeqNo,
    feedback: u8,
    arrivals: &[Option<i64>],
) -> Option<Written> {
    todo!()
}
