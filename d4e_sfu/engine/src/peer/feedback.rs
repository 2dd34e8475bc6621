//! Transport-wide feedback of everything received (draft-holmer-rmcat-transport-wide-cc-extensions-01), at an interval.

use std::collections::BTreeMap;

use crate::wire::rtcp::{self, Packet};
use crate::wire::seq::{SeqNo, Ssrc, Unwrapper};

use super::outlet::Outlet;
use super::{Nanos, SECOND};

/// 250 µs.
const TICK: Nanos = SECOND / 4000;
/// Numbers reported as lost in one go; a longer outage is skipped.
const MAX_SPAN: u64 = 4000;

pub struct Feedback {
    interval: Nanos,
    next: Option<Nanos>,
    unwrapper: Unwrapper,
    arrivals: BTreeMap<u64, i64>,
    /// Everything below has been reported.
    reported: Option<u64>,
    count: u8,
    pub sent: u64,
    /// What the other side told us of our packets.
    pub received: u64,
    pub told_received: u64,
    pub told_lost: u64,
}

impl Feedback {
    pub fn new(interval: Nanos) -> Self {
        Self {
            interval,
            next: None,
            unwrapper: Unwrapper::default(),
            arrivals: BTreeMap::new(),
            reported: None,
            count: 0,
            sent: 0,
            received: 0,
            told_received: 0,
            told_lost: 0,
        }
    }

    pub fn arrived(&mut self, now: Nanos, seq: SeqNo) {
        if self.interval == 0 {
            return;
        }
        let at = self.unwrapper.unwrap(seq).0;
        if self.reported.is_none_or(|reported| at >= reported) {
            self.arrivals.insert(at, (now / TICK) as i64);
            self.next.get_or_insert(now + self.interval);
        }
    }

    pub fn next_timeout(&self) -> Option<Nanos> {
        self.next
    }

    pub fn advance(&mut self, now: Nanos, us: Ssrc, media: Ssrc, outlet: &mut Outlet) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        while let (Some((&first, _)), Some((&last, _))) = (
            self.arrivals.first_key_value(),
            self.arrivals.last_key_value(),
        ) {
            let base = self
                .reported
                .filter(|&reported| last - reported < MAX_SPAN)
                .unwrap_or(first);
            let span: Vec<_> = (base..=last)
                .map(|at| self.arrivals.get(&at).copied())
                .collect();
            let mut compound = [0; 1100];
            let feedback = rtcp::write_transport_feedback(
                &mut compound,
                us,
                media,
                SeqNo(base as u16),
                self.count,
                &span,
            );
            let Some(written) = feedback else {
                self.arrivals.clear();
                return;
            };
            outlet.rtcp(&compound[..written.len]);
            self.count = self.count.wrapping_add(1);
            self.sent += 1;
            let reported = base + written.covered as u64;
            self.arrivals = self.arrivals.split_off(&reported);
            self.reported = Some(reported);
        }
    }

    pub fn told(&mut self, packet: &Packet<'_>) {
        if let Packet::TransportFeedback(feedback) = packet {
            self.received += 1;
            let received = feedback
                .statuses()
                .filter(|(_, arrival)| arrival.is_some())
                .count() as u64;
            self.told_received += received;
            self.told_lost += u64::from(feedback.count) - received;
        }
    }
}
