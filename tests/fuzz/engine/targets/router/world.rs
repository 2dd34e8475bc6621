//! The world around the router under test: people with keys, and the books. Everything that leaves is judged against what
//! was really proven, by the ids alone: the lowest bit of each id is its room.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use d4e_engine::api::{Command, Event, Extension, Profile};
use d4e_engine::now::Now;
use d4e_engine::outlet::{DATAGRAM, Kept};
use d4e_engine::router::Router;
use d4e_engine::wire::packet::{Fields, Header, Kind, classify, write_header};
use d4e_engine::wire::rtcp::{Compound, Packet};
use d4e_engine::wire::seq::{ExtSeq, Ssrc, Timestamp};
use d4e_engine::wire::srtp::{self, Opener, ReplayWindow, Sealer};
use d4e_engine::wire::stun;

use crate::checks::{binding_request, names};

pub const TRANSPORTS: u32 = 6;
pub const PUBLICATIONS: u32 = 8;
pub const SUBSCRIPTIONS: u32 = 16;
pub const RIDS: [&str; 3] = ["q", "h", "f"];

/// Behind every payload that a room's publisher sends; what the other room must never see.
const CANARIES: [&[u8; 8]; 2] = [b"\x0dlaurel\xfe", b"\x0dwillow\xfe"];
/// RFC 7675 §5.1, and the router's longest tick.
const CONSENT: Duration = Duration::from_millis(30_100);
const REMEMBERED: usize = 16;

pub fn room(id: u32) -> usize {
    id as usize & 1
}

/// A DTLS record that says whose it is.
pub fn dtls(transport: u32, len: usize) -> Vec<u8> {
    let mut datagram = vec![22; 13 + len];
    datagram[1] = transport as u8;
    datagram
}

/// What a publisher writes around his payload.
pub struct Labels<'a> {
    pub ssrc: u32,
    pub payload_type: u8,
    pub mid: Option<String>,
    pub rid: Option<&'static str>,
    pub repaired: bool,
    pub marker: bool,
    pub padding: bool,
    pub level: bool,
    /// Of dependencies; empty for none.
    pub descriptor: &'a [u8],
}

/// One life of a transport: from `AddTransport` until it is removed, by us or by the clock.
struct Person {
    life: u32,
    keys: Option<Keys>,
    address: Option<(SocketAddr, SocketAddr)>,
    sources: HashMap<u32, (ExtSeq, u32)>,
    /// Indices that the router has sealed under, by SSRC; and the next SRTCP index.
    sealed: HashMap<u32, ReplayWindow>,
    /// What has left, by SSRC and number: it may go again as it is.
    left: HashMap<(u32, u16), Vec<u8>>,
    sealed_rtcp: u32,
    rtcp_index: u32,
    twcc: u16,
}

struct Keys {
    sealer: Sealer,
    opener: Opener,
}

pub struct World {
    router: Router,
    kept: Kept,
    now: Now,
    people: HashMap<u32, Person>,
    lives: u32,
    /// Who has proven this pair, and when last.
    proven: HashMap<(SocketAddr, SocketAddr), (u32, Now)>,
    next_ssrc: u32,
    last_sr: u32,
    remembered: Vec<(SocketAddr, Vec<u8>)>,
    /// DTLS that came from an address which this transport had proven.
    handshakes: HashSet<(u32, Vec<u8>)>,
    /// Events that happen once and may wait; all others are as many as there are things.
    once: usize,
    debugged: u32,
    /// To checks of the router, where they were asked for; and how many there have been.
    answers: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    asked: usize,
}

impl World {
    pub fn new() -> Self {
        Self {
            router: Router::default(),
            kept: Kept::default(),
            now: Now::from_millis(1_000),
            people: HashMap::new(),
            lives: 0,
            proven: HashMap::new(),
            next_ssrc: 0x5000_0000,
            last_sr: 0,
            remembered: Vec::new(),
            handshakes: HashSet::new(),
            once: 0,
            debugged: 0,
            answers: Vec::new(),
            asked: 0,
        }
    }

    pub fn fresh_ssrc(&mut self) -> u32 {
        self.next_ssrc += 1;
        self.next_ssrc
    }

    /// One that a subscription has been given, if it was not long ago.
    pub fn sent_ssrc(&self, which: u8) -> u32 {
        self.next_ssrc.saturating_sub(u32::from(which % 16))
    }

    pub fn last_sr(&self) -> u32 {
        self.last_sr
    }

    // --- commands ------------------------------------------------------------------------------------------------------

    pub fn apply(&mut self, command: Command) {
        self.router.apply(self.now, command, &mut self.kept);
        self.router.advance(self.now, &mut self.kept);
    }

    pub fn add_transport(&mut self, id: u32, may_publish: bool) {
        let before = self.router.snapshot().transports;
        let life = self.lives + 1;
        let (ours, theirs, password) = names(id, life);
        self.apply(Command::AddTransport {
            transport: id,
            local_ufrag: ours,
            local_pwd: password,
            remote_ufrag: theirs,
            remote_pwd: format!("his own password {life}"),
            may_publish,
            // Estimated, and not.
            start_bitrate: if id % 2 == 0 { 0 } else { 600_000 },
        });
        if self.router.snapshot().transports == before {
            assert!(self.people.contains_key(&id), "a new transport is refused");
            return;
        }
        self.lives = life;
        let person = Person {
            life,
            keys: None,
            address: None,
            sources: HashMap::new(),
            sealed: HashMap::new(),
            left: HashMap::new(),
            sealed_rtcp: 0,
            rtcp_index: 0,
            twcc: 0,
        };
        assert!(self.people.insert(id, person).is_none(), "two of one id");
        self.apply(Command::SetExtensions {
            transport: id,
            extensions: vec![
                (Extension::Mid, 1),
                (Extension::Rid, 2),
                (Extension::RepairedRid, 3),
                (Extension::AudioLevel, 4),
                (Extension::TransportWideCc, 5),
                (Extension::DependencyDescriptor, 6),
            ],
            allow_mixed: id % 2 == 0,
        });
    }

    pub fn set_keys(&mut self, id: u32, profile: Profile) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        let (wire, len) = match profile {
            Profile::AeadAes128Gcm => (srtp::Profile::AeadAes128Gcm, 28),
            Profile::AeadAes256Gcm => (srtp::Profile::AeadAes256Gcm, 44),
            Profile::Aes128CmHmacSha1_80 => (srtp::Profile::Aes128CmHmacSha1_80, 30),
        };
        let master = |direction: u8| {
            let mut key = vec![direction; len];
            key[..4].copy_from_slice(&person.life.to_be_bytes());
            key
        };
        let (receive, send) = (master(1), master(2));
        if person.keys.is_none() {
            let (Ok(sealer), Ok(opener)) = (Sealer::new(wire, &receive), Opener::new(wire, &send))
            else {
                panic!("good keys are refused")
            };
            person.keys = Some(Keys { sealer, opener });
        }
        self.apply(Command::SetKeys {
            transport: id,
            profile,
            receive,
            send,
        });
    }

    pub fn remove_transport(&mut self, id: u32) {
        self.apply(Command::RemoveTransport { transport: id });
        self.judge_departed(); // What left before the end is judged before it.
        self.forget(id);
    }

    fn forget(&mut self, id: u32) {
        self.people.remove(&id);
        self.proven.retain(|_, (owner, _)| *owner != id);
    }

    // --- datagrams -----------------------------------------------------------------------------------------------------

    fn handle(&mut self, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) {
        if self.remembered.len() == REMEMBERED {
            self.remembered.remove(0);
        }
        self.remembered.push((remote, datagram.to_vec()));
        if let (Some(Kind::Dtls), Some(&(owner, _))) =
            (classify(datagram), self.proven.get(&(local, remote)))
        {
            self.handshakes.insert((owner, datagram.to_vec()));
        }
        self.router.handle(
            self.now,
            local,
            remote,
            &mut datagram.to_vec(),
            &mut self.kept,
        );
        self.router.advance(self.now, &mut self.kept);
    }

    /// A connectivity check as the client would make it, `extra` attributes included.
    pub fn check(&mut self, id: u32, remote: u8, local: u8, nominated: bool, extra: &[u8]) {
        let Some(life) = self.people.get(&id).map(|person| person.life) else {
            return;
        };
        self.judge();
        let (local, remote) = (here(local), there(remote));
        let request = binding_request(id, life, nominated, extra);
        self.handle(local, remote, &request);
        let answer = self
            .kept
            .datagrams
            .iter()
            .find(|(_, _, bytes)| classify(bytes) == Some(Kind::Stun));
        let Some((from, to, answer)) = answer else {
            return;
        };
        assert_eq!((*from, *to), (local, remote), "answered elsewhere");
        assert!(
            answer.len() <= request.len(),
            "an answer longer than its question"
        );
        let Ok(answer) = stun::Message::parse(answer) else {
            panic!("an answer that is none")
        };
        let (_, _, password) = names(id, life);
        assert!(answer.verify(&stun::IntegrityKey::new(&password)));
        assert_eq!(answer.class == stun::Class::Success, extra.is_empty());
        if extra.is_empty() {
            assert_eq!(answer.mapped, Some(remote));
            self.proven.insert((local, remote), (id, self.now));
            if let Some(person) = self.people.get_mut(&id) {
                person.address = Some((local, remote));
            }
        }
        self.kept
            .datagrams
            .retain(|(_, _, bytes)| classify(bytes) != Some(Kind::Stun));
    }

    /// One byte is wrong: silence, whoever sends it.
    pub fn forged_check(&mut self, id: u32, remote: u8, at: u8, with: u8) {
        let Some(person) = self.people.get(&id) else {
            return;
        };
        let mut request = binding_request(id, person.life, true, &[]);
        let at = usize::from(at) % request.len();
        request[at] ^= with.max(1);
        self.handle(here(0), there(remote), &request);
    }

    pub fn send_media(
        &mut self,
        id: u32,
        labels: &Labels<'_>,
        ahead: u16,
        later: u32,
        body: &[u8],
    ) {
        if CANARIES.iter().any(|canary| holds(body, *canary)) {
            return;
        }
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        let start = (ExtSeq(u64::from(labels.ssrc as u16) << 3), 0);
        let (index, timestamp) = *person
            .sources
            .entry(labels.ssrc)
            .and_modify(|(index, timestamp)| {
                index.0 = index.0.saturating_add_signed(i64::from(ahead as i16));
                *timestamp = timestamp.wrapping_add(later);
            })
            .or_insert(start);
        person.twcc = person.twcc.wrapping_add(1);
        let (twcc, level) = (person.twcc.to_be_bytes(), [0x80 | body.len() as u8]);
        let mut elements: Vec<(u8, &[u8])> = vec![(5, &twcc)];
        if let Some(mid) = &labels.mid {
            elements.push((1, mid.as_bytes()));
        }
        if let Some(rid) = labels.rid {
            elements.push((if labels.repaired { 3 } else { 2 }, rid.as_bytes()));
        }
        if labels.level {
            elements.push((4, &level));
        }
        if !labels.descriptor.is_empty() {
            elements.push((6, labels.descriptor));
        }
        let fields = Fields {
            marker: labels.marker,
            padding: labels.padding,
            payload_type: labels.payload_type,
            seq: index.seq(),
            timestamp: Timestamp(timestamp),
            ssrc: Ssrc(labels.ssrc),
        };
        let mut plain = vec![0; 256];
        let Some(len) = write_header(&mut plain, &fields, &elements) else {
            panic!("the header fits")
        };
        plain.truncate(len);
        plain.extend(body);
        if !labels.padding {
            plain.extend(CANARIES[room(id)]);
        }
        self.send_sealed(id, &plain, len, index);
    }

    /// Any bytes as a packet, if they begin with a header at all.
    pub fn send_plain_rtp(&mut self, id: u32, plain: &[u8]) {
        if let Ok(header) = Header::parse(plain) {
            if !CANARIES.iter().any(|canary| holds(plain, *canary)) {
                self.send_sealed(id, plain, header.len, ExtSeq(u64::from(header.seq.0)));
            }
        }
    }

    fn send_sealed(&mut self, id: u32, plain: &[u8], header_len: usize, index: ExtSeq) {
        let Some((person, (local, remote))) = self.connected(id) else {
            return;
        };
        let Some(keys) = &person.keys else { return };
        let mut slot = plain.to_vec();
        slot.resize(plain.len() + 16, 0);
        let sealed =
            keys.sealer
                .seal_rtp(&mut slot, header_len, 0, &plain[header_len..], index.roc());
        let Some(len) = sealed else {
            panic!("the packet fits")
        };
        self.handle(local, remote, &slot[..len]);
    }

    pub fn send_rtcp(&mut self, id: u32, plain: &[u8]) {
        let Some((person, (local, remote))) = self.connected(id) else {
            return;
        };
        let Some(keys) = &person.keys else { return };
        let mut slot = plain.to_vec();
        slot.resize(plain.len() + 20, 0);
        let sealed = keys
            .sealer
            .seal_rtcp(&mut slot, plain.len(), person.rtcp_index);
        person.rtcp_index += 1;
        if let Some(len) = sealed {
            self.handle(local, remote, &slot[..len]);
        }
    }

    pub fn send_dtls(&mut self, id: u32, bytes: &[u8]) {
        let Some((_, (local, remote))) = self.connected(id) else {
            return;
        };
        let mut datagram = dtls(id, 0);
        datagram.extend(bytes);
        self.handle(local, remote, &datagram);
    }

    pub fn send_raw(&mut self, remote: u8, local: u8, bytes: &[u8]) {
        self.handle(here(local), there(remote), bytes);
    }

    /// An earlier datagram again: as it was, changed, or from somewhere else. Not a check: from somewhere else that is a
    /// move, which anyone who can read and send datagrams can force on any ICE agent.
    pub fn replay(&mut self, which: u8, remote: u8, at: u8, with: u8) {
        let Some((sender, datagram)) = self
            .remembered
            .get(usize::from(which) % REMEMBERED)
            .cloned()
        else {
            return;
        };
        if datagram.is_empty() {
            return;
        }
        let mut datagram = datagram;
        let at = usize::from(at) % datagram.len();
        datagram[at] ^= with;
        // A forged check whose forged byte is put right is a good one, and is answered.
        if classify(&datagram) == Some(Kind::Stun) {
            return;
        }
        let from = if remote & 1 == 0 {
            sender
        } else {
            there(remote)
        };
        self.handle(here(0), from, &datagram);
    }

    fn connected(&mut self, id: u32) -> Option<(&mut Person, (SocketAddr, SocketAddr))> {
        let person = self.people.get_mut(&id)?;
        let address = person.address?;
        Some((person, address))
    }

    // --- time ----------------------------------------------------------------------------------------------------------

    /// The router is woken whenever it asked for it.
    pub fn pass(&mut self, ms: u64) {
        let end = Now(self.now.0 + ms * 1_000_000);
        while let Some(at) = self.router.next_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.router.advance(self.now, &mut self.kept);
            self.judge();
        }
        self.now = end;
        self.router.advance(end, &mut self.kept);
    }

    /// The thread was not scheduled for so long: what it does then is judged by the addresses alone.
    pub fn stall(&mut self, seconds: u64) {
        self.judge();
        self.now = Now(self.now.0 + seconds * 1_000_000_000);
        self.router.advance(self.now, &mut self.kept);
        for (local, remote, datagram) in std::mem::take(&mut self.kept.datagrams) {
            if classify(&datagram) == Some(Kind::Stun) {
                self.judge_check(local, remote, &datagram);
            } else {
                assert!(self.proven.contains_key(&(local, remote)));
            }
        }
    }

    // --- judgement -----------------------------------------------------------------------------------------------------

    /// Everything that has left since the last judgement, and how things stand.
    pub fn judge(&mut self) {
        self.judge_departed();
        for (local, remote, mut answer) in std::mem::take(&mut self.answers) {
            self.router
                .handle(self.now, local, remote, &mut answer, &mut self.kept);
            self.judge_departed();
        }
        if self.router.snapshot().transports < self.people.len() {
            self.drain(); // Somebody's consent has run out.
        }
        let snapshot = self.router.snapshot();
        assert_eq!(snapshot.transports, self.people.len());
        assert!(snapshot.publications <= PUBLICATIONS as usize);
        assert!(snapshot.subscriptions <= SUBSCRIPTIONS as usize);
        // Voices and links are one of each.
        let values = TRANSPORTS + 3 * PUBLICATIONS + SUBSCRIPTIONS + 2;
        let dtls = 256 * TRANSPORTS;
        assert!(snapshot.events_waiting <= (values + dtls) as usize + self.once);
        match self.router.next_timeout() {
            Some(at) => assert!(!self.people.is_empty() && at > self.now, "a busy loop"),
            None => assert!(self.people.is_empty(), "nobody will wake it"),
        }
    }

    fn judge_departed(&mut self) {
        for (local, remote, datagram) in std::mem::take(&mut self.kept.datagrams) {
            self.judge_datagram(local, remote, datagram);
        }
    }

    /// The router asks whether a client is there. Every second one is answered as the client would.
    fn judge_check(&mut self, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) {
        assert!(
            !self.proven.contains_key(&(local, remote)),
            "it is known who is there"
        );
        let Ok(check) = stun::Message::parse(datagram) else {
            panic!("a check that is none")
        };
        assert_eq!(check.class, stun::Class::Request);
        let [a, b, c, d, .., last] = check.transaction;
        let id = u32::from_be_bytes([a, b, c, d]);
        let Some(person) = self.people.get(&id) else {
            panic!("somebody who is gone is asked")
        };
        let key = stun::IntegrityKey::new(&format!("his own password {}", person.life));
        assert!(check.verify(&key) && person.keys.is_some());
        self.asked += 1;
        let mut out = [0; 128];
        if last % 2 == 0
            && let Some(len) =
                stun::write_binding_success(&mut out, &check.transaction, local, &key)
        {
            self.answers.push((local, remote, out[..len].to_vec()));
            self.proven.insert((local, remote), (id, self.now));
        }
    }

    fn judge_datagram(&mut self, local: SocketAddr, remote: SocketAddr, mut datagram: Vec<u8>) {
        assert!(datagram.len() <= DATAGRAM);
        if classify(&datagram) == Some(Kind::Stun) {
            return self.judge_check(local, remote, &datagram);
        }
        let Some(&(owner, checked)) = self.proven.get(&(local, remote)) else {
            panic!("sent to {remote}, which nobody has proven")
        };
        assert!(self.now.since(checked) <= CONSENT, "sent without consent");
        let Some(person) = self.people.get_mut(&owner) else {
            panic!("sent to someone who is gone")
        };
        match classify(&datagram) {
            Some(Kind::Dtls) => assert_eq!(u32::from(datagram[1]), owner, "another's DTLS"),
            Some(Kind::Rtp) => {
                let Some(keys) = &person.keys else {
                    panic!("media before keys")
                };
                let Ok(header) = Header::parse(&datagram) else {
                    panic!("malformed RTP")
                };
                let window = person.sealed.entry(header.ssrc.0).or_default();
                let name = (header.ssrc.0, header.seq.0);
                let Ok(index) = window.check(header.seq) else {
                    let same = person.left.get(&name) == Some(&datagram);
                    assert!(same, "an SRTP index twice, for another packet");
                    return;
                };
                person.left.insert(name, datagram.clone());
                let opened = keys.opener.open_rtp(&mut datagram, header.len, index);
                let Ok(len) = opened else {
                    panic!("sealed with another's keys")
                };
                window.accept(index);
                assert!(header.payload(&datagram[..len]).is_ok());
                assert!(
                    !holds(&datagram[..len], CANARIES[1 - room(owner)]),
                    "one room is heard in the other"
                );
            }
            Some(Kind::Rtcp) => {
                let Some(keys) = &person.keys else {
                    panic!("reports before keys")
                };
                let Ok((len, index)) = keys.opener.open_rtcp(&mut datagram) else {
                    panic!("sealed with another's keys")
                };
                assert!(index >= person.sealed_rtcp, "an SRTCP index twice");
                person.sealed_rtcp = index + 1;
                let Ok(compound) = Compound::parse(&datagram[..len]) else {
                    panic!("malformed RTCP")
                };
                for packet in compound {
                    if let Packet::SenderReport { info, .. } = packet {
                        self.last_sr = (info.ntp >> 16) as u32;
                    }
                }
            }
            kind => panic!("{kind:?} left unasked"),
        }
    }

    /// Everything that waits for Python.
    pub fn drain(&mut self) {
        while let Some(event) = self.router.events().pop() {
            match event {
                Event::TransportGone { transport } => self.forget(transport),
                Event::Dtls {
                    transport,
                    datagram,
                } => {
                    let known = self.handshakes.contains(&(transport, datagram));
                    assert!(known, "DTLS from a stranger");
                }
                Event::Debug { state, .. } => bounded(&state),
                Event::Voices { voices } => {
                    assert!(!voices.is_empty() && voices.len() <= PUBLICATIONS as usize);
                    // RFC 6464 §3: a level has seven bits.
                    assert!(voices.iter().all(|voice| voice.level < 128));
                    assert!(
                        voices
                            .iter()
                            .all(|voice| room(voice.transport) == room(voice.publication))
                    );
                }
                Event::Links { links } => {
                    assert!(links.len() <= TRANSPORTS as usize);
                    for leg in links.iter().flat_map(|link| [link.up, link.down]) {
                        assert!(leg.lost <= leg.expected, "more was lost than there was");
                    }
                }
                _ => {}
            }
        }
        self.once = 0;
    }

    /// The tables that no snapshot counts, as the router itself tells of them.
    pub fn inspect(&mut self) {
        self.debugged += 1;
        self.once += 1;
        self.apply(Command::Debug {
            token: self.debugged,
        });
    }

    /// Everyone leaves: nothing is left behind.
    pub fn end(&mut self) {
        self.inspect();
        self.judge();
        self.drain();
        for id in 0..TRANSPORTS {
            self.remove_transport(id);
        }
        self.judge();
        let snapshot = self.router.snapshot();
        assert_eq!(
            (
                snapshot.transports,
                snapshot.publications,
                snapshot.subscriptions
            ),
            (0, 0, 0)
        );
    }
}

fn bounded(state: &str) {
    for (name, bound) in [("\"pairs\":", 8), ("\"streams\":", 64)] {
        for after in state.split(name).skip(1) {
            let digits = after.split(|c: char| !c.is_ascii_digit()).next();
            let count: usize = digits.unwrap_or_default().parse().unwrap_or(usize::MAX);
            assert!(count <= bound, "{name}{count}");
        }
    }
}

fn holds(bytes: &[u8], canary: &[u8]) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary)
}

fn here(which: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + which % 2], 7_882))
}

fn there(which: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, which % 12], 40_000))
}
