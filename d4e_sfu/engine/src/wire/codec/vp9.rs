//! VP9 payload descriptor (RFC 9628 §4.2): read, its numbers changed and written again. Layers are told by its own words
//! here, for senders that send no dependency descriptor.

use super::layer::{Frame, Layer, Layers, SPATIAL};

/// The descriptor as fields. Forwarding parses it, changes `picture_id` and `tl0_pic_idx`, and writes its head again
/// before `payload[descriptor.head..]`; references and scalability structure behind the head stay as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Of the whole descriptor, and of its head: flags, picture id, layer indices.
    pub len: usize,
    pub head: usize,
    /// P: refers to an earlier picture.
    pub inter_picture: bool,
    /// F: references are listed in each packet.
    pub flexible: bool,
    /// B and E: first and last packet of a frame (of one spatial layer of a picture).
    pub start: bool,
    pub end: bool,
    /// Z: no higher spatial layer refers to this frame.
    pub not_reference: bool,
    /// 7 or 15 bits as received; always written in the 15-bit form.
    pub picture_id: Option<u16>,
    pub long_picture_id: bool,
    pub layers: Option<Indices>,
    pub tl0_pic_idx: Option<u8>,
    /// Of the scalability structure, where there is one (V).
    pub spatial_layers: Option<u8>,
}

/// Layer indices (L).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    pub temporal: u8,
    /// U: what follows in higher temporal layers refers to nothing of them before this picture.
    pub switching_up: bool,
    pub spatial: u8,
    /// D: refers to the spatial layer below in the same picture.
    pub inter_layer: bool,
}

/// Longest head that `write` makes.
pub const MAX_HEAD: usize = 5;

/// References of a picture in flexible mode.
const MAX_REFERENCES: usize = 3;

impl Descriptor {
    /// `None`: cut short (also when nothing follows it), against the rules, or with more layers than anybody uses.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let flags = reader.byte()?;
        let flag = |bit: u8| flags & (0x80 >> bit) != 0;
        let (has_id, inter_picture, has_layers, flexible) = (flag(0), flag(1), flag(2), flag(3));
        // "This bit MUST only be set to 1 if the I bit is also set to 1."
        if flexible && !has_id {
            return None;
        }
        let (mut picture_id, mut long_picture_id) = (None, false);
        if has_id {
            let high = reader.byte()?;
            long_picture_id = high & 0x80 != 0;
            picture_id = Some(if long_picture_id {
                u16::from_be_bytes([high & 0x7f, reader.byte()?])
            } else {
                u16::from(high)
            });
        }
        let (mut layers, mut tl0_pic_idx) = (None, None);
        if has_layers {
            let byte = reader.byte()?;
            let indices = Indices {
                temporal: byte >> 5,
                switching_up: byte & 0x10 != 0,
                spatial: byte >> 1 & 7,
                inter_layer: byte & 1 != 0,
            };
            if indices.spatial >= SPATIAL {
                return None;
            }
            layers = Some(indices);
            if !flexible {
                tl0_pic_idx = Some(reader.byte()?);
            }
        }
        let head = payload.len() - reader.0.len();
        if flexible && inter_picture {
            let mut count = 1;
            while reader.byte()? & 1 != 0 {
                count += 1;
                if count > MAX_REFERENCES {
                    return None;
                }
            }
        }
        let spatial_layers = if flag(6) {
            Some(reader.structure()?)
        } else {
            None
        };
        if reader.0.is_empty() {
            return None;
        }
        Some(Self {
            len: payload.len() - reader.0.len(),
            head,
            inter_picture,
            flexible,
            start: flag(4),
            end: flag(5),
            not_reference: flag(7),
            picture_id,
            long_picture_id,
            layers,
            tl0_pic_idx,
            spatial_layers,
        })
    }

    /// Writes the head (at most [`MAX_HEAD`] bytes) and returns its length; `None` when `out` is too short.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let flag = |bit: u8, set: bool| u8::from(set) << (7 - bit);
        let mut bytes = [0; MAX_HEAD];
        bytes[0] = flag(0, self.picture_id.is_some())
            | flag(1, self.inter_picture)
            | flag(2, self.layers.is_some())
            | flag(3, self.flexible)
            | flag(4, self.start)
            | flag(5, self.end)
            | flag(6, self.spatial_layers.is_some())
            | flag(7, self.not_reference);
        let mut len = 1;
        if let Some(id) = self.picture_id {
            bytes[1..3].copy_from_slice(&(id | 0x8000).to_be_bytes());
            len = 3;
        }
        if let Some(indices) = self.layers {
            bytes[len] = indices.temporal << 5
                | u8::from(indices.switching_up) << 4
                | indices.spatial << 1
                | u8::from(indices.inter_layer);
            len += 1;
            if let Some(index) = self.tl0_pic_idx {
                bytes[len] = index;
                len += 1;
            }
        }
        out.get_mut(..len)?.copy_from_slice(&bytes[..len]);
        Some(len)
    }

    #[must_use]
    pub fn layer(&self) -> Layer {
        self.layers.map_or(Layer::default(), |indices| Layer {
            spatial: indices.spatial,
            temporal: indices.temporal,
        })
    }

    /// First packet of a picture that refers to no other.
    #[must_use]
    pub fn keyframe(&self) -> bool {
        self.start && !self.inter_picture && self.layer().spatial == 0
    }

    /// What the frame means to receivers, when `top` is the highest spatial layer.
    #[must_use]
    pub fn frame(&self, top: u8) -> Frame {
        let layer = self.layer();
        // Whose highest layer is this one; and who gets it as what his highest layer builds on.
        let own = if layer.spatial >= top {
            Layers::from_spatial(layer.spatial)
        } else {
            Layers::of_spatial(layer.spatial)
        };
        let above = Layers::from_spatial(layer.spatial).without(own);
        let sizes = if self.not_reference {
            own
        } else {
            own.with(above)
        };
        let needed = sizes.and(Layers::from_temporal(layer.temporal));
        let switching_up = self.layers.is_some_and(|indices| indices.switching_up);
        let (switches, opens) = if self.keyframe() {
            (Layers::ALL, Layers::ALL)
        } else if switching_up {
            (own.and(needed), Layers::NONE)
        } else {
            (Layers::NONE, Layers::NONE)
        };
        Frame {
            layer,
            start: self.start,
            top,
            needed,
            switches,
            opens,
            ends: if self.end { own } else { Layers::NONE },
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    /// Scalability structure; returns the number of spatial layers.
    fn structure(&mut self) -> Option<u8> {
        let first = self.byte()?;
        let spatial_layers = (first >> 5) + 1;
        if spatial_layers > SPATIAL {
            return None;
        }
        if first & 0x10 != 0 {
            self.skip(usize::from(spatial_layers) * 4)?;
        }
        if first & 0x08 != 0 {
            for _ in 0..self.byte()? {
                let references = self.byte()? >> 2 & 3;
                self.skip(usize::from(references))?;
            }
        }
        Some(spatial_layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(payload: &[u8]) -> Descriptor {
        Descriptor::parse(payload).unwrap()
    }

    #[test]
    fn a_keyframe_of_three_spatial_layers() {
        // I L B V | id 0x1234 | tid 0 U sid 0 | tl0 7 | N_S 2, Y, G | 3 sizes | 1 picture: tid 0, 1 reference
        let mut payload = vec![0xaa, 0x92, 0x34, 0x10, 7, 0x58];
        payload.extend([1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208]);
        payload.extend([1, 0x04, 1, 0x83]);
        let read = parsed(&payload);
        assert_eq!((read.len, read.head), (21, 5));
        assert_eq!((read.picture_id, read.tl0_pic_idx), (Some(0x1234), Some(7)));
        assert_eq!(read.spatial_layers, Some(3));
        assert!(read.keyframe() && read.start && !read.end);
        let frame = read.frame(2);
        assert_eq!(
            (frame.needed, frame.opens, frame.ends),
            (Layers::ALL, Layers::ALL, Layers::NONE)
        );
        let mut out = [0; MAX_HEAD];
        assert_eq!(read.write(&mut out), Some(5));
        assert_eq!(out, payload[..5]);
        assert_eq!(read.write(&mut out[..4]), None);
    }

    #[test]
    fn a_short_picture_id_grows() {
        let read = parsed(&[0xc8, 0x7f, 1]);
        assert_eq!((read.picture_id, read.long_picture_id), (Some(127), false));
        let mut out = [0; MAX_HEAD];
        assert_eq!(read.write(&mut out), Some(3));
        assert_eq!(out[..3], [0xc8, 0x80, 0x7f]);
    }

    #[test]
    fn who_needs_which_layer() {
        let at = |spatial, temporal| Layer { spatial, temporal };
        // I P L B E, sid 1 of 0..=2, tid 1; once as a reference for layer 2 (SVC), once not (K-SVC).
        let svc = parsed(&[0xec, 1, 0x22, 7, 1]).frame(2);
        let k_svc = parsed(&[0xed, 1, 0x22, 7, 1]).frame(2);
        for (limit, in_svc, in_k_svc) in [
            (at(0, 7), false, false),
            (at(1, 0), false, false),
            (at(1, 1), true, true),
            (at(1, 7), true, true),
            (at(2, 1), true, false),
            (at(3, 7), true, false),
        ] {
            assert_eq!(svc.needed.contains(limit), in_svc, "{limit:?}");
            assert_eq!(k_svc.needed.contains(limit), in_k_svc, "{limit:?}");
        }
        assert!(svc.ends.contains(at(1, 1)) && !svc.ends.contains(at(2, 1)));
        // The same when layer 1 is the highest that the encoder makes now: whoever wants more gets it.
        let top = parsed(&[0xed, 1, 0x22, 7, 1]).frame(1);
        assert!(top.needed.contains(at(2, 1)) && top.ends.contains(at(3, 7)));
    }

    #[test]
    fn cut_short_or_against_the_rules() {
        let payload = [0xba, 0x92, 0x34, 0x10, 0x18, 1, 0x04, 1];
        for len in 0..=payload.len() {
            assert_eq!(Descriptor::parse(&payload[..len]), None, "{len}");
        }
        for bad in [
            &[0x10, 1, 1][..],           // F without I
            &[0xa0, 1, 0x08, 7, 1],      // spatial layer 4
            &[0xd0, 1, 3, 5, 7, 2, 1],   // four references
            &[0x02, 0x80, 1],            // five spatial layers
            &[0x02, 0x08, 255, 0x0c, 1], // pictures that are not there
        ] {
            assert_eq!(Descriptor::parse(bad), None, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written(payload in proptest::collection::vec(any::<u8>(), 0..40), top in 0..4u8) {
            if let Some(read) = Descriptor::parse(&payload) {
                prop_assert!(read.head <= read.len && read.len < payload.len());
                let frame = read.frame(top);
                prop_assert!(frame.ends.0 & !frame.needed.with(Layers::of_temporal(0)).with(frame.ends).0 == 0);
                let mut out = vec![0; MAX_HEAD];
                let len = read.write(&mut out).unwrap_or(0);
                prop_assert!(len > 0);
                out.truncate(len);
                out.extend(&payload[read.head..]);
                let again = Descriptor::parse(&out);
                let grown = len - read.head;
                let long = read.picture_id.is_some();
                prop_assert_eq!(again, Some(Descriptor { len: read.len + grown, head: len, long_picture_id: long, ..read }));
            }
        }
    }
}
