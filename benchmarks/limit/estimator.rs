//! What a transport-wide feedback costs the estimator: 2.5 Mbit/s of packets of 1,200 bytes, told of every 100 ms (26
//! packets), 2 % lost, each arrival jittering by up to 2 ms. Prints one JSON line with the microseconds of each run: of a feedback
//! and of the packets between two. `estimator RUNS SECONDS`: seconds of the stream, not of the clock.

// A benchmark that cannot go on says so and ends.
#![allow(clippy::expect_used)]

use std::time::Instant;

use d4e_engine::estimator::Estimator;
use d4e_engine::now::Now;
use d4e_engine::wire::rtcp::{Compound, Packet, write_transport_feedback};
use d4e_engine::wire::seq::{SeqNo, Ssrc};

const PACKETS: u64 = 26;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse());
    let mut next = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (runs, seconds) = (next(5), next(600));
    let (mut feedbacks, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (feedback, packets) = run(seconds * 10);
        feedbacks.push(feedback);
        sent.push(packets);
    }
    println!("{{\"feedback\": {feedbacks:?}, \"sent\": {sent:?}}}");
}

/// Microseconds of a feedback, and of the sending of what it tells of.
fn run(count: u64) -> (f64, f64) {
    let mut estimator = Estimator::new(Now(0), 2_500_000);
    estimator.set_demand(2_500_000);
    let mut chance = 1u64;
    let (mut feedbacks, mut sent) = (0.0, 0.0);
    for n in 0..count {
        let began = Instant::now();
        let mut base = 0;
        for packet in 0..PACKETS {
            let now = Now((n * PACKETS + packet) * 100_000_000 / PACKETS);
            let number = estimator.sent(now, 1_200, None);
            if packet == 0 {
                base = number;
            }
        }
        sent += began.elapsed().as_secs_f64();
        let arrivals: Vec<_> = (0..PACKETS)
            .map(|packet| {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let ticks = (n * PACKETS + packet) * 400 / PACKETS + 160 + (chance >> 61);
                (!(chance >> 33).is_multiple_of(50)).then_some(ticks as i64)
            })
            .collect();
        let mut bytes = [0; 500];
        let written = write_transport_feedback(
            &mut bytes,
            Ssrc(1),
            Ssrc(2),
            SeqNo(base),
            n as u8,
            &arrivals,
        )
        .expect("it fits");
        let now = Now((n + 1) * 100_000_000 + 40_000_000);
        let began = Instant::now();
        for packet in Compound::parse(&bytes[..written.len]).expect("it is well-formed") {
            if let Packet::TransportFeedback(feedback) = packet {
                estimator
                    .feedback(now, &feedback)
                    .expect("it is about what was sent");
            }
        }
        estimator.advance(now);
        std::hint::black_box(estimator.bitrate());
        feedbacks += began.elapsed().as_secs_f64();
    }
    let each = 1e6 / count as f64;
    (feedbacks * each, sent * each)
}
