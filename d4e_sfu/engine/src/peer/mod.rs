//! A WebRTC endpoint on the wire tier alone: ICE (controlling), SRTP, synthetic publications, and receivers that check
//! every frame. It shares no other code with the server, so that a misreading there cannot agree with itself.
//!
//! [`Peer`] has no socket and no clock. Under a seeded network in virtual time (`python.rs`) it is the laboratory;
//! behind sockets (`main.rs`, the binary `d4e-peer`) the load generator and latency probe; with `storm.rs` and the raw
//! sends the hostile client. DTLS is the caller's: keys are given.

pub mod canary;
mod chance;
mod checker;
mod feedback;
mod ice;
mod latency;
mod outlet;
mod payload;
mod publication;
#[cfg(feature = "python")]
pub(crate) mod python;
mod receiver;
mod scalability;
pub mod spec;
mod storm;

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::wire::packet::{Header, Kind, classify};
use crate::wire::rtcp::{self, Compound, Packet};
use crate::wire::seq::{SeqNo, Ssrc};
use crate::wire::srtp::{BadKey, Opener, Profile, ReplayWindow};

pub use latency::{Latency, Quantiles};
pub use outlet::Transmit;

use chance::Chance;
use feedback::Feedback;
use ice::Agent;
use outlet::Outlet;
use publication::{EncodingStats, Publication};
use receiver::{Arrived, Receiver, ReceiverStats};
use spec::{ExtensionIds, KeySpec, PeerSpec, ProfileSpec, PublishSpec, ReceiveSpec, StormSpec};
use storm::Storm;

/// The caller's time in nanoseconds; only differences count.
pub type Nanos = u64;
pub const SECOND: Nanos = 1_000_000_000;

#[must_use]
pub fn seconds(seconds: f64) -> Nanos {
    (seconds * SECOND as f64).round() as Nanos
}

/// `now` as NTP time: some epoch, the same for all streams of a process.
fn ntp(now: Nanos) -> u64 {
    const OFFSET: u128 = 3_900_000_000;
    ((u128::from(now) << 32) / u128::from(SECOND) + (OFFSET << 32)) as u64
}

/// Receiver reports leave once a second.
const REPORT_INTERVAL: Nanos = SECOND;
/// Blocks that one report may hold (RFC 3550 §6.4.1).
const MAX_BLOCKS: usize = 31;

pub struct Peer {
    agent: Agent,
    outlet: Outlet,
    opener: Option<Opener>,
    ids: ExtensionIds,
    publications: Vec<Publication>,
    receivers: Vec<Receiver>,
    windows: HashMap<Ssrc, ReplayWindow>,
    rtcp_window: ReplayWindow,
    feedback: Feedback,
    storm: Storm,
    chance: Chance,
    /// SSRC of reports when nothing is published.
    own: Ssrc,
    next_report: Nanos,
    dtls: Vec<Vec<u8>>,
    pending: Vec<(SocketAddr, Vec<u8>)>,
    connected: Option<Nanos>,
    counts: Counts,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    datagrams: u64,
    rtp: u64,
    rtcp: u64,
    /// The tag was wrong, or no keys.
    unauthentic: u64,
    /// An authentic-looking packet once more: somebody sent the same twice.
    replayed: u64,
    /// Authentic, and for none of our receivers.
    unknown_stream: u64,
    malformed: u64,
    remb: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct PeerStats {
    /// Of the caller's clock, seconds.
    pub connected: Option<f64>,
    pub selected: Option<String>,
    pub lost: bool,
    #[serde(flatten)]
    counts: Counts,
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub sent_rtcp: u64,
    pub checks: u64,
    pub responses: u64,
    pub ice_errors: u64,
    pub feedback_sent: u64,
    pub feedback_received: u64,
    pub told_received: u64,
    pub told_lost: u64,
    pub storm_sent: u64,
    pub publications: HashMap<u32, Vec<EncodingStats>>,
    pub receivers: Vec<ReceiverStats>,
}

impl Peer {
    #[must_use]
    pub fn new(spec: &PeerSpec, now: Nanos) -> Self {
        let mut chance = Chance::new(spec.seed);
        Self {
            agent: Agent::new(spec, now, &mut chance),
            outlet: Outlet::new(spec.local, spec.extensions),
            opener: None,
            ids: spec.extensions,
            publications: Vec::new(),
            receivers: Vec::new(),
            windows: HashMap::new(),
            rtcp_window: ReplayWindow::default(),
            feedback: Feedback::new(seconds(spec.feedback)),
            storm: Storm::default(),
            own: Ssrc(chance.word() as u32),
            chance,
            next_report: now + REPORT_INTERVAL,
            dtls: Vec::new(),
            pending: Vec::new(),
            connected: None,
            counts: Counts::default(),
        }
    }

    /// Master key followed by master salt, of either direction.
    pub fn set_keys(
        &mut self,
        profile: Profile,
        receive: &[u8],
        send: &[u8],
    ) -> Result<(), BadKey> {
        self.opener = Some(Opener::new(profile, receive)?);
        self.outlet.set_key(profile, send)
    }

    pub fn set_key_spec(&mut self, keys: &KeySpec) -> Result<(), BadKey> {
        let profile = match keys.profile {
            ProfileSpec::Gcm => Profile::AeadAes128Gcm,
            ProfileSpec::Gcm256 => Profile::AeadAes256Gcm,
            ProfileSpec::Cm => Profile::Aes128CmHmacSha1_80,
        };
        let decode = |text: &str| unhex(text).ok_or(BadKey);
        self.set_keys(profile, &decode(&keys.receive)?, &decode(&keys.send)?)
    }

    pub fn set_extensions(&mut self, ids: ExtensionIds) {
        self.ids = ids;
        self.outlet.set_ids(ids);
    }

    pub fn add_publication(&mut self, spec: PublishSpec, now: Nanos) {
        self.publications
            .push(Publication::new(spec, now, &mut self.chance));
    }

    pub fn remove_publication(&mut self, publication: u32) {
        let gone: Vec<_> = self
            .publications
            .iter()
            .filter(|p| p.spec.publication == publication)
            .flat_map(|p| p.stats())
            .collect();
        let ssrcs: Vec<_> = gone.iter().map(|encoding| Ssrc(encoding.ssrc)).collect();
        let mut compound = [0; 200];
        if let Some(len) = rtcp::write_bye(&mut compound, &ssrcs).filter(|_| !ssrcs.is_empty()) {
            self.outlet.rtcp(&compound[..len]);
        }
        self.publications
            .retain(|p| p.spec.publication != publication);
    }

    /// Mute, and back.
    pub fn set_publication(&mut self, publication: u32, active: bool) {
        for publication in self
            .publications
            .iter_mut()
            .filter(|p| p.spec.publication == publication)
        {
            publication.active = active;
        }
    }

    /// Stops, starts or re-rates one encoding.
    pub fn set_encoding(
        &mut self,
        publication: u32,
        encoding: usize,
        active: bool,
        bitrate: Option<u32>,
    ) {
        for publication in self
            .publications
            .iter_mut()
            .filter(|p| p.spec.publication == publication)
        {
            publication.set_encoding(encoding, active, bitrate);
        }
    }

    pub fn add_receiver(&mut self, spec: ReceiveSpec, now: Nanos) {
        self.receivers.push(Receiver::new(spec, now));
    }

    /// When the frames of a voice came that was asked to be logged: number, when it was made, when it came, whether by repair.
    pub fn take_arrivals(&mut self, receiver: u32) -> Vec<(u32, Nanos, Nanos, bool)> {
        self.receivers
            .iter_mut()
            .filter(|r| r.spec.receiver == receiver)
            .flat_map(Receiver::take_arrivals)
            .collect()
    }

    pub fn remove_receiver(&mut self, receiver: u32) {
        self.receivers.retain(|r| r.spec.receiver != receiver);
    }

    /// Asks for a keyframe now, needed or not.
    pub fn request_keyframe(&mut self, receiver: u32) {
        for receiver in self
            .receivers
            .iter_mut()
            .filter(|r| r.spec.receiver == receiver)
        {
            receiver.request_keyframe(self.own, &mut self.outlet);
        }
    }

    pub fn set_storm(&mut self, spec: StormSpec, now: Nanos) {
        self.storm.set(spec, now);
    }

    /// From now on everything leaves from this address, as behind a NAT that forgot; checks go out at once.
    pub fn set_local(&mut self, local: SocketAddr, now: Nanos) {
        self.outlet.local = local;
        self.agent.moved(now);
    }

    /// Nobody reads what comes any more: nothing is judged, requested or reported, and the path counts as good. Checks of
    /// consent go on, so that the other side keeps sending.
    pub fn set_deaf(&mut self) {
        self.receivers.clear();
        self.agent.deaf = true;
    }

    /// Any bytes, to any address, from ours.
    pub fn send_raw(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        self.outlet.raw(remote, datagram);
    }

    /// Any RTP packet, sealed with our keys. False when there are none, or no path.
    pub fn send_rtp(&mut self, packet: &[u8], header_len: usize, roc: u32) -> bool {
        self.outlet.sealed(packet, header_len, roc)
    }

    /// Any bytes as an RTCP compound, sealed with our keys.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        self.outlet.rtcp(compound);
    }

    /// The last sealed datagrams once more.
    pub fn replay(&mut self, count: usize) {
        self.outlet.replay(count);
    }

    /// DTLS datagrams received, for the caller's handshake.
    pub fn take_dtls(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.dtls)
    }

    /// A DTLS datagram for the selected path. False when there is none yet.
    pub fn send_dtls(&mut self, datagram: &[u8]) -> bool {
        let Some(remote) = self.outlet.remote else {
            return false;
        };
        self.outlet.raw(remote, datagram.to_vec());
        true
    }

    #[must_use]
    pub fn connected(&self) -> bool {
        self.outlet.remote.is_some()
    }

    #[must_use]
    pub fn lost(&self) -> bool {
        self.agent.lost()
    }

    /// Decodable frames of all receivers.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.receivers.iter().map(Receiver::frames).sum()
    }

    pub fn handle(&mut self, now: Nanos, from: SocketAddr, datagram: &mut [u8]) {
        self.counts.datagrams += 1;
        match classify(datagram) {
            Some(Kind::Stun) => {
                let selected = self.agent.handle(now, from, datagram, &mut self.pending);
                self.outlet.remote = self.agent.selected();
                if selected {
                    self.connected.get_or_insert(now);
                }
                self.flush();
            }
            Some(Kind::Dtls) => self.dtls.push(datagram.to_vec()),
            Some(Kind::Rtp) => self.rtp(now, datagram),
            Some(Kind::Rtcp) => self.rtcp(now, datagram),
            None => self.counts.malformed += 1,
        }
    }

    fn flush(&mut self) {
        for (remote, datagram) in self.pending.drain(..) {
            self.outlet.raw(remote, datagram);
        }
    }

    fn rtp(&mut self, now: Nanos, datagram: &mut [u8]) {
        self.counts.rtp += 1;
        let Ok(header) = Header::parse(datagram) else {
            self.counts.malformed += 1;
            return;
        };
        let Some(opener) = &self.opener else {
            self.counts.unauthentic += 1;
            return;
        };
        let fresh = ReplayWindow::default();
        let Ok(index) = self
            .windows
            .get(&header.ssrc)
            .unwrap_or(&fresh)
            .check(header.seq)
        else {
            self.counts.replayed += 1;
            return;
        };
        let Ok(len) = opener.open_rtp(datagram, header.len, index) else {
            self.counts.unauthentic += 1;
            return;
        };
        self.windows.entry(header.ssrc).or_default().accept(index);
        let packet = &datagram[..len];
        if let Some([high, low]) = self
            .ids
            .transport_cc
            .and_then(|id| header.extension(packet, id))
        {
            self.feedback
                .arrived(now, SeqNo(u16::from_be_bytes([*high, *low])));
        }
        let Ok(range) = header.payload(packet) else {
            self.counts.malformed += 1;
            return;
        };
        let payload = &packet[range];
        let mid = self.ids.mid.and_then(|id| header.extension(packet, id));
        let Some((receiver, repaired)) = self.receiver_of(&header, mid) else {
            self.counts.unknown_stream += 1;
            return;
        };
        let receiver = &mut self.receivers[receiver];
        let arrived = Arrived {
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
            dependency: self
                .ids
                .dependency_descriptor
                .and_then(|id| header.extension(packet, id))
                .unwrap_or_default(),
        };
        if repaired {
            receiver.rtx(now, arrived);
        } else {
            receiver.media(now, header.seq, header.payload_type, arrived);
        }
        receiver.advance(now, self.own, &mut self.outlet);
    }

    /// By SSRC; else a receiver without one takes the stream by MID, or by payload type. True = it is its RTX.
    fn receiver_of(&mut self, header: &Header, mid: Option<&[u8]>) -> Option<(usize, bool)> {
        let ssrc = Some(header.ssrc);
        for (at, receiver) in self.receivers.iter().enumerate() {
            if receiver.ssrc == ssrc {
                // One SSRC has one payload type here, or that and its redundancy's; anything else is a fault of the sender's.
                return receiver.takes(header.payload_type).then_some((at, false));
            }
            if receiver.rtx_ssrc == ssrc {
                return Some((at, true));
            }
        }
        let repaired =
            |receiver: &Receiver| receiver.spec.rtx_payload_type == Some(header.payload_type);
        let at = self.receivers.iter().position(|receiver| {
            let free = if repaired(receiver) {
                receiver.rtx_ssrc.is_none()
            } else {
                receiver.ssrc.is_none()
            };
            let kind = repaired(receiver) || receiver.takes(header.payload_type);
            let section = match (mid, &receiver.spec.mid) {
                (Some(mid), Some(own)) => mid == own.as_bytes(),
                _ => true,
            };
            free && kind && section
        })?;
        let receiver = &mut self.receivers[at];
        let repaired = repaired(receiver);
        if repaired {
            receiver.rtx_ssrc = ssrc;
        } else {
            receiver.ssrc = ssrc;
        }
        Some((at, repaired))
    }

    fn rtcp(&mut self, now: Nanos, datagram: &mut [u8]) {
        self.counts.rtcp += 1;
        let opened = self
            .opener
            .as_ref()
            .and_then(|opener| opener.open_rtcp(datagram).ok());
        let Some((len, index)) = opened else {
            self.counts.unauthentic += 1;
            return;
        };
        let Ok(index) = self.rtcp_window.check_index(u64::from(index)) else {
            self.counts.replayed += 1;
            return;
        };
        self.rtcp_window.accept(index);
        let Ok(compound) = Compound::parse(&datagram[..len]) else {
            self.counts.malformed += 1;
            return;
        };
        for packet in compound {
            match packet {
                Packet::SenderReport {
                    sender,
                    info,
                    blocks,
                } => {
                    for receiver in self
                        .receivers
                        .iter_mut()
                        .filter(|receiver| receiver.ssrc == Some(sender))
                    {
                        receiver.sender_report(now, &info);
                    }
                    self.reports(blocks);
                }
                Packet::ReceiverReport { blocks, .. } => self.reports(blocks),
                Packet::Bye(ssrcs) => {
                    for ssrc in ssrcs {
                        for receiver in self
                            .receivers
                            .iter_mut()
                            .filter(|receiver| receiver.ssrc == Some(ssrc))
                        {
                            receiver.bye();
                        }
                    }
                }
                Packet::Nack { media, lost, .. } => {
                    for publication in &mut self.publications {
                        publication.nack(now, media, lost, &mut self.outlet);
                    }
                }
                Packet::Pli { media, .. } => {
                    for publication in &mut self.publications {
                        publication.keyframe_request(media, false);
                    }
                }
                Packet::Fir { entries, .. } => {
                    for (media, _) in entries {
                        for publication in &mut self.publications {
                            publication.keyframe_request(media, true);
                        }
                    }
                }
                Packet::TransportFeedback(_) => self.feedback.told(&packet),
                Packet::Remb { .. } => self.counts.remb += 1,
                Packet::Sdes(_) | Packet::ExtendedReport { .. } | Packet::Other { .. } => {}
            }
        }
    }

    fn reports(&mut self, blocks: rtcp::Blocks<'_>) {
        for block in blocks {
            for publication in &mut self.publications {
                publication.receiver_report(&block);
            }
        }
    }

    /// Does everything that is due at `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.agent.advance(now, &mut self.chance, &mut self.pending);
        self.outlet.remote = self.agent.selected();
        self.flush();
        for publication in &mut self.publications {
            publication.advance(now, &mut self.outlet, &mut self.chance);
        }
        for receiver in &mut self.receivers {
            receiver.advance(now, self.own, &mut self.outlet);
        }
        let media = self
            .receivers
            .iter()
            .find_map(|receiver| receiver.ssrc)
            .unwrap_or(Ssrc(0));
        self.feedback
            .advance(now, self.own, media, &mut self.outlet);
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now);
        }
        let streams: Vec<_> = self
            .receivers
            .iter()
            .filter_map(|receiver| receiver.ssrc)
            .collect();
        let payload_type = self
            .publications
            .first()
            .map_or(111, |publication| publication.spec.payload_type);
        self.storm.advance(
            now,
            &streams,
            payload_type,
            &mut self.outlet,
            &mut self.chance,
        );
    }

    fn report(&mut self, now: Nanos) {
        let blocks: Vec<_> = self
            .receivers
            .iter_mut()
            .filter_map(|receiver| receiver.block(now))
            .collect();
        for blocks in blocks.chunks(MAX_BLOCKS) {
            let mut compound = [0; 900];
            if let Some(len) = rtcp::write_receiver_report(&mut compound, self.own, blocks) {
                self.outlet.rtcp(&compound[..len]);
            }
        }
    }

    /// When `advance` has something to do next. The caller need not come earlier than 1 ms later than the last time.
    #[must_use]
    pub fn next_timeout(&self, now: Nanos) -> Option<Nanos> {
        let publications = self
            .publications
            .iter()
            .map(Publication::next_timeout)
            .min();
        let receivers = self
            .receivers
            .iter()
            .filter_map(|receiver| receiver.next_timeout(now))
            .min();
        let report = Some(self.next_report).filter(|_| !self.receivers.is_empty());
        [
            self.agent.next_timeout(),
            publications,
            receivers,
            self.feedback.next_timeout(),
            report,
            self.storm.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub fn transmits(&mut self) -> Vec<Transmit> {
        self.outlet.drain()
    }

    #[must_use]
    pub fn has_transmits(&self) -> bool {
        !self.outlet.is_empty()
    }

    #[must_use]
    pub fn stats(&self) -> PeerStats {
        PeerStats {
            connected: self.connected.map(|at| at as f64 / SECOND as f64),
            selected: self.outlet.remote.map(|remote| remote.to_string()),
            lost: self.agent.lost(),
            counts: self.counts.clone(),
            sent_packets: self.outlet.packets,
            sent_bytes: self.outlet.bytes,
            sent_rtcp: self.outlet.rtcp_packets,
            checks: self.agent.checks,
            responses: self.agent.responses,
            ice_errors: self.agent.errors,
            feedback_sent: self.feedback.sent,
            feedback_received: self.feedback.received,
            told_received: self.feedback.told_received,
            told_lost: self.feedback.told_lost,
            storm_sent: self.storm.sent,
            publications: self
                .publications
                .iter()
                .map(|p| (p.spec.publication, p.stats()))
                .collect(),
            receivers: self.receivers.iter().map(Receiver::stats).collect(),
        }
    }

    /// Latency of all receivers together since the last call with `reset`.
    pub fn latency(&mut self, reset: bool) -> Latency {
        let mut all = Latency::default();
        for receiver in &mut self.receivers {
            all.merge(receiver.latency());
            if reset {
                *receiver.latency() = Latency::default();
            }
        }
        all
    }
}

/// Hexadecimal digits in pairs; `None` for anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests;
