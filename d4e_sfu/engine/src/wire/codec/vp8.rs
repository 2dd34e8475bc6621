//! VP8 payload descriptor (RFC 7741 §4.2): read, changed and written again; and the keyframe header's facts.

use super::layer::{Frame, Layer, Layers};

/// The descriptor as fields. Forwarding parses it, changes `picture_id` and `tl0_pic_idx`, and writes it again before
/// `payload[descriptor.len..]`. `len` is what it took in the packet it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub len: usize,
    /// N: nobody refers to this frame.
    pub non_reference: bool,
    /// S: first packet of a partition.
    pub start_of_partition: bool,
    pub partition: u8,
    /// 7 or 15 bits as received; always written in the 15-bit form.
    pub picture_id: Option<u16>,
    /// The 15-bit form was received.
    pub long_picture_id: bool,
    pub tl0_pic_idx: Option<u8>,
    pub tid: Option<u8>,
    /// Y: refers only to base-layer frames: a switching-up point.
    pub layer_sync: bool,
    pub key_idx: Option<u8>,
    /// First packet of a keyframe.
    pub keyframe: bool,
}

/// Longest descriptor that `write` makes.
pub const MAX_DESCRIPTOR: usize = 6;

impl Descriptor {
    /// `None`: not VP8, or cut short (also when nothing follows the descriptor).
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let mut take = || {
            let (&first, after) = rest.split_first()?;
            rest = after;
            Some(first)
        };
        let first = take()?;
        let present = if first & 0x80 != 0 { take()? } else { 0 };
        let (mut picture_id, mut long_picture_id) = (None, false);
        if present & 0x80 != 0 {
            let high = take()?;
            long_picture_id = high & 0x80 != 0;
            picture_id = Some(if long_picture_id {
                u16::from_be_bytes([high & 0x7f, take()?])
            } else {
                u16::from(high)
            });
        }
        let tl0_pic_idx = if present & 0x40 != 0 {
            Some(take()?)
        } else {
            None
        };
        let (mut tid, mut layer_sync, mut key_idx) = (None, false, None);
        if present & 0x30 != 0 {
            let both = take()?;
            if present & 0x20 != 0 {
                tid = Some(both >> 6);
                layer_sync = both & 0x20 != 0;
            }
            if present & 0x10 != 0 {
                key_idx = Some(both & 0x1f);
            }
        }
        let (start_of_partition, partition) = (first & 0x10 != 0, first & 0x07);
        // RFC 6386 §9.1: the lowest bit of the frame tag is 0 on keyframes.
        let inter = rest.first()? & 1 != 0;
        Some(Self {
            len: payload.len() - rest.len(),
            non_reference: first & 0x20 != 0,
            start_of_partition,
            partition,
            picture_id,
            long_picture_id,
            tl0_pic_idx,
            tid,
            layer_sync,
            key_idx,
            keyframe: start_of_partition && partition == 0 && !inter,
        })
    }

    /// Writes the descriptor (at most [`MAX_DESCRIPTOR`] bytes), returns its length; `None` when `out` is too short.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut bytes = [0; MAX_DESCRIPTOR];
        bytes[0] = u8::from(self.non_reference) << 5
            | u8::from(self.start_of_partition) << 4
            | (self.partition & 7);
        let mut present = 0;
        let mut len = 2;
        if let Some(id) = self.picture_id {
            present |= 0x80;
            bytes[len..len + 2].copy_from_slice(&(id | 0x8000).to_be_bytes());
            len += 2;
        }
        if let Some(index) = self.tl0_pic_idx {
            present |= 0x40;
            bytes[len] = index;
            len += 1;
        }
        if self.tid.is_some() || self.key_idx.is_some() {
            if let Some(tid) = self.tid {
                present |= 0x20;
                bytes[len] |= (tid & 3) << 6 | u8::from(self.layer_sync) << 5;
            }
            if let Some(key_idx) = self.key_idx {
                present |= 0x10;
                bytes[len] |= key_idx & 0x1f;
            }
            len += 1;
        }
        if present == 0 {
            len = 1;
        } else {
            bytes[0] |= 0x80;
            bytes[1] = present;
        }
        out.get_mut(..len)?.copy_from_slice(&bytes[..len]);
        Some(len)
    }

    /// What the frame means to receivers. RFC 7741 §4.2: a frame with Y refers to the base layer alone, so that one may go
    /// up to its layer there; of those above it nothing is said.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let temporal = self.tid.unwrap_or(0);
        let opens = if self.keyframe {
            Layers::ALL
        } else if self.layer_sync && self.start_of_frame() {
            Layers::of_temporal(temporal)
        } else {
            Layers::NONE
        };
        Frame {
            layer: Layer {
                spatial: 0,
                temporal,
            },
            start: self.start_of_frame(),
            needed: Layers::from_temporal(temporal),
            opens,
            ..Frame::UNKNOWN
        }
    }

    #[must_use]
    pub const fn start_of_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }
}

/// Width and height from the first packet of a keyframe (RFC 6386 §9.1).
#[must_use]
pub fn dimensions(payload: &[u8], descriptor: &Descriptor) -> Option<(u16, u16)> {
    let header = payload.get(descriptor.len..)?.first_chunk::<10>()?;
    if !descriptor.keyframe || header[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let side = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    Some((side(header[6], header[7]), side(header[8], header[9])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn libwebrtc_simulcast_descriptor() {
        // X, S | I L T K | 15-bit picture id 0x1234 | tl0 7 | tid 1, Y, key 3 | keyframe tag, 640 x 360
        let payload = [
            0x90, 0xf0, 0x92, 0x34, 7, 0x63, 0x50, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1,
        ];
        let Some(descriptor) = Descriptor::parse(&payload) else {
            unreachable!()
        };
        assert_eq!(descriptor.len, 6);
        assert_eq!(
            (
                descriptor.picture_id,
                descriptor.tl0_pic_idx,
                descriptor.tid
            ),
            (Some(0x1234), Some(7), Some(1))
        );
        assert!(
            descriptor.layer_sync
                && descriptor.keyframe
                && descriptor.start_of_frame()
                && descriptor.long_picture_id
        );
        assert_eq!(dimensions(&payload, &descriptor), Some((640, 360)));
        let mut out = [0; MAX_DESCRIPTOR];
        assert_eq!(descriptor.write(&mut out), Some(6));
        assert_eq!(out, payload[..6]);
        assert_eq!(descriptor.write(&mut out[..5]), None);
    }

    #[test]
    fn a_short_picture_id_grows() {
        let Some(descriptor) = Descriptor::parse(&[0x80, 0x80, 0x7f, 0x01]) else {
            unreachable!()
        };
        assert_eq!(
            (
                descriptor.picture_id,
                descriptor.long_picture_id,
                descriptor.len
            ),
            (Some(127), false, 3)
        );
        let mut out = [0; MAX_DESCRIPTOR];
        assert_eq!(descriptor.write(&mut out), Some(4));
        assert_eq!(out[..4], [0x80, 0x80, 0x80, 0x7f]);
    }

    #[test]
    fn cut_short_at_every_length() {
        let payload = [0x90, 0xf0, 0x92, 0x34, 7, 0x63, 0x50];
        for len in 0..payload.len() {
            assert_eq!(Descriptor::parse(&payload[..len]), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written(payload in proptest::collection::vec(any::<u8>(), 0..16)) {
            if let Some(read) = Descriptor::parse(&payload) {
                prop_assert!(read.len < payload.len());
                let _ = dimensions(&payload, &read);
                let mut out = [0; MAX_DESCRIPTOR + 10];
                let len = read.write(&mut out).unwrap_or(0);
                prop_assert!(len > 0);
                let rest = &payload[read.len..];
                let rest = &rest[..rest.len().min(10)];
                out[len..len + rest.len()].copy_from_slice(rest);
                let again = Descriptor::parse(&out[..len + rest.len()]);
                let long = read.picture_id.is_some();
                prop_assert_eq!(again, Some(Descriptor { len, long_picture_id: long, ..read }));
            }
        }
    }
}
