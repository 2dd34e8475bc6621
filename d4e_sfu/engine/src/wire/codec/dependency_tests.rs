//! Dependency descriptors: structures written and read back, masks, lies, and how much reading one may cost.

use super::*;
use proptest::prelude::*;

/// What Chromium 156 sent; see tests/vectors/rtp/README.md.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let path = format!(
        "{}/../../tests/vectors/rtp/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let bytes = |hex: &str| {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    text.lines()
        .map(|line| bytes(line.rsplit(' ').next().unwrap()))
        .collect()
}

/// Reads descriptors in order, as a stream's structures come and go.
#[derive(Default)]
struct Stream {
    structure: Structure,
    next: Structure,
}

impl Stream {
    fn read(&mut self, bytes: &[u8]) -> Result<(Descriptor, Option<Frame>), Malformed> {
        let descriptor = Descriptor::parse(bytes, &mut self.next)?;
        if descriptor.structure.is_some() {
            self.structure = self.next.clone();
        }
        let frame = descriptor.frame(bytes, &mut self.structure, true)?;
        Ok((descriptor, frame))
    }
}

const STREAMS: [(&str, u8, u8); 9] = [
    ("vp8-l1t3", 1, 3),
    ("h264-l1t3", 1, 3),
    ("av1-l1t3", 1, 3),
    ("vp9-l3t3", 3, 3),
    ("av1-l3t3", 3, 3),
    ("vp9-l3t3-key", 3, 3),
    ("av1-l3t3-key", 3, 3),
    ("vp9-l3t3-key-large", 3, 3),
    ("av1-l3t3-key-large", 3, 3),
];

#[test]
fn chromiums_structures_are_what_their_names_say() {
    for (name, spatial, temporal) in STREAMS {
        let mut stream = Stream::default();
        let mut seen = Layer::default();
        for bytes in recorded(name) {
            let (_, frame) = stream.read(&bytes).unwrap();
            let frame = frame.unwrap();
            seen.spatial = seen.spatial.max(frame.layer.spatial);
            seen.temporal = seen.temporal.max(frame.layer.temporal);
            assert!(frame.layer.spatial <= frame.top, "{name}");
            assert!(frame.needed.contains(Layer::TOP) || frame.layer.spatial < frame.top);
        }
        let structure = &stream.structure;
        assert_eq!(structure.targets, spatial * temporal, "{name}");
        let layers: Vec<_> = structure.target[..usize::from(structure.targets)]
            .iter()
            .map(|layer| (layer.spatial, layer.temporal))
            .collect();
        let named: Vec<_> = (0..spatial)
            .flat_map(|s| (0..temporal).map(move |t| (s, t)))
            .collect();
        assert_eq!(layers, named, "{name}");
        assert_eq!(seen.temporal + 1, temporal, "{name}");
    }
}

#[test]
fn between_keyframes_k_svc_needs_one_spatial_layer_and_svc_all_below() {
    for (name, k_svc) in [("av1-l3t3-key-large", true), ("av1-l3t3", false)] {
        let mut stream = Stream::default();
        let mut checked = 0;
        for bytes in recorded(name) {
            let (descriptor, frame) = stream.read(&bytes).unwrap();
            let Frame {
                layer,
                needed,
                top,
                opens,
                ..
            } = frame.unwrap();
            let key = descriptor.structure.is_some() || opens != Layers::NONE;
            if layer.spatial >= top || key || bytes.len() < 5 {
                continue;
            }
            let above = Layer {
                spatial: layer.spatial + 1,
                temporal: 7,
            };
            assert!(needed.contains(Layer {
                spatial: layer.spatial,
                temporal: 7
            }));
            if k_svc {
                checked += usize::from(!needed.contains(above));
            } else {
                assert!(needed.contains(above), "{layer:?}");
                checked += 1;
            }
        }
        assert!(checked > 3, "{name}: {checked}");
    }
}

#[test]
fn rewritten_descriptors_mean_the_same_in_other_numbers() {
    for (name, ..) in STREAMS {
        let (mut before, mut after) = (Stream::default(), Stream::default());
        for bytes in recorded(name) {
            let (descriptor, frame) = before.read(&bytes).unwrap();
            let mut out = [0; MAX_LEN];
            let len = descriptor.write(&bytes, &mut out, 13, 5_000, None).unwrap();
            assert_eq!(len, bytes.len());
            let (moved, again) = after.read(&out[..len]).unwrap();
            assert_eq!(moved.number, descriptor.number.wrapping_sub(5_000));
            assert_eq!(moved.template, descriptor.template.wrapping_sub(13) & 63);
            assert_eq!(again, frame, "{name}");
            let mut back = [0; MAX_LEN];
            let len = moved.write(&out[..len], &mut back, 51, 5_000u16.wrapping_neg(), None);
            assert_eq!(back[..len.unwrap()], bytes, "and back");
        }
    }
}

#[test]
fn a_mask_is_set_where_there_was_none_and_where_there_was_one() {
    for (name, spatial, temporal) in STREAMS {
        for limit in [
            Layer {
                spatial: 0,
                temporal: 0,
            },
            Layer {
                spatial: 1,
                temporal: 1,
            },
        ] {
            let (mut before, mut after) = (Stream::default(), Stream::default());
            for bytes in recorded(name) {
                let (descriptor, frame) = before.read(&bytes).unwrap();
                let Some(mask) = before.structure.mask(limit) else {
                    continue;
                };
                let mut out = [0; MAX_LEN];
                let len = descriptor
                    .write(&bytes, &mut out, 0, 0, Some(mask))
                    .unwrap();
                let (masked, again) = after.read(&out[..len]).unwrap();
                assert!(masked.masks());
                assert_eq!(after.structure.active, mask.targets, "{name}");
                let (frame, again) = (frame.unwrap(), again.unwrap());
                assert_eq!(again.layer, frame.layer);
                assert_eq!(again.top, frame.top.min(limit.spatial));
                // What is left to him he needs as before.
                assert_eq!(
                    again.needed.contains(limit),
                    frame.needed.contains(limit),
                    "{name}"
                );
                let low = Layer::at_most(spatial.min(2) - 1, temporal.min(2) - 1);
                if limit == low {
                    assert_eq!(
                        again.needed.contains(Layer::TOP),
                        frame.needed.contains(limit)
                    );
                }
            }
        }
    }
}

#[test]
fn lies_about_layers_are_refused() {
    let mut structure = Structure::default();
    let parse = |bits: &str, structure: &mut Structure| {
        let bits: String = bits.chars().filter(|c| "01".contains(*c)).collect();
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0')) << (8 - byte.len()))
            .collect();
        Descriptor::parse(&bytes, structure).map(|_| ())
    };
    let head = "1 1 000000 0000000000000001 10000 000000 00000";
    // One template, one target that it is switch for, no references, no chains, no resolutions.
    assert_eq!(
        parse(&format!("{head} 11 10 0 0 0"), &mut structure),
        Ok(())
    );
    for (what, bits) in [
        ("a fifth spatial layer", format!("{head} 10 10 10 10")),
        (
            "a ninth temporal layer",
            format!("{head} 01 01 01 01 01 01 01 01"),
        ),
        ("cut short", head.into()),
        (
            "a structure inside a frame",
            format!("0{}", &format!("{head} 11 10 0 0 0")[1..]),
        ),
        (
            "no template ends the list",
            format!("{head} {}", "00".repeat(200)),
        ),
    ] {
        assert_eq!(parse(&bits, &mut structure), Err(Malformed), "{what}");
    }
}

proptest! {
    /// A descriptor may claim anything: each bit is read once, so the work has a bound. One step reads up to 25 bits;
    /// what is computed of a structure is at most 32 targets × 32 limits, once.
    #[test]
    fn any_bytes_cost_no_more_steps_than_they_have_bits(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..=MAX_LEN),
        structured in any::<bool>(),
        name in 0..STREAMS.len(),
        mask in any::<u32>(),
    ) {
        let mut stream = Stream::default();
        for bytes in recorded(STREAMS[name].0).iter().take(3) {
            let _ = stream.read(bytes);
        }
        if structured && bytes.len() > 3 {
            bytes[0] |= 0x80;
            bytes[3] |= 0x80;
        }
        let _ = steps::take();
        let read = stream.read(&bytes);
        prop_assert!(steps::take() <= 8 * bytes.len() + 8);
        if let Ok((descriptor, _)) = read {
            let mut out = [0; MAX_LEN];
            let mask = Mask { targets: mask, count: stream.structure.targets };
            let _ = descriptor.write(&bytes, &mut out, 7, 9, None);
            let _ = descriptor.write(&bytes, &mut out, 7, 9, Some(mask));
        }
    }

    #[test]
    fn a_recorded_structure_with_any_bit_turned_is_read_or_refused(name in 0..STREAMS.len(), flips in proptest::collection::vec(0usize..800, 1..6)) {
        let mut stream = Stream::default();
        for (n, mut bytes) in recorded(STREAMS[name].0).into_iter().take(20).enumerate() {
            for &flip in &flips {
                if n % 3 == 0 && flip < bytes.len() * 8 {
                    bytes[flip / 8] ^= 1 << (flip % 8);
                }
            }
            if let Ok((descriptor, _)) = stream.read(&bytes) {
                let mut out = [0; MAX_LEN];
                let mask = stream.structure.mask(Layer::default());
                let _ = descriptor.write(&bytes, &mut out, 1, 1, mask);
            }
        }
    }
}
