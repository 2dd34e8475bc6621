//! VP9 payload descriptors: read, rewritten as forwarding does, and read again; and what they say of layers.

#![no_main]

use d4e_engine::wire::codec::layer::Layer;
use d4e_engine::wire::codec::vp9::{Descriptor, MAX_HEAD};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[picture, tl0, room, top], payload)) = data.split_first_chunk() else {
        return;
    };
    let Some(read) = Descriptor::parse(payload) else {
        return;
    };
    assert!(read.head <= read.len && read.len < payload.len());
    for len in 0..=read.len {
        assert_eq!(Descriptor::parse(&payload[..len]), None, "cut short");
    }
    let frame = read.frame(top % 4);
    assert!(!read.keyframe() || frame.needed.contains(Layer::TOP) || read.not_reference);
    assert!(frame.needed.contains(Layer {
        spatial: frame.layer.spatial,
        temporal: 7
    }));

    let rewritten = Descriptor {
        picture_id: read.picture_id.map(|_| 0x7f00 | u16::from(picture)),
        tl0_pic_idx: read.tl0_pic_idx.map(|_| tl0),
        ..read
    };
    let mut out = vec![0; usize::from(room % 8)];
    match rewritten.write(&mut out) {
        None => assert!(out.len() < MAX_HEAD),
        Some(head) => {
            out.truncate(head);
            out.extend(&payload[read.head..]);
            let expected = Descriptor {
                len: read.len - read.head + head,
                head,
                long_picture_id: read.picture_id.is_some(),
                ..rewritten
            };
            assert_eq!(Descriptor::parse(&out), Some(expected));
        }
    }
});
