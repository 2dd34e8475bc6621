//! What clients tell that is not so: each costs little, and raises nothing beyond what was sent.

use super::link::Chance;
use crate::estimator::Estimator;
use crate::now::Now;
use crate::wire::drop::DropReason;
use crate::wire::rtcp::{Compound, Packet, write_transport_feedback};
use crate::wire::seq::{SeqNo, Ssrc};

/// Number and time of sending (ms) to time of arrival (ms).
type Lie = fn(u64, u64) -> Option<i64>;

/// `arrivals` in ticks of 250 µs from number `base` on.
fn tell(
    estimator: &mut Estimator,
    now: Now,
    base: u16,
    arrivals: &[Option<i64>],
) -> Result<(), DropReason> {
    let mut out = [0; 4_000];
    let written =
        write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), SeqNo(base), 0, arrivals).unwrap();
    tell_bytes(estimator, now, &out[..written.len])
}

fn tell_bytes(estimator: &mut Estimator, now: Now, bytes: &[u8]) -> Result<(), DropReason> {
    let mut result = Err(DropReason::BadRtcp);
    for packet in Compound::parse(bytes)? {
        if let Packet::TransportFeedback(feedback) = packet {
            result = estimator.feedback(now, &feedback);
        }
    }
    result
}

/// A voice and a picture of 400 kbit/s for `seconds`, of which the client tells what `lie` makes of each packet's time of
/// arrival, in ms. Returns the highest estimate.
fn lied(seconds: u64, lie: impl Fn(u64, u64) -> Option<i64>) -> (Estimator, u32) {
    let mut estimator = Estimator::new(Now(0), 600_000);
    estimator.set_demand(10_000_000);
    let (mut untold, mut highest) = (Vec::new(), 0);
    for ms in 1..seconds * 1_000 {
        let now = Now::from_millis(ms);
        estimator.advance(now);
        if let Some(probe) = estimator.probe(now, false) {
            // It leaves within one millisecond, but for its last packet.
            for _ in 0..4 {
                untold.push((estimator.sent(now, 300, Some(probe.id)), ms));
            }
        }
        if ms % 20 == 0 {
            untold.push((estimator.sent(now, 1_000, None), ms));
        }
        if ms % 100 == 0 && !untold.is_empty() {
            let arrivals: Vec<_> = untold
                .iter()
                .map(|&(number, sent)| lie(u64::from(number), sent).map(|ms| ms * 4))
                .collect();
            if arrivals.iter().any(Option::is_some) {
                let _ = tell(&mut estimator, now, untold[0].0, &arrivals);
            }
            untold.clear();
        }
        highest = highest.max(estimator.bitrate());
    }
    (estimator, highest)
}

#[test]
fn all_received_at_once_raises_nothing_beyond_what_was_sent() {
    let (_, honest) = lied(30, |_, sent| Some(sent as i64 + 30));
    assert!((400_000..=650_000).contains(&honest), "{honest}");
    let lies: [(&str, Lie); 4] = [
        ("at one time", |_, _| Some(1_000)),
        ("twice as fast", |_, sent| Some(sent as i64 / 2)),
        ("backwards", |_, sent| Some(1_000_000 - sent as i64)),
        ("now and then in a year", |n, sent| {
            Some(sent as i64 + n as i64 % 7 * 1_000)
        }),
    ];
    for (name, lie) in lies {
        let (_, highest) = lied(30, lie);
        assert!(highest <= 650_000, "{name}: {highest}");
    }
}

#[test]
fn nothing_received_ends_at_the_least() {
    let (estimator, _) = lied(30, |number, sent| {
        number.is_multiple_of(50).then_some(sent as i64 + 30)
    });
    assert!(estimator.bitrate() < 200_000);
    assert!(estimator.facts().loss > 700);
}

#[test]
fn what_was_never_sent_or_was_told_before_is_dropped_by_name() {
    let mut estimator = Estimator::new(Now(0), 600_000);
    let now = Now::from_millis(100);
    let never = Err(DropReason::BadFeedback);
    assert_eq!(tell(&mut estimator, now, 1, &[Some(0)]), never);
    for _ in 0..10 {
        estimator.sent(Now(0), 100, None);
    }
    let before = estimator.facts();
    assert_eq!(tell(&mut estimator, now, 2, &[Some(9); 10]), never);
    assert_eq!(tell(&mut estimator, now, 11, &[Some(9)]), never);
    assert_eq!(tell(&mut estimator, now, 40_000, &[Some(9)]), never);
    assert_eq!(estimator.facts(), before);
    assert_eq!(tell(&mut estimator, now, 1, &[Some(9); 10]), Ok(()));
    let told = estimator.facts();
    let again = tell(&mut estimator, now, 1, &[Some(9_999); 10]);
    assert_eq!(again, Err(DropReason::Duplicate));
    assert_eq!(estimator.facts(), told);
}

#[test]
fn any_bytes_are_survived_and_no_estimate_leaves_its_bounds() {
    let mut chance = Chance(7);
    let mut estimator = Estimator::new(Now(0), 600_000);
    let mut out = [0; 1_000];
    for round in 1..20_000u64 {
        let now = Now::from_millis(round);
        let number = estimator.sent(now, 1 + (chance.unit() * 1_400.0) as usize, None);
        let count = 1 + (chance.unit() * 40.0) as usize;
        let arrivals: Vec<_> = (0..count)
            .map(|_| (chance.unit() < 0.7).then(|| (chance.unit() * 1e5) as i64))
            .collect();
        let base = number.wrapping_sub((chance.unit() * 60.0) as u16);
        let written =
            write_transport_feedback(&mut out, Ssrc(1), Ssrc(2), SeqNo(base), 0, &arrivals);
        if let Some(written) = written {
            // Reference time, counts, chunks and deltas as chance will have them.
            for _ in 0..2 {
                let at = 12 + (chance.unit() * (written.len - 12) as f64) as usize;
                out[at] = (chance.unit() * 256.0) as u8;
            }
            let _ = tell_bytes(&mut estimator, now, &out[..written.len]);
        }
        estimator.remb(now, (chance.unit() * 1e19) as u64);
        estimator.advance(now);
        let _ = estimator.probe(now, false);
        assert!((5_000..=30_000_000).contains(&estimator.bitrate()));
    }
}

#[test]
fn who_knows_remb_alone_is_estimated_by_it_and_believed_as_far_as_he_was_sent() {
    let mut estimator = Estimator::new(Now(0), 600_000);
    for ms in (0..2_000).step_by(10) {
        estimator.sent(Now::from_millis(ms), 500, None); // 400 kbit/s
    }
    let now = Now::from_millis(2_000);
    assert_eq!(estimator.bitrate(), 600_000);
    estimator.remb(now, 300_000);
    assert_eq!(estimator.bitrate(), 300_000);
    estimator.remb(now, u64::MAX);
    assert_eq!(estimator.bitrate(), 1_200_000);
    estimator.remb(now, 0);
    assert_eq!(estimator.bitrate(), 5_000);
}

#[test]
fn remb_caps_what_transport_wide_feedback_shows() {
    let (mut estimator, _) = lied(5, |_, sent| Some(sent as i64 + 30));
    let now = Now::from_millis(5_000);
    let shown = estimator.bitrate();
    estimator.remb(now, 100_000);
    assert_eq!(estimator.bitrate(), 100_000);
    estimator.remb(now, u64::MAX);
    assert_eq!(estimator.bitrate(), shown);
}
