//! A client for tests: proves its address, seals what it sends, opens what it gets.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::World;
use crate::api::{Command, Extension, Profile};
use crate::wire::codec::vp8;
use crate::wire::packet::{Fields, Header, write_header};
use crate::wire::rtcp;
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc, Timestamp};
use crate::wire::srtp::{self, Opener, Sealer};
use crate::wire::stun::{self, BindingRequest, IntegrityKey};

pub const MID: u8 = 1;
pub const RID: u8 = 2;
pub const RRID: u8 = 3;
pub const LEVEL: u8 = 4;
pub const TWCC: u8 = 5;
pub const CAPTURE: u8 = 6;
pub const DELAY: u8 = 7;
pub const DEPENDENCY: u8 = 8;

/// What a client got, opened.
#[derive(Clone, Debug)]
pub enum Got {
    Rtp {
        header: Header,
        packet: Vec<u8>,
        payload: Vec<u8>,
    },
    Rtcp(Vec<u8>),
    Other,
}

pub struct Client {
    pub id: u32,
    pub remote: SocketAddr,
    pub key: IntegrityKey,
    pub username: String,
    sealer: Sealer,
    opener: Opener,
    rtcp_index: u32,
    /// Highest index received per SSRC, for the roll-over count; and every index, to prove that none comes twice.
    received: HashMap<u32, ExtSeq>,
    pub seen: HashMap<(u32, u64), ()>,
    twcc: u16,
}

pub fn keys(profile: Profile, seed: u8) -> Vec<u8> {
    let len = match profile {
        Profile::AeadAes128Gcm => 28,
        Profile::AeadAes256Gcm => 44,
        Profile::Aes128CmHmacSha1_80 => 30,
    };
    (0..len)
        .map(|i| seed.wrapping_mul(31).wrapping_add(i))
        .collect()
}

impl Client {
    /// A transport with path and keys.
    pub fn join(world: &mut World, id: u32) -> Self {
        Self::join_with(world, id, Profile::AeadAes128Gcm)
    }

    pub fn join_with(world: &mut World, id: u32, profile: Profile) -> Self {
        let mut client = Self::announced(world, id, profile);
        client.check(world, true);
        client.keyed(world, profile);
        world.kept.datagrams.clear();
        client.received.clear();
        client
    }

    /// Known to the router, and nothing more.
    pub fn announced(world: &mut World, id: u32, profile: Profile) -> Self {
        let (ufrag, pwd) = (
            format!("local{id}"),
            format!("password-of-transport-{id:04}"),
        );
        world.apply(Command::AddTransport {
            transport: id,
            local_ufrag: ufrag.clone(),
            local_pwd: pwd.clone(),
            remote_ufrag: format!("remote{id}"),
            remote_pwd: format!("password-of-the-client-{id:04}"),
            may_publish: true,
            start_bitrate: 600_000,
        });
        world.apply(Command::SetExtensions {
            transport: id,
            extensions: vec![
                (Extension::Mid, MID),
                (Extension::Rid, RID),
                (Extension::RepairedRid, RRID),
                (Extension::AudioLevel, LEVEL),
                (Extension::TransportWideCc, TWCC),
                (Extension::AbsCaptureTime, CAPTURE),
                (Extension::PlayoutDelay, DELAY),
                (Extension::DependencyDescriptor, DEPENDENCY),
            ],
            allow_mixed: true,
        });
        let srtp_profile = match profile {
            Profile::AeadAes128Gcm => srtp::Profile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => srtp::Profile::AeadAes256Gcm,
            Profile::Aes128CmHmacSha1_80 => srtp::Profile::Aes128CmHmacSha1_80,
        };
        Self {
            id,
            remote: SocketAddr::from(([192, 0, 2, id as u8], 40_000)),
            key: IntegrityKey::new(&pwd),
            username: format!("{ufrag}:remote{id}"),
            sealer: Sealer::new(srtp_profile, &keys(profile, id as u8)).unwrap(),
            opener: Opener::new(srtp_profile, &keys(profile, (id as u8).wrapping_add(100)))
                .unwrap(),
            rtcp_index: 0,
            received: HashMap::new(),
            seen: HashMap::new(),
            twcc: 0,
        }
    }

    pub fn keyed(&self, world: &mut World, profile: Profile) {
        world.apply(Command::SetKeys {
            transport: self.id,
            profile,
            receive: keys(profile, self.id as u8),
            send: keys(profile, (self.id as u8).wrapping_add(100)),
        });
    }

    pub fn request(&self, use_candidate: bool) -> Vec<u8> {
        self.request_as(use_candidate, 7)
    }

    /// With a transaction of its own.
    pub fn request_as(&self, use_candidate: bool, transaction: u8) -> Vec<u8> {
        let mut out = [0; 512];
        let request = BindingRequest {
            transaction: [transaction; 12],
            username: &self.username,
            priority: 1_000,
            controlling: Some(99),
            controlled: None,
            use_candidate,
        };
        let len = stun::write_binding_request(&mut out, &request, &self.key).unwrap();
        out[..len].to_vec()
    }

    pub fn check(&self, world: &mut World, use_candidate: bool) {
        world.handle(self.remote, &self.request(use_candidate));
    }

    pub fn sealed(
        &mut self,
        fields: &Fields,
        index: ExtSeq,
        extensions: &[(u8, &[u8])],
        payload: &[u8],
    ) -> Vec<u8> {
        let mut slot = vec![0; 2_048];
        self.twcc = self.twcc.wrapping_add(1);
        let twcc = self.twcc.to_be_bytes();
        let mut extensions = extensions.to_vec();
        extensions.push((TWCC, &twcc));
        let header = write_header(&mut slot, fields, &extensions).unwrap();
        let len = self
            .sealer
            .seal_rtp(&mut slot, header, 0, payload, index.roc())
            .unwrap();
        slot.truncate(len);
        slot
    }

    /// A voice's packet in cycle 0 that names contributing sources, and nothing else.
    pub fn with_csrcs(&mut self, ssrc: Ssrc, seq: SeqNo, csrcs: &[u32], payload: &[u8]) -> Vec<u8> {
        let fields = Fields {
            marker: false,
            padding: false,
            payload_type: 111,
            seq,
            timestamp: Timestamp(0),
            ssrc,
        };
        let mut slot = vec![0; 2_048];
        let mut header = write_header(&mut slot, &fields, &[]).unwrap();
        slot[0] |= csrcs.len() as u8;
        for csrc in csrcs {
            slot[header..header + 4].copy_from_slice(&csrc.to_be_bytes());
            header += 4;
        }
        let len = self
            .sealer
            .seal_rtp(&mut slot, header, 0, payload, 0)
            .unwrap();
        slot.truncate(len);
        slot
    }

    /// Sends one packet of `source`; returns its datagram, for those who want to send it again.
    pub fn send(
        &mut self,
        world: &mut World,
        source: &mut Source,
        payload: &[u8],
        marker: bool,
    ) -> Vec<u8> {
        let datagram = source.next(self, payload, marker);
        world.handle(self.remote, &datagram);
        datagram
    }

    /// Any bytes as a packet of which the first `header` are its header, sealed and not sent yet.
    pub fn sealed_raw(&mut self, plain: &[u8], header: usize, index: ExtSeq) -> Vec<u8> {
        let mut slot = vec![0; 2_048];
        slot[..header].copy_from_slice(&plain[..header]);
        let len = self
            .sealer
            .seal_rtp(&mut slot, header, 0, &plain[header..], index.roc())
            .unwrap();
        slot.truncate(len);
        slot
    }

    pub fn send_rtcp(&mut self, world: &mut World, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let datagram = self.sealed_rtcp(write);
        world.handle(self.remote, &datagram);
    }

    /// A compound, sealed and not sent yet.
    pub fn sealed_rtcp(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
        let mut slot = vec![0; 2_048];
        let plain = write(&mut slot).unwrap();
        let len = self
            .sealer
            .seal_rtcp(&mut slot, plain, self.rtcp_index)
            .unwrap();
        self.rtcp_index += 1;
        slot.truncate(len);
        slot
    }

    /// Receiver Estimated Maximum Bitrate: his link carries `bps` and no more.
    pub fn remb(&mut self, world: &mut World, bps: u64) {
        self.send_rtcp(world, |slot| write_remb(slot, bps));
    }

    pub fn nack(&mut self, world: &mut World, media: u32, lost: &[u16]) {
        let lost: Vec<SeqNo> = lost.iter().map(|&n| SeqNo(n)).collect();
        self.send_rtcp(world, |slot| {
            rtcp::write_nack(slot, Ssrc(1), Ssrc(media), &lost)
        });
    }

    pub fn pli(&mut self, world: &mut World, media: u32) {
        self.send_rtcp(world, |slot| rtcp::write_pli(slot, Ssrc(1), Ssrc(media)));
    }

    /// Everything that has left for this client since the last call, opened. No SRTP index may come twice.
    pub fn got(&mut self, world: &mut World) -> Vec<Got> {
        let (mine, others) = std::mem::take(&mut world.kept.datagrams)
            .into_iter()
            .partition(|(_, to, _)| *to == self.remote);
        world.kept.datagrams = others;
        let mine: Vec<(SocketAddr, SocketAddr, Vec<u8>)> = mine;
        mine.into_iter()
            .map(|(_, _, datagram)| self.open(datagram))
            .collect()
    }

    fn open(&mut self, mut datagram: Vec<u8>) -> Got {
        match datagram.as_slice() {
            [128..=191, 192..=223, ..] => {
                let (len, _) = self.opener.open_rtcp(&mut datagram).unwrap();
                datagram.truncate(len);
                Got::Rtcp(datagram)
            }
            [128..=191, ..] => {
                let header = Header::parse(&datagram).unwrap();
                let index = match self.received.get(&header.ssrc.0) {
                    None => ExtSeq(u64::from(header.seq.0)),
                    Some(highest) => ExtSeq(
                        highest
                            .0
                            .wrapping_add_signed(i64::from(header.seq.since(highest.seq()))),
                    ),
                };
                let len = self
                    .opener
                    .open_rtp(&mut datagram, header.len, index)
                    .unwrap();
                datagram.truncate(len);
                let highest = self.received.entry(header.ssrc.0).or_insert(index);
                *highest = index.max(*highest);
                assert!(
                    self.seen.insert((header.ssrc.0, index.0), ()).is_none(),
                    "index {index:?} sealed twice"
                );
                let payload = header.payload(&datagram).unwrap();
                Got::Rtp {
                    header,
                    payload: datagram[payload].to_vec(),
                    packet: datagram,
                }
            }
            _ => Got::Other,
        }
    }

    /// The RTP packets among them.
    pub fn media(&mut self, world: &mut World) -> Vec<(Header, Vec<u8>)> {
        self.got(world)
            .into_iter()
            .filter_map(|got| match got {
                Got::Rtp {
                    header, payload, ..
                } => Some((header, payload)),
                _ => None,
            })
            .collect()
    }

    /// How many keyframe requests, and which numbers were asked for again, per SSRC.
    pub fn asked(&mut self, world: &mut World) -> (Vec<u32>, Vec<(u32, u16)>) {
        let (mut plis, mut nacks) = (Vec::new(), Vec::new());
        for got in self.got(world) {
            let Got::Rtcp(compound) = got else { continue };
            for packet in rtcp::Compound::parse(&compound).unwrap() {
                match packet {
                    rtcp::Packet::Pli { media, .. } => plis.push(media.0),
                    rtcp::Packet::Nack { media, lost, .. } => {
                        nacks.extend(lost.map(|seq| (media.0, seq.0)))
                    }
                    _ => {}
                }
            }
        }
        (plis, nacks)
    }
}

/// draft-alvestrand-rmcat-remb-03 §2.2, about no stream by name.
fn write_remb(slot: &mut [u8], bps: u64) -> Option<usize> {
    let exponent = (64 - bps.leading_zeros()).saturating_sub(18);
    let mantissa = (bps >> exponent) as u32;
    let packet = slot.get_mut(..20)?;
    packet[..12].copy_from_slice(&[0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0]);
    packet[12..16].copy_from_slice(b"REMB");
    packet[16..].copy_from_slice(&(exponent << 18 | mantissa).to_be_bytes());
    Some(20)
}

/// One stream as a client sends it.
pub struct Source {
    pub ssrc: u32,
    pub payload_type: u8,
    /// The next packet's.
    pub seq: ExtSeq,
    pub timestamp: u32,
    pub mid: Option<String>,
    pub rid: Option<String>,
    pub repaired_rid: Option<String>,
    pub level: Option<u8>,
    /// The bytes of a dependency descriptor; none: no descriptor.
    pub dependency: Vec<u8>,
}

impl Source {
    pub fn new(ssrc: u32, payload_type: u8, start: u16) -> Self {
        Self {
            ssrc,
            payload_type,
            seq: ExtSeq(u64::from(start)),
            timestamp: 1_000,
            mid: None,
            rid: None,
            repaired_rid: None,
            level: None,
            dependency: Vec::new(),
        }
    }

    pub fn mid(mut self, mid: &str) -> Self {
        self.mid = Some(mid.into());
        self
    }
    pub fn rid(mut self, rid: &str) -> Self {
        self.rid = Some(rid.into());
        self
    }
    pub fn repaired_rid(mut self, rid: &str) -> Self {
        self.repaired_rid = Some(rid.into());
        self
    }

    /// The next packet, sealed and not sent yet.
    pub fn next(&mut self, client: &mut Client, payload: &[u8], marker: bool) -> Vec<u8> {
        let fields = Fields {
            marker,
            padding: false,
            payload_type: self.payload_type,
            seq: self.seq.seq(),
            timestamp: Timestamp(self.timestamp),
            ssrc: Ssrc(self.ssrc),
        };
        let level = self.level.map(|level| [level]);
        let mut extensions: Vec<(u8, &[u8])> = Vec::new();
        for (id, label) in [
            (MID, &self.mid),
            (RID, &self.rid),
            (RRID, &self.repaired_rid),
        ] {
            if let Some(label) = label {
                extensions.push((id, label.as_bytes()));
            }
        }
        if let Some(level) = &level {
            extensions.push((LEVEL, level));
        }
        if !self.dependency.is_empty() {
            extensions.push((DEPENDENCY, &self.dependency));
        }
        let datagram = client.sealed(&fields, self.seq, &extensions, payload);
        self.seq = self.seq.next();
        datagram
    }
}

/// A VP8 packet: picture id, TL0PICIDX, temporal layer, keyframe or not; `body` follows.
pub fn vp8(picture: u16, tl0: u8, tid: u8, keyframe: bool, body: &[u8]) -> Vec<u8> {
    let descriptor = vp8::Descriptor {
        len: 0,
        non_reference: false,
        start_of_partition: true,
        partition: 0,
        picture_id: Some(picture & 0x7fff),
        long_picture_id: true,
        tl0_pic_idx: Some(tl0),
        tid: Some(tid),
        layer_sync: tid > 0,
        key_idx: None,
        keyframe,
    };
    let mut out = vec![0; vp8::MAX_DESCRIPTOR];
    let len = descriptor.write(&mut out).unwrap();
    out.truncate(len);
    // Frame tag (RFC 6386 §9.1): bit 0 is zero for a keyframe; a keyframe goes on with its start code and dimensions.
    out.push(u8::from(!keyframe));
    out.extend([0, 0]);
    if keyframe {
        out.extend([0x9d, 0x01, 0x2a, 64, 1, 240, 0]);
    }
    out.extend_from_slice(body);
    out
}

pub fn opus(body: u8) -> Vec<u8> {
    vec![0x78, body, body, body]
}

/// A STAP-A with SPS and PPS.
pub fn h264_keyframe() -> Vec<u8> {
    let (sps, pps) = ([0x67, 0x42, 0xe0, 0x1f], [0x68, 0xce, 0x3c, 0x80]);
    let mut out = vec![0x78];
    for nal in [sps, pps] {
        out.extend([0, 4]);
        out.extend(nal);
    }
    out
}

/// One slice: of an IDR picture, or of another.
pub fn h264_slice(idr: bool, body: u8) -> Vec<u8> {
    vec![if idr { 0x65 } else { 0x41 }, 0x88, body, body]
}
