//! What a link does to an estimate, from several seeds.

use super::link::{Chance, Flow, Link, run};
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
