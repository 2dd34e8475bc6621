//! What gets through: bytes by the client's clock over windows, weighed by how much they stray from what was known. After
//! libwebrtc's `bitrate_estimator.cc`; its constants by their names there. Beside it the most that was sent lately by our own
//! clock: no client is believed to have received more.

use crate::now::Now;

/// ms, `kInitialRateWindowMs` and `kRateWindowMs`
const FIRST_WINDOW: f64 = 500.0;
const WINDOW: f64 = 150.0;
/// `uncertainty_scale_` (10), `uncertainty_scale_in_alr_` (20)
const UNCERTAINTY: (f64, f64) = (10.0, 20.0);
/// `bitrate_estimate_var_` at first, and what each window adds to it
const FIRST_VARIANCE: f64 = 50.0;
const DRIFT: f64 = 5.0;
/// `ExpectFastRateChange`
const FAST: f64 = 200.0;

#[derive(Debug)]
pub(super) struct Acknowledged {
    /// kbit/s
    estimate: Option<f64>,
    variance: f64,
    bytes: f64,
    /// ms of the current window, and the last arrival
    window: f64,
    last: Option<f64>,
    sent: Sent,
}

impl Acknowledged {
    pub fn new(now: Now) -> Self {
        Self {
            estimate: None,
            variance: FIRST_VARIANCE,
            bytes: 0.0,
            window: 0.0,
            last: None,
            sent: Sent::new(now),
        }
    }

    pub fn sent(&mut self, now: Now, size: usize) {
        self.sent.add(now, size);
    }

    /// `size` bytes arrived at `arrived` µs; `limited`: little is sent, so a window says less.
    pub fn add(&mut self, arrived: i64, size: u16, limited: bool) {
        let Some(kbps) = self.window(arrived as f64 / 1e3, f64::from(size)) else {
            return;
        };
        let Some(estimate) = self.estimate else {
            self.estimate = Some(kbps);
            return;
        };
        let scale = if limited && kbps < estimate {
            UNCERTAINTY.1
        } else {
            UNCERTAINTY.0
        };
        let uncertainty = (scale * (estimate - kbps).abs() / estimate.max(1.0)).powi(2);
        let predicted = self.variance + DRIFT;
        let all = uncertainty + predicted;
        self.estimate = Some((uncertainty * estimate + predicted * kbps) / all);
        self.variance = uncertainty * predicted / all;
    }

    fn window(&mut self, at: f64, size: f64) -> Option<f64> {
        let length = if self.estimate.is_some() {
            WINDOW
        } else {
            FIRST_WINDOW
        };
        match self.last {
            Some(last) if at < last => {
                // His clock has been set back.
                if last - at > length {
                    (self.bytes, self.window, self.last) = (0.0, 0.0, Some(at));
                }
            }
            Some(last) => {
                self.window += at - last;
                if at - last > length {
                    self.bytes = 0.0;
                    self.window %= length;
                }
                self.last = Some(at);
            }
            None => self.last = Some(at),
        }
        let full = (self.window >= length).then(|| {
            self.window -= length;
            8.0 * std::mem::take(&mut self.bytes) / length
        });
        self.bytes += size;
        full
    }

    /// The sender has begun to send much more, or to send again.
    pub fn expect_change(&mut self) {
        self.variance += FAST;
    }

    /// bit/s
    pub fn bps(&self, now: Now) -> Option<f64> {
        Some((self.estimate? * 1e3).min(self.sent.most(now)))
    }

    /// The most that was sent in half a second lately, bit/s.
    pub fn sent_bps(&self, now: Now) -> f64 {
        self.sent.most(now)
    }
}

/// ns of a bucket; a rate is over `SPAN` of them; older than `BUCKETS` is forgotten: longer than any feedback takes.
const BUCKET: u64 = 100_000_000;
const SPAN: usize = 5;
const BUCKETS: usize = 30;

#[derive(Debug)]
struct Sent {
    buckets: [u32; BUCKETS],
    newest: u64,
}

impl Sent {
    const fn new(now: Now) -> Self {
        Self {
            buckets: [0; BUCKETS],
            newest: now.0 / BUCKET,
        }
    }

    fn add(&mut self, now: Now, size: usize) {
        let at = now.0 / BUCKET;
        for gone in (self.newest + 1..=at).take(BUCKETS) {
            self.buckets[gone as usize % BUCKETS] = 0;
        }
        if at > self.newest + BUCKETS as u64 {
            self.buckets.fill(0);
        }
        self.newest = self.newest.max(at);
        let bucket = &mut self.buckets[self.newest as usize % BUCKETS];
        *bucket = bucket.saturating_add(size as u32);
    }

    fn most(&self, now: Now) -> f64 {
        if now.0 / BUCKET > self.newest + BUCKETS as u64 {
            return 0.0;
        }
        let oldest = self.newest as usize + 1;
        let bucket = |n: usize| u64::from(self.buckets[(oldest + n) % BUCKETS]);
        let mut sum: u64 = (0..SPAN).map(bucket).sum();
        let mut most = sum;
        for n in SPAN..BUCKETS {
            sum = sum + bucket(n) - bucket(n - SPAN);
            most = most.max(sum);
        }
        most as f64 * 8.0 * 1e9 / (BUCKET as f64 * SPAN as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_through_is_found_and_never_more_than_was_sent() {
        let mut acknowledged = Acknowledged::new(Now(0));
        // 100 bytes each 10 ms are 80 kbit/s; he says that they came in half the time.
        for n in 0..500u64 {
            acknowledged.sent(Now::from_millis(n * 10), 100);
            acknowledged.add(n as i64 * 5_000, 100, false);
        }
        let now = Now::from_millis(5_000);
        assert!((acknowledged.estimate.unwrap() - 160.0).abs() < 10.0);
        assert_eq!(acknowledged.bps(now), Some(80_000.0));
        assert_eq!(acknowledged.bps(Now::from_millis(20_000)), Some(0.0));
    }
}
