//! H.264 payloads in packetization-mode 1 (RFC 6184): what kind of picture a packet belongs to and where it starts.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Holds an SPS, or the start of an IDR picture: a decoder may start at this access unit.
    pub keyframe: bool,
    pub sps: bool,
    pub pps: bool,
    /// Holds (a part of) an IDR slice.
    pub idr: bool,
    /// First packet of an access unit, as far as the payload shows: AUD, SPS, SEI, or a slice with first_mb_in_slice 0.
    /// A picture of several such NAL units in several packets shows several: the timestamp decides then.
    pub start_of_frame: bool,
    /// nal_ref_idc 0 throughout: nobody refers to it.
    pub non_reference: bool,
}

// NAL unit types (ITU-T H.264 table 7-1; RFC 6184 §5.2).
const SLICE: u8 = 1;
const PARTITION_A: u8 = 2;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

impl Facts {
    /// `None`: empty, a type that mode 1 does not have, or a STAP-A or FU-A whose lengths lie.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (&header, rest) = payload.split_first()?;
        let mut facts = Self {
            non_reference: true,
            ..Self::default()
        };
        match header & 0x1f {
            1..=23 => facts.unit(header, rest, true),
            STAP_A => {
                if rest.is_empty() {
                    return None;
                }
                let mut rest = rest;
                while !rest.is_empty() {
                    let (size, after) = rest.split_first_chunk::<2>()?;
                    let size = usize::from(u16::from_be_bytes(*size));
                    let (&header, body) = after.get(..size)?.split_first()?;
                    if !matches!(header & 0x1f, 1..=23) {
                        return None;
                    }
                    facts.unit(header, body, true);
                    rest = &after[size..];
                }
            }
            FU_A => {
                let (&fragment, body) = rest.split_first()?;
                let (start, end, kind) =
                    (fragment & 0x80 != 0, fragment & 0x40 != 0, fragment & 0x1f);
                // RFC 6184 §5.8: start and end are never in one fragment; aggregates are not fragmented.
                if (start && end) || !matches!(kind, 1..=23) {
                    return None;
                }
                facts.unit((header & 0xe0) | kind, body, start);
            }
            _ => return None,
        }
        Some(facts)
    }

    fn unit(&mut self, header: u8, body: &[u8], start: bool) {
        let kind = header & 0x1f;
        // first_mb_in_slice is the first ue(v) of a slice header: a leading one bit says 0.
        let first_slice = start
            && matches!(kind, SLICE | PARTITION_A | IDR)
            && body.first().is_some_and(|b| b & 0x80 != 0);
        self.non_reference &= header & 0x60 == 0;
        self.sps |= kind == SPS;
        self.pps |= kind == PPS;
        self.idr |= kind == IDR;
        self.keyframe |= kind == SPS || (kind == IDR && first_slice);
        self.start_of_frame |= first_slice || (start && matches!(kind, AUD | SPS | SEI));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameter_sets_in_an_aggregate_start_a_keyframe() {
        let stap = [0x78, 0, 3, 0x67, 0x42, 0xc0, 0, 2, 0x68, 0xce];
        let facts = Facts::parse(&stap).unwrap_or_default();
        assert!(
            facts.keyframe
                && facts.sps
                && facts.pps
                && !facts.idr
                && facts.start_of_frame
                && !facts.non_reference
        );
    }

    #[test]
    fn only_the_first_fragment_of_the_first_slice_starts_a_picture() {
        let fact = |payload: &[u8]| Facts::parse(payload).unwrap_or_default();
        let first = fact(&[0x7c, 0x85, 0x88, 1, 2]);
        assert!(first.keyframe && first.idr && first.start_of_frame);
        let second_slice = fact(&[0x7c, 0x85, 0x40, 1, 2]);
        assert!(second_slice.idr && !second_slice.keyframe && !second_slice.start_of_frame);
        let middle = fact(&[0x7c, 0x05, 0x88, 1, 2]);
        assert!(middle.idr && !middle.keyframe && !middle.start_of_frame);
        let delta = fact(&[0x01, 0x9a, 1]);
        assert!(!delta.keyframe && delta.start_of_frame && delta.non_reference);
    }

    #[test]
    fn lying_lengths_and_foreign_types_are_refused() {
        for bad in [
            &[][..],
            &[0x78],
            &[0x78, 0, 0],
            &[0x78, 0, 9, 0x67],
            &[0x78, 0],
            &[0x7c],
            &[0x7c, 0xc5, 1],
            &[0x7c, 0x98, 1],
            &[0x79, 1, 2, 3],
            &[0x60],
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
