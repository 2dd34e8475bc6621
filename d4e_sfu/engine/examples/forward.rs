//! What one forwarded packet costs a worker, system time included: one publisher, many subscribers behind sockets that
//! nobody reads, packets of 1,100 bytes in bursts as encoders make them. Prints one JSON line.
//!
//!     cargo run --release --example forward -- [subscribers] [seconds] [packets/s] [burst]
//!
//! A quick look while working on the media path; the figure of record comes from `make bench`, whose generator is another
//! process. Keys are given here as they are in every test in virtual time: by the command that DTLS leads to.

use std::net::UdpSocket;
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

type Failure = Box<dyn std::error::Error>;

const PACKET: usize = 1_100;

fn main() -> Result<(), Failure> {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let argument = |at: usize, default: u64| arguments.get(at).copied().unwrap_or(default);
    let (subscribers, seconds, rate, burst) = (
        argument(0, 50) as u32,
        argument(1, 5),
        argument(2, 6_000),
        argument(3, 1),
    );

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let server = socket.local_addr()?;
    let mut worker = Worker::start(&[socket.as_raw_fd()], "bench")?;
    let mut sinks = Vec::new();
    for id in 0..=subscribers {
        let sink = UdpSocket::bind(("127.0.0.1", 0))?;
        join(&worker, id)?;
        std::thread::sleep(Duration::from_millis(2));
        sink.send_to(&check(id)?, server)?;
        sinks.push(sink);
    }
    worker.submit(vec![Command::AddPublication {
        publication: 1,
        transport: 0,
        spec: PublicationSpec {
            codec: Codec::Vp8,
            mid: "0".into(),
            payload_type: 96,
            rtx_payload_type: Some(97),
            encodings: vec![Encoding {
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
            }],
            max_bitrate: u32::MAX,
            nack: false,
        },
    }]);
    worker.submit(
        (1..=subscribers)
            .map(|id| Command::AddSubscription {
                subscription: id,
                publication: 1,
                transport: id,
                spec: SubscriptionSpec {
                    mid: "3".into(),
                    payload_type: 96,
                    rtx_payload_type: Some(97),
                    ssrc: 1_000 + id,
                    rtx_ssrc: Some(100_000 + id),
                    cname: "bench".into(),
                    spatial: Some(0),
                    temporal: 255,
                },
            })
            .collect(),
    );
    std::thread::sleep(Duration::from_millis(300));

    let sealer = Sealer::new(srtp::Profile::AeadAes128Gcm, &[7; 28]).map_err(|_| "key")?;
    let mut seq = ExtSeq(1);
    let mut send = |count: u64| -> Result<(), Failure> {
        for _ in 0..count {
            let datagram = packet(&sealer, seq)?;
            seq = seq.next();
            sinks[0].send_to(&datagram, server)?;
        }
        Ok(())
    };
    send(200)?;
    std::thread::sleep(Duration::from_millis(600));
    let before = worker.snapshot();
    let began = Instant::now();
    let (mut bursts, end) = (0u64, Duration::from_secs(seconds));
    while began.elapsed() < end {
        send(burst)?;
        bursts += 1;
        let next = Duration::from_nanos(bursts * burst * 1_000_000_000 / rate);
        while began.elapsed() < next {
            std::hint::spin_loop();
        }
    }
    let wall = began.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(600));
    let after = worker.snapshot();
    worker.stop();
    let sent = |snapshot: &d4e_engine::driver::WorkerSnapshot| {
        let mut packets = 0;
        snapshot.router.counters.each(|name, value| {
            if name == "packets_sent_video" {
                packets = value;
            }
        });
        packets
    };
    let (packets, cpu) = (
        sent(&after) - sent(&before),
        after.cpu_seconds - before.cpu_seconds,
    );
    println!(
        "{{\"subscribers\":{subscribers},\"burst\":{burst},\"packets\":{packets},\"us_per_packet\":{:.3},\"busy\":{:.2}}}",
        cpu * 1e6 / packets.max(1) as f64,
        cpu / wall,
    );
    Ok(())
}

fn names(id: u32) -> (String, String) {
    (
        format!("ufrag{id}"),
        format!("password-of-transport-{id:06}"),
    )
}

fn join(worker: &Worker, id: u32) -> Result<(), Failure> {
    let (local_ufrag, local_pwd) = names(id);
    worker.submit(vec![
        Command::AddTransport {
            transport: id,
            local_ufrag,
            local_pwd,
            remote_ufrag: "them".into(),
            may_publish: true,
        },
        Command::SetExtensions {
            transport: id,
            extensions: vec![(Extension::Mid, 1)],
            allow_mixed: false,
        },
        Command::SetKeys {
            transport: id,
            profile: Profile::AeadAes128Gcm,
            receive: vec![7; 28],
            send: vec![id as u8; 28],
        },
    ]);
    Ok(())
}

fn check(id: u32) -> Result<Vec<u8>, Failure> {
    let (ufrag, password) = names(id);
    let mut out = vec![0; 256];
    let request = BindingRequest {
        transaction: [1; 12],
        username: &format!("{ufrag}:them"),
        priority: 1,
        controlling: Some(1),
        use_candidate: true,
    };
    let len = write_binding_request(&mut out, &request, &IntegrityKey::new(&password))
        .ok_or("request")?;
    out.truncate(len);
    Ok(out)
}

/// A VP8 packet; the first one of all starts a keyframe.
fn packet(sealer: &Sealer, seq: ExtSeq) -> Result<Vec<u8>, Failure> {
    let mut slot = vec![0; 2_048];
    let fields = Fields {
        marker: true,
        padding: false,
        payload_type: 96,
        seq: seq.seq(),
        timestamp: Timestamp((seq.0 * 360) as u32),
        ssrc: Ssrc(77),
    };
    let header = write_header(&mut slot, &fields, &[(1, b"0")]).ok_or("header")?;
    let mut payload = vec![0x5a; PACKET - header - 16];
    let id = (seq.0 as u16 & 0x7fff) | 0x8000;
    let [high, low] = id.to_be_bytes();
    // X, I, L, T: picture id of 15 bits, TL0PICIDX, TID (RFC 7741 §4.2); then the frame tag.
    payload[..10].copy_from_slice(&[
        0x90,
        0xe0,
        high,
        low,
        seq.0 as u8,
        0x00,
        u8::from(seq.0 > 1),
        0,
        0,
        0x9d,
    ]);
    payload[10..16].copy_from_slice(&[0x01, 0x2a, 0, 5, 0xd0, 2]);
    let len = sealer
        .seal_rtp(&mut slot, header, 0, &payload, seq.roc())
        .ok_or("seal")?;
    slot.truncate(len);
    Ok(slot)
}
