//! Redundant audio (RED, RFC 2198): in front of each packet's own sound (the primary block), that of packets before it. Read
//! here are the blocks that publishers send, and written those that are made for a viewer. Which packet a block belongs to
//! is not known here: a block says when its sound begins, not the number of its packet.

/// In one packet that is read; libwebrtc sends one, and at most nine.
pub const MAX_REDUNDANT: usize = 9;
/// In one packet that is written.
pub const MAX_WRITTEN: usize = 4;
/// A block's offset takes 14 bits, its length 10 (RFC 2198 §3).
pub const MAX_OFFSET: u32 = (1 << 14) - 1;
pub const MAX_LEN: usize = (1 << 10) - 1;
/// F and payload type, timestamp offset, length (RFC 2198 §3); the primary block has the first byte only.
const REDUNDANT_LEN: usize = 4;
const FOLLOWS: u8 = 0x80;

/// The sound of an earlier packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// By how much its timestamp is older than the packet's.
    pub offset: u16,
    pub sound: &'a [u8],
}

/// A payload whose blocks lie in it as their headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    redundant: usize,
    /// Where the primary block begins.
    primary: usize,
}

impl<'a> Payload<'a> {
    /// `None`: too many blocks, lengths that lie, nothing of its own, or a block that is not of `payload_type`, the voice's.
    #[must_use]
    pub fn parse(bytes: &'a [u8], payload_type: u8) -> Option<Self> {
        let (mut redundant, mut sound) = (0, 0);
        loop {
            let header = bytes.get(redundant * REDUNDANT_LEN..)?;
            let &first = header.first()?;
            if first & !FOLLOWS != payload_type {
                return None;
            }
            if first & FOLLOWS == 0 {
                break;
            }
            let (_, len) = read(header)?;
            sound += len;
            redundant += 1;
            if redundant > MAX_REDUNDANT {
                return None;
            }
        }
        let primary = redundant * REDUNDANT_LEN + 1 + sound;
        (primary < bytes.len()).then_some(Self {
            bytes,
            redundant,
            primary,
        })
    }

    /// The packet's own sound, as it would be without RED.
    #[must_use]
    pub fn primary(&self) -> &'a [u8] {
        self.bytes.get(self.primary..).unwrap_or_default()
    }

    /// What is redundant, the last block first: that of the packet before this one, as a rule.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> {
        let (bytes, mut end) = (self.bytes, self.primary);
        (0..self.redundant).rev().filter_map(move |at| {
            let (offset, len) = read(bytes.get(at * REDUNDANT_LEN..)?)?;
            let sound = bytes.get(end.checked_sub(len)?..end)?;
            end -= len;
            Some(Block { offset, sound })
        })
    }
}

/// What goes in front of a packet's own sound, the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redundant<'a> {
    pub blocks: [Option<Block<'a>>; MAX_WRITTEN],
    /// Of every block, the primary one too.
    pub payload_type: u8,
}

impl Redundant<'_> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.iter().all(Option::is_none)
    }

    /// What it adds to the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        let blocks = self.blocks.iter().flatten();
        let len: usize = blocks.map(|block| REDUNDANT_LEN + block.sound.len()).sum();
        len + usize::from(len > 0)
    }

    /// All headers, and the sound of what is redundant; nothing where there is none. Returns the length.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.len();
        if len == 0 {
            return Some(0);
        }
        let out = out.get_mut(..len)?;
        let blocks = || self.blocks.iter().flatten();
        let (headers, mut sound) = out.split_at_mut(blocks().count() * REDUNDANT_LEN + 1);
        for (header, block) in headers.chunks_exact_mut(REDUNDANT_LEN).zip(blocks()) {
            if u32::from(block.offset) > MAX_OFFSET || block.sound.len() > MAX_LEN {
                return None;
            }
            let word = u32::from(block.offset) << 10 | block.sound.len() as u32;
            header.copy_from_slice(&word.to_be_bytes());
            header[0] = FOLLOWS | self.payload_type;
            let (own, rest) = sound.split_at_mut(block.sound.len());
            own.copy_from_slice(block.sound);
            sound = rest;
        }
        *headers.last_mut()? = self.payload_type & !FOLLOWS;
        Some(len)
    }
}

/// Offset and length of a redundant block's header.
fn read(header: &[u8]) -> Option<(u16, usize)> {
    let &[_, a, b, c] = header.first_chunk::<REDUNDANT_LEN>()?;
    let word = u32::from_be_bytes([0, a, b, c]);
    Some(((word >> 10) as u16, (word & 0x3ff) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Offset 960 · (n + 1), in 14 bits; length in 10.
    fn packed(payload_type: u8, redundant: &[&[u8]], primary: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, block) in redundant.iter().enumerate() {
            let word = ((960 * (redundant.len() - n)) << 10) | block.len();
            out.extend([FOLLOWS | payload_type]);
            out.extend(&(word as u32).to_be_bytes()[1..]);
        }
        out.push(payload_type);
        redundant.iter().for_each(|block| out.extend(*block));
        out.extend(primary);
        out
    }

    #[test]
    fn blocks_are_taken_apart_the_nearest_first() {
        for redundant in [&[][..], &[&[1, 2, 3][..]], &[&[1], &[][..], &[2, 2]]] {
            let payload = packed(111, redundant, b"own");
            let read = Payload::parse(&payload, 111).unwrap();
            assert_eq!(read.primary(), b"own");
            let found: Vec<_> = read.blocks().map(|b| (b.offset, b.sound)).collect();
            let expected: Vec<_> = (1..)
                .map(|n| 960 * n)
                .zip(redundant.iter().rev().copied())
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let block = |offset, sound| Some(Block { offset, sound });
        for (blocks, expected) in [
            ([None; MAX_WRITTEN], &[][..]),
            ([None, None, None, block(960, &b"one"[..])], &[&b"one"[..]]),
            ([block(960, b"one"), None, None, None], &[b"one"]),
            (
                [None, None, block(1_920, b"two"), block(960, b"one")],
                &[b"two", b"one"],
            ),
            (
                [
                    None,
                    block(2_880, b"three"),
                    block(1_920, b"two"),
                    block(960, b"one"),
                ],
                &[b"three", b"two", b"one"],
            ),
        ] {
            let redundant = Redundant {
                blocks,
                payload_type: 9,
            };
            assert_eq!(redundant.is_empty(), expected.is_empty());
            let mut out = [0; 64];
            let len = redundant.write(&mut out).unwrap();
            assert_eq!(len, redundant.len());
            let payload = [&out[..len], b"own"].concat();
            if expected.is_empty() {
                assert_eq!(payload, b"own");
                continue;
            }
            assert_eq!(payload, packed(9, expected, b"own"));
            assert_eq!(redundant.write(&mut out[..len - 1]), None);
        }
        let long = [0; MAX_LEN + 1];
        for blocks in [
            [block(1 << 14, b"far"), None, None, None],
            [block(960, &long[..]), None, None, None],
        ] {
            let redundant = Redundant {
                blocks,
                payload_type: 9,
            };
            assert_eq!(redundant.write(&mut [0; 2_000]), None);
        }
    }

    #[test]
    fn what_lies_or_hides_something_else_is_refused() {
        let good = packed(111, &[b"one"], b"own");
        for len in 0..good.len() - 2 {
            assert_eq!(Payload::parse(&good[..len], 111), None, "{len} bytes");
        }
        assert_eq!(
            Payload::parse(&packed(111, &[b"one"], b""), 111),
            None,
            "silent"
        );
        assert_eq!(Payload::parse(&good, 110), None, "another payload type");
        let mut mixed = good.clone();
        mixed[4] = 110;
        assert_eq!(
            Payload::parse(&mixed, 111),
            None,
            "the primary alone is another"
        );
        let most = [&b"x"[..]; MAX_REDUNDANT + 1];
        assert!(Payload::parse(&packed(111, &most[1..], b"own"), 111).is_some());
        assert_eq!(Payload::parse(&packed(111, &most, b"own"), 111), None);
    }

    proptest! {
        #[test]
        fn any_bytes(payload in proptest::collection::vec(prop_oneof![Just(0xef), Just(0x6f), any::<u8>()], 0..80)) {
            if let Some(read) = Payload::parse(&payload, 111) {
                prop_assert!(!read.primary().is_empty());
                let redundant: usize = read.blocks().map(|block| REDUNDANT_LEN + block.sound.len()).sum();
                prop_assert_eq!(redundant + 1 + read.primary().len(), payload.len());
            }
        }
    }
}
