//! Packets that left together are a group; between two groups the delay of the way has changed by the difference of how far
//! apart they arrived and how far apart they left. After libwebrtc's `inter_arrival_delta.cc`.

/// Packets that leave within this are one group, µs (`kSendTimeGroupLength` = 5 ms, `delay_based_bwe.cc`).
const GROUP: i64 = 5_000;
/// Packets that arrive together although they left apart came out of a queue that stood still (Wi-Fi): one group still, µs
/// (`kBurstDeltaThreshold` = 5 ms, `kMaxBurstDuration` = 100 ms).
const BURST: i64 = 5_000;
const MAX_BURST: i64 = 100_000;
/// After so many groups in a row that arrived before their predecessors the clock has been changed
/// (`kReorderedResetThreshold`).
const MAX_REORDERED: u8 = 3;
/// The client's clock against ours, µs: a larger step of it is no delay (`kArrivalTimeOffsetThreshold` = 3 s).
const MAX_STEP: i64 = 3_000_000;

/// All µs: `sent` and `told` (when the feedback came) by our clock, `arrived` by the client's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    pub sent: i64,
    pub arrived: i64,
    pub told: i64,
}

/// Between two groups, µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Apart {
    pub sent: i64,
    pub arrived: i64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    first_arrived: i64,
    last: Arrival,
}

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Two groups are complete.
    Apart(Apart),
    /// The client's clock has stepped: nothing from before can be compared.
    Stepped,
}

impl Arrivals {
    /// In the order of arrival.
    pub fn add(&mut self, arrival: Arrival) -> Found {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::of(arrival));
            return Found::Nothing;
        };
        if arrival.sent < group.first_sent {
            return Found::Nothing; // overtaken on its way: tells of that, not of the queue
        }
        if group.takes(arrival) {
            group.last.sent = group.last.sent.max(arrival.sent);
            group.last.arrived = arrival.arrived;
            group.last.told = arrival.told;
            return Found::Nothing;
        }
        let group = *group;
        let previous = self.previous.replace(group);
        self.current = Some(Group::of(arrival));
        let Some(previous) = previous else {
            return Found::Nothing;
        };
        let apart = Apart {
            sent: group.last.sent - previous.last.sent,
            arrived: group.last.arrived - previous.last.arrived,
        };
        let told = group.last.told - previous.last.told;
        if (apart.arrived - told).abs() >= MAX_STEP {
            self.reset();
            return Found::Stepped;
        }
        if apart.arrived < 0 {
            self.reordered += 1;
            if self.reordered >= MAX_REORDERED {
                self.reset();
                return Found::Stepped;
            }
            return Found::Nothing;
        }
        self.reordered = 0;
        Found::Apart(apart)
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Group {
    const fn of(arrival: Arrival) -> Self {
        Self {
            first_sent: arrival.sent,
            first_arrived: arrival.arrived,
            last: arrival,
        }
    }

    fn takes(&self, arrival: Arrival) -> bool {
        let sent = arrival.sent - self.last.sent;
        let arrived = arrival.arrived - self.last.arrived;
        let burst = sent == 0
            || (arrived - sent < 0
                && arrived <= BURST
                && arrival.arrived - self.first_arrived < MAX_BURST);
        burst || arrival.sent - self.first_sent <= GROUP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sent_ms: i64, arrived_ms: i64) -> Arrival {
        Arrival {
            sent: sent_ms * 1_000,
            arrived: arrived_ms * 1_000,
            told: sent_ms * 1_000,
        }
    }

    #[test]
    fn groups_are_compared_by_their_last_packets() {
        let mut arrivals = Arrivals::default();
        for (sent, arrived) in [(0, 100), (4, 106), (20, 120), (21, 128)] {
            assert_eq!(arrivals.add(at(sent, arrived)), Found::Nothing);
        }
        let apart = Apart {
            sent: 17_000,
            arrived: 22_000,
        };
        assert_eq!(arrivals.add(at(40, 140)), Found::Apart(apart));
    }

    #[test]
    fn what_comes_out_of_a_pause_at_once_is_one_group() {
        let mut arrivals = Arrivals::default();
        for n in 0..4 {
            assert_eq!(arrivals.add(at(n * 20, 200 + n)), Found::Nothing);
        }
        assert_eq!(arrivals.add(at(80, 280)), Found::Nothing);
        let Found::Apart(apart) = arrivals.add(at(100, 300)) else {
            panic!("no group is complete");
        };
        assert_eq!(apart.sent, 20_000);
    }

    #[test]
    fn a_step_of_the_clock_is_no_delay() {
        let mut arrivals = Arrivals::default();
        arrivals.add(at(0, 100));
        arrivals.add(at(20, 120));
        arrivals.add(at(40, 9_000));
        assert_eq!(arrivals.add(at(60, 9_020)), Found::Stepped);
    }
}
