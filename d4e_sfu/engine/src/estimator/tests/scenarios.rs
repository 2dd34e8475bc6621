//! What a link does to an estimate, from several seeds.

use super::link::{Chance, Download, Flow, Link, run};
use crate::now::Now;

const SEEDS: [u64; 3] = [1, 2, 3];

/// What was delivered within `from..to` ms, bit/s.
fn delivered(clock: &mut u64, to: u64, link: &mut Link, flow: &mut Flow) -> f64 {
    let (before, from) = (flow.arrived, *clock);
    run(clock, to, link, std::slice::from_mut(flow), |_, _| {});
    (flow.arrived - before) as f64 * 8e3 / (to - from) as f64
}

#[test]
fn the_first_probes_reach_four_megabits_within_a_second() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 4e6, 25));
        let mut flow = Flow::new(Now(0), 600_000, 4e6);
        run(
            &mut clock,
            1_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |_, _| {},
        );
        let found = flow.estimator.bitrate();
        assert!((3_000_000..=4_400_000).contains(&found), "{seed}: {found}");
    }
}

#[test]
fn a_voice_alone_is_estimated() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 0.0);
        run(
            &mut clock,
            20_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |_, _| {},
        );
        let found = flow.estimator.bitrate();
        assert!((1_200_000..=2_200_000).contains(&found), "{seed}: {found}");
        // The link falls to what a voice needs and a little: its queue must be seen although only voice flows.
        link.rate = 40e3;
        run(
            &mut clock,
            40_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |_, _| {},
        );
        let found = flow.estimator.bitrate();
        // No more than growth beyond what gets through allows.
        assert!(found <= 75_000, "{seed}: {found}");
    }
}

#[test]
fn a_capacity_that_falls_and_rises_is_followed() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 4e6);
        delivered(&mut clock, 20_000, &mut link, &mut flow);
        let used = delivered(&mut clock, 30_000, &mut link, &mut flow);
        assert!(used >= 1.6e6, "{seed}: {used}");
        link.rate = 500e3;
        delivered(&mut clock, 33_000, &mut link, &mut flow);
        let mut queued = Vec::new();
        run(
            &mut clock,
            60_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |_, flows| queued.push(flows[0].queued.as_millis()),
        );
        queued.sort_unstable();
        let p95 = queued[queued.len() * 95 / 100];
        assert!(p95 <= 150, "{seed}: {p95} ms");
        let used = delivered(&mut clock, 70_000, &mut link, &mut flow);
        assert!(used >= 400e3, "{seed}: {used}");
        link.rate = 2e6;
        delivered(&mut clock, 90_000, &mut link, &mut flow);
        let used = delivered(&mut clock, 100_000, &mut link, &mut flow);
        assert!(used >= 1.6e6, "{seed}: {used}");
    }
}

#[test]
fn losses_at_random_do_not_destroy_an_estimate() {
    for (loss, least) in [(0.02, 1.6e6), (0.05, 1.4e6), (0.10, 0.8e6)] {
        for seed in SEEDS {
            let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
            link.loss = loss;
            let mut flow = Flow::new(Now(0), 600_000, 4e6);
            delivered(&mut clock, 20_000, &mut link, &mut flow);
            let used = delivered(&mut clock, 60_000, &mut link, &mut flow);
            assert!(used >= least * (1.0 - loss), "{loss} {seed}: {used}");
            let told = f64::from(flow.estimator.facts().loss) / 1e3;
            assert!((told - loss).abs() < 0.04, "{loss} {seed}: {told}");
        }
    }
}

#[test]
fn bursts_of_losses_leave_what_the_voices_need() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        (link.loss, link.burst) = (0.15, 3.0);
        let mut flow = Flow::new(Now(0), 600_000, 4e6);
        let mut least = u32::MAX;
        run(
            &mut clock,
            60_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |ms, flows| {
                if ms > 10_000 {
                    least = least.min(flows[0].estimator.bitrate());
                }
            },
        );
        assert!(least >= 100_000, "{seed}: {least}");
    }
}

#[test]
fn a_thin_long_lossy_link_carries_its_voice() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 64e3, 200));
        link.loss = 0.05;
        let mut flow = Flow::new(Now(0), 600_000, 0.0);
        let mut estimates = Vec::new();
        run(
            &mut clock,
            60_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |ms, flows| {
                if ms >= 5_000 {
                    estimates.push(flows[0].estimator.bitrate());
                }
            },
        );
        estimates.sort_unstable();
        let (low, high) = (
            estimates[estimates.len() / 20],
            estimates[estimates.len() * 19 / 20],
        );
        assert!(low >= 44_000 && high <= 80_000, "{seed}: {low}..{high}");
        // And from there to a good one, once there is one.
        (link.rate, link.delay, link.loss) = (4e6, std::time::Duration::from_millis(25), 0.0);
        flow.demand = 3e6;
        flow.estimator.set_demand(3_000_000);
        run(
            &mut clock,
            70_000,
            &mut link,
            std::slice::from_mut(&mut flow),
            |_, _| {},
        );
        let found = flow.estimator.bitrate();
        assert!(found >= 2_500_000, "{seed}: {found}");
    }
}

#[test]
fn who_sends_little_neither_raises_nor_loses_his_estimate() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 2e6);
        delivered(&mut clock, 20_000, &mut link, &mut flow);
        let before = flow.estimator.bitrate();
        flow.demand = 0.0;
        flow.estimator.set_demand(0);
        delivered(&mut clock, 60_000, &mut link, &mut flow);
        let after = flow.estimator.bitrate();
        assert!(flow.estimator.facts().limited);
        assert!(
            after <= before && after > before / 2,
            "{seed}: {before} {after}"
        );
        flow.demand = 2e6;
        flow.estimator.set_demand(2_000_000);
        delivered(&mut clock, 65_000, &mut link, &mut flow);
        let used = delivered(&mut clock, 75_000, &mut link, &mut flow);
        assert!(used >= 1.6e6, "{seed}: {used}");
    }
}

#[test]
fn an_outage_costs_a_second() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 2e6);
        delivered(&mut clock, 20_000, &mut link, &mut flow);
        link.rate = 0.0;
        delivered(&mut clock, 30_000, &mut link, &mut flow);
        let meanwhile = flow.estimator.bitrate();
        assert!(
            (100_000..=400_000).contains(&meanwhile),
            "{seed}: {meanwhile}"
        );
        link.rate = 2e6;
        delivered(&mut clock, 31_500, &mut link, &mut flow);
        let found = flow.estimator.bitrate();
        assert!(found >= 1_300_000, "{seed}: {found}");
    }
}

#[test]
fn two_share_a_link() {
    for seed in [1, 2] {
        let mut chance = Chance(seed);
        let (mut clock, mut link) = (0, Link::new(seed, 3e6, 50));
        let mut flows = [Flow::new(Now(0), 600_000, 4e6)];
        run(
            &mut clock,
            10_000 + (chance.unit() * 5e3) as u64,
            &mut link,
            &mut flows,
            |_, _| {},
        );
        let second = Flow::new(Now::from_millis(clock), 600_000, 4e6);
        let [first] = flows;
        let mut flows = [first, second];
        run(&mut clock, 60_000, &mut link, &mut flows, |_, _| {});
        let before = [flows[0].arrived, flows[1].arrived];
        run(&mut clock, 150_000, &mut link, &mut flows, |_, _| {});
        let share = (flows[0].arrived - before[0]) as f64 / (flows[1].arrived - before[1]) as f64;
        assert!((0.6..=1.67).contains(&share), "{seed}: {share}");
    }
}

/// What a forwarder of four cameras has to send, in steps of a third.
const STEPS: &[f64] = &[
    100e3, 200e3, 300e3, 400e3, 600e3, 800e3, 1.2e6, 1.8e6, 2.4e6, 3.2e6,
];

fn alone(
    link: &mut Link,
    flow: &mut Flow,
    clock: &mut u64,
    to: u64,
    each: impl FnMut(u64, &[Flow]),
) {
    run(clock, to, link, std::slice::from_mut(flow), each);
}

#[test]
fn a_clean_link_that_pictures_begin_to_fill_keeps_its_estimate_for_five_minutes() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 4e6, 25));
        let mut flow = Flow::new(Now(0), 600_000, 6e6);
        flow.steps = STEPS;
        flow.pauses = true;
        alone(&mut link, &mut flow, &mut clock, 10_000, |_, _| {});
        let mut least = u32::MAX;
        for second in 10..300u64 {
            // Each half minute nothing but a voice is sent for five seconds, and then all pictures begin at once.
            flow.demand = if second % 30 < 5 { 0.0 } else { 6e6 };
            alone(
                &mut link,
                &mut flow,
                &mut clock,
                second * 1_000,
                |_, flows| {
                    least = least.min(flows[0].estimator.bitrate());
                },
            );
        }
        assert!(least >= 2_000_000, "{seed}: {least}");
    }
}

#[test]
fn on_a_thin_link_the_voice_that_fits_is_not_held_back() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 4e6, 25));
        let mut flow = Flow::new(Now(0), 600_000, 6e6);
        flow.steps = STEPS;
        flow.pauses = true;
        alone(&mut link, &mut flow, &mut clock, 10_000, |_, _| {});
        (link.rate, link.delay, link.loss) = (64e3, std::time::Duration::from_millis(200), 0.05);
        alone(&mut link, &mut flow, &mut clock, 15_000, |_, _| {});
        let (mut held, mut total, mut high) = (0, 0, 0);
        alone(&mut link, &mut flow, &mut clock, 75_000, |_, flows| {
            total += 1;
            held += u32::from(flows[0].estimator.bitrate() < 44_000);
            high = high.max(flows[0].estimator.bitrate());
        });
        assert!(held * 100 <= total, "{seed}: {held} ms of {total}");
        assert!(high < 144_000, "{seed}: a picture would be sent at {high}");
    }
}

#[test]
fn steps_follow_a_capacity_that_falls_and_rises() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 1e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 6e6);
        flow.steps = STEPS;
        for (rate, settle, to) in [
            (1e6, 20, 40),
            (2.5e6, 20, 40),
            (600e3, 10, 40),
            (1e6, 20, 40),
        ] {
            link.rate = rate;
            let began = clock;
            delivered(&mut clock, began + settle * 1_000, &mut link, &mut flow);
            let used = delivered(&mut clock, began + to * 1_000, &mut link, &mut flow) / rate;
            assert!(used >= 0.7, "{seed}: {used:.2} of {rate}");
        }
    }
}

#[test]
fn a_download_that_keeps_the_queue_full_leaves_a_share() {
    for seed in SEEDS {
        let (mut clock, mut link) = (0, Link::new(seed, 2e6, 50));
        let mut flow = Flow::new(Now(0), 600_000, 4e6);
        flow.steps = STEPS;
        alone(&mut link, &mut flow, &mut clock, 5_000, |_, _| {});
        let mut download = Download::new();
        let mut before = 0;
        for ms in 5_000..120_000u64 {
            let now = Now::from_millis(ms);
            download.step(now, &mut link);
            flow.step(now, &mut link);
            if ms == 30_000 {
                before = flow.arrived;
            }
        }
        let ours = (flow.arrived - before) as f64 * 8.0 / 90.0;
        assert!(download.arrived > 0 && ours >= 700e3, "{seed}: {ours:.0}");
    }
}

#[test]
fn two_whose_link_falls_leave_its_queue_short() {
    for seed in SEEDS {
        let mut chance = Chance(seed);
        let (mut clock, mut link) = (0, Link::new(seed, 3.5e6, 50));
        let mut flows = [0.0, chance.unit()].map(|begins| {
            let mut flow = Flow::new(Now::from_millis((begins * 300.0) as u64), 600_000, 4e6);
            flow.steps = STEPS;
            flow
        });
        run(&mut clock, 25_000, &mut link, &mut flows, |_, _| {});
        link.rate = 1e6;
        run(&mut clock, 28_000, &mut link, &mut flows, |_, _| {});
        let mut queued = Vec::new();
        run(&mut clock, 60_000, &mut link, &mut flows, |_, flows| {
            queued.push(flows[0].queued.as_millis());
        });
        queued.sort_unstable();
        let p95 = queued[queued.len() * 95 / 100];
        assert!(p95 <= 130, "{seed}: {p95} ms");
    }
}
