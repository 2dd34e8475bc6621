//! The clocks of a publication's encodings: each counts its timestamps from a beginning of its own, and sender reports
//! relate them all to one (RFC 3550 §6.4.1).

use crate::api::MAX_ENCODINGS;
use crate::wire::seq::Timestamp;

/// `rtp` showed this when the publisher's wall clock showed `ntp` (32.32 fixed point).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub ntp: u64,
    pub rtp: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Hz
    pub rate: u32,
    pub reports: [Option<Report>; MAX_ENCODINGS],
}

impl Clocks {
    /// What `old`'s clock showed when `new`'s showed `timestamp`; `None` until both have reported.
    #[must_use]
    pub fn translate(&self, old: u8, new: u8, timestamp: Timestamp) -> Option<Timestamp> {
        let report = |encoding: u8| self.reports.get(usize::from(encoding)).copied().flatten();
        let (old, new) = (report(old)?, report(new)?);
        let between = new.ntp.wrapping_sub(old.ntp) as i64;
        let between = (i128::from(between) * i128::from(self.rate)) >> 32;
        let since = timestamp.0.wrapping_sub(new.rtp.0);
        Some(Timestamp(
            old.rtp.0.wrapping_add(between as u32).wrapping_add(since),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_meet_through_the_wall_clock_from_every_start() {
        for (a, b) in [
            (0u32, 0u32),
            (u32::MAX, 1),
            (5, u32::MAX - 10),
            (1 << 31, 1 << 30),
            (90_000, 0),
        ] {
            let ntp = 0xE000_0000_0000_0000;
            let clocks = Clocks {
                rate: 90_000,
                reports: [
                    Some(Report {
                        ntp,
                        rtp: Timestamp(a),
                    }),
                    // Half a second later, and that clock stands at b.
                    Some(Report {
                        ntp: ntp + (1 << 31),
                        rtp: Timestamp(b),
                    }),
                    None,
                ],
            };
            // b + 900 is 10 ms after b's report: 510 ms after a's.
            assert_eq!(
                clocks.translate(0, 1, Timestamp(b.wrapping_add(900))),
                Some(Timestamp(a.wrapping_add(45_900)))
            );
            assert_eq!(
                clocks.translate(1, 0, Timestamp(a.wrapping_add(45_900))),
                Some(Timestamp(b.wrapping_add(900)))
            );
            assert_eq!(clocks.translate(0, 2, Timestamp(0)), None);
        }
    }
}
