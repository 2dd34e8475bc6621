//! What the dependency descriptors of one encoding have said so far: the structure that its frames go by. A structure may
//! come late, after frames that need it, for it may have to be repaired; it never takes the place of a newer one.

use crate::wire::codec::dependency::{Descriptor, Malformed, Mask, Structure};
use crate::wire::codec::layer::{Frame, Layer};
use crate::wire::seq::ExtSeq;

#[derive(Default)]
pub struct Dependencies {
    current: Structure,
    /// For frames from before it that had to be repaired.
    previous: Structure,
    /// Where the next one is read, so that one that breaks off half-way leaves the current one whole.
    next: Structure,
    /// Counts structures: tells packets of this one from those of another.
    generation: u8,
    /// The packet that brought it.
    since: Option<ExtSeq>,
    /// The newest packet with a mask.
    masked: Option<ExtSeq>,
}

pub struct Reading {
    pub descriptor: Descriptor,
    pub generation: Option<u8>,
    /// `None`: the structure is not here.
    pub frame: Option<Frame>,
    /// It has brought a structure by which packets after it are to be read.
    pub adopted: bool,
}

impl Dependencies {
    pub fn read(&mut self, seq: ExtSeq, bytes: &[u8]) -> Result<Reading, Malformed> {
        let descriptor = Descriptor::parse(bytes, &mut self.next)?;
        let adopted = descriptor.structure.is_some() && self.since.is_none_or(|since| seq > since);
        if descriptor.structure.is_some() && !adopted {
            let frame = descriptor.frame(bytes, &mut self.next, true)?;
            return Ok(Reading {
                descriptor,
                generation: None,
                frame,
                adopted,
            });
        }
        if adopted {
            // Its frame may lie as well: then the current one stays.
            descriptor.frame(bytes, &mut self.next, true)?;
            std::mem::swap(&mut self.previous, &mut self.current);
            std::mem::swap(&mut self.current, &mut self.next);
            self.generation = self.generation.wrapping_add(1);
            self.since = Some(seq);
        }
        if self.since.is_some_and(|since| seq < since) {
            let frame = descriptor.frame(bytes, &mut self.previous, false)?;
            return Ok(Reading {
                descriptor,
                generation: None,
                frame,
                adopted,
            });
        }
        let newest = self.masked.is_none_or(|masked| seq >= masked);
        let frame = descriptor.frame(bytes, &mut self.current, newest)?;
        if newest && (descriptor.masks() || adopted) {
            self.masked = Some(seq);
        }
        Ok(Reading {
            descriptor,
            generation: frame.map(|_| self.generation),
            frame,
            adopted,
        })
    }

    /// The decode targets left to a receiver limited to `layer`, for a descriptor of this generation. `aloud`: even when
    /// they are all that are active.
    #[must_use]
    pub fn mask(&self, generation: Option<u8>, layer: Layer, aloud: bool) -> Option<Mask> {
        if generation != Some(self.generation) {
            return None;
        }
        self.current
            .mask(layer)
            .or_else(|| aloud.then(|| self.current.full()))
    }
}
