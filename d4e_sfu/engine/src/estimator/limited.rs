//! Is so little sent that the link cannot be the limit? A budget of 65 % of the estimate, over half a second. After
//! libwebrtc's `alr_detector.cc` ("application-limited region") and `interval_budget.cc`; its constants by their names there.

use crate::now::Now;

/// `bandwidth_usage_ratio`
const USED: f64 = 0.65;
/// `start_budget_level_ratio`, `stop_budget_level_ratio`
const START: f64 = 0.80;
const STOP: f64 = 0.50;
/// s, `kWindowMs`
const WINDOW: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Limited {
    /// bits
    budget: f64,
    at: Now,
    limited: bool,
}

impl Limited {
    pub const fn new(now: Now) -> Self {
        Self {
            budget: 0.0,
            at: now,
            limited: false,
        }
    }

    /// `size` bytes leave, or none.
    pub fn sent(&mut self, now: Now, size: usize, estimate: u32) {
        let rate = USED * f64::from(estimate.max(1));
        let most = rate * WINDOW;
        let earned = rate * now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.budget = ((self.budget - size as f64 * 8.0).max(-most) + earned).min(most);
        if self.budget > START * most {
            self.limited = true;
        } else if self.budget < STOP * most {
            self.limited = false;
        }
    }

    pub const fn get(&self) -> bool {
        self.limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_estimate_is_limited_and_all_of_it_is_not() {
        for (bytes, expected) in [(62, true), (125, false)] {
            let mut limited = Limited::new(Now(0));
            for ms in (0..5_000).step_by(10) {
                limited.sent(Now::from_millis(ms), bytes, 100_000);
            }
            assert_eq!(limited.get(), expected, "{bytes}");
        }
    }
}
