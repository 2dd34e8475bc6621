//! Layers of one encoding, and what a frame means to a receiver who is limited to one of them. Payload descriptors (VP8,
//! VP9) and the dependency descriptor say it in words of their own; here they say it in the same, so that a subscription
//! decides about every codec alike.

/// Spatial layers that an encoding can have; browsers use three, the dependency descriptor knows four.
pub const SPATIAL: u8 = 4;
/// Temporal layers that an encoding can have.
pub const TEMPORAL: u8 = 8;

/// A layer, as a limit: this one and those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub spatial: u8,
    pub temporal: u8,
}

impl Layer {
    /// Everything.
    pub const TOP: Self = Self {
        spatial: SPATIAL - 1,
        temporal: TEMPORAL - 1,
    };

    /// The nearest one that there can be.
    #[must_use]
    pub fn at_most(spatial: u8, temporal: u8) -> Self {
        Self {
            spatial: spatial.min(SPATIAL - 1),
            temporal: temporal.min(TEMPORAL - 1),
        }
    }

    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        other.spatial <= self.spatial && other.temporal <= self.temporal
    }

    const fn bit(self) -> u32 {
        1 << (self.spatial * TEMPORAL + self.temporal)
    }
}

/// A set of limits: one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers(pub u32);

impl Layers {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u32::MAX);
    const ROW: u32 = (1 << TEMPORAL) - 1;

    #[must_use]
    pub const fn contains(self, layer: Layer) -> bool {
        self.0 & layer.bit() != 0
    }
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn only(layer: Layer) -> Self {
        Self(layer.bit())
    }

    /// Limits of spatial layer `spatial`, whatever their temporal layer.
    #[must_use]
    pub const fn of_spatial(spatial: u8) -> Self {
        Self(Self::ROW << (spatial * TEMPORAL))
    }

    /// Limits of spatial layer `spatial` and above.
    #[must_use]
    pub const fn from_spatial(spatial: u8) -> Self {
        Self(u32::MAX << (spatial * TEMPORAL))
    }

    /// Limits of temporal layer `temporal` and above.
    #[must_use]
    pub const fn from_temporal(temporal: u8) -> Self {
        Self(((Self::ROW << temporal) & Self::ROW) * 0x0101_0101)
    }

    /// Limits of temporal layer `temporal`, whatever their spatial layer.
    #[must_use]
    pub const fn of_temporal(temporal: u8) -> Self {
        Self((1 << temporal) * 0x0101_0101)
    }

    /// The highest spatial layer is `top` now, and was `before`: limits above the highest layer mean the highest layer.
    #[must_use]
    pub const fn retopped(self, before: u8, top: u8) -> Self {
        if top >= before {
            return self;
        }
        let row = (self.0 >> (top * TEMPORAL)) & Self::ROW;
        let rows = Self(row * 0x0101_0101).and(Self::from_spatial(top));
        self.without(Self::from_spatial(top)).with(rows)
    }
}

/// What a packet's frame (one spatial layer of a picture) means to receivers, by their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub layer: Layer,
    /// First packet of the frame, as far as it is known.
    pub start: bool,
    /// Highest spatial layer of the encoding at this time.
    pub top: u8,
    /// Whoever has one of these limits needs the frame.
    pub needed: Layers,
    /// Whoever gets the frame can take one of these limits from here on: nothing after it refers to what he has not.
    pub switches: Layers,
    /// The same before the frame, for it refers to nothing that he may not have.
    pub opens: Layers,
    /// Last packet of the frame, and with these limits the picture ends with it.
    pub ends: Layers,
}

impl Frame {
    /// Of which nothing is known: everybody needs it.
    pub const UNKNOWN: Self = Self {
        layer: Layer {
            spatial: 0,
            temporal: 0,
        },
        start: false,
        top: 0,
        needed: Layers::ALL,
        switches: Layers::NONE,
        opens: Layers::NONE,
        ends: Layers::NONE,
    };
}

impl Default for Frame {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(test: impl Fn(u8, u8) -> bool) -> Layers {
        let mut bits = 0;
        for spatial in 0..SPATIAL {
            for temporal in 0..TEMPORAL {
                bits |= u32::from(test(spatial, temporal)) << (spatial * TEMPORAL + temporal);
            }
        }
        Layers(bits)
    }

    #[test]
    fn sets_by_row_and_column() {
        for n in 0..SPATIAL {
            assert_eq!(Layers::of_spatial(n), set(|s, _| s == n));
            assert_eq!(Layers::from_spatial(n), set(|s, _| s >= n));
        }
        for n in 0..TEMPORAL {
            assert_eq!(Layers::from_temporal(n), set(|_, t| t >= n));
            assert_eq!(Layers::of_temporal(n), set(|_, t| t == n));
        }
    }

    #[test]
    fn when_the_top_layer_ends_its_limits_mean_the_next_one() {
        let before = set(|s, t| (s, t) == (1, 2) || (s, t) == (2, 0) || (s, t) == (0, 5));
        let after = before.retopped(2, 1);
        assert_eq!(after, set(|s, t| (s, t) == (0, 5) || (s >= 1 && t == 2)));
        assert_eq!(before.retopped(1, 2), before);
    }
}
