//! RTCP compounds read: a checked iterator over what a client sent. What we send is in `rtcp_write.rs`.

use super::drop::DropReason;
use super::seq::{SeqNo, Ssrc, Timestamp};

pub use super::rtcp_write::*;

// Packet types (RFC 3550 §12.1, RFC 4585 §6.1) and feedback formats.
pub(super) const SENDER_REPORT: u8 = 200;
pub(super) const RECEIVER_REPORT: u8 = 201;
pub(super) const SDES: u8 = 202;
pub(super) const BYE: u8 = 203;
pub(super) const TRANSPORT_LAYER: u8 = 205;
pub(super) const PAYLOAD_SPECIFIC: u8 = 206;
pub(super) const EXTENDED_REPORT: u8 = 207;
pub(super) const NACK: u8 = 1;
pub(super) const TRANSPORT_CC: u8 = 15;
pub(super) const PLI: u8 = 1;
pub(super) const FIR: u8 = 4;
pub(super) const APPLICATION: u8 = 15;
// Blocks of an extended report (RFC 3611 §4.4, §4.5).
pub(super) const REFERENCE_TIME: u8 = 4;
pub(super) const REFERENCE_ANSWER: u8 = 5;

/// Statuses that all transport feedback of one compound may report together. A run-length chunk names 8191 packets in two
/// bytes: without a bound one datagram could make us walk two million. The largest honest report (an outage of some
/// seconds at a few thousand packets a second) is well below.
pub const MAX_STATUSES: usize = 16_384;

/// A compound whose every packet has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks the whole of a decrypted compound; a bad packet anywhere rejects it whole (`BadRtcp`).
    /// Reduced-size RTCP (RFC 5506) is accepted: any packet may come first.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut rest = bytes;
        let mut statuses = 0;
        while let Some((packet, after)) = read(rest) {
            rest = after;
            if let Packet::TransportFeedback(feedback) = packet {
                statuses += usize::from(feedback.count);
            }
        }
        if bytes.is_empty() || !rest.is_empty() || statuses > MAX_STATUSES {
            return Err(DropReason::BadRtcp);
        }
        Ok(Self { rest: bytes })
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        let (packet, after) = read(self.rest)?;
        self.rest = after;
        Some(packet)
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
    /// Receiver Estimated Maximum Bitrate (draft-alvestrand-rmcat-remb-03): bits per second, and the SSRCs it is about.
    Remb {
        sender: Ssrc,
        bitrate: u64,
        ssrcs: Ssrcs<'a>,
    },
    /// Extended report (RFC 3611 §2); of its blocks only the receiver reference time: 32.32 fixed point since 1900.
    ExtendedReport {
        sender: Ssrc,
        reference: Option<u64>,
    },
    /// Well-formed, and nothing to us: APP, other feedback formats.
    Other {
        packet_type: u8,
    },
}

/// RFC 3550 §6.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP time, 32.32 fixed point since 1900.
    pub ntp: u64,
    pub rtp: Timestamp,
    pub packets: u32,
    pub octets: u32,
}

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub ssrc: Ssrc,
    /// Of 256.
    pub fraction_lost: u8,
    /// Cumulative, signed 24 bit.
    pub lost: i32,
    /// Extended highest sequence number.
    pub highest: u32,
    /// RTP clock units.
    pub jitter: u32,
    /// Middle 32 bits of the last SR's NTP time.
    pub last_sr: u32,
    /// Since that SR, in 1/65536 s.
    pub delay: u32,
}

const HEADER_LEN: usize = 4;
const BLOCK_LEN: usize = 24;

/// One packet off the front, wholly checked; `None` at the end or at anything wrong.
fn read(bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let &[first, packet_type, l0, l1] = bytes.first_chunk::<HEADER_LEN>()?;
    if first >> 6 != 2 || !(192..=223).contains(&packet_type) {
        return None;
    }
    let len = HEADER_LEN + usize::from(u16::from_be_bytes([l0, l1])) * 4;
    let (packet, after) = bytes.split_at_checked(len)?;
    let mut body = &packet[HEADER_LEN..];
    if first & 0x20 != 0 {
        // RFC 3550 §6.4.1 pads the last packet, by whole words; libwebrtc pads each transport feedback by 1–3 bytes.
        let count = usize::from(*body.last()?);
        if count == 0 {
            return None;
        }
        body = &body[..body.len().checked_sub(count)?];
    }
    let count = first & 0x1f;
    let packet = match (packet_type, count) {
        (SENDER_REPORT, _) => {
            let (sender, body) = ssrc(body)?;
            let (info, body) = body.split_first_chunk::<20>()?;
            let info = SenderInfo {
                ntp: u64::from(word(info, 0)) << 32 | u64::from(word(info, 4)),
                rtp: Timestamp(word(info, 8)),
                packets: word(info, 12),
                octets: word(info, 16),
            };
            Packet::SenderReport {
                sender,
                info,
                blocks: Blocks(body.get(..usize::from(count) * BLOCK_LEN)?),
            }
        }
        (RECEIVER_REPORT, _) => {
            let (sender, body) = ssrc(body)?;
            Packet::ReceiverReport {
                sender,
                blocks: Blocks(body.get(..usize::from(count) * BLOCK_LEN)?),
            }
        }
        (SDES, _) => {
            let mut rest = body;
            for _ in 0..count {
                rest = chunk(rest)?.2;
            }
            Packet::Sdes(Sdes {
                rest: body,
                chunks: count,
            })
        }
        (BYE, _) => Packet::Bye(Ssrcs(body.get(..usize::from(count) * 4)?)),
        (TRANSPORT_LAYER, NACK) => {
            let (sender, media, items) = feedback(body)?;
            if items.is_empty() {
                return None;
            }
            Packet::Nack {
                sender,
                media,
                lost: Nacks {
                    rest: items,
                    seq: 0,
                    mask: 0,
                },
            }
        }
        (TRANSPORT_LAYER, TRANSPORT_CC) => {
            Packet::TransportFeedback(TransportFeedback::read(body)?)
        }
        (PAYLOAD_SPECIFIC, PLI) => {
            let (sender, media, _) = feedback(body)?;
            Packet::Pli { sender, media }
        }
        (PAYLOAD_SPECIFIC, FIR) => {
            let (sender, _, items) = feedback(body)?;
            if items.is_empty() || items.len() % 8 != 0 {
                return None;
            }
            Packet::Fir {
                sender,
                entries: FirEntries(items),
            }
        }
        (PAYLOAD_SPECIFIC, APPLICATION) => {
            let (sender, _, items) = feedback(body)?;
            match items.strip_prefix(b"REMB") {
                Some(remb) => {
                    let (&[ssrcs, e, m0, m1], rest) = remb.split_first_chunk::<4>()?;
                    let mantissa = u64::from(e & 3) << 16 | u64::from(m0) << 8 | u64::from(m1);
                    let exponent = u32::from(e >> 2);
                    // 18 bits shifted by up to 63: past 64 bits is nonsense.
                    if mantissa != 0 && exponent > mantissa.leading_zeros() {
                        return None;
                    }
                    let bitrate = mantissa << exponent;
                    Packet::Remb {
                        sender,
                        bitrate,
                        ssrcs: Ssrcs(rest.get(..usize::from(ssrcs) * 4)?),
                    }
                }
                None => Packet::Other { packet_type },
            }
        }
        (EXTENDED_REPORT, _) => {
            let (sender, blocks) = ssrc(body)?;
            let reference = reference_time(blocks)?;
            Packet::ExtendedReport { sender, reference }
        }
        _ => Packet::Other { packet_type },
    };
    Some((packet, after))
}

fn ssrc(bytes: &[u8]) -> Option<(Ssrc, &[u8])> {
    let (ssrc, rest) = bytes.split_first_chunk::<4>()?;
    Some((Ssrc(u32::from_be_bytes(*ssrc)), rest))
}

/// The first receiver reference time among these blocks (RFC 3611 §3, §4.4). `None`: a length lies.
fn reference_time(mut blocks: &[u8]) -> Option<Option<u64>> {
    let mut found = None;
    while !blocks.is_empty() {
        let (&[kind, _, l0, l1], rest) = blocks.split_first_chunk::<HEADER_LEN>()?;
        let (block, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])) * 4)?;
        blocks = rest;
        if kind == REFERENCE_TIME {
            let time = u64::from_be_bytes(block.try_into().ok()?);
            found = found.or(Some(time));
        }
    }
    Some(found)
}

/// RFC 4585 §6.1: sender, media source, feedback control information.
fn feedback(bytes: &[u8]) -> Option<(Ssrc, Ssrc, &[u8])> {
    let (sender, rest) = ssrc(bytes)?;
    let (media, rest) = ssrc(rest)?;
    Some((sender, media, rest))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let (block, rest) = self.0.split_first_chunk::<BLOCK_LEN>()?;
        self.0 = rest;
        let lost = word(block, 4);
        Some(Block {
            ssrc: Ssrc(word(block, 0)),
            fraction_lost: (lost >> 24) as u8,
            lost: (lost << 8) as i32 >> 8,
            highest: word(block, 8),
            jitter: word(block, 12),
            last_sr: word(block, 16),
            delay: word(block, 20),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Ssrcs<'a>(&'a [u8]);

impl Iterator for Ssrcs<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let (found, rest) = ssrc(self.0)?;
        self.0 = rest;
        Some(found)
    }
}

/// Lost sequence numbers, PID and BLP unrolled (RFC 4585 §6.2.1): at most 17 for each four bytes.
#[derive(Clone, Copy, Debug)]
pub struct Nacks<'a> {
    rest: &'a [u8],
    seq: u16,
    /// Bit i: `seq + i` is still to be told; bit 0 is the PID.
    mask: u32,
}

impl Iterator for Nacks<'_> {
    type Item = SeqNo;

    fn next(&mut self) -> Option<SeqNo> {
        if self.mask == 0 {
            let (&[p0, p1, b0, b1], rest) = self.rest.split_first_chunk::<4>()?;
            self.rest = rest;
            self.seq = u16::from_be_bytes([p0, p1]);
            self.mask = u32::from(u16::from_be_bytes([b0, b1])) << 1 | 1;
        }
        let ahead = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        Some(SeqNo(self.seq).add(ahead as u16))
    }
}

/// (media SSRC, command sequence number) (RFC 5104 §4.3.1.1).
#[derive(Clone, Copy, Debug)]
pub struct FirEntries<'a>(&'a [u8]);

impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);

    fn next(&mut self) -> Option<(Ssrc, u8)> {
        let (entry, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some((Ssrc(word(entry, 0)), entry[4]))
    }
}

/// (SSRC, CNAME) of every chunk that has one (RFC 3550 §6.5).
#[derive(Clone, Copy, Debug)]
pub struct Sdes<'a> {
    rest: &'a [u8],
    chunks: u8,
}

impl<'a> Iterator for Sdes<'a> {
    type Item = (Ssrc, &'a [u8]);

    fn next(&mut self) -> Option<(Ssrc, &'a [u8])> {
        while self.chunks > 0 {
            self.chunks -= 1;
            let (ssrc, cname, rest) = chunk(self.rest)?;
            self.rest = rest;
            if let Some(cname) = cname {
                return Some((ssrc, cname));
            }
        }
        None
    }
}

pub(super) const CNAME: u8 = 1;

type Chunk<'a> = (Ssrc, Option<&'a [u8]>, &'a [u8]);

/// One SDES chunk: SSRC, its CNAME, what follows. Items end with a null and pad to a word.
fn chunk(bytes: &[u8]) -> Option<Chunk<'_>> {
    let (ssrc, items) = ssrc(bytes)?;
    let (mut at, mut cname) = (0, None);
    loop {
        let kind = *items.get(at)?;
        if kind == 0 {
            let rest = items.get((at + 1).next_multiple_of(4)..)?;
            return Some((ssrc, cname, rest));
        }
        let len = usize::from(*items.get(at + 1)?);
        let text = items.get(at + 2..at + 2 + len)?;
        if kind == CNAME {
            cname = cname.or(Some(text));
        }
        at += 2 + len;
    }
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    pub sender: Ssrc,
    pub media: Ssrc,
    pub base: SeqNo,
    /// Number of statuses, at least 1; the check has found that the chunks hold as many.
    pub count: u16,
    /// Multiples of 64 ms, signed 24 bit.
    pub reference: i32,
    /// Feedback packet count: tells lost feedback.
    pub feedback: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let (sender, media, fci) = feedback(body)?;
        let (head, rest) = fci.split_first_chunk::<8>()?;
        let count = u16::from_be_bytes([head[2], head[3]]);
        if count == 0 || usize::from(count) > MAX_STATUSES {
            return None;
        }
        let (mut covered, mut deltas_len, mut chunks_len) = (0, 0, 0);
        while covered < usize::from(count) {
            let &[c0, c1] = rest.get(chunks_len..)?.first_chunk::<2>()?;
            chunks_len += 2;
            let mut chunk = StatusChunk::new(u16::from_be_bytes([c0, c1]));
            // A run is counted at once; a vector holds at most 14.
            if let StatusChunk::Run { symbol, left } = chunk {
                let used = usize::from(left).min(usize::from(count) - covered);
                deltas_len += delta_len(symbol)? * used;
                covered += used;
                continue;
            }
            while covered < usize::from(count) {
                let Some(symbol) = chunk.next() else { break };
                deltas_len += delta_len(symbol)?;
                covered += 1;
            }
        }
        let (chunks, rest) = rest.split_at(chunks_len);
        Some(Self {
            sender,
            media,
            base: SeqNo(u16::from_be_bytes([head[0], head[1]])),
            count,
            reference: (word(head, 4) & 0xffff_ff00) as i32 >> 8,
            feedback: head[7],
            chunks,
            deltas: rest.get(..deltas_len)?,
        })
    }

    /// One item for every status: sequence number, and the arrival in ticks of 250 µs on the sender's clock
    /// (`reference * 256` and the deltas so far), `None` = not received.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            chunks: self.chunks,
            deltas: self.deltas,
            chunk: StatusChunk::Run { symbol: 0, left: 0 },
            seq: self.base,
            left: self.count,
            time: i64::from(self.reference) * 256,
        }
    }
}

/// Length of the receive delta of a status symbol; symbol 3 is reserved.
fn delta_len(symbol: u8) -> Option<usize> {
    [0, 1, 2].get(usize::from(symbol)).copied()
}

/// One packet status chunk (§3.1.3, §3.1.4), consumed symbol by symbol.
#[derive(Clone, Copy, Debug)]
enum StatusChunk {
    Run {
        symbol: u8,
        left: u16,
    },
    /// Symbols from the highest bits down, `width` bits each.
    Vector {
        bits: u16,
        width: u8,
        left: u8,
    },
}

impl StatusChunk {
    fn new(chunk: u16) -> Self {
        match (chunk >> 15, chunk >> 14 & 1) {
            (0, _) => Self::Run {
                symbol: (chunk >> 13 & 3) as u8,
                left: chunk & 0x1fff,
            },
            (_, 0) => Self::Vector {
                bits: chunk << 2,
                width: 1,
                left: 14,
            },
            _ => Self::Vector {
                bits: chunk << 2,
                width: 2,
                left: 7,
            },
        }
    }

    fn next(&mut self) -> Option<u8> {
        match self {
            Self::Run { symbol, left } => {
                *left = left.checked_sub(1)?;
                Some(*symbol)
            }
            Self::Vector { bits, width, left } => {
                *left = left.checked_sub(1)?;
                let symbol = *bits >> (16 - *width);
                *bits <<= *width;
                Some(symbol as u8)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Statuses<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    chunk: StatusChunk,
    seq: SeqNo,
    left: u16,
    time: i64,
}

impl Iterator for Statuses<'_> {
    type Item = (SeqNo, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let symbol = loop {
            if let Some(symbol) = self.chunk.next() {
                break symbol;
            }
            let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
            self.chunks = rest;
            self.chunk = StatusChunk::new(u16::from_be_bytes(*chunk));
        };
        let delta = match symbol {
            0 => None,
            1 => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i64::from(delta))
            }
            _ => {
                let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                self.deltas = rest;
                Some(i64::from(i16::from_be_bytes(*delta)))
            }
        };
        let seq = self.seq;
        self.seq = seq.add(1);
        let arrival = delta.map(|delta| {
            self.time += delta;
            self.time
        });
        Some((seq, arrival))
    }
}

#[cfg(test)]
#[path = "rtcp_tests.rs"]
mod tests;
