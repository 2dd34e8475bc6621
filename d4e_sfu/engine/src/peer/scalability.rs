//! How a scalable encoder orders its pictures: spatial and temporal layers, who refers to whom, and the dependency
//! descriptors that tell of it (RTP Payload Format for AV1, appendix A). The peer's own code, written from the text and
//! read back by itself, so that a misreading in the router cannot agree with itself.

/// L⟨spatial⟩T⟨temporal⟩, with `k_svc` L⟨spatial⟩T⟨temporal⟩_KEY: spatial layers refer to each other in keyframes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalability {
    pub spatial: u8,
    pub temporal: u8,
    pub k_svc: bool,
}

/// A frame that later ones may refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub frame: u32,
    pub picture_id: u16,
}

/// What a frame refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// In the same spatial layer, an earlier picture.
    pub earlier: Option<Made>,
    /// In the same picture, the spatial layer below.
    pub below: Option<Made>,
}

/// The latest frames of each spatial layer in temporal layers 0 and 1, since the last keyframe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Referable([[Option<Made>; 2]; 3]);

impl Referable {
    /// The frame that one of this layer refers to: the latest of a lower temporal layer; in the lowest, the one before.
    pub fn reference(&self, spatial: u8, temporal: u8) -> Option<Made> {
        let [base, middle] = self.0[usize::from(spatial)];
        if temporal == 2 { middle.or(base) } else { base }
    }

    pub fn made(&mut self, spatial: u8, temporal: u8, frame: Made) {
        let row = &mut self.0[usize::from(spatial)];
        match temporal {
            0 => *row = [Some(frame), None],
            1 => row[1] = Some(frame),
            _ => {}
        }
    }
}

impl Scalability {
    /// Temporal layer of the `n`th picture from a keyframe: 0 1 or 0 2 1 2.
    #[must_use]
    pub fn temporal_layer(&self, n: u64) -> u8 {
        match self.temporal {
            0 | 1 => 0,
            2 => (n % 2) as u8,
            _ => [0, 2, 1, 2][(n % 4) as usize],
        }
    }

    /// The share of an encoding's rate that a spatial layer takes: each twice that of the one below.
    #[must_use]
    pub fn share(&self, spatial: u8) -> f64 {
        f64::from(1u32 << spatial) / f64::from((1u32 << self.spatial) - 1)
    }

    #[must_use]
    pub fn template(&self, spatial: u8, temporal: u8) -> u8 {
        spatial * self.temporal + temporal
    }

    /// Two bits: 0 not present, 1 discardable, 2 switch, 3 required.
    fn indication(&self, spatial: u8, temporal: u8, target: (u8, u8), keyframe: bool) -> u32 {
        if spatial > target.0
            || temporal > target.1
            || (self.k_svc && !keyframe && spatial != target.0)
        {
            0
        } else if spatial != target.0 {
            if keyframe { 2 } else { 3 }
        } else if temporal > 0 && temporal == target.1 {
            1
        } else {
            2
        }
    }

    fn targets(&self) -> impl Iterator<Item = (u8, u8)> {
        let temporal = self.temporal;
        (0..self.spatial).flat_map(move |s| (0..temporal).map(move |t| (s, t)))
    }

    /// The descriptor of one packet. `offset` is the id of the first template.
    #[must_use]
    pub fn describe(&self, packet: &Described, offset: u8) -> Vec<u8> {
        let mut bits = BitWriter::default();
        let (spatial, temporal) = packet.layer;
        let template = (offset + self.template(spatial, temporal)) & 63;
        bits.put(u32::from(packet.start), 1);
        bits.put(u32::from(packet.end), 1);
        bits.put(u32::from(template), 6);
        bits.put(u32::from(packet.number), 16);
        let structure = packet.start && packet.keyframe && spatial == 0;
        // Templates say nothing of references, and of decode targets what holds between keyframes.
        let (own_indications, own_references) = (
            packet.keyframe,
            packet.differences.iter().any(Option::is_some),
        );
        if !structure && !own_indications && !own_references {
            return bits.bytes;
        }
        bits.put(u32::from(structure), 1);
        bits.put(0, 1);
        bits.put(u32::from(own_indications), 1);
        bits.put(u32::from(own_references), 1);
        bits.put(0, 1);
        if structure {
            self.structure(&mut bits, offset);
        }
        if own_indications {
            for target in self.targets() {
                bits.put(self.indication(spatial, temporal, target, true), 2);
            }
        }
        if own_references {
            for difference in packet.differences.iter().flatten() {
                let less = u32::from(*difference) - 1;
                let nibbles = if less < 16 {
                    1
                } else if less < 256 {
                    2
                } else {
                    3
                };
                bits.put(nibbles, 2);
                bits.put(less, 4 * nibbles);
            }
            bits.put(0, 2);
        }
        bits.bytes
    }

    fn structure(&self, bits: &mut BitWriter, offset: u8) {
        let targets = u32::from(self.spatial * self.temporal);
        bits.put(u32::from(offset), 6);
        bits.put(targets - 1, 5);
        let layers: Vec<_> = self.targets().collect();
        for pair in layers.windows(2) {
            bits.put(if pair[1].0 == pair[0].0 { 1 } else { 2 }, 2);
        }
        bits.put(3, 2);
        for (spatial, temporal) in self.targets() {
            for target in self.targets() {
                bits.put(self.indication(spatial, temporal, target, false), 2);
            }
        }
        // No references in any template.
        bits.put(0, targets);
        // No chains: ns(n) of 0, with n = targets + 1.
        bits.put(0, 31 - (targets + 1).leading_zeros());
        // No resolutions.
        bits.put(0, 1);
    }
}

/// What a descriptor tells of the frame that a packet belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Described {
    pub start: bool,
    pub end: bool,
    pub layer: (u8, u8),
    pub number: u16,
    /// The picture is one.
    pub keyframe: bool,
    /// Distances to the frames referred to.
    pub differences: [Option<u16>; 2],
}

/// What a receiver reads of a descriptor: enough to know the frames by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub start: bool,
    pub end: bool,
    /// Counted from the structure's first.
    pub template: u8,
    pub number: u16,
    /// Distances to the frames referred to; unknown in a packet with a structure, which refers to none.
    pub differences: [Option<u16>; 2],
}

/// What a receiver keeps of the last structure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    offset: u8,
    targets: u32,
}

impl Known {
    /// `None`: nothing that our own `describe` and an honest forwarder would have made.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Read> {
        let mut reader = BitReader { bytes, at: 0 };
        let (start, end) = (reader.take(1)? == 1, reader.take(1)? == 1);
        let (id, number) = (reader.take(6)? as u8, reader.take(16)? as u16);
        let mut differences = [None; 2];
        if bytes.len() > 3 {
            let flags = reader.take(5)?;
            if flags & 0x10 != 0 {
                self.offset = reader.take(6)? as u8;
                self.targets = reader.take(5)? + 1;
            } else {
                if flags & 0x08 != 0 {
                    reader.at += self.targets as usize;
                }
                if flags & 0x04 != 0 {
                    reader.at += 2 * self.targets as usize;
                }
                if flags & 0x02 != 0 {
                    let mut count = 0;
                    loop {
                        let nibbles = reader.take(2)?;
                        if nibbles == 0 {
                            break;
                        }
                        *differences.get_mut(count)? = Some(reader.take(4 * nibbles)? as u16 + 1);
                        count += 1;
                    }
                }
            }
        }
        Some(Read {
            start,
            end,
            template: id.wrapping_sub(self.offset) & 63,
            number,
            differences,
        })
    }
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: usize,
}

impl BitWriter {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::dependency::{Descriptor, Structure};
    use crate::wire::codec::layer::Layer;

    /// The wire tier reads what the peer has written: of every frame, who needs it.
    #[test]
    fn both_readings_of_the_text_agree() {
        for (spatial, temporal, k_svc) in [
            (1, 1, false),
            (1, 3, false),
            (2, 2, false),
            (3, 3, false),
            (3, 3, true),
        ] {
            let mode = Scalability {
                spatial,
                temporal,
                k_svc,
            };
            let (mut structure, mut spare) = (Structure::default(), Structure::default());
            let mut known = Known::default();
            for (n, keyframe) in [(0, true), (1, false), (2, false), (3, false), (4, false)] {
                let tid = mode.temporal_layer(n);
                for sid in 0..spatial {
                    let packet = Described {
                        start: true,
                        end: true,
                        layer: (sid, tid),
                        number: n as u16 * 3 + u16::from(sid),
                        keyframe,
                        differences: [(!keyframe).then_some(20), None],
                    };
                    let bytes = mode.describe(&packet, 60);
                    let read = known.read(&bytes).unwrap();
                    assert_eq!(
                        (read.template, read.number),
                        (mode.template(sid, tid), packet.number)
                    );
                    assert_eq!(read.differences, packet.differences);
                    let descriptor = Descriptor::parse(&bytes, &mut spare).unwrap();
                    if descriptor.structure.is_some() {
                        structure = spare.clone();
                    }
                    let frame = descriptor
                        .frame(&bytes, &mut structure, true)
                        .unwrap()
                        .unwrap();
                    for target in mode.targets() {
                        let limit = Layer {
                            spatial: target.0,
                            temporal: target.1,
                        };
                        let indication = mode.indication(sid, tid, target, keyframe);
                        assert_eq!(
                            frame.needed.contains(limit),
                            indication != 0,
                            "{mode:?} {target:?} {frame:?}"
                        );
                        assert_eq!(frame.switches.contains(limit), indication == 2);
                        assert_eq!(frame.ends.contains(limit), target.0 == sid);
                    }
                    assert_eq!(frame.opens.contains(Layer::TOP), keyframe);
                }
            }
        }
    }
}
