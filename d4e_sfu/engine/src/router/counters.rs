//! What the router counts: plain integers, read by whoever takes a snapshot. The set of names is closed; a room, a person
//! or an address is never part of one.

use std::time::Duration;

use crate::wire::drop::DropCounts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Audio,
    Video,
    /// Retransmissions, both ways.
    Rtx,
    /// Sent for nothing but to find out what a link carries; retransmissions sent for that are here too.
    Probe,
    Rtcp,
    Stun,
    Dtls,
}

pub const KINDS: [(Kind, &str); 7] = [
    (Kind::Audio, "audio"),
    (Kind::Video, "video"),
    (Kind::Rtx, "rtx"),
    (Kind::Probe, "probe"),
    (Kind::Rtcp, "rtcp"),
    (Kind::Stun, "stun"),
    (Kind::Dtls, "dtls"),
];

#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Counters {
    received: [Traffic; 7],
    sent: [Traffic; 7],
    /// PLI and FIR that subscribers sent; PLI that went to publishers; joiners served from the cache instead.
    pub keyframe_requests_received: u64,
    pub keyframe_requests_sent: u64,
    pub pictures_from_cache: u64,
    /// Packets asked for again: by subscribers, and of publishers.
    pub nacks_received: u64,
    pub nacks_sent: u64,
    /// Gaps that a retransmission from a publisher closed.
    pub packets_repaired: u64,
    /// Gaps that redundant audio of a publisher closed.
    pub packets_restored: u64,
    /// Added to voices for viewers who lose packets.
    pub redundant_bytes: u64,
    pub layer_switches: u64,
    /// Packets that have waited at a pacer, and how long in all; pictures paused because a link could not carry them.
    pub packets_paced: u64,
    pub paced_microseconds: u64,
    pub pictures_held: u64,
    /// Probes begun, and the packets that were sent for nothing else.
    pub probes: u64,
    pub path_changes: u64,
    pub checks_answered: u64,
    /// Our own, of addresses that nobody has proven.
    pub checks_sent: u64,
    pub transports_gone: u64,
    /// Commands about something that is not (or is already) there.
    pub commands_ignored: u64,
    pub drops: DropCounts,
}

impl Counters {
    pub fn received(&mut self, kind: Kind, bytes: usize) {
        add(&mut self.received[kind as usize], bytes);
    }
    pub fn sent(&mut self, kind: Kind, bytes: usize) {
        add(&mut self.sent[kind as usize], bytes);
    }

    /// A packet leaves that has waited.
    pub fn paced(&mut self, waited: Duration) {
        self.packets_paced += 1;
        self.paced_microseconds += waited.as_micros() as u64;
    }

    /// Every counter but the drops, under its exported name.
    pub fn each(&self, mut tell: impl FnMut(&str, u64)) {
        let mut name = String::new();
        for (direction, traffic) in [("received", &self.received), ("sent", &self.sent)] {
            for ((_, kind), traffic) in KINDS.iter().zip(traffic) {
                for (what, value) in [("packets", traffic.packets), ("bytes", traffic.bytes)] {
                    name.clear();
                    name.extend([what, "_", direction, "_", kind]);
                    tell(&name, value);
                }
            }
        }
        tell(
            "keyframe_requests_received",
            self.keyframe_requests_received,
        );
        tell("keyframe_requests_sent", self.keyframe_requests_sent);
        tell("pictures_from_cache", self.pictures_from_cache);
        tell("nacks_received", self.nacks_received);
        tell("nacks_sent", self.nacks_sent);
        tell("packets_repaired", self.packets_repaired);
        tell("packets_restored", self.packets_restored);
        tell("redundant_bytes", self.redundant_bytes);
        tell("layer_switches", self.layer_switches);
        tell("packets_paced", self.packets_paced);
        tell("paced_microseconds", self.paced_microseconds);
        tell("pictures_held", self.pictures_held);
        tell("probes", self.probes);
        tell("path_changes", self.path_changes);
        tell("checks_answered", self.checks_answered);
        tell("checks_sent", self.checks_sent);
        tell("transports_gone", self.transports_gone);
        tell("commands_ignored", self.commands_ignored);
    }
}

fn add(traffic: &mut Traffic, bytes: usize) {
    traffic.packets += 1;
    traffic.bytes += bytes as u64;
}

/// How things stand, copied whole; a worker publishes one a few times a second.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub counters: Counters,
    pub transports: usize,
    pub transports_connected: usize,
    pub publications: usize,
    pub subscriptions: usize,
    pub subscriptions_forwarding: usize,
    pub events_waiting: usize,
}
