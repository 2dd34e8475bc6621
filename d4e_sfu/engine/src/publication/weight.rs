//! What the layers of one encoding weigh: bytes counted as packets come in, told as bits per second. Counted alone, layer
//! by layer; what a viewer's limit lets through is the sum of the layers below it.

use std::time::Duration;

use crate::wire::codec::layer::{Layer, SPATIAL, TEMPORAL};

/// IPv4 (20) and UDP (8) around each packet; with IPv6 it is 20 more, of a picture's packet less than two percent.
const AROUND: usize = 28;

#[derive(Debug, Default)]
pub struct Weight {
    bytes: [[u32; TEMPORAL as usize]; SPATIAL as usize],
}

impl Weight {
    /// `size`: of the datagram.
    pub fn count(&mut self, layer: Layer, size: usize) {
        let Layer { spatial, temporal } = Layer::at_most(layer.spatial, layer.temporal);
        let bytes = &mut self.bytes[usize::from(spatial)][usize::from(temporal)];
        *bytes = bytes.saturating_add((size + AROUND) as u32);
    }

    /// (spatial, temporal, bits per second) of each layer that has brought anything in this time; counts anew.
    pub fn take(&mut self, over: Duration) -> impl Iterator<Item = (u8, u8, u32)> + use<> {
        let ms = over.as_millis().max(1) as u64;
        let bytes = std::mem::take(&mut self.bytes);
        let layers = (0..SPATIAL).flat_map(|s| (0..TEMPORAL).map(move |t| (s, t)));
        layers
            .map(move |(s, t)| (s, t, bytes[usize::from(s)][usize::from(t)]))
            .filter(|&(_, _, bytes)| bytes > 0)
            .map(move |(s, t, bytes)| {
                let bits = u64::from(bytes) * 8_000 / ms;
                (s, t, bits.min(u64::from(u32::MAX)) as u32)
            })
    }
}
