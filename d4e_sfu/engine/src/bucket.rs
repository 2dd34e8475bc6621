//! A token bucket: the one way in which this engine bounds a rate. Tokens are whatever the caller counts (bits,
//! datagrams, bytes); it knows nothing of why it is asked.

use crate::now::Now;

#[derive(Clone, Debug)]
pub struct Bucket {
    /// tokens per second
    rate: u64,
    /// the most that can be saved up
    burst: u64,
    /// in 1/1_000_000_000 token, so that no refill is lost to rounding
    level: u128,
    filled: Now,
}

const UNIT: u128 = 1_000_000_000;

impl Bucket {
    /// Full at first.
    #[must_use]
    pub fn new(rate: u64, burst: u64, now: Now) -> Self {
        Self {
            rate,
            burst,
            level: u128::from(burst) * UNIT,
            filled: now,
        }
    }

    /// Takes `tokens`, or nothing when there are fewer.
    pub fn take(&mut self, now: Now, tokens: u64) -> bool {
        let refill = u128::from(now.0.saturating_sub(self.filled.0)) * u128::from(self.rate);
        self.level = (self.level + refill).min(u128::from(self.burst) * UNIT);
        self.filled = self.filled.max(now);
        let Some(rest) = self.level.checked_sub(u128::from(tokens) * UNIT) else {
            return false;
        };
        self.level = rest;
        true
    }

    /// A new rate and burst from here on; what was saved is kept as far as it fits.
    pub fn set(&mut self, now: Now, rate: u64, burst: u64) {
        self.take(now, 0);
        (self.rate, self.burst) = (rate, burst);
        self.level = self.level.min(u128::from(burst) * UNIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_exactly_the_rate() {
        let mut bucket = Bucket::new(100, 10, Now(0));
        assert_eq!((0..20).filter(|_| bucket.take(Now(0), 1)).count(), 10);
        let over_one_second = (1..=1000)
            .filter(|&ms| bucket.take(Now::from_millis(ms), 1))
            .count();
        assert_eq!(over_one_second, 100);
    }

    #[test]
    fn time_that_stands_still_or_steps_back_gives_nothing() {
        let mut bucket = Bucket::new(1_000, 1, Now::from_millis(50));
        assert!(bucket.take(Now::from_millis(50), 1));
        assert!(!bucket.take(Now::from_millis(40), 1));
        assert!(!bucket.take(Now::from_millis(50), 1));
        assert!(bucket.take(Now::from_millis(51), 1));
    }

    #[test]
    fn rate_nought_blocks_everything() {
        let mut bucket = Bucket::new(100, 10, Now(0));
        bucket.set(Now(0), 0, 0);
        assert!(!bucket.take(Now::from_millis(10_000), 1));
    }
}
