//! One of several who share a bottleneck (RFC 8699, coupled congestion control): what he tells of it, and what he is told.
//! Who they are and what each gets is the router's business (`router/bottleneck.rs`).

use std::time::Duration;

use super::rate::{GaveWay, backoff, with_short_queue};
use super::{Estimator, MAX, MIN};
use crate::now::Now;

/// Of his demand: with no more his pictures would not come back, for which some of the estimate stays free.
const WANTED: f64 = 1.2;

/// bit/s
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// The estimate.
    pub has: f64,
    /// More is of no use to him, or is not what limits him.
    pub wants: f64,
}

/// bit/s
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed {
    /// The estimate before.
    pub before: f64,
    /// What the link carries, with what it carried of others'.
    pub whole: f64,
}

/// What is left of an estimate of `bps`, of which so much gets through, after a queue like this; bit/s.
#[must_use]
pub fn reduced(queue: Duration, bps: f64, through: f64) -> f64 {
    with_short_queue(queue, bps, backoff(queue) * through).min(bps)
}

impl Estimator {
    /// `None`: he tells nothing that could be divided.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        if self.told.is_none() || self.outage.is_some() || !self.has_begun() {
            return None;
        }
        let lossy = self.loss.limits().then(|| self.loss.bps());
        let most = lossy.unwrap_or(MAX).min(self.remb.unwrap_or(MAX));
        Some(Flow {
            has: self.rate.bps().min(most),
            wants: most.min(WANTED * self.demand),
        })
    }

    /// His part, bit/s.
    pub fn set_part(&mut self, bps: f64) {
        let bps = bps.clamp(MIN, MAX);
        self.rate.share(bps);
        // What losses allow is otherwise known four times a second.
        if !self.loss.limits() {
            self.loss.set(bps);
        }
    }

    /// His part after one of them has given way, who speaks for all.
    pub fn give_way(&mut self, now: Now, bps: f64) {
        self.rate.give_way(now, bps.clamp(MIN, MAX));
    }

    /// The estimate has been lowered for a queue, since this was last taken.
    pub const fn gave_way(&mut self) -> &mut Option<GaveWay> {
        self.rate.gave_way()
    }

    /// The way to him is cut.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.outage.is_some()
    }

    /// What gets through, bit/s.
    #[must_use]
    pub fn through(&self) -> f64 {
        self.rate.through()
    }

    /// Has a probe raised the estimate, since this was asked?
    pub const fn probed(&mut self) -> Option<Probed> {
        self.probed.take()
    }

    /// The probe that has just left met so much of others', bit/s.
    pub const fn met(&mut self, bps: f64) {
        self.prober.met(bps);
    }

    /// Another probes the link for all.
    pub fn another_probes(&mut self, now: Now) {
        self.prober.another_probes(now);
    }

    /// What waited in the link.
    #[must_use]
    pub const fn waits(&self) -> &super::Waits {
        &self.waits
    }

    /// He is alone from now on, and what is known of his queue does not count any more.
    pub fn part(&mut self) {
        self.waits = super::Waits::default();
    }

    /// He is alone no more: what happened before is no news to the others.
    pub const fn meet(&mut self) {
        *self.rate.gave_way() = None;
        self.probed = None;
    }
}
