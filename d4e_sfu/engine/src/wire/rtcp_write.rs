//! RTCP packets written. Each function writes one packet at the start of `out` and returns its length, or `None` when it
//! does not fit; a compound is made by calling them one after another on the rest of the slice.

use super::rtcp::{
    APPLICATION, BYE, Block, CNAME, EXTENDED_REPORT, FIR, MAX_STATUSES, NACK, PAYLOAD_SPECIFIC,
    PLI, RECEIVER_REPORT, REFERENCE_ANSWER, REFERENCE_TIME, SDES, SENDER_REPORT, SenderInfo,
    TRANSPORT_CC, TRANSPORT_LAYER,
};
use super::seq::{SeqNo, Ssrc};

#[must_use]
pub fn write_sender_report(
    out: &mut [u8],
    sender: Ssrc,
    info: &SenderInfo,
    blocks: &[Block],
) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    writer.word(sender.0)?;
    writer.push(&info.ntp.to_be_bytes())?;
    writer.word(info.rtp.0)?;
    writer.word(info.packets)?;
    writer.word(info.octets)?;
    writer.blocks(blocks)?;
    writer.finish(SENDER_REPORT, count(blocks.len())?)
}

#[must_use]
pub fn write_receiver_report(out: &mut [u8], sender: Ssrc, blocks: &[Block]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    writer.word(sender.0)?;
    writer.blocks(blocks)?;
    writer.finish(RECEIVER_REPORT, count(blocks.len())?)
}

/// One SDES chunk with a CNAME; a longer one than 255 bytes does not fit.
#[must_use]
pub fn write_sdes(out: &mut [u8], ssrc: Ssrc, cname: &str) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    writer.word(ssrc.0)?;
    writer.push(&[CNAME, u8::try_from(cname.len()).ok()?])?;
    writer.push(cname.as_bytes())?;
    // RFC 3550 §6.5: at least one null ends the items.
    writer.push(&[0])?;
    writer.pad()?;
    writer.finish(SDES, 1)
}

#[must_use]
pub fn write_bye(out: &mut [u8], ssrcs: &[Ssrc]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    for ssrc in ssrcs {
        writer.word(ssrc.0)?;
    }
    writer.finish(BYE, count(ssrcs.len())?)
}

/// An extended report with the sender's reference time (RFC 3611 §4.4).
#[must_use]
pub fn write_reference_time(out: &mut [u8], sender: Ssrc, ntp: u64) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    writer.word(sender.0)?;
    writer.push(&[REFERENCE_TIME, 0, 0, 2])?;
    writer.push(&ntp.to_be_bytes())?;
    writer.finish(EXTENDED_REPORT, 0)
}

/// What a receiver who sent its reference time needs to find its round trip (RFC 3611 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceAnswer {
    pub receiver: Ssrc,
    /// Middle 32 bits of its reference time.
    pub last: u32,
    /// Since it came, in 1/65536 s.
    pub delay: u32,
}

#[must_use]
pub fn write_reference_answers(
    out: &mut [u8],
    sender: Ssrc,
    answers: &[ReferenceAnswer],
) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.word(0)?;
    writer.word(sender.0)?;
    let words = u8::try_from(answers.len() * 3).ok()?;
    writer.push(&[REFERENCE_ANSWER, 0, 0, words])?;
    for answer in answers {
        writer.word(answer.receiver.0)?;
        writer.word(answer.last)?;
        writer.word(answer.delay)?;
    }
    writer.finish(EXTENDED_REPORT, 0)
}

/// `lost` in ascending order on the circle; neighbours within 16 share one item (RFC 4585 §6.2.1).
#[must_use]
pub fn write_nack(out: &mut [u8], sender: Ssrc, media: Ssrc, lost: &[SeqNo]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.feedback(sender, media)?;
    let mut rest = lost.iter();
    let mut first = *rest.next()?;
    let mut mask = 0u16;
    for &seq in rest {
        match seq.since(first) {
            0 => {}
            ahead @ 1..=16 => mask |= 1 << (ahead - 1),
            _ => {
                writer.word(u32::from(first.0) << 16 | u32::from(mask))?;
                (first, mask) = (seq, 0);
            }
        }
    }
    writer.word(u32::from(first.0) << 16 | u32::from(mask))?;
    writer.finish(TRANSPORT_LAYER, NACK)
}

#[must_use]
pub fn write_pli(out: &mut [u8], sender: Ssrc, media: Ssrc) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.feedback(sender, media)?;
    writer.finish(PAYLOAD_SPECIFIC, PLI)
}

#[must_use]
pub fn write_fir(out: &mut [u8], sender: Ssrc, media: Ssrc, command: u8) -> Option<usize> {
    let mut writer = Writer::new(out);
    // RFC 5104 §4.3.1.2: the media source of the common header is not used.
    writer.feedback(sender, Ssrc(0))?;
    writer.word(media.0)?;
    writer.push(&[command, 0, 0, 0])?;
    writer.finish(PAYLOAD_SPECIFIC, FIR)
}

/// draft-alvestrand-rmcat-remb-03 §2.2. The bitrate loses all but its 18 highest bits.
#[must_use]
pub fn write_remb(out: &mut [u8], sender: Ssrc, bitrate: u64, ssrcs: &[Ssrc]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.feedback(sender, Ssrc(0))?;
    writer.push(b"REMB")?;
    let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
    let mantissa = (bitrate >> exponent) as u32;
    let ssrc_count = u8::try_from(ssrcs.len()).ok()?;
    writer.word(u32::from(ssrc_count) << 24 | exponent << 18 | mantissa)?;
    for ssrc in ssrcs {
        writer.word(ssrc.0)?;
    }
    writer.finish(PAYLOAD_SPECIFIC, APPLICATION)
}

/// What one transport feedback packet took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub len: usize,
    /// How many of `arrivals` it covers, from the front; the rest needs another packet.
    pub covered: usize,
}

/// Bytes of receive deltas that one feedback packet may hold: more does not fit into a datagram.
const MAX_DELTAS: usize = 1400;
/// A run-length chunk's 13 bits.
const MAX_RUN: usize = 0x1fff;
/// Symbols of a vector chunk of one-bit and of two-bit symbols.
const NARROW: usize = 14;
const WIDE: usize = 7;

/// `arrivals[i]` is when `base + i` came, in ticks of 250 µs since any epoch of the caller's, not before it; `None` is
/// lost. Covers as many as fit; `None` when nothing fits or nothing was received.
#[must_use]
pub fn write_transport_feedback(
    out: &mut [u8],
    sender: Ssrc,
    media: Ssrc,
    base: SeqNo,
    feedback: u8,
    arrivals: &[Option<i64>],
) -> Option<Written> {
    let first = arrivals.iter().find_map(|arrival| *arrival)?;
    let reference = first.div_euclid(256);
    let mut writer = Writer::new(out);
    writer.feedback(sender, media)?;
    let counts_at = writer.len;
    writer.word(0)?;
    writer.word((reference as u32) << 8 | u32::from(feedback))?;

    let arrivals = &arrivals[..arrivals.len().min(MAX_STATUSES)];
    let mut deltas = [0; MAX_DELTAS];
    let (mut deltas_len, mut covered, mut time) = (0, 0, reference * 256);
    // Chunks, deltas and up to 3 bytes of padding share what is left.
    let mut room = writer.room().saturating_sub(3).min(MAX_DELTAS);
    while covered < arrivals.len() {
        let Some(chunk) = Chunk::choose(&arrivals[covered..], time, room) else {
            break;
        };
        writer.push(&chunk.bits.to_be_bytes())?;
        room -= 2 + chunk.deltas;
        for arrival in arrivals[covered..covered + chunk.taken].iter().flatten() {
            let delta = arrival - time;
            time = *arrival;
            if let Ok(small) = u8::try_from(delta) {
                deltas[deltas_len] = small;
                deltas_len += 1;
            } else {
                deltas[deltas_len..deltas_len + 2].copy_from_slice(&(delta as i16).to_be_bytes());
                deltas_len += 2;
            }
        }
        covered += chunk.taken;
    }
    if covered == 0 {
        return None;
    }
    writer.push(&deltas[..deltas_len])?;
    let counts = u32::from(base.0) << 16 | covered as u32;
    writer.out[counts_at..counts_at + 4].copy_from_slice(&counts.to_be_bytes());
    // The draft pads to a word without counting; like libwebrtc we say how much, so that strict readers agree too.
    let padding = writer.len.next_multiple_of(4) - writer.len;
    writer.push([&[][..], &[1], &[0, 2], &[0, 0, 3]][padding])?;
    let len = writer.finish(TRANSPORT_LAYER, TRANSPORT_CC)?;
    if padding > 0 {
        out[0] |= 0x20;
    }
    Some(Written { len, covered })
}

/// One status chunk over the front of some arrivals.
struct Chunk {
    bits: u16,
    taken: usize,
    /// Bytes of receive deltas that go with it.
    deltas: usize,
}

impl Chunk {
    /// A long run of equal symbols, else 14 one-bit symbols, else 7 two-bit symbols; at the end a vector may stay short of
    /// its width, and before an arrival that no delta reaches, or
    /// at the end of `room`, a short run is taken. `None`: nothing fits.
    fn choose(arrivals: &[Option<i64>], time: i64, room: usize) -> Option<Self> {
        let budget = room.checked_sub(2)?;
        let mut symbols = [0; NARROW];
        let (mut known, mut now) = (0, time);
        for arrival in arrivals.iter().take(NARROW) {
            let Some(symbol) = symbol(*arrival, &mut now) else {
                break;
            };
            symbols[known] = symbol;
            known += 1;
        }
        let symbols = &symbols[..known];
        let first = *symbols.first()?;
        let same = symbols
            .iter()
            .take_while(|&&symbol| symbol == first)
            .count();
        let narrow = symbols.iter().take_while(|&&symbol| symbol < 2).count();
        let at_end = known == arrivals.len();

        let run_is_best = same == NARROW || (first == 2 && same >= WIDE) || same == arrivals.len();
        let vector = if narrow == NARROW || (at_end && narrow == known) {
            Some((1, narrow))
        } else if known >= WIDE || at_end {
            Some((2, known.min(WIDE)))
        } else {
            None
        };
        if let (false, Some((width, taken))) = (run_is_best, vector) {
            let mut bits = if width == 1 { 0x8000 } else { 0xc000 };
            for (n, symbol) in symbols[..taken].iter().enumerate() {
                bits |= u16::from(*symbol) << (14 - width * (n as u16 + 1));
            }
            let deltas = symbols[..taken]
                .iter()
                .map(|&symbol| usize::from(symbol))
                .sum();
            if deltas <= budget {
                return Some(Self {
                    bits,
                    taken,
                    deltas,
                });
            }
        }

        let (mut taken, mut deltas, mut now) = (0, 0, time);
        for arrival in arrivals.iter().take(MAX_RUN) {
            if symbol(*arrival, &mut now) != Some(first) || deltas + usize::from(first) > budget {
                break;
            }
            taken += 1;
            deltas += usize::from(first);
        }
        (taken > 0).then_some(Self {
            bits: u16::from(first) << 13 | taken as u16,
            taken,
            deltas,
        })
    }
}

/// 0 lost, 1 small delta, 2 large or negative delta (the delta's length, too), `None` out of reach; moves `time` on.
fn symbol(arrival: Option<i64>, time: &mut i64) -> Option<u8> {
    let Some(arrival) = arrival else {
        return Some(0);
    };
    let delta = arrival.checked_sub(*time)?;
    let symbol = if u8::try_from(delta).is_ok() {
        1
    } else {
        i16::try_from(delta).ok().map(|_| 2)?
    };
    *time = arrival;
    Some(symbol)
}

fn count(len: usize) -> Option<u8> {
    u8::try_from(len).ok().filter(|&count| count <= 31)
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    fn room(&self) -> usize {
        self.out.len() - self.len
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        self.out
            .get_mut(self.len..self.len + bytes.len())?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.push(&word.to_be_bytes())
    }

    fn pad(&mut self) -> Option<()> {
        let zeros = self.len.next_multiple_of(4) - self.len;
        self.push(&[0; 3][..zeros])
    }

    fn feedback(&mut self, sender: Ssrc, media: Ssrc) -> Option<()> {
        self.word(0)?;
        self.word(sender.0)?;
        self.word(media.0)
    }

    fn blocks(&mut self, blocks: &[Block]) -> Option<()> {
        for block in blocks {
            self.word(block.ssrc.0)?;
            // RFC 3550 A.3: the cumulative number is clamped to 24 bits signed.
            let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
            self.word(u32::from(block.fraction_lost) << 24 | lost)?;
            self.word(block.highest)?;
            self.word(block.jitter)?;
            self.word(block.last_sr)?;
            self.word(block.delay)?;
        }
        Some(())
    }

    fn finish(self, packet_type: u8, count: u8) -> Option<usize> {
        let words = u16::try_from(self.len / 4 - 1).ok()?.to_be_bytes();
        self.out
            .get_mut(..4)?
            .copy_from_slice(&[0x80 | count, packet_type, words[0], words[1]]);
        Some(self.len)
    }
}
