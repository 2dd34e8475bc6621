//! A publisher of three encodings, each counting from a beginning of its own, and what a decoder says of the result.

use super::client::Source;
use super::{Client, World, vp8};
use crate::api::Codec;
use crate::wire::codec::vp8::Descriptor;
use crate::wire::packet::Header;

pub(super) struct Simulcast {
    pub(super) client: Client,
    pub(super) sources: Vec<Source>,
    pub(super) pictures: Vec<u16>,
}

impl Simulcast {
    /// Each encoding counts from a beginning of its own.
    pub(super) fn new(world: &mut World, start: u16) -> Self {
        let client = Client::join(world, 1);
        world.publish_video(&client, 1, Codec::Vp8, &["q", "h", "f"]);
        let sources = [("q", 10u32), ("h", 20), ("f", 30)]
            .map(|(rid, ssrc)| {
                let mut source = Source::new(ssrc, 96, start.wrapping_mul(ssrc as u16))
                    .mid("p1")
                    .rid(rid);
                source.timestamp = ssrc.wrapping_mul(0x3333_3333);
                source
            })
            .into();
        Self {
            client,
            sources,
            pictures: vec![start, start.wrapping_add(9_000), start.wrapping_sub(70)],
        }
    }

    /// One frame of one packet in encoding `n`, 33 ms after the last.
    pub(super) fn shoot(&mut self, world: &mut World, n: usize, keyframe: bool) {
        let picture = self.pictures[n];
        self.pictures[n] = picture.wrapping_add(1);
        let payload = vp8(picture, picture as u8, 0, keyframe, &[n as u8; 10]);
        self.client
            .send(world, &mut self.sources[n], &payload, true);
    }

    pub(super) fn frame(&mut self, world: &mut World, encodings: &[usize]) {
        for &n in encodings {
            self.shoot(world, n, false);
        }
        self.tick(world);
    }

    pub(super) fn tick(&mut self, world: &mut World) {
        for source in &mut self.sources {
            source.timestamp = source.timestamp.wrapping_add(2_970);
        }
        world.pass(33);
        let _ = self.client.got(world);
    }
}

pub(super) fn encoding_of(payload: &[u8]) -> u8 {
    payload[payload.len() - 1]
}

/// Everything counts up by one; time moves forward, by about a frame.
pub(super) fn seamless(got: &[(Header, Vec<u8>)], name: &str) {
    for pair in got.windows(2) {
        let ((before, a), (after, b)) = (&pair[0], &pair[1]);
        let (a, b) = (Descriptor::parse(a).unwrap(), Descriptor::parse(b).unwrap());
        assert_eq!(after.seq.since(before.seq), 1, "{name}");
        assert_eq!(
            b.picture_id.unwrap().wrapping_sub(a.picture_id.unwrap()) & 0x7fff,
            1,
            "{name}"
        );
        assert_eq!(
            b.tl0_pic_idx.unwrap().wrapping_sub(a.tl0_pic_idx.unwrap()),
            1,
            "{name}"
        );
        let step = after.timestamp.since(before.timestamp);
        assert!(step > 0, "{name}: time stands still or runs back: {step}");
    }
}
