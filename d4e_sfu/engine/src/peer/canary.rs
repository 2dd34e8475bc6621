//! The body of every synthetic frame: who made it, when, what it refers to, filler, a checksum. Receiving it whole proves
//! content, order, latency and provenance without decoding anything.

use crate::wire::seq::Ssrc;

use super::chance::Chance;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub publication: u32,
    pub encoding: u8,
    /// The encoding's SSRC at the publisher.
    pub ssrc: Ssrc,
    /// Counts the frames of the encoding, from 0.
    pub frame: u32,
    /// The frame that this one needs; its own number on a keyframe (and on voice).
    pub reference: u32,
    /// The frame of the spatial layer below that it needs as well; else the same as `reference`.
    pub below: u32,
    pub spatial: u8,
    pub temporal: u8,
    /// Which template of the structure it goes by.
    pub template: u8,
    /// When it was captured, in the codec's clock since the publication began; all encodings share it.
    pub clock: u32,
    /// The publisher's `now` in nanoseconds.
    pub sent: u64,
}

const MAGIC: u32 = 0x6434_6563; // "d4ec"
/// Shortest body.
pub const MIN_LEN: usize = 4 + 4 + 4 + 1 + 4 + 4 + 4 + 4 + 8 + 4 + 3 + 4;

impl Stamp {
    /// Appends a body of exactly `len` bytes (at least `MIN_LEN`).
    pub fn write(&self, out: &mut Vec<u8>, len: usize) {
        let len = len.max(MIN_LEN);
        let start = out.len();
        out.extend(MAGIC.to_be_bytes());
        out.extend((len as u32).to_be_bytes());
        out.extend(self.publication.to_be_bytes());
        out.push(self.encoding);
        out.extend(self.ssrc.0.to_be_bytes());
        out.extend(self.frame.to_be_bytes());
        out.extend(self.reference.to_be_bytes());
        out.extend(self.clock.to_be_bytes());
        out.extend(self.sent.to_be_bytes());
        out.extend(self.below.to_be_bytes());
        out.extend([self.spatial, self.temporal, self.template]);
        let mut filler = Chance::new(u64::from(self.ssrc.0) << 32 | u64::from(self.frame));
        let end = start + len - 4;
        while out.len() + 8 <= end {
            out.extend(filler.word().to_be_bytes());
        }
        out.resize(end, 0xa5);
        let crc = crc32fast::hash(&out[start..]);
        out.extend(crc.to_be_bytes());
    }

    /// `None`: not such a body, or not a single byte of it may be trusted.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let (content, crc) = body.split_last_chunk::<4>()?;
        if body.len() < MIN_LEN || u32::from_be_bytes(*crc) != crc32fast::hash(content) {
            return None;
        }
        let word =
            |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        if word(0) != MAGIC || word(4) as usize != body.len() {
            return None;
        }
        Some(Self {
            publication: word(8),
            encoding: body[12],
            ssrc: Ssrc(word(13)),
            frame: word(17),
            reference: word(21),
            clock: word(25),
            sent: u64::from(word(29)) << 32 | u64::from(word(33)),
            below: word(37),
            spatial: body[41],
            temporal: body[42],
            template: body[43],
        })
    }

    #[must_use]
    pub fn is_key(&self) -> bool {
        self.reference == self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_proves_itself() {
        let stamp = Stamp {
            publication: 7,
            encoding: 2,
            ssrc: Ssrc(9),
            frame: 100,
            reference: 99,
            below: 98,
            spatial: 2,
            temporal: 1,
            template: 7,
            clock: 12_345,
            sent: u64::MAX / 3,
        };
        for len in [0, MIN_LEN, MIN_LEN + 1, 300, 40_001] {
            let mut body = Vec::new();
            stamp.write(&mut body, len);
            assert_eq!(body.len(), len.max(MIN_LEN));
            assert_eq!(Stamp::read(&body), Some(stamp));
            for at in (0..body.len()).step_by(7) {
                body[at] ^= 0x10;
                assert_eq!(Stamp::read(&body), None);
                body[at] ^= 0x10;
            }
            assert_eq!(Stamp::read(&body[1..]), None);
            assert_eq!(Stamp::read(&body[..body.len() - 1]), None);
        }
    }
}
