//! RTP packets: telling datagrams apart by their first byte, reading a header in place, writing a fresh one.

use std::ops::Range;

use super::drop::DropReason;
use super::seq::{SeqNo, Ssrc, Timestamp};

/// What a datagram is, by RFC 7983 §7; RTP and RTCP are told apart by RFC 5761 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    match (datagram.first()?, datagram.get(1)) {
        (0..=3, _) => Some(Kind::Stun),
        (20..=63, _) => Some(Kind::Dtls),
        // Payload types 64–95 with the marker bit are RTCP packet types 192–223.
        (128..=191, Some(192..=223)) => Some(Kind::Rtcp),
        (128..=191, Some(_)) => Some(Kind::Rtp),
        _ => None,
    }
}

/// A parsed header: no borrow; offsets are relative to the packet it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    pub padding: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub timestamp: Timestamp,
    pub ssrc: Ssrc,
    /// Length of everything before the payload: what SRTP leaves in clear.
    pub len: usize,
    form: Form,
    /// Where the extension elements begin; they end at `len`.
    elements: usize,
}

/// How extension elements are written (RFC 8285 §4.2, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// None, or of a profile that we do not know: skipped (RFC 3550 §5.3.1).
    Unknown,
    OneByte,
    TwoByte,
}

const FIXED_LEN: usize = 12;

impl Header {
    /// Reads the fixed header, CSRCs and the bounds of the extension with all its elements; works on encrypted packets.
    /// Lengths that lie: `BadRtp`, in the extension `BadExtension`.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed = packet
            .first_chunk::<FIXED_LEN>()
            .ok_or(DropReason::BadRtp)?;
        if fixed[0] >> 6 != 2 {
            return Err(DropReason::BadRtp);
        }
        let mut len = FIXED_LEN + usize::from(fixed[0] & 0x0f) * 4;
        if packet.len() < len {
            return Err(DropReason::BadRtp);
        }
        let (mut form, mut elements) = (Form::Unknown, len);
        if fixed[0] & 0x10 != 0 {
            let &[p0, p1, l0, l1] = packet
                .get(len..)
                .and_then(|rest| rest.first_chunk::<4>())
                .ok_or(DropReason::BadExtension)?;
            form = match u16::from_be_bytes([p0, p1]) {
                0xbede => Form::OneByte,
                // The low four bits are "appbits", to be ignored (RFC 8285 §4.3).
                0x1000..=0x100f => Form::TwoByte,
                _ => Form::Unknown,
            };
            elements = len + 4;
            len = elements + usize::from(u16::from_be_bytes([l0, l1])) * 4;
            if packet.len() < len {
                return Err(DropReason::BadExtension);
            }
        }
        let header = Self {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: SeqNo(u16::from_be_bytes([fixed[2], fixed[3]])),
            timestamp: Timestamp(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: Ssrc(u32::from_be_bytes([
                fixed[8], fixed[9], fixed[10], fixed[11],
            ])),
            len,
            form,
            elements,
        };
        let mut elements = header.extensions(packet);
        elements.by_ref().for_each(drop);
        if elements.lied {
            return Err(DropReason::BadExtension);
        }
        Ok(header)
    }

    /// Elements in order, padding skipped; `parse` has found that none is longer than what holds it. Ends at id 15 of the
    /// one-byte form (RFC 8285 §4.2: stop there).
    #[must_use]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let rest = match self.form {
            Form::Unknown => &[],
            Form::OneByte | Form::TwoByte => {
                packet.get(self.elements..self.len).unwrap_or_default()
            }
        };
        Extensions {
            rest,
            two_byte: self.form == Form::TwoByte,
            lied: false,
        }
    }

    /// First element with this id.
    #[must_use]
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet)
            .find_map(|(found, value)| (found == id).then_some(value))
    }

    /// Where the payload lies in a *decrypted* packet, padding taken off; empty for probe padding.
    /// A padding length that lies: `BadRtp`.
    pub fn payload(&self, packet: &[u8]) -> Result<Range<usize>, DropReason> {
        let mut end = packet.len();
        if self.padding {
            // RFC 3550 §5.1: the last byte counts itself.
            let count = usize::from(*packet.last().ok_or(DropReason::BadRtp)?);
            if count == 0 || count > end.saturating_sub(self.len) {
                return Err(DropReason::BadRtp);
            }
            end -= count;
        }
        if end < self.len {
            return Err(DropReason::BadRtp);
        }
        Ok(self.len..end)
    }
}

/// Iterator over (id, value).
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
    /// It ended at an element that is longer than what is left.
    lied: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            // Id 0 is one byte of padding in both forms. In the one-byte form its length bits are ignored (RFC 8285 §4.2).
            if (self.two_byte && first == 0) || (!self.two_byte && first >> 4 == 0) {
                self.rest = after;
                continue;
            }
            self.rest = &[];
            let (id, found) = if self.two_byte {
                let found = after
                    .split_first()
                    .and_then(|(&len, after)| after.split_at_checked(usize::from(len)));
                (first, found)
            } else if first >> 4 == 15 {
                return None;
            } else {
                let len = usize::from(first & 0x0f) + 1;
                (first >> 4, after.split_at_checked(len))
            };
            self.lied = found.is_none();
            let (value, after) = found?;
            self.rest = after;
            return Some((id, value));
        }
    }
}

/// What a fresh header says. No CSRCs are ever written: they name sources of the publisher's transport, and mean nothing,
/// or something else, on the subscriber's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub marker: bool,
    /// The caller ends the payload with the padding and its count.
    pub padding: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub timestamp: Timestamp,
    pub ssrc: Ssrc,
}

/// Where the value of the first header extension lies in a packet that [`write_header`] wrote.
#[must_use]
pub fn first_element(packet: &[u8]) -> usize {
    let one_byte = packet.get(FIXED_LEN) == Some(&0xbe);
    FIXED_LEN + 4 + if one_byte { 1 } else { 2 }
}

/// Writes a header with these extension elements: one-byte form when every id is 1–14 and every length 1–16, else
/// two-byte. Returns its length; `None` when it does not fit into `out`, an id is 0 or an element is over 255 bytes.
#[must_use]
pub fn write_header(out: &mut [u8], fields: &Fields, extensions: &[(u8, &[u8])]) -> Option<usize> {
    let fixed = out.first_chunk_mut::<FIXED_LEN>()?;
    fixed[0] = 0x80 | u8::from(fields.padding) << 5 | u8::from(!extensions.is_empty()) << 4;
    fixed[1] = u8::from(fields.marker) << 7 | (fields.payload_type & 0x7f);
    fixed[2..4].copy_from_slice(&fields.seq.0.to_be_bytes());
    fixed[4..8].copy_from_slice(&fields.timestamp.0.to_be_bytes());
    fixed[8..12].copy_from_slice(&fields.ssrc.0.to_be_bytes());
    if extensions.is_empty() {
        return Some(FIXED_LEN);
    }
    let one_byte = extensions
        .iter()
        .all(|(id, value)| matches!(id, 1..=14) && matches!(value.len(), 1..=16));
    let elements = FIXED_LEN + 4;
    let mut at = elements;
    for (id, value) in extensions {
        let len = u8::try_from(value.len()).ok()?;
        if *id == 0 {
            return None;
        }
        if one_byte {
            *out.get_mut(at)? = id << 4 | (len - 1);
            at += 1;
        } else {
            out.get_mut(at..at + 2)?.copy_from_slice(&[*id, len]);
            at += 2;
        }
        out.get_mut(at..at + value.len())?.copy_from_slice(value);
        at += value.len();
    }
    let end = at.next_multiple_of(4);
    out.get_mut(at..end)?.fill(0);
    let words = u16::try_from((end - elements) / 4).ok()?;
    out[FIXED_LEN..FIXED_LEN + 2].copy_from_slice(&if one_byte {
        [0xbe, 0xde]
    } else {
        [0x10, 0x00]
    });
    out[FIXED_LEN + 2..elements].copy_from_slice(&words.to_be_bytes());
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: Fields = Fields {
        marker: true,
        padding: false,
        payload_type: 111,
        seq: SeqNo(0xfffe),
        timestamp: Timestamp(7),
        ssrc: Ssrc(0x0102_0304),
    };

    fn written(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = [0xaa; 600];
        let len = write_header(&mut out, &FIELDS, extensions).unwrap_or(0);
        out[..len].to_vec()
    }

    #[test]
    fn every_first_byte() {
        for first in 0..=255u8 {
            let kind = match first {
                0..=3 => Some(Kind::Stun),
                20..=63 => Some(Kind::Dtls),
                128..=191 => Some(Kind::Rtp),
                _ => None,
            };
            assert_eq!(classify(&[first, 111]), kind, "{first}");
        }
        assert_eq!(classify(&[0x81, 200]), Some(Kind::Rtcp));
        assert_eq!(classify(&[0x80, 0x80 | 63]), Some(Kind::Rtp));
        assert_eq!(classify(&[0x80]), None);
        assert_eq!(classify(&[]), None);
    }

    #[test]
    fn one_byte_form_by_hand() {
        let header = written(&[(1, b"0"), (3, &[0x12, 0x34])]);
        assert_eq!(
            header[..12],
            [0x90, 0xef, 0xff, 0xfe, 0, 0, 0, 7, 1, 2, 3, 4]
        );
        assert_eq!(
            header[12..],
            [0xbe, 0xde, 0, 2, 0x10, b'0', 0x31, 0x12, 0x34, 0, 0, 0]
        );
    }

    #[test]
    fn two_byte_form_when_an_id_or_a_length_needs_it() {
        for extensions in [[(15u8, &b"x"[..]), (1, b"y")], [(1, &[7; 17]), (2, b"")]] {
            let packet = written(&extensions);
            assert_eq!(packet[12..14], [0x10, 0]);
            let Ok(header) = Header::parse(&packet) else {
                unreachable!()
            };
            assert!(header.extensions(&packet).eq(extensions));
        }
    }

    #[test]
    fn id_fifteen_ends_the_one_byte_form_and_padding_does_not() {
        let elements = [0x00, 0x10, 1, 0x00, 0x20, 2, 0xf0, 9, 0x30, 3, 0, 0];
        let mut packet = written(&[]);
        packet[0] |= 0x10;
        packet.extend([0xbe, 0xde, 0, 3]);
        packet.extend(elements);
        let Ok(header) = Header::parse(&packet) else {
            unreachable!()
        };
        assert!(header.extensions(&packet).eq([(1, &[1][..]), (2, &[2])]));
        assert_eq!(header.extension(&packet, 3), None);
    }

    #[test]
    fn lengths_that_lie() {
        let mut packet = written(&[(1, b"abc")]);
        packet[15] = 2;
        assert_eq!(
            Header::parse(&packet),
            Err(DropReason::BadExtension),
            "extension beyond the packet"
        );
        packet[15] = 1;
        packet[16] = 0x1f;
        assert_eq!(
            Header::parse(&packet),
            Err(DropReason::BadExtension),
            "element beyond the extension"
        );
        packet[12..14].copy_from_slice(&[0x10, 0]);
        for elements in [[1, 3, 0, 0], [0, 0, 0, 7]] {
            packet[16..20].copy_from_slice(&elements);
            assert_eq!(
                Header::parse(&packet),
                Err(DropReason::BadExtension),
                "two-byte element beyond the extension, or without its length: {elements:?}"
            );
        }
        packet[16..20].copy_from_slice(&[1, 2, 5, 6]);
        assert!(Header::parse(&packet).is_ok());
        packet[12..14].copy_from_slice(&[0xab, 0xcd]);
        packet[16..20].fill(0xff);
        assert!(
            Header::parse(&packet).is_ok(),
            "elements of a profile that we do not know are nobody's lie"
        );
        packet[0] |= 0x0f;
        assert_eq!(
            Header::parse(&packet),
            Err(DropReason::BadRtp),
            "CSRCs beyond the packet"
        );
        packet[0] = 0x40;
        assert_eq!(Header::parse(&packet), Err(DropReason::BadRtp), "version 1");
    }

    #[test]
    fn padding_is_taken_off_and_checked() {
        let mut packet = written(&[]);
        packet[0] |= 0x20;
        let Ok(header) = Header::parse(&packet) else {
            unreachable!()
        };
        assert_eq!(
            header.payload(&packet),
            Err(DropReason::BadRtp),
            "no room for the count"
        );
        packet.extend([9, 9, 0, 2]);
        assert_eq!(header.payload(&packet), Ok(12..14));
        packet[15] = 4;
        assert_eq!(header.payload(&packet), Ok(12..12), "nothing but padding");
        for count in [0, 5] {
            packet[15] = count;
            assert_eq!(header.payload(&packet), Err(DropReason::BadRtp));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(mut packet in proptest::collection::vec(any::<u8>(), 0..96), force in any::<bool>()) {
            if force && packet.len() > 20 {
                packet[0] = 0x80 | (packet[0] & 0x30);
                let form = if packet[1] & 1 == 0 { [0xbe, 0xde, 0] } else { [0x10, 0, 0] };
                packet[12..15].copy_from_slice(&form);
                packet[15] &= 15;
            }
            let _ = classify(&packet);
            if let Ok(header) = Header::parse(&packet) {
                let mut elements = header.extensions(&packet);
                let total: usize = elements.by_ref().map(|(_, value)| value.len() + 1).sum();
                prop_assert!(!elements.lied);
                prop_assert!(total <= packet.len());
                if let Ok(payload) = header.payload(&packet) {
                    prop_assert!(payload.start == header.len && payload.end <= packet.len());
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            extensions in proptest::collection::vec((1..=20u8, proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
            room in 0..200usize,
        ) {
            let elements: Vec<(u8, &[u8])> = extensions.iter().map(|(id, value)| (*id, &value[..])).collect();
            let mut out = vec![0x55; room];
            if let Some(len) = write_header(&mut out, &FIELDS, &elements) {
                let header = Header::parse(&out[..len]);
                prop_assert!(header.is_ok());
                if let Ok(header) = header {
                    prop_assert_eq!((header.len, header.seq, header.ssrc, header.marker), (len, FIELDS.seq, FIELDS.ssrc, true));
                    prop_assert!(header.extensions(&out[..len]).eq(elements.iter().copied()));
                }
            } else {
                prop_assert!(room < 16 + extensions.iter().map(|(_, v)| v.len() + 2).sum::<usize>() + 3);
            }
        }
    }
}
