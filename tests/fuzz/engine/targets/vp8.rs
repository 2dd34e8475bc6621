//! VP8 payload descriptors: read, rewritten as forwarding does, and read again; with every length of room.

#![no_main]

use d4e_engine::wire::codec::vp8::{Descriptor, MAX_DESCRIPTOR, dimensions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[picture, tl0, room], payload)) = data.split_first_chunk() else {
        return;
    };
    let Some(read) = Descriptor::parse(payload) else {
        return;
    };
    assert!((1..payload.len()).contains(&read.len));
    assert!(!read.keyframe || read.start_of_frame());
    let size = dimensions(payload, &read);
    assert!(size.is_none() || read.keyframe);
    for len in 0..=read.len {
        assert_eq!(Descriptor::parse(&payload[..len]), None, "cut short");
    }

    let rewritten = Descriptor {
        picture_id: read.picture_id.map(|_| 0x7f00 | u16::from(picture)),
        tl0_pic_idx: read.tl0_pic_idx.map(|_| tl0),
        ..read
    };
    let mut out = vec![0; usize::from(room % 8)];
    match rewritten.write(&mut out) {
        None => assert!(out.len() < MAX_DESCRIPTOR),
        Some(len) => {
            assert!(len <= MAX_DESCRIPTOR);
            out.truncate(len);
            out.extend(&payload[read.len..]);
            let expected = Descriptor {
                len,
                long_picture_id: read.picture_id.is_some(),
                ..rewritten
            };
            let again = Descriptor::parse(&out);
            assert_eq!(again, Some(expected));
            assert_eq!(dimensions(&out, &expected), size);
        }
    }
});
