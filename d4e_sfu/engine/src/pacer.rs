//! When packets may leave for one client, so that what his link cannot carry yet waits here, where voice can pass it, and not
//! in the link. It keeps the account of what has gone and the line of what waits; it neither reads nor seals a packet.
//!
//! Voice never waits. Retransmissions wait for the rate alone, pictures behind retransmissions, copies that nobody has asked
//! for behind pictures, and padding fills what a probe needs and nothing else does. While the account is in order nothing
//! waits and the line is not used.
//!
//! What waits has no number yet: it is named by its place in its encoding's cache, and decided about when it leaves. So
//! whatever is given up in the line leaves no hole that the client would ask for.

use std::collections::VecDeque;
use std::time::Duration;

use crate::now::Now;
use crate::wire::seq::{ExtSeq, SeqNo};

/// So much of the rate may be ahead of the clock: a frame of a link that is not the limit leaves in one piece (libwebrtc
/// lets bursts of 40 ms go, `PacingController::kDefaultBurst…`, for the same reason).
const BURST: Duration = Duration::from_millis(40);
/// What has waited for nothing may wait until no more than this is ahead: how far apart packets of a voice are.
const PACKET: Duration = Duration::from_millis(20);
/// Voices do not wait, so the account may run ahead; no further than this, or pictures would pay for it for ever.
const MAX_AHEAD: Duration = Duration::from_millis(500);
/// A picture that has waited for longer is no longer in its cache.
pub const MAX_WAIT: Duration = Duration::from_secs(1);
/// Packets that wait at most: over a second of the largest pictures that a full link of some ten megabits lets wait.
const MAX_WAITING: usize = 2_048;
/// A repair that comes later than this would be asked for again before it arrives (libwebrtc asks again after a round trip),
/// or its picture is given up.
const MAX_REPAIR_WAIT: Duration = Duration::from_millis(250);
const MAX_REPAIRS: usize = 256;
/// A copy that comes later than this comes when the packet itself has been asked for.
const MAX_COPY_WAIT: Duration = Duration::from_millis(100);
const MAX_COPIES: usize = 512;
/// A probe that takes longer than twice its time and this says nothing of the link any more.
const MAX_PROBE_LATE: Duration = Duration::from_millis(50);
/// Bytes of a picture's packet, or nearly.
const LARGEST: u32 = 1_200;
/// A link that was the limit is called so for this long: Python is told five times a second.
const LIMITED_FOR: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(pub u32);

/// Packets that are to leave at a rate beyond what the link is known to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub id: ProbeId,
    pub bps: u32,
    pub bytes: u32,
    pub packets: u32,
    /// In each of its packets that has nothing else in it.
    pub padding: u8,
}

/// A packet in the cache of the encoding that a subscription watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Row in the router.
    pub subscription: u32,
    pub encoding: u8,
    pub seq: ExtSeq,
    pub since: Now,
}

/// A packet that a client has asked for again, by the number that he knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    pub subscription: u32,
    pub number: SeqNo,
    pub since: Now,
}

/// What may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Repair(Repair),
    /// The repair has waited for too long to be of use.
    Late(Repair),
    /// And so has a copy that nobody has asked for.
    Shed,
    Picture(Waiting),
    /// A probe wants a packet, and nothing waits.
    Padding,
}

#[derive(Debug)]
struct Cluster {
    probe: Probe,
    next: Now,
    /// Given up by then, whatever is missing: the thread may have paused.
    ends: Now,
}

#[derive(Debug, Default)]
pub struct Pacer {
    /// What a byte takes, ps; 0 = nothing is known of the link, and nothing waits.
    byte: u64,
    /// When all that was sent will have left, at that rate.
    free: Now,
    repairs: VecDeque<Repair>,
    pictures: VecDeque<Waiting>,
    copies: VecDeque<Repair>,
    cluster: Option<Cluster>,
    /// A picture has waited, or was shed, at that time.
    limited: Option<Now>,
    /// The router knows that something waits here.
    pub listed: bool,
}

impl Pacer {
    /// What the link carries, bits per second. Where there is plenty, pictures are sent up to a quarter faster, for a keyframe
    /// should not take long; on a thin link, below 200 kbit/s, no faster. (Libwebrtc sends 2.5 times as fast,
    /// `kDefaultPaceMultiplier`. But its estimate is of one encoder's picture; here the keyframes of several begin at once, and
    /// what is too fast stands in the link's queue, before the next voice, and comes no sooner.)
    /// While its queue is long, `full`, a tenth slower, until it is gone.
    pub fn set_bitrate(&mut self, bps: u32, full: bool) {
        let bps = u64::from(bps.max(1_000));
        let paced = if full {
            bps * 9 / 10
        } else {
            bps.max((bps * 5 / 4).saturating_sub(50_000))
        };
        self.byte = 8_000_000_000_000 / paced;
    }

    /// A packet of `bytes` has left. Returns the probe that it is part of: that is not in the account, for it goes beyond
    /// what the link is known to carry.
    pub fn sent(&mut self, now: Now, bytes: usize) -> Option<ProbeId> {
        let Some(cluster) = &mut self.cluster else {
            if self.byte == 0 {
                return None;
            }
            let takes = Duration::from_nanos(bytes as u64 * self.byte / 1_000);
            self.free = self.free.max(now).plus(takes).min(now.plus(MAX_AHEAD));
            return None;
        };
        let probe = &mut cluster.probe;
        let nanos = bytes as u64 * 8_000_000_000 / u64::from(probe.bps.max(1));
        cluster.next = cluster.next.plus(Duration::from_nanos(nanos));
        probe.bytes = probe.bytes.saturating_sub(bytes as u32);
        probe.packets = probe.packets.saturating_sub(1);
        let id = probe.id;
        if probe.bytes == 0 && probe.packets == 0 {
            self.cluster = None;
        }
        Some(id)
    }

    /// The account lets a packet go.
    #[must_use]
    pub fn ready(&self, now: Now) -> bool {
        self.byte == 0 || self.free <= now.plus(BURST)
    }

    /// No more is under way than a packet of a voice on a thin link.
    #[must_use]
    pub fn idle(&self, now: Now) -> bool {
        self.byte == 0 || self.free <= now.plus(PACKET)
    }

    /// A picture may leave at once: nothing waits before it.
    #[must_use]
    pub fn open(&self, now: Now) -> bool {
        self.byte == 0 || self.pictures.is_empty() && self.ready(now)
    }

    /// A retransmission may leave at once.
    #[must_use]
    pub fn open_to_repair(&self, now: Now) -> bool {
        self.repairs.is_empty() && self.ready(now)
    }

    /// `false`: the line is full.
    pub fn wait(&mut self, waiting: Waiting) -> bool {
        let room = self.pictures.len() < MAX_WAITING;
        if room {
            self.pictures.push_back(waiting);
        }
        room
    }

    pub fn wait_to_repair(&mut self, repair: Repair) -> bool {
        let room = self.repairs.len() < MAX_REPAIRS;
        if room {
            self.repairs.push_back(repair);
        }
        room
    }

    /// A packet that was just sent goes again when nothing else does, if that is soon.
    pub fn copy(&mut self, copy: Repair) -> bool {
        let room = self.copies.len() < MAX_COPIES;
        if room {
            self.copies.push_back(copy);
        }
        room
    }

    /// What waits of this encoding (or of all) for this subscription waits no longer.
    pub fn forget(&mut self, subscription: u32, encoding: Option<u8>) {
        self.pictures.retain(|waiting| {
            waiting.subscription != subscription
                || encoding.is_some_and(|encoding| waiting.encoding != encoding)
        });
        if encoding.is_none() {
            for line in [&mut self.repairs, &mut self.copies] {
                line.retain(|repair| repair.subscription != subscription);
            }
        }
    }

    /// Something waits here, or is to be sent as a probe.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waiting() > 0 || self.cluster.is_some()
    }

    /// The link is, or has just been, the limit of what is sent.
    #[must_use]
    pub fn limited(&self, now: Now) -> bool {
        self.limited.is_some_and(|at| now.since(at) < LIMITED_FOR)
    }

    /// A picture has waited for so long that it was noticed, or has been shed.
    pub fn count_limited(&mut self, now: Now) {
        self.limited = Some(now);
    }

    /// Sends a probe from now on. One at a time: what is left of another is given up.
    pub fn probe(&mut self, now: Now, probe: Probe) {
        // A picture that begins meanwhile is part of it, in packets of any size.
        let bytes = u64::from(probe.bytes.max(probe.packets * LARGEST));
        let takes = bytes * 8_000_000_000 / u64::from(probe.bps.max(1));
        self.cluster = Some(Cluster {
            probe,
            next: now,
            ends: now.plus(Duration::from_nanos(takes) * 2 + MAX_PROBE_LATE),
        });
    }

    #[must_use]
    pub fn probes(&self) -> bool {
        self.cluster.is_some()
    }

    /// How much padding a packet of the probe has.
    #[must_use]
    pub fn padding(&self) -> u8 {
        self.cluster
            .as_ref()
            .map_or(0, |cluster| cluster.probe.padding)
    }

    /// There is nothing to make a probe of.
    pub fn stop_probe(&mut self) {
        self.cluster = None;
    }

    /// What leaves next, if anything may leave now. It is taken out of the line.
    pub fn next(&mut self, now: Now) -> Option<Next> {
        self.cluster.take_if(|cluster| now >= cluster.ends);
        let probing = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.next <= now);
        let ready = probing || self.ready(now);
        if let Some(repair) = self.repairs.front() {
            let late = now.since(repair.since) > MAX_REPAIR_WAIT;
            if late || ready {
                let repair = self.repairs.pop_front()?;
                return Some(if late {
                    Next::Late(repair)
                } else {
                    Next::Repair(repair)
                });
            }
        }
        if let Some(waiting) = self.pictures.front()
            && (ready || now.since(waiting.since) > MAX_WAIT)
        {
            return self.pictures.pop_front().map(Next::Picture);
        }
        if let Some(copy) = self.copies.front() {
            let late = now.since(copy.since) > MAX_COPY_WAIT;
            if late || ready {
                let copy = self.copies.pop_front()?;
                return Some(if late { Next::Shed } else { Next::Repair(copy) });
            }
        }
        probing.then_some(Next::Padding)
    }

    /// When `next` has something again, at the latest; `None` where nothing waits.
    #[must_use]
    pub fn due(&self) -> Option<Now> {
        let line =
            (self.waiting() > 0).then(|| Now(self.free.0.saturating_sub(BURST.as_nanos() as u64)));
        let probe = self.cluster.as_ref().map(|cluster| cluster.next);
        [line, probe].into_iter().flatten().min()
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pictures.len() + self.repairs.len() + self.copies.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Now = Now::from_millis(1_000);

    fn waiting(subscription: u32, since: Now) -> Waiting {
        Waiting {
            subscription,
            encoding: 0,
            seq: ExtSeq(0),
            since,
        }
    }

    fn drain(pacer: &mut Pacer, from: Now, ms: u64) -> Vec<Next> {
        let mut left = Vec::new();
        for n in 0..=ms {
            let now = from.plus(Duration::from_millis(n));
            while let Some(next) = pacer.next(now) {
                left.push(next);
                pacer.sent(now, 1_000);
            }
        }
        left
    }

    #[test]
    fn without_a_rate_everything_leaves_at_once() {
        let mut pacer = Pacer::default();
        for _ in 0..10_000 {
            assert!(pacer.open(AT) && pacer.open_to_repair(AT));
            assert_eq!(pacer.sent(AT, 1_200), None);
        }
    }

    #[test]
    fn copies_leave_behind_pictures_and_those_that_come_too_late_do_not() {
        let copy = |number, since| Repair {
            subscription: 3,
            number: SeqNo(number),
            since,
        };
        let mut pacer = Pacer::default();
        pacer.set_bitrate(200_000, false); // 40 ms for each
        assert!((0..5).all(|number| pacer.copy(copy(number, AT))));
        assert!(pacer.waits() && pacer.due().is_some());
        pacer.wait(waiting(3, AT));
        let left = drain(&mut pacer, AT, 300);
        let expected = [
            Next::Picture(waiting(3, AT)),
            Next::Repair(copy(0, AT)),
            Next::Repair(copy(1, AT)),
            Next::Repair(copy(2, AT)),
            Next::Shed,
            Next::Shed,
        ];
        assert_eq!(left, expected, "the others were late");
        let taken = (0..2_000).filter(|&number| pacer.copy(copy(number, AT)));
        assert_eq!((taken.count(), pacer.waiting()), (MAX_COPIES, MAX_COPIES));
        pacer.forget(3, None);
        assert!(!pacer.waits());
    }

    #[test]
    fn a_thin_link_gets_its_rate_and_a_wide_one_up_to_a_quarter_more() {
        for (bps, paced) in [
            (64_000, 64_000),
            (400_000, 450_000),
            (1_000_000, 1_200_000),
            (10_000_000, 12_450_000),
        ] {
            let mut pacer = Pacer::default();
            pacer.set_bitrate(bps, false);
            let mut sent = 0;
            for ms in 0..10_000 {
                let now = AT.plus(Duration::from_millis(ms));
                while pacer.open(now) {
                    pacer.sent(now, 500);
                    sent += 500 * 8;
                }
            }
            let burst = paced / 25 + 500 * 8;
            assert!(
                sent >= paced * 10 && sent <= paced * 10 + burst,
                "{sent} at {bps}"
            );
        }
    }

    #[test]
    fn repairs_go_before_pictures_and_none_goes_too_late() {
        let mut pacer = Pacer::default();
        pacer.set_bitrate(100_000, false); // 80 ms for each
        pacer.sent(AT, 1_000);
        let repair = |number, since| Repair {
            subscription: 1,
            number: SeqNo(number),
            since,
        };
        let picture = waiting(1, AT);
        assert!(pacer.wait(picture));
        for number in 0..4 {
            assert!(pacer.wait_to_repair(repair(number, AT)));
        }
        assert!(!pacer.open(AT) && !pacer.open_to_repair(AT));
        assert_eq!(
            drain(&mut pacer, AT, 500),
            [
                Next::Repair(repair(0, AT)),
                Next::Repair(repair(1, AT)),
                Next::Repair(repair(2, AT)),
                Next::Late(repair(3, AT)),
                Next::Picture(picture),
            ]
        );
        assert_eq!(pacer.due(), None);
    }

    #[test]
    fn voices_beyond_the_rate_do_not_shut_the_line_for_ever() {
        let mut pacer = Pacer::default();
        pacer.set_bitrate(16_000, false);
        for _ in 0..1_000 {
            pacer.sent(AT, 1_000);
        }
        assert!(!pacer.open(AT.plus(Duration::from_millis(459))));
        assert!(pacer.open(AT.plus(Duration::from_millis(460))));
    }

    #[test]
    fn a_probe_leaves_at_its_rate_and_ends() {
        let mut pacer = Pacer::default();
        pacer.set_bitrate(100_000, false);
        let id = ProbeId(7);
        pacer.probe(
            AT,
            Probe {
                id,
                bps: 1_000_000,
                bytes: 5_000,
                packets: 5,
                padding: 255,
            },
        );
        let (mut at, mut ids) = (Vec::new(), Vec::new());
        for ms in 0..100 {
            let now = AT.plus(Duration::from_millis(ms));
            while pacer.next(now) == Some(Next::Padding) {
                at.push(ms);
                ids.push(pacer.sent(now, 1_000));
            }
        }
        assert_eq!(at, [0, 8, 16, 24, 32]);
        assert_eq!(ids, [Some(id); 5]);
        assert!(pacer.open(AT), "it has cost the account nothing");
        assert!(!pacer.waits());
    }

    #[test]
    fn a_probe_that_a_picture_becomes_part_of_gets_its_packets_however_large() {
        let mut pacer = Pacer::default();
        let id = ProbeId(7);
        let (bps, bytes, packets, padding) = (200_000, 375, 5, 60);
        let probe = Probe {
            id,
            bps,
            bytes,
            packets,
            padding,
        };
        pacer.probe(AT, probe);
        let mut part = 0;
        for ms in 0..300 {
            let now = AT.plus(Duration::from_millis(ms));
            while pacer.next(now) == Some(Next::Padding) {
                part += u32::from(pacer.sent(now, 1_000) == Some(id));
            }
        }
        assert_eq!(part, packets);
    }

    #[test]
    fn the_line_is_bounded_and_forgets_who_goes() {
        let mut pacer = Pacer::default();
        pacer.set_bitrate(8_000, false);
        let kept = (0..5_000)
            .filter(|n| pacer.wait(waiting(n % 2, AT)))
            .count();
        assert_eq!(kept, MAX_WAITING);
        pacer.forget(0, None);
        assert_eq!(pacer.waiting(), MAX_WAITING / 2);
        pacer.forget(1, Some(1));
        assert_eq!(
            pacer.waiting(),
            MAX_WAITING / 2,
            "that encoding has nothing here"
        );
    }
}
