//! One ICE + DTLS + SRTP association with one client: which addresses are his, which streams he sends, the keys of both
//! directions. It opens what comes in and seals what goes out; it knows publications and subscriptions only as row keys
//! that the router gave it. First and last stop of every media packet.

pub mod inquiry;
pub mod link;
pub mod path;
pub mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use self::link::Link;
use self::path::Path;
use self::streams::Streams;
use crate::api::{Extension, Profile, TransportId};
use crate::bucket::Bucket;
use crate::legs::Leg;
use crate::now::{Now, ticks};
use crate::outlet::{Class, Outlet};
use crate::sealed::{self, Sealed};
use crate::twcc::Arrivals;
use crate::wire::drop::DropReason;
use crate::wire::packet::{self, Header};
use crate::wire::rtcp::ReferenceAnswer;
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc};
use crate::wire::srtp::{self, Opener, ReplayWindow, Sealer};
use crate::wire::stun::IntegrityKey;

/// SSRC of our own RTCP where no subscription's SSRC is meant.
pub const OUR_SSRC: Ssrc = Ssrc(1);
/// Senders of SRTCP remembered per transport: each sends with an index of its own (RFC 3711 §3.2.1).
const MAX_RTCP_SENDERS: usize = 64;
/// A sender silent for this long may be forgotten for a new one.
const RTCP_SENDER_IDLE: Duration = Duration::from_secs(30);
/// Our CNAME in reports about what a client sends. The same on every transport: it tells nobody apart.
pub const OUR_CNAME: &str = "d4e-sfu";
/// Receivers of one client whose reference times wait for an answer.
const MAX_REFERENCES: usize = 8;
/// Assumed until a receiver report has told: what a nationwide path takes.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
/// After an ICE restart the credentials before it hold this long: as long as consent, so that a client that has found no
/// better pair loses nothing by having looked for one.
pub const FORMER_LIFE: Duration = path::CONSENT;

/// Ids of the header extensions on this transport (RFC 8285); 0 = not mapped.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtensionIds {
    ids: [u8; 10],
    allow_mixed: bool,
}

impl ExtensionIds {
    #[must_use]
    pub fn new(mapping: &[(Extension, u8)], allow_mixed: bool) -> Self {
        let mut ids = [0; 10];
        for &(extension, id) in mapping {
            ids[extension as usize] = id;
        }
        Self { ids, allow_mixed }
    }
    #[must_use]
    pub fn get(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|&id| id != 0)
    }
    /// For writing a value of `len` bytes: `None` where the one-byte form cannot say it and no other may be used
    /// (RFC 8285 §4.1.2: the forms are not mixed in a stream unless that was negotiated).
    #[must_use]
    pub fn sent(&self, extension: Extension, len: usize) -> Option<u8> {
        self.get(extension)
            .filter(|&id| self.allow_mixed || (id <= 14 && matches!(len, 1..=16)))
    }
}

struct Keys {
    opener: Opener,
    sealer: Sealer,
    /// What sealing adds to a packet.
    overhead: usize,
    /// SRTCP index of what we send: one count for the whole transport.
    rtcp_index: u32,
}

struct RtcpSender {
    ssrc: u32,
    window: ReplayWindow,
    heard: Now,
}

/// A receiver of the client has told its time (RFC 3611 §4.4).
#[derive(Clone, Copy, Debug)]
struct Reference {
    receiver: Ssrc,
    /// Middle 32 bits.
    middle: u32,
    heard: Now,
}

/// What authenticates connectivity checks, of one exchange of descriptions (RFC 8445 §5.3).
pub struct Credentials {
    pub local_ufrag: String,
    pub remote_ufrag: String,
    pub integrity: IntegrityKey,
    /// For checks of our own: the client's, unless nobody has told; and whom they name (RFC 8445 §7.2.2).
    pub theirs: Option<IntegrityKey>,
    pub asking: String,
}

impl Credentials {
    #[must_use]
    pub fn new(
        local_ufrag: String,
        local_pwd: &str,
        remote_ufrag: String,
        remote_pwd: &str,
    ) -> Self {
        Self {
            asking: format!("{remote_ufrag}:{local_ufrag}"),
            local_ufrag,
            remote_ufrag,
            integrity: IntegrityKey::new(local_pwd),
            theirs: (!remote_pwd.is_empty()).then(|| IntegrityKey::new(remote_pwd)),
        }
    }
}

pub struct Transport {
    pub id: TransportId,
    pub credentials: Credentials,
    /// Those before an ICE restart, and when it was: the client goes on checking the pair in use until it has a better one.
    pub former: Option<(Credentials, Now)>,
    pub may_publish: bool,
    pub signal_lost: bool,
    pub path: Path,
    pub extensions: ExtensionIds,
    pub streams: Streams,
    pub arrivals: Option<Arrivals>,
    /// Row keys, kept by the router.
    pub publications: Vec<u32>,
    pub subscriptions: Vec<u32>,
    /// Bounds answers to checks, and DTLS datagrams upward.
    pub checks: Bucket,
    pub dtls: Bucket,
    /// Bounds what is looked up for his NACKs.
    pub asks: Bucket,
    pub reported: Now,
    /// From the client to us, as we receive it; and from us to him, as he reports it.
    pub up: Leg,
    pub down: Leg,
    pub link: Link,
    /// Of the voices that he sends, as it is now.
    pub voice_jitter: Duration,
    keys: Option<Keys>,
    rtcp_senders: Vec<RtcpSender>,
    references: Vec<Reference>,
    round_trip: Option<Duration>,
}

impl Transport {
    #[must_use]
    pub fn new(
        now: Now,
        id: TransportId,
        credentials: Credentials,
        may_publish: bool,
        start_bitrate: u32,
    ) -> Self {
        Self {
            id,
            credentials,
            former: None,
            may_publish,
            signal_lost: false,
            path: Path::new(now),
            extensions: ExtensionIds::default(),
            streams: Streams::default(),
            arrivals: None,
            publications: Vec::new(),
            subscriptions: Vec::new(),
            // A browser checks each pair every 50 ms at most, and settles at one in 2.5 s.
            checks: Bucket::new(100, 100, now),
            // A handshake is some ten datagrams; chat and files are DTLS datagrams of about 1,200 bytes as well.
            dtls: Bucket::new(2_000, 512, now),
            // A receiver that has lost everything of several streams asks for hundreds (libwebrtc: 1,000 at most).
            asks: Bucket::new(4_000, 2_000, now),
            reported: now,
            up: Leg::default(),
            down: Leg::default(),
            link: Link::new(start_bitrate),
            voice_jitter: Duration::ZERO,
            keys: None,
            rtcp_senders: Vec::new(),
            references: Vec::new(),
            round_trip: None,
        }
    }

    /// ICE restart. Returns our ufrag that has been forgotten over it: two exchanges are remembered.
    pub fn restart(&mut self, now: Now, credentials: Credentials) -> Option<String> {
        let before = std::mem::replace(&mut self.credentials, credentials);
        self.path.restarted();
        self.former
            .replace((before, now))
            .map(|(forgotten, _)| forgotten.local_ufrag)
    }

    /// Given once: keys for the same association never change, and a second set would reuse counters.
    pub fn set_keys(
        &mut self,
        profile: Profile,
        receive: &[u8],
        send: &[u8],
    ) -> Result<(), srtp::BadKey> {
        if self.keys.is_some() {
            return Ok(());
        }
        let profile = match profile {
            Profile::AeadAes128Gcm => srtp::Profile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => srtp::Profile::AeadAes256Gcm,
            Profile::Aes128CmHmacSha1_80 => srtp::Profile::Aes128CmHmacSha1_80,
        };
        self.keys = Some(Keys {
            opener: Opener::new(profile, receive)?,
            sealer: Sealer::new(profile, send)?,
            overhead: profile.rtp_overhead(),
            rtcp_index: 0,
        });
        self.path.keyed();
        Ok(())
    }

    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(DEFAULT_ROUND_TRIP)
    }

    #[must_use]
    pub fn measured_round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// A round trip measured from a receiver report.
    pub fn measured(&mut self, sample: Duration) {
        let sample = sample.clamp(Duration::from_millis(5), Duration::from_secs(2));
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(before) => (before * 7 + sample) / 8,
        });
        self.link.round_trip(sample);
    }

    /// The latest of each receiver counts; beyond the bound they go unanswered.
    pub fn told_time(&mut self, now: Now, receiver: Ssrc, ntp: u64) {
        let reference = Reference {
            receiver,
            middle: (ntp >> 16) as u32,
            heard: now,
        };
        self.references.retain(|known| known.receiver != receiver);
        if self.references.len() < MAX_REFERENCES {
            self.references.push(reference);
        }
    }

    #[must_use]
    pub fn owes_time(&self) -> bool {
        !self.references.is_empty()
    }

    /// Answers to all reference times told since the last call.
    pub fn time_answers(&mut self, now: Now) -> ([ReferenceAnswer; MAX_REFERENCES], usize) {
        let mut answers = [ReferenceAnswer {
            receiver: OUR_SSRC,
            last: 0,
            delay: 0,
        }; MAX_REFERENCES];
        let count = self.references.len();
        for (answer, reference) in answers.iter_mut().zip(self.references.drain(..)) {
            *answer = ReferenceAnswer {
                receiver: reference.receiver,
                last: reference.middle,
                delay: ticks(now.since(reference.heard), 65_536),
            };
        }
        (answers, count)
    }

    /// Decrypts an RTP packet in place; returns its length without the tag and its index. State changes only after the
    /// tag has been found right: replay window, transport-wide arrival, statistics of a stream that is already bound.
    pub fn open_rtp(
        &mut self,
        now: Now,
        header: &Header,
        packet: &mut [u8],
    ) -> Result<(usize, ExtSeq), DropReason> {
        let keys = self.keys.as_mut().ok_or(DropReason::NoKeys)?;
        let stream = self.streams.find(header.ssrc);
        let index = match &stream {
            Some(stream) => stream.window.check(header.seq)?,
            None => ReplayWindow::default().check(header.seq)?,
        };
        let len = keys.opener.open_rtp(packet, header.len, index)?;
        if let Some(stream) = stream {
            stream.accept(now, index, header.timestamp);
        }
        if let Some(id) = self.extensions.get(Extension::TransportWideCc)
            && let Some(&[high, low]) = header.extension(packet, id)
        {
            self.arrivals
                .get_or_insert_with(|| Arrivals::new(now))
                .record(now, SeqNo(u16::from_be_bytes([high, low])), header.ssrc);
        }
        Ok((len, index))
    }

    /// Worth a trial: a stream or a sender of reports of his, of this name.
    #[must_use]
    pub fn may_be_from(&self, header: Option<&Header>, packet: &[u8]) -> bool {
        match (header, packet) {
            (Some(header), _) => self.streams.get(header.ssrc).is_some(),
            (None, &[_, _, _, _, a, b, c, d, ..]) => {
                let ssrc = u32::from_be_bytes([a, b, c, d]);
                self.rtcp_senders.iter().any(|sender| sender.ssrc == ssrc)
            }
            _ => false,
        }
    }

    /// This packet authenticates, and has not come before. Nothing changes by it, so that it may still come from where he
    /// is known to be; its bytes are undefined then.
    #[must_use]
    pub fn is_from(&self, header: Option<&Header>, packet: &mut [u8]) -> bool {
        let Some(keys) = &self.keys else {
            return false;
        };
        if let Some(header) = header {
            return self
                .streams
                .get(header.ssrc)
                .and_then(|stream| stream.window.check(header.seq).ok())
                .is_some_and(|index| keys.opener.open_rtp(packet, header.len, index).is_ok());
        }
        let Ok((_, index)) = keys.opener.open_rtcp(packet) else {
            return false;
        };
        let &[_, _, _, _, a, b, c, d, ..] = &*packet else {
            return false;
        };
        let ssrc = u32::from_be_bytes([a, b, c, d]);
        self.rtcp_senders.iter().any(|sender| {
            sender.ssrc == ssrc && sender.window.check_index(u64::from(index)).is_ok()
        })
    }

    /// Decrypts an SRTCP compound in place; returns its plain length.
    pub fn open_rtcp(&mut self, now: Now, packet: &mut [u8]) -> Result<usize, DropReason> {
        let keys = self.keys.as_mut().ok_or(DropReason::NoKeys)?;
        let (len, index) = keys.opener.open_rtcp(packet)?;
        let Some(&[a, b, c, d]) = packet.get(4..8) else {
            return Err(DropReason::BadRtcp);
        };
        let ssrc = u32::from_be_bytes([a, b, c, d]);
        let known = self
            .rtcp_senders
            .iter()
            .position(|sender| sender.ssrc == ssrc);
        let at = match known {
            Some(at) => at,
            None if self.rtcp_senders.len() < MAX_RTCP_SENDERS => self.rtcp_senders.len(),
            None => self
                .rtcp_senders
                .iter()
                .position(|sender| now.since(sender.heard) > RTCP_SENDER_IDLE)
                .ok_or(DropReason::TooManyStreams)?,
        };
        if known.is_none() {
            let sender = RtcpSender {
                ssrc,
                window: ReplayWindow::default(),
                heard: now,
            };
            match self.rtcp_senders.get_mut(at) {
                Some(idle) => *idle = sender,
                None => self.rtcp_senders.push(sender),
            }
        }
        let sender = &mut self.rtcp_senders[at];
        let index = sender.window.check_index(u64::from(index))?;
        sender.window.accept(index);
        sender.heard = now;
        Ok(len)
    }

    /// Where to send, once there is a path and there are keys.
    #[must_use]
    pub fn ready(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.keys.as_ref().and(self.path.selected())
    }

    /// The means to seal packets for this client, and where they go.
    pub fn sending(&mut self) -> Option<Sending<'_>> {
        let (local, remote) = self.path.selected()?;
        let keys = self.keys.as_mut()?;
        Some(Sending {
            keys,
            local,
            remote,
            extensions: &self.extensions,
            link: &mut self.link,
            class: Class::Picture,
            keep: None,
        })
    }
}

/// What UDP and IP add to a datagram (RFC 768, RFC 791, RFC 8200).
fn datagram_overhead(remote: SocketAddr) -> usize {
    if remote.is_ipv4() { 28 } else { 48 }
}

/// A transport with path and keys, borrowed for a run of packets.
pub struct Sending<'a> {
    keys: &'a mut Keys,
    local: SocketAddr,
    remote: SocketAddr,
    pub extensions: &'a ExtensionIds,
    pub link: &'a mut Link,
    /// Of the next RTP packets.
    pub class: Class,
    /// Where the next packet is kept as it leaves.
    pub keep: Option<Box<sealed::Voice>>,
}

impl Sending<'_> {
    /// Seals what `write` puts into the slot (header, then prefix; it returns both lengths) with `rest` behind it. Where it
    /// is `numbered`, the first header extension has room for the transport-wide number, which is told here, when all that
    /// the number stands for is known. Returns the datagram's length.
    pub fn rtp(
        &mut self,
        now: Now,
        out: &mut impl Outlet,
        roc: u32,
        rest: &[u8],
        numbered: bool,
        write: impl FnOnce(&mut [u8]) -> Option<(usize, usize)>,
    ) -> Option<usize> {
        let slot = out.slot();
        let (header, prefix) = write(slot)?;
        let plain = header + prefix + rest.len();
        let bytes = plain + self.keys.overhead + datagram_overhead(self.remote);
        let number = self.link.sent(now, bytes, numbered);
        if let Some(number) = number {
            let at = packet::first_element(slot);
            slot.get_mut(at..at + 2)?
                .copy_from_slice(&number.to_be_bytes());
        }
        let len = self.keys.sealer.seal_rtp(slot, header, prefix, rest, roc)?;
        if let Some(voice) = &mut self.keep {
            voice.keep(now, number, slot.get(..len)?);
        }
        out.commit(self.local, self.remote, len, self.class);
        Some(len)
    }

    /// The same packet once more, bit by bit. Returns the datagram's length.
    pub fn again(&mut self, now: Now, out: &mut impl Outlet, sealed: &Sealed) -> Option<usize> {
        let len = sealed.datagram.len();
        out.slot().get_mut(..len)?.copy_from_slice(&sealed.datagram);
        let bytes = len + datagram_overhead(self.remote);
        self.link.sent_again(now, bytes, sealed.transport_wide);
        out.commit(self.local, self.remote, len, Class::Voice);
        Some(len)
    }

    /// Seals the compound that `write` puts into the slot. The count of SRTCP packets ends at 2^31 (RFC 3711 §9.2): at
    /// twenty a second that is three years, and then reports stop.
    pub fn rtcp(
        &mut self,
        out: &mut impl Outlet,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        if self.keys.rtcp_index >= 1 << 31 {
            return None;
        }
        let slot = out.slot();
        let plain = write(slot)?;
        let len = self
            .keys
            .sealer
            .seal_rtcp(slot, plain, self.keys.rtcp_index)?;
        self.keys.rtcp_index += 1;
        out.commit(self.local, self.remote, len, Class::Picture);
        Some(len)
    }
}
