//! The limit beside the figure: `limit --subscribers 100 --size 1100 --profile gcm` takes the engine's worker and the smallest
//! loop that does the same work in turn, and prints one JSON line with the CPU time (system time included) of both per
//! outgoing packet, one value per pair. With `--alone` it measures the loop only.
//!
//! Both run on core 0, the publisher on core 1; see `measure`. Built as an example of the engine's crate, so that whoever
//! changes the engine's interface changes this too:
//!
//!     cargo run --release --manifest-path d4e_sfu/engine/Cargo.toml --example limit -- --subscribers 10

// A benchmark that cannot go on says so and ends.
#![allow(clippy::expect_used, clippy::panic)]

mod engine;
mod measure;
mod smallest;

use std::time::Duration;

use self::engine::Engine;
use self::measure::{Load, Publisher, Slice, Subject, Targets};
use self::smallest::Smallest;

const WORKER_CORE: usize = 0;
const PUBLISHER_CORE: usize = 1;
/// Attempts at a pair during which nothing else ran on the core; then a disturbed one is taken too.
const ATTEMPTS: usize = 4;

struct Arguments {
    load: Load,
    pairs: usize,
    seconds: f64,
    alone: bool,
}

fn arguments() -> Arguments {
    let mut a = Arguments {
        load: Load {
            subscribers: 100,
            size: 1_100,
            gcm: true,
        },
        pairs: 5,
        seconds: 0.25,
        alone: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        if name == "--alone" {
            a.alone = true;
            continue;
        }
        let value = words.next().unwrap_or_default();
        match name.as_str() {
            "--subscribers" => a.load.subscribers = value.parse().expect("--subscribers N"),
            "--size" => a.load.size = value.parse().expect("--size BYTES"),
            "--profile" => a.load.gcm = value == "gcm",
            "--pairs" => a.pairs = value.parse().expect("--pairs N"),
            "--seconds" => a.seconds = value.parse().expect("--seconds S"),
            _ => panic!("unknown argument {name}"),
        }
    }
    a
}

fn main() {
    let Arguments {
        load,
        pairs,
        seconds,
        alone,
    } = arguments();
    let length = Duration::from_secs_f64(seconds);
    let targets = Targets::new();
    let (mut to_limit, mut to_engine) = (Publisher::new(), Publisher::new());
    let mut limit = Smallest::start(load, &targets);
    let mut engine = (!alone).then(|| Engine::start(load, &targets, &to_engine.socket));
    measure::pin("limit", PUBLISHER_CORE);
    measure::pin(limit.thread(), WORKER_CORE);
    if let Some(engine) = &engine {
        measure::pin(engine.thread(), WORKER_CORE);
    }

    let (mut limits, mut engines, mut disturbed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..pairs {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let below = to_limit.measure(&mut limit, &load, length);
            let above = engine.as_mut().map(|engine| {
                engine.stay(&to_engine.socket);
                to_engine.measure(engine, &load, length)
            });
            let clean = below.clean && above.is_none_or(|slice: Slice| slice.clean);
            if clean || attempt == ATTEMPTS {
                disturbed += usize::from(!clean);
                limits.push(below.nanoseconds);
                engines.extend(above.map(|slice| slice.nanoseconds));
                break;
            }
        }
    }

    // What was paid for is what was asked for.
    let expected = |publisher: &Publisher| publisher.sent * load.subscribers as u64;
    assert_eq!(
        limit.stop(&to_limit.socket),
        expected(&to_limit),
        "the limit has lost packets"
    );
    if let Some(engine) = engine {
        assert_eq!(
            engine.stop(),
            expected(&to_engine),
            "the engine has lost packets"
        );
    }
    println!(
        "{{\"subscribers\":{},\"size\":{},\"profile\":\"{}\",\"limit\":{limits:.1?},\"engine\":{engines:.1?},\"disturbed\":{disturbed}}}",
        load.subscribers,
        load.size,
        if load.gcm { "gcm" } else { "cm" },
    );
}
