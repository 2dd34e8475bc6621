//! Is the queue in the link growing? The slope of a line through the accumulated delay of the last groups, against a
//! threshold that adapts. After libwebrtc's `trendline_estimator.cc`; its constants by their names there.

use super::arrivals::Apart;

/// `kDefaultTrendlineWindowSize`
const WINDOW: usize = 20;
/// `kDefaultTrendlineSmoothingCoeff`
const SMOOTHING: f64 = 0.9;
/// `kDefaultTrendlineThresholdGain`
const GAIN: f64 = 4.0;
/// `kMinNumDeltas`
const MAX_DELTAS: u32 = 60;
/// ms, `kOverUsingTimeThreshold`
const OVERUSE_FOR: f64 = 10.0;
/// `kMaxAdaptOffsetMs`: a peak further above the threshold does not move it.
const MAX_OFFSET: f64 = 15.0;
/// `k_up_`, `k_down_`, and the first `threshold_`
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
const FIRST_THRESHOLD: f64 = 12.5;
/// `SafeClamp(threshold_, 6.f, 600.f)`
const THRESHOLDS: (f64, f64) = (6.0, 600.0);
/// ms, `kMaxTimeDeltaMs`
const MAX_ADAPT: f64 = 100.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    #[default]
    Normal,
    /// The queue grows.
    Over,
    /// The queue drains.
    Under,
}

#[derive(Debug)]
pub(super) struct Trendline {
    /// (time of arrival since the first, smoothed delay), ms; the oldest is at `deltas % WINDOW` once it is full.
    points: [(f64, f64); WINDOW],
    deltas: u32,
    at: usize,
    accumulated: f64,
    smoothed: f64,
    time: f64,
    threshold: f64,
    adapted: Option<f64>,
    slope: f64,
    /// ms for which it has been over, and how often in a row
    over: Option<f64>,
    overs: u32,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            points: [(0.0, 0.0); WINDOW],
            deltas: 0,
            at: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            time: 0.0,
            threshold: FIRST_THRESHOLD,
            adapted: None,
            slope: 0.0,
            over: None,
            overs: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    pub fn add(&mut self, apart: Apart) {
        let (sent, arrived) = (apart.sent as f64 / 1e3, apart.arrived as f64 / 1e3);
        self.deltas = (self.deltas + 1).min(1_000);
        self.time += arrived;
        self.accumulated += arrived - sent;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points[self.at % WINDOW] = (self.time, self.smoothed);
        self.at = (self.at + 1) % WINDOW;
        let before = self.slope;
        if self.deltas as usize >= WINDOW {
            self.slope = slope(&self.points).unwrap_or(self.slope);
        }
        self.detect(before, sent);
    }

    pub const fn usage(&self) -> Usage {
        self.usage
    }

    fn detect(&mut self, before: f64, sent: f64) {
        if self.deltas < 2 {
            self.usage = Usage::Normal;
            return;
        }
        let trend = f64::from(self.deltas.min(MAX_DELTAS)) * self.slope * GAIN;
        if trend > self.threshold {
            let over = self.over.map_or(sent / 2.0, |over| over + sent);
            self.over = Some(over);
            self.overs += 1;
            if over > OVERUSE_FOR && self.overs > 1 && self.slope >= before {
                (self.over, self.overs) = (Some(0.0), 0);
                self.usage = Usage::Over;
            }
        } else {
            (self.over, self.overs) = (None, 0);
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.adapt(trend);
    }

    fn adapt(&mut self, trend: f64) {
        let since = self.time - self.adapted.unwrap_or(self.time);
        self.adapted = Some(self.time);
        if trend.abs() > self.threshold + MAX_OFFSET {
            return;
        }
        let k = if trend.abs() < self.threshold {
            DOWN
        } else {
            UP
        };
        self.threshold += k * (trend.abs() - self.threshold) * since.clamp(0.0, MAX_ADAPT);
        self.threshold = self.threshold.clamp(THRESHOLDS.0, THRESHOLDS.1);
    }
}

/// Least squares; `None` when all points have one time.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / n, y / n);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
        let dx = point.0 - x;
        (over + dx * (point.1 - y), under + dx * dx)
    });
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(groups: u32, sent: i64, arrived: impl Fn(u32) -> i64) -> Usage {
        let mut trendline = Trendline::default();
        for n in 0..groups {
            let arrived = arrived(n);
            trendline.add(Apart { sent, arrived });
        }
        trendline.usage()
    }

    #[test]
    fn a_queue_that_grows_is_overuse_and_one_that_drains_is_underuse() {
        assert_eq!(after(60, 20_000, |_| 20_000), Usage::Normal);
        assert_eq!(after(60, 20_000, |_| 24_000), Usage::Over);
        assert_eq!(after(60, 20_000, |_| 16_000), Usage::Under);
    }

    #[test]
    fn jitter_is_no_trend() {
        for size in [1_000, 5_000, 10_000] {
            let jitter = |n: u32| 20_000 + if n.is_multiple_of(2) { size } else { -size };
            assert_eq!(after(200, 20_000, jitter), Usage::Normal);
        }
    }
}
