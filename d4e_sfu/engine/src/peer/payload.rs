//! Frames to RTP payloads and back, in the shape that real packetizers give them (RFC 7741, RFC 6184, RFC 9628, RFC 7587,
//! RTP Payload Format for AV1): the
//! peer's own code, so that a misreading in the router cannot agree with itself.

use crate::wire::codec::{av1, h264, vp8, vp9};

use super::spec::Codec;

/// What a payload says of its frame besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub picture_id: Option<u16>,
    pub tl0_pic_idx: Option<u8>,
    pub tid: Option<u8>,
    pub layer_sync: bool,
    /// VP9: spatial layer, of how many, whether it refers to the one below, and whether the one above refers to it.
    pub spatial: u8,
    pub spatial_layers: u8,
    pub inter_layer: bool,
    pub not_reference: bool,
    /// VP9: how many pictures back the one is that it refers to (P_DIFF).
    pub difference: Option<u8>,
}

/// An encoded frame before packets, or put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub keyframe: bool,
    pub layer: Layer,
    pub body: Vec<u8>,
}

/// Opus at 48 kHz, 20 ms, fullband CELT, one frame (RFC 6716 §3.1).
const OPUS_TOC: u8 = 0xf8;
const SPS: [u8; 9] = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
/// First slice of a picture: first_mb_in_slice 0, then slice type and PPS 0.
const SLICE_START: u8 = 0x88;

/// Redundant audio (RFC 2198 §3): the sound of earlier packets, and the packet's own. `None` when lengths lie, or a block is
/// of something else than `payload_type`.
#[must_use]
pub fn redundancy(payload: &[u8], payload_type: u8) -> Option<(Vec<&[u8]>, &[u8])> {
    let (mut lengths, mut rest) = (Vec::new(), payload);
    while let [first, _, high, low, after @ ..] = rest
        && first >> 7 == 1
    {
        (first & 0x7f == payload_type).then_some(())?;
        lengths.push(usize::from(high & 3) << 8 | usize::from(*low));
        rest = after;
    }
    let (&last, mut rest) = rest.split_first()?;
    (last == payload_type).then_some(())?;
    let mut blocks = Vec::new();
    for len in lengths {
        let block;
        (block, rest) = rest.split_at_checked(len)?;
        blocks.push(block);
    }
    (!rest.is_empty()).then_some((blocks, rest))
}

/// The frame's packets, in order, none longer than `max` bytes.
#[must_use]
pub fn packetize(
    codec: Codec,
    frame: &Frame,
    (width, height): (u16, u16),
    max: usize,
) -> Vec<Vec<u8>> {
    match codec {
        Codec::Opus => vec![[&[OPUS_TOC][..], &frame.body].concat()],
        Codec::Vp8 => {
            let (w, h) = (width.to_le_bytes(), height.to_le_bytes());
            // RFC 6386 §9.1: frame tag with show_frame; the lowest bit is 0 on keyframes, then start code and size.
            let header: &[u8] = if frame.keyframe {
                &[0x10, 0, 0, 0x9d, 0x01, 0x2a, w[0], w[1], h[0], h[1]]
            } else {
                &[0x11, 0, 0]
            };
            let bytes = [header, &frame.body].concat();
            let mut descriptor = vp8::Descriptor {
                len: 0,
                non_reference: frame.layer.not_reference,
                start_of_partition: true,
                partition: 0,
                picture_id: frame.layer.picture_id,
                long_picture_id: true,
                tl0_pic_idx: frame.layer.tl0_pic_idx,
                tid: frame.layer.tid,
                layer_sync: frame.layer.layer_sync,
                key_idx: None,
                keyframe: frame.keyframe,
            };
            let mut payloads = Vec::new();
            for part in split(&bytes, max - vp8::MAX_DESCRIPTOR) {
                let mut head = [0; vp8::MAX_DESCRIPTOR];
                let len = descriptor.write(&mut head).unwrap_or(0);
                payloads.push([&head[..len], part].concat());
                descriptor.start_of_partition = false;
            }
            payloads
        }
        Codec::Vp9 => {
            let size = (width, height);
            let longest = vp9_descriptor(&frame.layer, frame.keyframe, size, true, true).len();
            let parts: Vec<_> = split(&frame.body, max - longest).collect();
            let last = parts.len() - 1;
            let head = |n| vp9_descriptor(&frame.layer, frame.keyframe, size, n == 0, n == last);
            (0..)
                .zip(parts)
                .map(|(n, part)| [&head(n), part].concat())
                .collect()
        }
        Codec::Av1 => {
            let ids = frame.layer.tid.unwrap_or(0) << 5 | frame.layer.spatial << 3;
            let obu = [&[OBU_FRAME, ids][..], &frame.body].concat();
            let parts: Vec<_> = split(&obu, max - 1).collect();
            let last = parts.len() - 1;
            // Z: goes on; Y: is gone on with; W = 1; N: a new sequence.
            let new = frame.keyframe && frame.layer.spatial == 0;
            let head = |n| {
                u8::from(n > 0) << 7 | u8::from(n < last) << 6 | 0x10 | u8::from(new && n == 0) << 3
            };
            (0..)
                .zip(parts)
                .map(|(n, part)| [&[head(n)], part].concat())
                .collect()
        }
        Codec::H264 => {
            let mut payloads = Vec::new();
            if frame.keyframe {
                let mut aggregate = vec![0x78];
                for unit in [&SPS[..], &PPS] {
                    aggregate.extend((unit.len() as u16).to_be_bytes());
                    aggregate.extend(unit);
                }
                payloads.push(aggregate);
            }
            let header = if frame.keyframe { 0x65 } else { 0x41 };
            let slice = [&[SLICE_START][..], &frame.body].concat();
            if slice.len() < max {
                payloads.push([&[header][..], &slice].concat());
            } else {
                let parts: Vec<_> = split(&slice, max - 2).collect();
                for (n, part) in parts.iter().enumerate() {
                    let ends = u8::from(n == 0) << 7 | u8::from(n == parts.len() - 1) << 6;
                    payloads.push([&[header & 0xe0 | 28, ends | header & 0x1f][..], part].concat());
                }
            }
            payloads
        }
    }
}

/// The descriptor of a VP9 packet in flexible mode, as Chromium sends it; with the scalability structure on the first
/// packet of a keyframe.
fn vp9_descriptor(
    layer: &Layer,
    keyframe: bool,
    (width, height): (u16, u16),
    start: bool,
    end: bool,
) -> Vec<u8> {
    let structure = start && keyframe && layer.spatial == 0;
    let flag = |bit: u8, set: bool| u8::from(set) << (7 - bit);
    let flags = [
        true,
        layer.difference.is_some(),
        true,
        true,
        start,
        end,
        structure,
        layer.not_reference,
    ];
    let mut bytes = vec![(0..).zip(flags).map(|(bit, set)| flag(bit, set)).sum()];
    bytes.extend((layer.picture_id.unwrap_or(0) | 0x8000).to_be_bytes());
    bytes.push(
        layer.tid.unwrap_or(0) << 5
            | u8::from(layer.layer_sync) << 4
            | layer.spatial << 1
            | u8::from(layer.inter_layer),
    );
    if let Some(difference) = layer.difference {
        bytes.push(difference << 1);
    }
    if structure {
        bytes.push((layer.spatial_layers - 1) << 5 | 0x10);
        for spatial in 0..layer.spatial_layers {
            let scale = 1 << (layer.spatial_layers - 1 - spatial);
            bytes.extend((width / scale).to_be_bytes());
            bytes.extend((height / scale).to_be_bytes());
        }
    }
    bytes
}

/// First byte of an OBU_FRAME with extension and without a size (AV1 bitstream specification, §5.3.2), and what is behind
/// the aggregation header in a packet of a part of it.
const OBU_FRAME: u8 = 0x34;

/// Parts of nearly equal length, the larger ones last, as libwebrtc's `SplitAboutEqually` makes them.
fn split(bytes: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    let count = bytes.len().div_ceil(max).max(1);
    let (small, larger) = (bytes.len() / count, bytes.len() % count);
    let mut rest = bytes;
    (0..count).map(move |n| {
        let len = small + usize::from(n >= count - larger);
        let (part, after) = rest.split_at(len);
        rest = after;
        part
    })
}

/// Whether a payload is the first of its frame. Of codecs with spatial layers a picture may hold several frames.
#[must_use]
pub fn starts_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp9 => payload.first().is_some_and(|flags| flags & 0x08 != 0),
        Codec::Av1 => payload.first().is_some_and(|header| header & 0x80 == 0),
        Codec::Opus | Codec::Vp8 | Codec::H264 => false,
    }
}

/// Puts a frame together from its payloads in order; `None` when a part is missing or malformed.
#[must_use]
pub fn assemble(codec: Codec, payloads: &[Vec<u8>]) -> Option<Frame> {
    let first = payloads.first()?;
    match codec {
        Codec::Opus => {
            let (toc, body) = first.split_first()?;
            (*toc == OPUS_TOC).then(|| Frame {
                keyframe: true,
                layer: Layer::default(),
                body: body.to_vec(),
            })
        }
        Codec::Vp8 => {
            let head = vp8::Descriptor::parse(first)?;
            let mut bytes = Vec::new();
            for (n, payload) in payloads.iter().enumerate() {
                let descriptor = vp8::Descriptor::parse(payload)?;
                let same = descriptor.picture_id == head.picture_id
                    && descriptor.tl0_pic_idx == head.tl0_pic_idx;
                if !same || descriptor.start_of_frame() != (n == 0) {
                    return None;
                }
                bytes.extend(&payload[descriptor.len..]);
            }
            let body = bytes.get(if head.keyframe { 10 } else { 3 }..)?.to_vec();
            let layer = Layer {
                picture_id: head.picture_id,
                tl0_pic_idx: head.tl0_pic_idx,
                tid: head.tid,
                layer_sync: head.layer_sync,
                ..Layer::default()
            };
            Some(Frame {
                keyframe: head.keyframe,
                layer,
                body,
            })
        }
        Codec::Vp9 => {
            let head = vp9::Descriptor::parse(first)?;
            let last = payloads.len() - 1;
            let mut body = Vec::new();
            for (n, payload) in payloads.iter().enumerate() {
                let descriptor = vp9::Descriptor::parse(payload)?;
                let same = descriptor.picture_id == head.picture_id
                    && descriptor.layers == head.layers
                    && descriptor.inter_picture == head.inter_picture;
                if !same || descriptor.start != (n == 0) || descriptor.end != (n == last) {
                    return None;
                }
                body.extend(&payload[descriptor.len..]);
            }
            let indices = head.layers?;
            let layer = Layer {
                picture_id: head.picture_id,
                tl0_pic_idx: head.tl0_pic_idx,
                tid: Some(indices.temporal),
                layer_sync: indices.switching_up,
                spatial: indices.spatial,
                spatial_layers: head.spatial_layers.unwrap_or(0),
                inter_layer: indices.inter_layer,
                not_reference: head.not_reference,
                difference: match head.inter_picture {
                    true => Some(first.get(head.head)? >> 1),
                    false => None,
                },
            };
            Some(Frame {
                keyframe: !head.inter_picture && indices.spatial == 0,
                layer,
                body,
            })
        }
        Codec::Av1 => {
            let last = payloads.len() - 1;
            let mut obu = Vec::new();
            for (n, payload) in payloads.iter().enumerate() {
                let facts = av1::Facts::parse(payload)?;
                if facts.continued != (n > 0) || facts.continues != (n < last) {
                    return None;
                }
                obu.extend(&payload[1..]);
            }
            let &[OBU_FRAME, ids, ref body @ ..] = obu.as_slice() else {
                return None;
            };
            Some(Frame {
                keyframe: av1::Facts::parse(first)?.keyframe,
                layer: Layer {
                    tid: Some(ids >> 5),
                    spatial: ids >> 3 & 3,
                    ..Layer::default()
                },
                body: body.to_vec(),
            })
        }
        Codec::H264 => {
            let (mut keyframe, mut sps, mut bytes, mut ended) = (false, false, Vec::new(), false);
            for payload in payloads {
                let facts = h264::Facts::parse(payload)?;
                sps |= facts.sps;
                keyframe |= facts.idr;
                match payload[0] & 0x1f {
                    28 => {
                        // The first fragment starts the slice, and only the first.
                        if (payload[1] & 0x80 != 0) != bytes.is_empty() || ended {
                            return None;
                        }
                        ended = payload[1] & 0x40 != 0;
                        bytes.extend(&payload[2..]);
                    }
                    1 | 5 if bytes.is_empty() => {
                        ended = true;
                        bytes.extend(&payload[1..]);
                    }
                    24 => {}
                    _ => return None,
                }
            }
            let body = bytes.strip_prefix(&[SLICE_START])?.to_vec();
            // A keyframe without its parameter sets cannot be decoded by who has just come.
            (ended && keyframe == sps).then(|| Frame {
                keyframe,
                layer: Layer::default(),
                body,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_packets_and_no_part_may_be_missing() {
        for codec in [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1] {
            for (keyframe, len) in [
                (true, 40),
                (true, 1088),
                (true, 9000),
                (false, 40),
                (false, 1097),
                (false, 5000),
            ] {
                let layer = match codec {
                    Codec::Vp8 => Layer {
                        picture_id: Some(77),
                        tl0_pic_idx: Some(3),
                        tid: Some(1),
                        layer_sync: true,
                        ..Layer::default()
                    },
                    Codec::Vp9 => Layer {
                        picture_id: Some(77),
                        tid: Some(1),
                        layer_sync: true,
                        spatial_layers: u8::from(keyframe),
                        difference: (!keyframe).then_some(2),
                        ..Layer::default()
                    },
                    Codec::Av1 => Layer {
                        tid: Some(1),
                        ..Layer::default()
                    },
                    Codec::Opus | Codec::H264 => Layer::default(),
                };
                let frame = Frame {
                    keyframe,
                    layer,
                    body: (0..len).map(|n| n as u8).collect(),
                };
                let payloads = packetize(codec, &frame, (640, 360), 1100);
                assert!(payloads.iter().all(|payload| payload.len() <= 1100));
                let lengths: Vec<_> = payloads
                    .iter()
                    .map(Vec::len)
                    .filter(|&len| len > 100)
                    .collect();
                let spread = lengths.iter().max().zip(lengths.iter().min());
                // The structure in front of a VP9 keyframe is no part of it.
                let more = if codec == Codec::Vp9 { 10 } else { 1 };
                assert!(spread.is_none_or(|(max, min)| max - min <= more));
                assert_eq!(assemble(codec, &payloads).as_ref(), Some(&frame));
                for missing in 0..payloads.len() {
                    let mut payloads = payloads.clone();
                    payloads.remove(missing);
                    let assembled = assemble(codec, &payloads);
                    // A hole inside is the sequence number's to see, and the checksum's.
                    assert_ne!(assembled.as_ref(), Some(&frame), "{codec:?} {missing}");
                    assert!(assembled.is_none() || missing > 0);
                }
            }
        }
    }
}
