//! The bitrate that losses allow: which bandwidth, and which loss that comes whatever is sent, explain best what was lost at
//! which rate? So a link that loses at random keeps its estimate, and one whose queue overflows does not. After libwebrtc's
//! `loss_based_bwe_v2.cc`; the constants are the defaults of its `CreateConfig`, by their names there. Left out: padding while
//! the estimate recovers (probes do that), and the start phase's exception.

/// `observation_window_size`, `observation_duration_lower_bound` (µs), `min_num_observations`
const WINDOW: usize = 15;
const OBSERVATION: i64 = 250_000;
const MIN_OBSERVATIONS: u64 = 3;
/// `temporal_weight_factor`, `instant_upper_bound_temporal_weight_factor`
const WEIGHT: f64 = 0.9;
/// `candidate_factors`
const CANDIDATES: [f64; 3] = [1.02, 1.0, 0.95];
/// `higher_bandwidth_bias_factor`, `higher_log_bandwidth_bias_factor`
const BIAS: f64 = 0.0002;
const LOG_BIAS: f64 = 0.02;
/// `loss_threshold_of_high_bandwidth_preference`, `bandwidth_preference_smoothing_factor`
const PREFERENCE: f64 = 0.2;
const PREFERENCE_SMOOTHING: f64 = 0.002;
/// `initial_inherent_loss_estimate`, `inherent_loss_lower_bound`
const FIRST_INHERENT: f64 = 0.01;
const MIN_INHERENT: f64 = 1e-3;
/// `inherent_loss_upper_bound_offset` and `…_bandwidth_balance`; `instant_upper_bound_…` has the same two; bit/s
const OFFSET: f64 = 0.05;
const BALANCE: f64 = 100e3;
/// `newton_step_size`; one iteration
const STEP: f64 = 0.75;
/// `bandwidth_rampup_upper_bound_factor`, `…_in_hold`, `bandwidth_rampup_hold_threshold`
const RAMP: f64 = 1.5;
const RAMP_IN_HOLD: f64 = 1.2;
const HOLD_THRESHOLD: f64 = 1.3;
/// `max_increase_factor` within `delayed_increase_window`, µs
const MAX_INCREASE: f64 = 1.3;
const INCREASE_WINDOW: i64 = 300_000;
/// `kInitHoldDuration`, `kMaxHoldDuration`, µs, and `hold_duration_factor`
const FIRST_HOLD: i64 = 300_000;
const MAX_HOLD: i64 = 60_000_000;
const HOLD_FACTOR: i64 = 2;
/// By how much a lesser bandwidth must explain better what was lost where nothing waits in the link: log-likelihood of a kB.
const PROOF: f64 = 3.0;
/// `median_sending_rate_factor`
const SPIKE: f64 = 2.0;

#[derive(Clone, Copy, Debug, Default)]
struct Observation {
    packets: u32,
    lost: u32,
    /// kB
    size: f64,
    lost_size: f64,
    /// bit/s
    rate: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    DelayBased,
    Increasing,
    Decreasing,
}

/// What explains the losses: a bandwidth beyond which all is lost, and the share that is lost whatever is sent.
#[derive(Clone, Copy, Debug)]
struct Channel {
    bandwidth: f64,
    inherent: f64,
}

#[derive(Debug)]
pub(super) struct Loss {
    window: [Observation; WINDOW],
    count: u64,
    partial: Observation,
    /// When the last packet of the last observation was sent, and of the current one; µs.
    ended: Option<i64>,
    newest: i64,
    best: Option<Channel>,
    average: f64,
    result: f64,
    state: State,
    /// Not above `held` until then.
    hold_until: i64,
    hold_for: i64,
    held: f64,
    increase_limit: f64,
    increased: Option<i64>,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            window: [Observation::default(); WINDOW],
            count: 0,
            partial: Observation::default(),
            ended: None,
            newest: 0,
            best: None,
            average: 0.0,
            result: f64::INFINITY,
            state: State::DelayBased,
            hold_until: i64::MIN,
            hold_for: FIRST_HOLD,
            held: f64::INFINITY,
            increase_limit: f64::INFINITY,
            increased: None,
        }
    }
}

impl Loss {
    /// A packet of `size` bytes that was sent at `sent` µs arrived, or did not.
    pub fn add(&mut self, sent: i64, size: u16, received: bool) {
        let size = f64::from(size) / 1e3;
        self.partial.packets += 1;
        self.partial.size += size;
        if !received {
            self.partial.lost += 1;
            self.partial.lost_size += size;
        }
        self.newest = self.newest.max(sent);
    }

    /// One that was said to be lost has come after all.
    pub fn found(&mut self, size: u16) {
        self.partial.lost = self.partial.lost.saturating_sub(1);
        self.partial.lost_size = (self.partial.lost_size - f64::from(size) / 1e3).max(0.0);
    }

    /// Of the packets sent lately, per mille.
    pub fn per_mille(&self) -> u16 {
        let (packets, lost) = self.weighted().fold(
            (
                f64::from(self.partial.packets),
                f64::from(self.partial.lost),
            ),
            |(packets, lost), (weight, seen)| {
                (
                    packets + weight * f64::from(seen.packets),
                    lost + weight * f64::from(seen.lost),
                )
            },
        );
        (1e3 * lost / packets.max(1.0)) as u16
    }

    /// bit/s; infinite while losses say nothing. By its own upper bound even a link that loses all carries this `BALANCE`
    /// (`CalculateInstantUpperBound`); below it libwebrtc follows what gets through. A forwarder of voices cannot fill what
    /// it is given, so what gets through is no hint of what would, and a voice that was held back would never be sent again.
    pub const fn bps(&self) -> f64 {
        if self.count < MIN_OBSERVATIONS {
            return f64::INFINITY;
        }
        self.result.max(BALANCE)
    }

    /// Losses, and not the delay, are the limit.
    pub fn limits(&self) -> bool {
        self.count >= MIN_OBSERVATIONS && self.state != State::DelayBased
    }

    /// A probe has shown that the link carries so much.
    pub fn set(&mut self, bps: f64) {
        if let Some(best) = &mut self.best {
            best.bandwidth = bps;
            self.result = bps;
            self.state = State::DelayBased;
        }
    }

    /// After a feedback: `delay` is what the delay allows, `through` what gets through; `quiet`: nothing waits in the link.
    pub fn update(&mut self, delay: f64, through: Option<f64>, limited: bool, quiet: bool) {
        if !self.observe() {
            return;
        }
        self.average = self.average_loss();
        // Where nothing is lost losses limit nothing. (Libwebrtc goes on to rise from what gets through, and pads for it; a
        // forwarder would wait for a probe below the step that it has.)
        if self.weighted().all(|(_, seen)| seen.lost == 0) {
            self.relax(delay);
            return;
        }
        let current = self.best.unwrap_or(Channel {
            bandwidth: delay,
            inherent: FIRST_INHERENT,
        });
        let rough = quiet && self.average > OFFSET;
        let mut best = self.explain(current, delay, through.filter(|_| !limited), rough);
        // It is not raised while more is lost than what the link loses by itself.
        if self.average > best.inherent {
            best.bandwidth = best.bandwidth.min(current.bandwidth);
        }
        if self.state != State::DelayBased && !rough {
            self.bound_increase(&mut best, current, through);
        }
        let upper = if self.average > OFFSET {
            BALANCE / (self.average - OFFSET)
        } else {
            f64::INFINITY
        };
        // What gets through is no part of the problem (`lower_bound_by_acked_rate_factor` = 1).
        let lower = through.unwrap_or_default();
        let bounded = best.bandwidth.min(upper).min(delay).max(lower.min(delay));
        self.best = Some(if bounded < best.bandwidth {
            Channel {
                bandwidth: bounded,
                inherent: MIN_INHERENT,
            }
        } else {
            best
        });
        if rough {
            self.hold_until = i64::MIN;
        }
        self.conclude(bounded, delay, lower);
    }

    fn relax(&mut self, delay: f64) {
        self.best = Some(Channel {
            bandwidth: delay,
            inherent: MIN_INHERENT,
        });
        self.result = delay;
        self.state = State::DelayBased;
        (self.hold_until, self.hold_for, self.held) = (i64::MIN, FIRST_HOLD, f64::INFINITY);
    }

    /// Closes the current observation, if it is long enough.
    fn observe(&mut self) -> bool {
        let Some(ended) = self.ended else {
            self.ended = (self.partial.packets > 0).then_some(self.newest);
            return false;
        };
        let span = self.newest - ended;
        if span < OBSERVATION || self.partial.packets == 0 {
            return false;
        }
        let mut seen = std::mem::take(&mut self.partial);
        seen.rate = seen.size * 8e3 / (span as f64 / 1e6);
        self.window[self.count as usize % WINDOW] = seen;
        self.count += 1;
        self.ended = Some(self.newest);
        true
    }

    fn explain(&self, current: Channel, delay: f64, through: Option<f64>, rough: bool) -> Channel {
        let limit = if self.state == State::DelayBased {
            f64::INFINITY
        } else {
            self.increase_limit
        };
        let bias =
            |loss: f64| (PREFERENCE - loss) / (PREFERENCE_SMOOTHING + (PREFERENCE - loss).abs());
        let (bias, inherent) = (bias(self.average), current.inherent);
        // Libwebrtc would rather have sent too much than have met a link that loses a quarter by itself, prefers to send less where
        // much is lost, and as what gets through is a share of what is sent, sends less and less, down to nothing. But where nothing
        // waits in the link (`rough`) the likelihood alone decides: is more lost when more is sent?
        let (bias, inherent, proof) = if rough {
            (bias.max(0.0), inherent.max(self.average), PROOF)
        } else {
            (bias, inherent, 0.0)
        };
        let candidates = CANDIDATES
            .iter()
            .map(|factor| factor * current.bandwidth)
            .chain(through)
            .chain((delay > current.bandwidth).then_some(delay));
        let mut best = (f64::NEG_INFINITY, current);
        for bandwidth in candidates {
            let bandwidth = bandwidth.min(current.bandwidth.max(limit)).max(1.0);
            let channel = self.newton(
                Channel {
                    bandwidth,
                    inherent: feasible(inherent, bandwidth, rough),
                },
                rough,
            );
            let kbps = bandwidth / 1e3;
            let bias = bias * (BIAS * kbps + LOG_BIAS * (1.0 + kbps).ln());
            let proof = if bandwidth < current.bandwidth {
                proof
            } else {
                0.0
            };
            let objective: f64 = self
                .weighted()
                .map(|(weight, seen)| {
                    let loss = channel.loss(seen.rate);
                    let likelihood = seen.lost_size * loss.ln()
                        + (seen.size - seen.lost_size) * (1.0 - loss).ln();
                    weight * (likelihood + bias * seen.size)
                })
                .sum();
            if objective - proof > best.0 {
                best = (objective - proof, channel);
            }
        }
        best.1
    }

    fn newton(&self, channel: Channel, rough: bool) -> Channel {
        let (first, second) =
            self.weighted()
                .fold((0.0, 0.0), |(first, second), (weight, seen)| {
                    let loss = channel.loss(seen.rate);
                    let received = seen.size - seen.lost_size;
                    (
                        first + weight * (seen.lost_size / loss - received / (1.0 - loss)),
                        second
                            - weight
                                * (seen.lost_size / (loss * loss)
                                    + received / ((1.0 - loss) * (1.0 - loss))),
                    )
                });
        let inherent = channel.inherent - STEP * first / f64::min(second, -1e-6);
        Channel {
            inherent: feasible(inherent, channel.bandwidth, rough),
            ..channel
        }
    }

    fn bound_increase(&mut self, best: &mut Channel, current: Channel, through: Option<f64>) {
        if self
            .increased
            .is_some_and(|at| at + INCREASE_WINDOW > self.newest)
        {
            best.bandwidth = best.bandwidth.min(self.increase_limit);
        }
        let Some(through) = through.filter(|_| best.bandwidth > current.bandwidth) else {
            return;
        };
        let ramp = if through < HOLD_THRESHOLD * self.held && self.held.is_finite() {
            RAMP_IN_HOLD
        } else {
            RAMP
        };
        best.bandwidth = best.bandwidth.min(ramp * through).max(current.bandwidth);
    }

    fn conclude(&mut self, bounded: f64, delay: f64, lower: f64) {
        if self.state == State::Decreasing && self.hold_until > self.newest && bounded < delay {
            self.held = self.held.max(lower);
            self.result = bounded.min(self.held);
            return;
        }
        if bounded >= delay {
            self.state = State::DelayBased;
            (self.hold_until, self.hold_for, self.held) = (i64::MIN, FIRST_HOLD, f64::INFINITY);
        } else if self.state != State::DelayBased && bounded > self.result {
            self.state = State::Increasing;
        } else if self.state != State::Increasing || bounded < self.result {
            if self.state != State::Decreasing {
                self.hold_until = self.newest + self.hold_for;
                self.hold_for = (self.hold_for * HOLD_FACTOR).min(MAX_HOLD);
                self.held = bounded;
            }
            self.state = State::Decreasing;
        }
        self.result = bounded;
        if self.state != State::DelayBased
            && self
                .increased
                .is_none_or(|at| at + INCREASE_WINDOW < self.newest)
        {
            let bandwidth = self.best.map_or(bounded, |best| best.bandwidth);
            self.increase_limit = bandwidth * MAX_INCREASE;
            self.increased = Some(self.newest);
        }
    }

    /// By bytes; without the observations that lost most and least, unless far more was sent in that which lost most.
    fn average_loss(&self) -> f64 {
        let (mut size, mut lost) = (0.0, 0.0);
        let (mut most, mut least) = ((-1.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0));
        for (weight, seen) in self.weighted() {
            let (s, l) = (weight * seen.size, weight * seen.lost_size);
            (size, lost) = (size + s, lost + l);
            let share = seen.lost_size / seen.size.max(1e-3);
            if share > most.0 {
                most = (share, s, l, seen.rate);
            }
            if share < least.0 {
                least = (share, s, l);
            }
        }
        let rest = size - most.1 - least.1;
        let spike = self.median_rate() * SPIKE <= most.3;
        if self.count <= MIN_OBSERVATIONS || spike || rest <= 1e-6 {
            return lost / size.max(1e-3);
        }
        ((lost - most.2 - least.2) / rest).max(0.0)
    }

    fn median_rate(&self) -> f64 {
        let mut rates = [0.0; WINDOW];
        let kept = self.count.min(WINDOW as u64) as usize;
        for (rate, seen) in rates.iter_mut().zip(&self.window[..kept]) {
            *rate = seen.rate;
        }
        let rates = &mut rates[..kept];
        rates.sort_unstable_by(f64::total_cmp);
        rates.get(kept / 2).copied().unwrap_or_default()
    }

    /// Observations, the newest first, each with its weight.
    fn weighted(&self) -> impl Iterator<Item = (f64, &Observation)> {
        (0..self.count.min(WINDOW as u64)).map(|back| {
            let at = (self.count - 1 - back) as usize % WINDOW;
            (WEIGHT.powi(back as i32), &self.window[at])
        })
    }
}

impl Channel {
    /// Of what is sent at `rate`, the share lost.
    fn loss(&self, rate: f64) -> f64 {
        let beyond = ((rate - self.bandwidth) / rate.max(1.0)).max(0.0);
        (self.inherent + (1.0 - self.inherent) * beyond).clamp(1e-6, 1.0 - 1e-6)
    }
}

/// The more a link carries, the less of what it loses is its nature; but for one in which nothing waits.
fn feasible(inherent: f64, bandwidth: f64, rough: bool) -> f64 {
    let upper = if rough {
        1.0
    } else {
        (OFFSET + BALANCE / bandwidth).min(1.0)
    };
    inherent.max(MIN_INHERENT).min(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After `seconds` of 1 Mbit/s, of which every `nth` packet is lost and the delay would allow 2 Mbit/s.
    fn after(loss: &mut Loss, start: i64, seconds: i64, nth: i64) -> f64 {
        for n in 0..seconds * 100 {
            let sent = (start * 100 + n) * 10_000;
            loss.add(sent, 1_250, n % nth != 0);
            if n % 10 == 9 {
                loss.update(2e6, Some(1e6), false, false);
            }
        }
        loss.bps()
    }

    #[test]
    fn losses_at_random_are_the_links_nature() {
        for nth in [100, 50, 20] {
            let mut loss = Loss::default();
            assert!(after(&mut loss, 0, 30, nth) >= 1e6, "1 of {nth}");
            assert!(loss.per_mille().abs_diff(1_000 / nth as u16) <= 10);
        }
    }

    #[test]
    fn heavy_losses_bound_it_and_it_comes_back_without_them() {
        let mut loss = Loss::default();
        // No more than what gets through is ever taken away.
        let heavy = after(&mut loss, 0, 20, 3);
        assert!(heavy <= 1.05e6, "{heavy}");
        assert!(loss.limits());
        // No further than `RAMP_IN_HOLD` times what gets through.
        assert!(after(&mut loss, 20, 20, i64::MAX) >= 1.19e6);
    }

    /// What is allowed after a minute in which all or six tenths of it were sent, in turns of a second, where `lost` says what
    /// becomes of a packet of so many bytes each 10 ms.
    fn closed(quiet: bool, mut lost: impl FnMut(f64) -> bool) -> f64 {
        let mut loss = Loss::default();
        let (mut rate, mut through) = (1e6, 1e6);
        for n in 0..6_000i64 {
            let bytes = rate / 800.0 * if n / 100 % 2 == 0 { 1.0 } else { 0.6 };
            let gone = lost(bytes);
            through += 0.02 * (if gone { 0.0 } else { bytes * 800.0 } - through);
            loss.add(n * 10_000, bytes as u16, !gone);
            if n % 10 == 9 {
                loss.update(2e6, Some(through), false, quiet);
                rate = loss.bps().min(1e6);
            }
        }
        rate
    }

    #[test]
    fn heavy_losses_at_random_where_nothing_waits_leave_what_their_bound_leaves() {
        for seed in 1..=20 {
            let mut chance: u32 = seed;
            let rate = closed(true, |_| {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                chance >> 8 < (0.3 * f64::from(1 << 24)) as u32
            });
            assert!((250e3..=600e3).contains(&rate), "{rate}, {seed}");
        }
    }

    #[test]
    fn a_link_that_drops_what_is_too_much_at_once_is_found_though_nothing_waits() {
        let mut credit: f64 = 0.0;
        let rate = closed(true, |bytes| {
            credit = (credit + 400e3 / 800.0).min(4_000.0);
            let gone = credit < bytes;
            credit -= if gone { 0.0 } else { bytes };
            gone
        });
        assert!((300e3..=500e3).contains(&rate), "{rate}");
    }
}
