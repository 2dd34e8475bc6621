//! The engine as the second subject: a worker of its own, one publisher and N subscribers, keys given as every test in
//! virtual time gives them, by the command that DTLS leads to. Everything that a worker does in use is on: NACK, cache,
//! transport-wide feedback, reports, statistics.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use d4e_engine::api::{
    Codec, Command, Encoding, Extension, Profile, PublicationSpec, SubscriptionSpec,
};
use d4e_engine::driver::Worker;
use d4e_engine::wire::packet::{Fields, write_header};
use d4e_engine::wire::seq::{ExtSeq, Ssrc, Timestamp};
use d4e_engine::wire::srtp::{self, Sealer};
use d4e_engine::wire::stun::{BindingRequest, IntegrityKey, write_binding_request};

use crate::measure::{self, BURST, Load, Subject, Targets};
use crate::smallest::HEADER;

const THREAD: &str = "engine";
/// The publisher's transport; the subscribers' follow.
const PUBLISHER: u32 = 0;
/// Datagrams from here on are voice.
const VOICE: usize = 200;

pub struct Engine<'a> {
    load: Load,
    targets: &'a Targets,
    socket: UdpSocket,
    worker: Worker,
    sealer: Sealer,
    payload: Vec<u8>,
    seq: ExtSeq,
    stayed: Instant,
}

impl<'a> Engine<'a> {
    pub fn start(load: Load, targets: &'a Targets, publisher: &UdpSocket) -> Self {
        let socket = measure::bind((Ipv4Addr::LOCALHOST, 0).into());
        let fd = socket.as_raw_fd();
        measure::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
        measure::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20);
        let worker = Worker::start(&[fd], THREAD).expect("worker");
        let (profile, key) = keys(load.gcm);
        let sealer = Sealer::new(profile, &key).expect("key");
        let engine = Self {
            load,
            targets,
            socket,
            worker,
            sealer,
            // A VP8 descriptor and a keyframe's first bytes are written into it.
            payload: vec![0x5a; load.payload(HEADER)],
            seq: ExtSeq(1),
            stayed: Instant::now(),
        };
        let transports = 0..=load.subscribers as u32;
        engine
            .worker
            .submit(transports.flat_map(|id| engine.join(id)).collect());
        engine.check(publisher);
        engine.worker.submit(engine.publish());
        engine
    }

    /// Ends the worker, and returns how many datagrams it has forwarded.
    pub fn stop(mut self) -> u64 {
        std::thread::sleep(Duration::from_millis(600)); // A snapshot is up to 250 ms old.
        let mut packets = 0;
        self.worker.snapshot().router.counters.each(|name, value| {
            if name == "packets_sent_video" || name == "packets_sent_audio" {
                packets += value;
            }
        });
        self.worker.stop();
        packets
    }

    fn join(&self, id: u32) -> Vec<Command> {
        let (local_ufrag, local_pwd) = names(id);
        let (_, key) = keys(self.load.gcm);
        let profile = if self.load.gcm {
            Profile::AeadAes128Gcm
        } else {
            Profile::Aes128CmHmacSha1_80
        };
        vec![
            Command::AddTransport {
                transport: id,
                local_ufrag,
                local_pwd,
                remote_ufrag: "them".into(),
                remote_pwd: String::new(),
                may_publish: id == PUBLISHER,
                start_bitrate: 600_000,
            },
            Command::SetExtensions {
                transport: id,
                extensions: vec![
                    (Extension::Mid, 1),
                    (Extension::TransportWideCc, 3),
                    (Extension::AudioLevel, 4),
                ],
                allow_mixed: false,
            },
            Command::SetKeys {
                transport: id,
                profile,
                receive: key.clone(),
                send: key,
            },
        ]
    }

    fn publish(&self) -> Vec<Command> {
        let voice = self.voice();
        let spec = PublicationSpec {
            codec: if voice { Codec::Opus } else { Codec::Vp8 },
            mid: "0".into(),
            payload_type: 96,
            rtx_payload_type: (!voice).then_some(97),
            red_payload_type: None,
            event_payload_type: None,
            encodings: vec![Encoding {
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
            }],
            max_bitrate: u32::MAX,
            nack: true,
        };
        let add = Command::AddPublication {
            publication: 1,
            transport: PUBLISHER,
            spec,
        };
        let subscriptions = (1..=self.load.subscribers as u32).map(|id| Command::AddSubscription {
            subscription: id,
            publication: 1,
            transport: id,
            spec: SubscriptionSpec {
                mid: "0".into(),
                payload_type: 96,
                rtx_payload_type: (!voice).then_some(97),
                red_payload_type: None,
                event_payload_type: None,
                ssrc: 1_000 + id,
                rtx_ssrc: (!voice).then_some(100_000 + id),
                cname: "publisher".into(),
                spatial: Some(0),
                temporal: 255,
                transport_wide: true,
            },
        });
        std::iter::once(add).chain(subscriptions).collect()
    }

    /// Everybody's connectivity check, each from his own address.
    fn check(&self, publisher: &UdpSocket) {
        let server = self.socket.local_addr().expect("address");
        publisher
            .send_to(&request(PUBLISHER), server)
            .expect("check");
        for n in 0..self.load.subscribers {
            let from = measure::bind(self.targets.address(n).into());
            from.send_to(&request(n as u32 + 1), server).expect("check");
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    fn voice(&self) -> bool {
        self.load.size < VOICE
    }
}

impl Subject for Engine<'_> {
    fn socket(&self) -> &UdpSocket {
        &self.socket
    }
    fn thread(&self) -> &str {
        THREAD
    }

    /// A VP8 packet, one frame per burst, the first of all a keyframe; or one of Opus.
    fn packet(&mut self, slot: &mut [u8]) -> usize {
        let (voice, seq) = (self.voice(), self.seq);
        self.seq = seq.next();
        let (frame, place) = (seq.0 / BURST as u64, seq.0 % BURST as u64);
        let fields = Fields {
            marker: !voice && place == BURST as u64 - 1,
            padding: false,
            payload_type: 96,
            seq: seq.seq(),
            timestamp: Timestamp(if voice { seq.0 * 960 } else { frame * 3_000 } as u32),
            ssrc: Ssrc(77),
        };
        let wide = (seq.0 as u16).to_be_bytes();
        let level: &[(u8, &[u8])] = &[(1, b"0"), (3, &wide), (4, &[0x30])];
        let header =
            write_header(slot, &fields, if voice { level } else { &level[..2] }).expect("header");
        if !voice {
            let [high, low] = (frame as u16 & 0x7fff | 0x8000).to_be_bytes();
            let start = if seq.0 == 1 || place == 0 { 0x90 } else { 0x80 };
            // X, I, L, T: picture id of 15 bits, TL0PICIDX, TID (RFC 7741 §4.2); then the frame tag.
            let tag = u8::from(seq.0 > 1);
            self.payload[..10].copy_from_slice(&[
                start,
                0xe0,
                high,
                low,
                frame as u8,
                0,
                tag,
                0,
                0,
                0x9d,
            ]);
            self.payload[10..16].copy_from_slice(&[0x01, 0x2a, 0, 5, 0xd0, 2]);
        }
        self.sealer
            .seal_rtp(slot, header, 0, &self.payload, seq.roc())
            .expect("seal")
    }

    fn stay(&mut self, publisher: &UdpSocket) {
        // Clients check every 2.5 s or so.
        if self.stayed.elapsed() > Duration::from_secs(3) {
            self.stayed = Instant::now();
            self.check(publisher);
        }
    }
}

fn keys(gcm: bool) -> (srtp::Profile, Vec<u8>) {
    if gcm {
        (srtp::Profile::AeadAes128Gcm, vec![7; 28])
    } else {
        (srtp::Profile::Aes128CmHmacSha1_80, vec![7; 30])
    }
}

fn names(id: u32) -> (String, String) {
    (
        format!("ufrag{id}"),
        format!("password-of-transport-{id:06}"),
    )
}

fn request(id: u32) -> Vec<u8> {
    let (ufrag, password) = names(id);
    let mut out = vec![0; 256];
    let request = BindingRequest {
        transaction: [1; 12],
        username: &format!("{ufrag}:them"),
        priority: 1,
        controlling: Some(1),
        controlled: None,
        use_candidate: true,
    };
    let len =
        write_binding_request(&mut out, &request, &IntegrityKey::new(&password)).expect("request");
    out.truncate(len);
    out
}
