//! Redundant audio (RED, RFC 2198): in front of each packet's own sound, that of packets before it. Read here is where the
//! packet's own sound (the primary block) begins, and rewritten are the payload types of the blocks. Nothing is repaired from
//! what is redundant: that is the decoder's business, which knows what it is missing.

/// In one packet; libwebrtc sends one, and at most nine.
pub const MAX_REDUNDANT: usize = 9;
/// F and payload type, timestamp offset, length (RFC 2198 §3); the primary block has the first byte only.
const REDUNDANT_LEN: usize = 4;
/// Block headers, all together.
pub const MAX_HEADERS: usize = MAX_REDUNDANT * REDUNDANT_LEN + 1;
const FOLLOWS: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    redundant: u8,
    /// Where the primary block begins.
    primary: u16,
}

impl Facts {
    /// `None`: too many blocks, lengths that lie, nothing of its own, or a block that is not of `payload_type`, the voice's.
    #[must_use]
    pub fn parse(payload: &[u8], payload_type: u8) -> Option<Self> {
        let (mut redundant, mut sound) = (0, 0);
        loop {
            let header = payload.get(redundant * REDUNDANT_LEN..)?;
            let &first = header.first()?;
            if first & !FOLLOWS != payload_type {
                return None;
            }
            if first & FOLLOWS == 0 {
                break;
            }
            let &[_, _, high, low] = header.first_chunk::<REDUNDANT_LEN>()?;
            sound += usize::from(u16::from_be_bytes([high, low]) & 0x3ff);
            redundant += 1;
            if redundant > MAX_REDUNDANT {
                return None;
            }
        }
        let primary = redundant * REDUNDANT_LEN + 1 + sound;
        (primary < payload.len()).then_some(Self {
            redundant: redundant as u8,
            primary: u16::try_from(primary).ok()?,
        })
    }

    /// The packet's own sound, as it would be without RED.
    #[must_use]
    pub fn primary<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        payload.get(usize::from(self.primary)..).unwrap_or_default()
    }

    /// Length of the block headers; the sound of all blocks follows.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        usize::from(self.redundant) * REDUNDANT_LEN + 1
    }

    /// Writes the block headers with another payload type for the voice. Returns their length.
    #[must_use]
    pub fn write_headers(&self, payload: &[u8], payload_type: u8, out: &mut [u8]) -> Option<usize> {
        let len = self.headers_len();
        let out = out.get_mut(..len)?;
        out.copy_from_slice(payload.get(..len)?);
        for first in out.iter_mut().step_by(REDUNDANT_LEN) {
            *first = *first & FOLLOWS | payload_type & !FOLLOWS;
        }
        Some(len)
    }
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
    fn the_primary_block_is_found_behind_the_others() {
        for redundant in [&[][..], &[&[1, 2, 3][..]], &[&[1], &[][..], &[2, 2]]] {
            let payload = packed(111, redundant, b"own");
            let facts = Facts::parse(&payload, 111).unwrap();
            assert_eq!(facts.primary(&payload), b"own");
            assert_eq!(facts.headers_len(), redundant.len() * 4 + 1);
        }
    }

    #[test]
    fn payload_types_of_blocks_become_those_of_another_client() {
        let payload = packed(111, &[b"one", b"two"], b"own");
        let facts = Facts::parse(&payload, 111).unwrap();
        let mut out = [0; MAX_HEADERS];
        let len = facts.write_headers(&payload, 9, &mut out).unwrap();
        let again = [&out[..len], &payload[len..]].concat();
        assert_eq!(again, packed(9, &[b"one", b"two"], b"own"));
        assert_eq!(facts.write_headers(&payload, 9, &mut out[..len - 1]), None);
    }

    #[test]
    fn what_lies_or_hides_something_else_is_refused() {
        let good = packed(111, &[b"one"], b"own");
        for len in 0..good.len() - 2 {
            assert_eq!(Facts::parse(&good[..len], 111), None, "{len} bytes");
        }
        assert_eq!(
            Facts::parse(&packed(111, &[b"one"], b""), 111),
            None,
            "silent"
        );
        assert_eq!(Facts::parse(&good, 110), None, "another payload type");
        let mut mixed = good.clone();
        mixed[4] = 110;
        assert_eq!(
            Facts::parse(&mixed, 111),
            None,
            "the primary alone is another"
        );
        let most = [&b"x"[..]; MAX_REDUNDANT + 1];
        assert!(Facts::parse(&packed(111, &most[1..], b"own"), 111).is_some());
        assert_eq!(Facts::parse(&packed(111, &most, b"own"), 111), None);
    }

    proptest! {
        #[test]
        fn any_bytes(payload in proptest::collection::vec(prop_oneof![Just(0xef), Just(0x6f), any::<u8>()], 0..80)) {
            if let Some(facts) = Facts::parse(&payload, 111) {
                prop_assert!(!facts.primary(&payload).is_empty());
                let mut out = [0; MAX_HEADERS];
                let len = facts.write_headers(&payload, 111, &mut out).unwrap();
                prop_assert_eq!(&out[..len], &payload[..len]);
            }
        }
    }
}
