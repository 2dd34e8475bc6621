//! A histogram of durations with a relative error under 1.6 %, small enough to keep one per stream.

use serde::Serialize;

/// Buckets: 64 for each power of two of nanoseconds, from 2^6 to 2^40 (18 minutes).
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: Vec<u32>,
    count: u64,
    max: u64,
}

const SUB: u32 = 6;
const POWERS: usize = 35;

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: vec![0; POWERS << SUB],
            count: 0,
            max: 0,
        }
    }
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    pub fn add(&mut self, nanoseconds: u64) {
        let value = nanoseconds.max(1 << SUB);
        let power = value.ilog2();
        let at =
            (power - SUB) as usize * (1 << SUB) + (value >> (power - SUB)) as usize - (1 << SUB);
        let last = self.buckets.len() - 1;
        self.buckets[at.min(last)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *into += from;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The upper edge of the bucket that holds the quantile.
    fn quantile(&self, part: f64) -> f64 {
        let rank = (self.count as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return edge(at).min(self.max) as f64 / 1e3;
            }
        }
        0.0
    }

    /// Where the counts lie, for a plot: upper edge in microseconds and count, eight for each power of two, empty ones left out.
    #[must_use]
    pub fn histogram(&self) -> Vec<(f64, u32)> {
        const TOGETHER: usize = 1 << (SUB - 3);
        self.buckets
            .chunks(TOGETHER)
            .enumerate()
            .map(|(at, counts)| {
                (
                    edge((at + 1) * TOGETHER - 1) as f64 / 1e3,
                    counts.iter().sum(),
                )
            })
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            max: self.max as f64 / 1e3,
        }
    }
}

/// The upper edge of a bucket, in nanoseconds.
fn edge(at: usize) -> u64 {
    let (power, sub) = (at >> SUB, (at & ((1 << SUB) - 1)) as u64);
    ((1 << SUB) + sub + 1) << power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut latency = Latency::default();
        for n in 1..=100_000u64 {
            latency.add(n * 1000);
        }
        let q = latency.quantiles();
        for (got, exact) in [
            (q.p50, 50_000.0),
            (q.p90, 90_000.0),
            (q.p99, 99_000.0),
            (q.max, 100_000.0),
        ] {
            assert!((got - exact).abs() / exact < 0.02, "{got} {exact}");
        }
        let mut twice = latency.clone();
        twice.merge(&latency);
        let histogram = latency.histogram();
        assert_eq!(
            histogram.iter().map(|(_, count)| count).sum::<u32>(),
            100_000
        );
        let below: u32 = histogram
            .iter()
            .take_while(|(edge, _)| *edge <= 66_000.0)
            .map(|(_, count)| count)
            .sum();
        // The edges around are 62,915 and 67,109 µs.
        assert_eq!(below, 62_914);
        assert_eq!(
            (twice.quantiles().p50, twice.quantiles().count),
            (q.p50, 200_000)
        );
    }
}
