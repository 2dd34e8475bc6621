//! AV1 payloads (RTP Payload Format for AV1, §4.4): the aggregation header, and whether the sizes of the OBU elements
//! behind it are true. Layers are told by the dependency descriptor alone; nothing here is rewritten.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// N: first packet of a coded video sequence: a decoder may start here.
    pub keyframe: bool,
    /// Z: the first element goes on from the packet before.
    pub continued: bool,
    /// Y: the last element goes on in the next packet.
    pub continues: bool,
}

/// leb128() of the AV1 bitstream specification, §4.10.5: at most 8 bytes.
const MAX_LEB128: usize = 8;

impl Facts {
    /// `None`: empty, or an element size that lies.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (&header, mut rest) = payload.split_first()?;
        let (continued, continues) = (header & 0x80 != 0, header & 0x40 != 0);
        let (count, keyframe) = (header >> 4 & 3, header & 0x08 != 0);
        // "If N is equal to 1 then Z must be equal to 0."
        if rest.is_empty() || (keyframe && continued) {
            return None;
        }
        // W: so many elements, of which the last has no size; 0: each has one.
        let sized = if count == 0 {
            usize::MAX
        } else {
            usize::from(count) - 1
        };
        for _ in 0..sized {
            if rest.is_empty() {
                break;
            }
            let (size, after) = leb128(rest)?;
            rest = after.get(size..)?;
        }
        // The last one of W elements is there.
        if count != 0 && rest.is_empty() {
            return None;
        }
        Some(Self {
            keyframe,
            continued,
            continues,
        })
    }
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_LEB128) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_sequence_is_a_keyframe() {
        let facts = |payload: &[u8]| Facts::parse(payload).unwrap();
        assert!(facts(&[0x18, 0x0a, 1]).keyframe, "one element");
        assert!(facts(&[0x28, 2, 0x0a, 1, 0x32]).keyframe, "two");
        let last = facts(&[0x90, 1, 2]);
        assert!(last.continued && !last.continues && !last.keyframe);
        assert!(facts(&[0x00, 1, 9, 2, 9, 9]).continued.eq(&false));
    }

    #[test]
    fn lying_sizes_are_refused() {
        for bad in [
            &[][..],
            &[0x10],
            &[0x98, 1],          // N and Z
            &[0x20, 3, 1, 1],    // the first element takes all and more
            &[0x20, 2, 1, 1],    // nothing is left for the second
            &[0x00, 1, 9, 2, 9], // the second is cut short
            &[0x00, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0],
        ] {
            assert_eq!(Facts::parse(bad), None, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Facts::parse(&payload);
        }
    }
}
