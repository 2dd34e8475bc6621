//! The dependency descriptor (RTP Payload Format for AV1, appendix A): a header extension that says of each frame, in any
//! codec, to which layer it belongs and who needs it, so that nobody has to look into the payload. A structure, which comes
//! with keyframes, lists templates; a frame names one, and may depart from it.
//!
//! Read with bounded work whatever it claims: at most 255 bytes, each bit once. Rewritten in place: template and frame
//! number are moved, and the mask of active decode targets is set where layers are left out.

use super::layer::{Frame, Layer, Layers, SPATIAL, TEMPORAL};

pub const MAX_TEMPLATES: usize = 64;
pub const MAX_TARGETS: usize = 32;
/// What an extension element can hold (RFC 8285 §4.3).
pub const MAX_LEN: usize = 255;

/// Fields that every descriptor has: flags, template, frame number.
const MANDATORY_BITS: usize = 24;
/// Where the bits of the extended part start: five flags, and then the structure or the mask.
const FLAGS: usize = MANDATORY_BITS;
const AFTER_FLAGS: usize = FLAGS + 5;

const NOT_PRESENT: u64 = 0;
const SWITCH: u64 = 2;

/// What frames are described by until the next structure comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Id of the first template.
    pub first: u8,
    /// How many templates and decode targets there are.
    pub templates: u8,
    pub targets: u8,
    template: [Template; MAX_TEMPLATES],
    /// The layer that each decode target is.
    target: [Layer; MAX_TARGETS],
    chains: u8,
    /// Decode targets that the sender serves now.
    active: u32,
    /// For each decode target, the limits that it serves: those for which it is the highest active one.
    serves: [Layers; MAX_TARGETS],
    /// The highest spatial layer among the active ones.
    top: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    layer: Layer,
    /// Two bits for each decode target: not present, discardable, switch, required.
    indications: u64,
    /// Refers to no frame.
    independent: bool,
}

impl Default for Structure {
    fn default() -> Self {
        Self {
            first: 0,
            templates: 0,
            targets: 0,
            template: [Template::default(); MAX_TEMPLATES],
            target: [Layer::default(); MAX_TARGETS],
            chains: 0,
            active: 0,
            serves: [Layers::NONE; MAX_TARGETS],
            top: 0,
        }
    }
}

/// One descriptor, as far as it can be read without knowing its structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub start: bool,
    pub end: bool,
    pub template: u8,
    pub number: u16,
    /// Brings a structure, whose templates have these ids.
    pub structure: Option<Ids>,
    /// Bit at which a mask of active decode targets is, or would be.
    mask_at: u16,
    /// And whether it is there.
    masked: bool,
}

/// Ids of templates, counted modulo 64: from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub start: u8,
    pub end: u8,
}

/// It breaks the rules of its format, or has more layers than there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Descriptor {
    /// Reads a descriptor, and its structure, if it brings one, into `structure`, which is else left alone.
    pub fn parse(bytes: &[u8], structure: &mut Structure) -> Result<Self, Malformed> {
        Self::read(bytes, structure).ok_or(Malformed)
    }

    fn read(bytes: &[u8], structure: &mut Structure) -> Option<Self> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let mut bits = Bits::new(bytes);
        let mut descriptor = Self {
            start: bits.flag()?,
            end: bits.flag()?,
            template: bits.take(6)? as u8,
            number: bits.take(16)? as u16,
            mask_at: AFTER_FLAGS as u16,
            ..Self::default()
        };
        if bytes.len() > MANDATORY_BITS / 8 {
            let structured = bits.flag()?;
            descriptor.masked = bits.flag()?;
            bits.take(3)?;
            if structured {
                // A structure opens a coded video sequence: it is on the first packet of its first frame.
                if !descriptor.start {
                    return None;
                }
                structure.read(&mut bits)?;
                descriptor.structure = Some(Ids {
                    start: structure.first,
                    end: structure.first.wrapping_add(structure.templates),
                });
            }
            descriptor.mask_at = bits.at as u16;
        }
        Some(descriptor)
    }

    /// What the frame means to receivers by `structure`. `Ok(None)`: the template is not in it, so the structure that the
    /// frame belongs to is not here, or not yet.
    /// `newest`: nothing newer has said which decode targets are active.
    pub fn frame(
        &self,
        bytes: &[u8],
        structure: &mut Structure,
        newest: bool,
    ) -> Result<Option<Frame>, Malformed> {
        let at = usize::from(self.template.wrapping_sub(structure.first) & 63);
        if at >= usize::from(structure.templates) {
            return Ok(None);
        }
        let template = structure.template[at];
        self.apply(bytes, structure, template, newest)
            .map(Some)
            .ok_or(Malformed)
    }

    fn apply(
        &self,
        bytes: &[u8],
        structure: &mut Structure,
        template: Template,
        newest: bool,
    ) -> Option<Frame> {
        let Template {
            layer,
            mut indications,
            mut independent,
        } = template;
        if bytes.len() > MANDATORY_BITS / 8 {
            let mut bits = Bits {
                bytes,
                at: FLAGS + 2,
            };
            let (own_indications, own_references, own_chains) =
                (bits.flag()?, bits.flag()?, bits.flag()?);
            bits.at = usize::from(self.mask_at);
            if self.masked {
                let mut active = 0;
                // Leftmost bit: the last decode target.
                for target in (0..structure.targets).rev() {
                    active |= u32::from(bits.flag()?) << target;
                }
                if newest && active != structure.active {
                    structure.activate(active);
                }
            }
            if own_indications {
                indications = 0;
                for target in 0..structure.targets {
                    indications |= u64::from(bits.take(2)?) << (2 * target);
                }
            }
            if own_references {
                independent = true;
                loop {
                    let nibbles = bits.take(2)?;
                    if nibbles == 0 {
                        break;
                    }
                    bits.take(4 * nibbles)?;
                    independent = false;
                }
            }
            if own_chains {
                bits.skip(8 * usize::from(structure.chains))?;
            }
        }
        let mut frame = Frame {
            layer,
            start: self.start,
            top: structure.top,
            needed: Layers::NONE,
            switches: Layers::NONE,
            opens: Layers::NONE,
            ends: Layers::NONE,
        };
        for at in 0..usize::from(structure.targets) {
            let serves = structure.serves[at];
            match indications >> (2 * at) & 3 {
                NOT_PRESENT => {}
                SWITCH => {
                    frame.needed = frame.needed.with(serves);
                    frame.switches = frame.switches.with(serves);
                }
                _ => frame.needed = frame.needed.with(serves),
            }
            if self.end && structure.target[at].spatial == layer.spatial {
                frame.ends = frame.ends.with(serves);
            }
        }
        if independent {
            frame.opens = frame.switches;
        }
        Some(frame)
    }

    /// Says which decode targets are active.
    #[must_use]
    pub fn masks(&self) -> bool {
        self.masked
    }

    /// Writes the descriptor for a receiver who counts otherwise: `template` and `number` are what is taken off both, and
    /// `mask` the decode targets that are left to him. Returns its length; `None` when there is no room for the mask.
    #[must_use]
    pub fn write(
        &self,
        bytes: &[u8],
        out: &mut [u8; MAX_LEN],
        template: u8,
        number: u16,
        mask: Option<Mask>,
    ) -> Option<usize> {
        let mut len = bytes.len().min(MAX_LEN);
        match mask {
            None => out[..len].copy_from_slice(&bytes[..len]),
            Some(mask) => len = self.masked(bytes, out, mask)?,
        }
        let shifted = |id: u8| id.wrapping_sub(template) & 63;
        out[0] = out[0] & 0xc0 | shifted(self.template);
        out[1..3].copy_from_slice(&self.number.wrapping_sub(number).to_be_bytes());
        if self.structure.is_some() {
            // template_id_offset: six bits behind the five flags, over two bytes.
            let (head, tail) = (out[3] & 0xf8, out[4] & 0x1f);
            let id = shifted((out[3] & 7) << 3 | out[4] >> 5);
            (out[3], out[4]) = (head | id >> 3, tail | id << 5);
        }
        Some(len)
    }

    /// Copies with this mask in place of the one that is there, or where it belongs.
    fn masked(&self, bytes: &[u8], out: &mut [u8; MAX_LEN], mask: Mask) -> Option<usize> {
        let mut reader = Bits::new(bytes);
        let mut writer = Writer { out, at: 0 };
        if bytes.len() > MANDATORY_BITS / 8 {
            writer.copy(&mut reader, usize::from(self.mask_at))?;
        } else {
            writer.copy(&mut reader, MANDATORY_BITS)?;
            writer.put(0, 5)?;
        }
        writer.out[FLAGS / 8] |= 0x40; // active_decode_targets_present_flag
        writer.put(mask.targets, u32::from(mask.count))?;
        if self.masked {
            reader.skip(usize::from(mask.count))?;
        }
        let left = bytes.len() * 8 - reader.at;
        writer.copy(&mut reader, left)?;
        Some(writer.at.div_ceil(8))
    }
}

/// Active decode targets, for [`Descriptor::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    targets: u32,
    count: u8,
}

impl Structure {
    /// The decode targets that a receiver limited to `layer` is served; `None`: all that are active.
    #[must_use]
    pub fn mask(&self, layer: Layer) -> Option<Mask> {
        let mut targets = self.active;
        for at in 0..self.targets {
            if !layer.includes(self.target[usize::from(at)]) {
                targets &= !(1 << at);
            }
        }
        (targets != self.active).then_some(Mask {
            targets,
            count: self.targets,
        })
    }

    /// Those that are active, said aloud.
    #[must_use]
    pub fn full(&self) -> Mask {
        Mask {
            targets: self.active,
            count: self.targets,
        }
    }

    fn read(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        self.first = bits.take(6)? as u8;
        self.targets = bits.take(5)? as u8 + 1;
        let targets = usize::from(self.targets);
        // template_layers(): next_layer_idc
        let (mut layer, mut count) = (Layer::default(), 0);
        loop {
            let template = self.template.get_mut(count)?;
            *template = Template {
                layer,
                ..Template::default()
            };
            count += 1;
            match bits.take(2)? {
                0 => {}
                1 => layer.temporal += 1,
                2 => {
                    layer = Layer {
                        spatial: layer.spatial + 1,
                        temporal: 0,
                    }
                }
                _ => break,
            }
            if layer.spatial >= SPATIAL || layer.temporal >= TEMPORAL {
                return None;
            }
        }
        self.templates = count as u8;
        let templates = &mut self.template[..count];
        // template_dtis()
        for template in templates.iter_mut() {
            for target in 0..targets {
                template.indications |= u64::from(bits.take(2)?) << (2 * target);
            }
        }
        // template_fdiffs()
        for template in templates.iter_mut() {
            template.independent = true;
            while bits.flag()? {
                bits.take(4)?;
                template.independent = false;
            }
        }
        // template_chains()
        self.chains = bits.non_symmetric(u32::from(self.targets) + 1)? as u8;
        if self.chains > 0 {
            for _ in 0..targets {
                bits.non_symmetric(u32::from(self.chains))?;
            }
            bits.skip(4 * count * usize::from(self.chains))?;
        }
        // decode_target_layers()
        self.target = [Layer::default(); MAX_TARGETS];
        for (at, target) in self.target[..targets].iter_mut().enumerate() {
            for template in templates.iter() {
                if template.indications >> (2 * at) & 3 != NOT_PRESENT {
                    target.spatial = target.spatial.max(template.layer.spatial);
                    target.temporal = target.temporal.max(template.layer.temporal);
                }
            }
        }
        // render_resolutions()
        if bits.flag()? {
            bits.skip(32 * (usize::from(layer.spatial) + 1))?;
        }
        self.activate(u32::MAX);
        Some(())
    }

    /// Which decode targets are served from now on, and which of them is the best for each limit.
    fn activate(&mut self, active: u32) {
        let active =
            active & (u32::MAX >> (MAX_TARGETS as u8 - self.targets.clamp(1, MAX_TARGETS as u8)));
        self.active = active;
        self.serves = [Layers::NONE; MAX_TARGETS];
        self.top = 0;
        let rank = |layer: Layer| (layer.spatial, layer.temporal);
        let targets = || (0..usize::from(self.targets)).filter(|at| active >> at & 1 != 0);
        self.top = targets()
            .map(|at| self.target[at].spatial)
            .max()
            .unwrap_or(0);
        let lowest = targets().min_by_key(|&at| rank(self.target[at]));
        // From the lowest target up, each takes over the limits that include it.
        let Some(lowest) = lowest else { return };
        let mut best = [lowest; (SPATIAL * TEMPORAL) as usize];
        for at in 0..usize::from(self.targets) {
            if active >> at & 1 == 0 {
                continue;
            }
            let target = self.target[at];
            for spatial in target.spatial..SPATIAL {
                for temporal in target.temporal..TEMPORAL {
                    let best = &mut best[usize::from(spatial * TEMPORAL + temporal)];
                    if rank(target) >= rank(self.target[*best]) {
                        *best = at;
                    }
                }
            }
        }
        for (limit, &at) in best.iter().enumerate() {
            self.serves[at].0 |= 1 << limit;
        }
    }
}

/// Reads bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit != 0)
    }

    /// Up to 25 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        steps::count();
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let first = self.at / 8;
        let mut word = [0; 4];
        let available = self.bytes.get(first..)?;
        let len = available.len().min(4);
        word[..len].copy_from_slice(&available[..len]);
        let value = u32::from_be_bytes(word) << (self.at % 8);
        self.at = end;
        Some(if count == 0 { 0 } else { value >> (32 - count) })
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// ns(n) of the AV1 bitstream specification, §4.10.7.
    fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = 32 - n.leading_zeros();
        let short = (1 << width) - n;
        let value = self.take(width - 1)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.take(1)?)
    }
}

struct Writer<'a> {
    out: &'a mut [u8; MAX_LEN],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, value: u32, count: u32) -> Option<()> {
        for bit in (0..count).rev() {
            let byte = self.out.get_mut(self.at / 8)?;
            let place = 7 - self.at % 8;
            *byte = *byte & (0xff << 1 << place) as u8 | ((value >> bit & 1) as u8) << place;
            self.at += 1;
        }
        Some(())
    }

    fn copy(&mut self, from: &mut Bits<'_>, mut count: usize) -> Option<()> {
        while count > 0 {
            let step = count.min(24) as u32;
            let value = from.take(step)?;
            self.put(value, step)?;
            count -= step as usize;
        }
        Some(())
    }
}

/// How many reads a descriptor took, for the test that holds the bound.
#[cfg(test)]
mod steps {
    use std::cell::Cell;
    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });
    pub fn count() {
        STEPS.set(STEPS.get() + 1);
    }
    pub fn take() -> usize {
        STEPS.replace(0)
    }
}
#[cfg(not(test))]
mod steps {
    pub fn count() {}
}

#[cfg(test)]
#[path = "dependency_tests.rs"]
mod tests;
