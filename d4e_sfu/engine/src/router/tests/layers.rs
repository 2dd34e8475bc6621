//! What Chromium sent (tests/vectors/rtp), through the router: who wants a layer gets that layer, as a stream without a trace
//! of the rest. And the same streams with lies in their descriptors.

use std::collections::BTreeMap;

use super::client::{DEPENDENCY, Source};
use super::{Client, Got, World};
use crate::api::{Codec, Command};
use crate::wire::codec::dependency::{Descriptor, Structure};
use crate::wire::codec::layer::{Frame, Layer};
use crate::wire::codec::vp9;
use crate::wire::drop::DropReason;

/// A packet as it was recorded; of the payload what is behind the first bytes is lost.
struct Recorded {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    dependency: Vec<u8>,
}

fn recorded(name: &str) -> Vec<Recorded> {
    let path = format!(
        "{}/../../tests/vectors/rtp/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let unhex = |text: &str| {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect::<Vec<u8>>()
    };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let mut payload = unhex(words[4]);
            payload.resize(words[3].parse().unwrap(), 0);
            Recorded {
                timestamp: words[1].parse().unwrap(),
                marker: words[2] == "1",
                payload,
                dependency: unhex(words[5]),
            }
        })
        .collect()
}

/// What a viewer got, with the frames that a decoder would read out of it.
#[derive(Default)]
struct Seen {
    /// (timestamp, marker, frame) of each packet.
    packets: Vec<(u32, bool, Frame)>,
    masked: bool,
}

impl Seen {
    fn temporal(&self) -> u8 {
        self.packets
            .iter()
            .map(|(_, _, frame)| frame.layer.temporal)
            .max()
            .unwrap()
    }

    /// The highest spatial layer of each picture, by timestamp.
    fn sizes(&self) -> BTreeMap<u32, u8> {
        let mut sizes = BTreeMap::new();
        for (timestamp, _, frame) in &self.packets {
            let size = sizes.entry(*timestamp).or_insert(0);
            *size = frame.layer.spatial.max(*size);
        }
        sizes
    }
}

struct Scene {
    world: World,
    publisher: Client,
    viewer: Client,
    source: Source,
    structure: Structure,
}

impl Scene {
    fn new(codec: Codec) -> Self {
        let mut world = World::new();
        let publisher = Client::join(&mut world, 1);
        let viewer = Client::join(&mut world, 2);
        world.publish_video(&publisher, 1, codec, &[]);
        world.subscribe(&viewer, 1, 1, Some(0));
        Self {
            world,
            publisher,
            viewer,
            source: Source::new(0x1111, 96, 65_500).mid("p1"),
            structure: Structure::default(),
        }
    }

    fn want(&mut self, spatial: u8, temporal: u8) {
        self.world.apply(Command::SetLayer {
            subscription: 1,
            spatial: Some(spatial),
            temporal,
        });
    }

    fn send(&mut self, packets: &[Recorded]) {
        let mut before = None;
        for packet in packets {
            if before.replace(packet.timestamp) != Some(packet.timestamp) {
                self.world.pass(5);
                self.publisher.check(&mut self.world, true);
                self.viewer.check(&mut self.world, true);
            }
            self.source.timestamp = packet.timestamp;
            self.source.dependency = packet.dependency.clone();
            self.publisher.send(
                &mut self.world,
                &mut self.source,
                &packet.payload,
                packet.marker,
            );
        }
    }

    /// Everything counts up by one, and every picture ends with its marker and nowhere else.
    fn seen(&mut self) -> Seen {
        let mut seen = Seen::default();
        let mut last: Option<(crate::wire::seq::SeqNo, u32, bool)> = None;
        for got in self.viewer.got(&mut self.world) {
            let Got::Rtp {
                header,
                packet,
                payload,
            } = got
            else {
                continue;
            };
            let timestamp = header.timestamp.0;
            if let Some((seq, before, marker)) = last {
                assert_eq!(header.seq.since(seq), 1, "a hole of our making");
                assert_eq!(
                    marker,
                    before != timestamp,
                    "a picture ends with its marker"
                );
            }
            last = Some((header.seq, timestamp, header.marker));
            let bytes = header.extension(&packet, DEPENDENCY).unwrap();
            let mut next = Structure::default();
            let descriptor = Descriptor::parse(bytes, &mut next).unwrap();
            if descriptor.structure.is_some() {
                self.structure = next;
            }
            seen.masked |= descriptor.masks();
            let frame = descriptor.frame(bytes, &mut self.structure, true).unwrap();
            assert!(!payload.is_empty());
            seen.packets
                .push((timestamp, header.marker, frame.unwrap()));
        }
        assert!(!seen.packets.is_empty());
        seen
    }
}

#[test]
fn who_wants_a_layer_gets_it_and_no_more() {
    for (name, codec, spatial) in [
        ("vp9-l3t3-key-large", Codec::Vp9, 3),
        ("av1-l3t3-key-large", Codec::Av1, 3),
        ("av1-l3t3", Codec::Av1, 3),
        ("av1-l1t3", Codec::Av1, 1),
    ] {
        let packets = recorded(name);
        let all = {
            let mut scene = Scene::new(codec);
            scene.want(2, 255);
            scene.send(&packets);
            scene.seen()
        };
        assert!(all.packets.len() + 60 > packets.len(), "{name}");
        for limit in (0..spatial).flat_map(|s| {
            (0..3).map(move |t| Layer {
                spatial: s,
                temporal: t,
            })
        }) {
            let mut scene = Scene::new(codec);
            scene.want(limit.spatial, limit.temporal);
            scene.send(&packets);
            let seen = scene.seen();
            let what = format!("{name} {limit:?}");
            assert!(
                seen.packets
                    .iter()
                    .all(|(_, _, frame)| limit.includes(frame.layer)),
                "{what}"
            );
            assert_eq!(seen.temporal(), limit.temporal, "{what}");
            // Of every picture as much as there was, up to the limit.
            for (timestamp, size) in all.sizes() {
                if let Some(&seen) = seen.sizes().get(&timestamp) {
                    assert_eq!(seen, size.min(limit.spatial), "{what} at {timestamp}");
                }
            }
            assert!(
                seen.masked
                    || limit
                        == Layer {
                            spatial: spatial - 1,
                            temporal: 2
                        },
                "{what}"
            );
            assert_eq!(scene.world.drops(DropReason::BadDependency), 0, "{what}");
        }
    }
}

#[test]
fn svc_goes_down_at_the_next_picture_and_k_svc_at_a_keyframe() {
    for (name, at_once) in [("av1-l3t3", true), ("av1-l3t3-key-large", false)] {
        let packets = recorded(name);
        let mut scene = Scene::new(Codec::Av1);
        scene.want(2, 255);
        // Where layers above the lowest have been sent for a while, beyond the next picture that all others refer to.
        let goes_on = |at: usize| {
            packets[at].timestamp != packets[at - 1].timestamp && packets[at].payload[0] & 0x08 == 0
        };
        let cut = (packets.len() * 3 / 4..).find(|&at| goes_on(at)).unwrap();
        scene.send(&packets[..cut]);
        let before = scene.seen();
        assert!(before.sizes().values().next_back() > Some(&0));
        scene.want(0, 255);
        let keyframe = (cut..packets.len()).find(|&at| packets[at].payload[0] & 0x08 != 0);
        scene.send(&packets[cut..]);
        let after = scene.seen();
        let first = *after.sizes().values().next().unwrap();
        if at_once {
            assert_eq!(keyframe, None, "{name}: or it would prove nothing");
            assert!(after.sizes().values().all(|&size| size == 0), "{name}");
        } else {
            assert!(
                first > 0,
                "{name}: what is below was not sent, so it goes on"
            );
            for (timestamp, size) in after.sizes() {
                if keyframe.is_some_and(|at| timestamp >= packets[at].timestamp) {
                    assert_eq!(size, 0, "{name}");
                }
            }
        }
    }
}

#[test]
fn vp9_tells_of_its_layers_by_its_own_descriptor_as_well() {
    let mut packets = recorded("vp9-l3t3-key-large");
    for packet in &mut packets {
        packet.dependency.clear();
    }
    for limit in 0..3u8 {
        let mut scene = Scene::new(Codec::Vp9);
        scene.want(limit, 1);
        scene.send(&packets);
        let got = scene.viewer.media(&mut scene.world);
        assert!(got.len() > 10);
        for pair in got.windows(2) {
            assert_eq!(pair[1].0.seq.since(pair[0].0.seq), 1);
            assert_eq!(pair[0].0.marker, pair[0].0.timestamp != pair[1].0.timestamp);
        }
        for (_, payload) in &got {
            let layer = vp9::Descriptor::parse(payload).unwrap().layer();
            assert!(layer.spatial <= limit && layer.temporal <= 1);
        }
    }
}

#[test]
fn a_descriptor_that_lies_is_dropped_by_name_and_the_stream_goes_on() {
    let packets = recorded("av1-l3t3");
    let mut scene = Scene::new(Codec::Av1);
    scene.want(2, 255);
    for (n, packet) in packets.iter().enumerate() {
        scene.send(std::slice::from_ref(packet));
        let mut lie = Recorded {
            timestamp: packet.timestamp,
            marker: false,
            payload: packet.payload.clone(),
            // A structure in each: of a layer that there cannot be, or of a thousand templates.
            dependency: vec![
                0xc0,
                0,
                n as u8,
                0x80,
                0,
                [0b1010_1010, 0][n % 2],
                0xaa,
                0,
                0,
                0,
            ],
        };
        lie.dependency.resize(255, (n as u8) << 4);
        scene.send(&[lie]);
    }
    assert!(scene.world.drops(DropReason::BadDependency) > packets.len() as u64 / 2);
    assert!(scene.seen().packets.len() >= packets.len());
}
