//! Time as an argument: nanoseconds since an epoch of the caller's choice, monotonic. Nothing below the driver reads a
//! clock; a duration is `std::time::Duration`.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u64);

impl Now {
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }
    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
}

/// `elapsed` in ticks of an RTP clock of `rate` Hz.
#[must_use]
pub fn ticks(elapsed: Duration, rate: u32) -> u32 {
    (elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}
