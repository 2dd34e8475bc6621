//! What gets through: over the packets that arrived last, the lesser of the rates at which they left and at which they came.
//! After libwebrtc's `robust_throughput_estimator.cc` (its default, `RobustThroughputEstimatorSettings::enabled`); its constants
//! by their names there. A window is counted in packets as much as in time, so that a talk with its pauses is measured over
//! seconds and a picture over one. Beside it the most that was sent lately by our own clock: no client is believed to have
//! received more, in whatever order he says that packets came.

use std::collections::VecDeque;

use crate::now::Now;

/// `window_packets`, `max_window_packets`, `required_packets`
const PACKETS: usize = 20;
const MAX_PACKETS: usize = 500;
const REQUIRED: usize = 10;
/// µs, `min_window_duration`, `max_window_duration`
const DURATION: i64 = 1_000_000;
const MAX_DURATION: i64 = 5_000_000;
/// µs, `kMaxReorderingTime`
const MAX_REORDERING: i64 = 1_000_000;
/// µs: no span is taken to be shorter.
const LEAST: i64 = 1_000;
/// µs: what has waited for longer came as fast as the link carries; over so long is it measured.
const QUEUED: i64 = 20_000;
const FULL: i64 = 250_000;
/// With no more than this share of what left, the link is full.
const FILLED: f64 = 0.98;

#[derive(Clone, Copy, Debug)]
struct Packet {
    /// µs, by our clock and by his.
    sent: i64,
    arrived: i64,
    size: u16,
    /// It has waited in the link.
    queued: bool,
}

#[derive(Debug)]
pub(super) struct Acknowledged {
    /// In the order of arrival; at most one more than `MAX_PACKETS`.
    window: VecDeque<Packet>,
    /// When the latest of those was sent that are no longer in the window.
    gone: i64,
    /// bit/s, since the last `measure`.
    measured: Option<f64>,
    sent: Sent,
}

impl Acknowledged {
    pub fn new(now: Now) -> Self {
        Self {
            window: VecDeque::new(),
            gone: i64::MIN,
            measured: None,
            sent: Sent::new(now),
        }
    }

    pub fn sent(&mut self, now: Now, size: usize) {
        self.sent.add(now, size);
    }

    /// `size` bytes that left at `sent` µs arrived at `arrived`, having been in the link for `queued` µs longer than they must.
    pub fn add(&mut self, sent: i64, arrived: i64, size: u16, queued: i64) {
        if self.window.capacity() == 0 {
            self.window.reserve_exact(MAX_PACKETS + 1);
        }
        let newest = self.window.back().map_or(arrived, |last| last.arrived);
        if newest - arrived > MAX_REORDERING {
            self.window.clear(); // his clock has been set back
            self.gone = i64::MIN;
        }
        self.window.push_back(Packet {
            sent,
            arrived,
            size,
            queued: queued > QUEUED,
        });
        let mut at = self.window.len() - 1;
        while at > 0 && self.window[at].arrived < self.window[at - 1].arrived {
            self.window.swap(at, at - 1);
            at -= 1;
        }
        while self.is_long()
            && let Some(gone) = self.window.pop_front()
        {
            self.gone = self.gone.max(gone.sent);
        }
    }

    fn is_long(&self) -> bool {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else {
            return false;
        };
        let (packets, span) = (self.window.len(), last.arrived - first.arrived);
        packets > MAX_PACKETS || span > MAX_DURATION || packets > PACKETS && span > DURATION
    }

    /// After a feedback.
    pub fn measure(&mut self) {
        self.measured = rates(self.window.iter(), self.gone).map(|(came, left)| came.min(left));
    }

    /// bit/s: what came through while the link had a queue, which is what it carries. A forwarder sends in steps: what got
    /// through in the last second says little of a link that a picture has just begun to fill. (Not in libwebrtc, whose encoders
    /// rise slowly.)
    pub fn full(&self) -> Option<f64> {
        let end = self.window.iter().rposition(|packet| packet.queued)?;
        let newest = self.window[end].arrived;
        let mut start = end;
        while start > 0
            && self.window[start - 1].queued
            && (end - start < REQUIRED || newest - self.window[start].arrived < FULL)
        {
            start -= 1;
        }
        if self.window.back()?.arrived - newest > FULL {
            return None;
        }
        let (came, left) = rates(self.window.range(start..=end), i64::MIN)?;
        // As much comes as leaves: the way has become longer.
        (came < FILLED * left).then_some(came)
    }

    /// bit/s
    pub fn bps(&self, now: Now) -> Option<f64> {
        Some(self.measured?.min(self.sent.most(now)))
    }

    /// The most that was sent in half a second lately, bit/s.
    pub fn sent_bps(&self, now: Now) -> f64 {
        self.sent.most(now)
    }
}

/// bit/s at which these packets, in the order of their arrival, came and left, where those sent before `gone` were overtaken.
fn rates<'a>(packets: impl Iterator<Item = &'a Packet>, gone: i64) -> Option<(f64, f64)> {
    let (mut bytes, mut count, mut arrived) = (0, 0, None);
    // The longest time without an arrival counts as the second longest: a link that paused and then delivered at once has not
    // become slower.
    let (mut longest, mut second) = (0, 0);
    let (mut sent, mut known) = (0, 0);
    let (mut earliest, mut latest) = (i64::MAX, (i64::MIN, 0));
    for packet in packets {
        let size = i64::from(packet.size);
        let (first, before, first_size) = arrived.unwrap_or((packet.arrived, packet.arrived, size));
        arrived = Some((first, packet.arrived, first_size));
        (bytes, count) = (bytes + size, count + 1);
        let gap = packet.arrived - before;
        if gap > longest {
            (longest, second) = (gap, longest);
        } else if gap > second {
            second = gap;
        }
        if packet.sent < gone {
            continue; // the time when it was sent is outside of the window
        }
        (sent, known) = (sent + size, known + 1);
        earliest = earliest.min(packet.sent);
        if packet.sent > latest.0 {
            latest = (packet.sent, size);
        }
    }
    let (first, last, first_size) = arrived?;
    // Where too few of them were sent within the window libwebrtc believes the arrivals alone.
    if count < REQUIRED || known < REQUIRED {
        return None;
    }
    // Of the first that arrived and the last that left it is not known how long they took.
    let rate = |bytes: i64, span: i64| bytes as f64 * 8e6 / span.max(LEAST) as f64;
    let came = rate(bytes - first_size, last - first - longest + second);
    Some((came, rate(sent - latest.1, latest.0 - earliest)))
}

/// ns of a bucket; a rate is over `SPAN` of them; older than `BUCKETS` is forgotten: longer than any feedback takes.
const BUCKET: u64 = 100_000_000;
const SPAN: usize = 5;
const BUCKETS: usize = 30;

#[derive(Debug)]
struct Sent {
    buckets: [u32; BUCKETS],
    newest: u64,
}

impl Sent {
    const fn new(now: Now) -> Self {
        Self {
            buckets: [0; BUCKETS],
            newest: now.0 / BUCKET,
        }
    }

    fn add(&mut self, now: Now, size: usize) {
        let at = now.0 / BUCKET;
        for gone in (self.newest + 1..=at).take(BUCKETS) {
            self.buckets[gone as usize % BUCKETS] = 0;
        }
        if at > self.newest + BUCKETS as u64 {
            self.buckets.fill(0);
        }
        self.newest = self.newest.max(at);
        let bucket = &mut self.buckets[self.newest as usize % BUCKETS];
        *bucket = bucket.saturating_add(size as u32);
    }

    fn most(&self, now: Now) -> f64 {
        if now.0 / BUCKET > self.newest + BUCKETS as u64 {
            return 0.0;
        }
        let oldest = self.newest as usize + 1;
        let bucket = |n: usize| u64::from(self.buckets[(oldest + n) % BUCKETS]);
        let mut sum: u64 = (0..SPAN).map(bucket).sum();
        let mut most = sum;
        for n in SPAN..BUCKETS {
            sum = sum + bucket(n) - bucket(n - SPAN);
            most = most.max(sum);
        }
        most as f64 * 8.0 * 1e9 / (BUCKET as f64 * SPAN as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_through_is_found_and_never_more_than_was_sent() {
        let mut acknowledged = Acknowledged::new(Now(0));
        // 100 bytes each 10 ms are 80 kbit/s; he says that they came in half the time.
        for n in 0..500u64 {
            acknowledged.sent(Now::from_millis(n * 10), 100);
            acknowledged.add(n as i64 * 10_000, n as i64 * 5_000, 100, 0);
        }
        acknowledged.measure();
        let now = Now::from_millis(5_000);
        let found = acknowledged.bps(now).unwrap();
        assert!((found - 80e3).abs() < 1e3, "{found}");
        assert_eq!(acknowledged.bps(Now::from_millis(20_000)), Some(0.0));
    }

    #[test]
    fn a_link_that_pauses_and_delivers_at_once_carries_what_it_did() {
        let mut acknowledged = Acknowledged::new(Now(0));
        for n in 0..200i64 {
            let sent = n * 10_000;
            acknowledged.sent(Now(sent as u64 * 1_000), 125);
            let arrived = if sent < 1_600_000 {
                sent
            } else {
                sent.max(1_900_000)
            };
            acknowledged.add(sent, arrived, 125, 0);
        }
        acknowledged.measure();
        let found = acknowledged.bps(Now::from_millis(2_000)).unwrap();
        assert!((95e3..=101e3).contains(&found), "{found}");
    }

    #[test]
    fn a_link_that_has_just_been_filled_carries_what_comes_out_of_its_queue() {
        let mut acknowledged = Acknowledged::new(Now(0));
        let mut free = 0;
        for ms in 0..2_400i64 {
            // A voice, and from 2 s on a picture of 2 Mbit/s on a link of 1 Mbit/s: a packet takes 4 ms.
            let size = match ms {
                2_000.. if ms % 2 == 0 => 500,
                _ if ms % 20 == 1 => 100,
                _ => continue,
            };
            let sent = ms * 1_000;
            free = sent.max(free) + i64::from(size) * 8;
            acknowledged.sent(Now::from_millis(ms as u64), usize::from(size));
            acknowledged.add(sent, free, size, free - sent - i64::from(size) * 8);
        }
        acknowledged.measure();
        let now = Now::from_millis(2_500);
        let (through, full) = (acknowledged.bps(now).unwrap(), acknowledged.full().unwrap());
        assert!(through < 850e3, "{through}");
        assert!((950e3..=1.05e6).contains(&full), "{full}");
    }
}
