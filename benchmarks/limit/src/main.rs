//! The limit: one publisher's packets received, opened, and sealed for N subscribers, with the cipher calls and the
//! system calls of the engine's worker and nothing else: no tables, no cache, no NACK, no statistics, no timers.
//!
//! `limit --subscribers 100 --size 1100 --profile gcm --seconds 2 [--repeat 5]` prints one JSON line:
//! CPU nanoseconds (system time included) per outgoing packet, one value per repetition.
//!
//! The targets are bound sockets that nobody reads, on 127.1.0.1; the kernel's receive path runs in the sender's time.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BATCH: usize = 64;
const SLOT: usize = 1500;
/// Fixed header (12) and one extension block of 8 bytes, as the engine sends.
const HEADER: usize = 20;

enum Key {
    Gcm(LessSafeKey),
    Cm(EncryptingKey, hmac::Key),
}

impl Key {
    fn new(gcm: bool, seed: u8) -> Self {
        if gcm {
            Self::Gcm(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[seed; 16]).expect("key")))
        } else {
            let cipher = UnboundCipherKey::new(&AES_128, &[seed; 16]).expect("key");
            let tag = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[seed; 20]);
            Self::Cm(EncryptingKey::ctr(cipher).expect("ctr"), tag)
        }
    }

    /// `slot[..HEADER]` is written; the payload is read from the ring. Returns the datagram's length.
    fn seal(&self, slot: &mut [u8], payload: &[u8], index: u64) -> usize {
        let mut iv = [0u8; 16];
        iv[4..12].copy_from_slice(&index.to_be_bytes());
        let end = HEADER + payload.len();
        match self {
            Self::Gcm(key) => {
                let nonce = Nonce::assume_unique_for_key(iv[..12].try_into().expect("12 bytes"));
                let (header, rest) = slot.split_at_mut(HEADER);
                let (out, tag) = rest.split_at_mut(payload.len());
                key.seal_out_of_place_scatter(nonce, Aad::from(&*header), payload, out, &[], &mut tag[..16])
                    .expect("seal");
                end + 16
            }
            Self::Cm(key, mac) => {
                slot[HEADER..end].copy_from_slice(payload);
                key.less_safe_encrypt(&mut slot[HEADER..end], EncryptionContext::Iv128(FixedLength::from(iv)))
                    .expect("encrypt");
                let mut context = hmac::Context::with_key(mac);
                context.update(&slot[..end]);
                context.update(&0u32.to_be_bytes());
                slot[end..end + 10].copy_from_slice(&context.sign().as_ref()[..10]);
                end + 10
            }
        }
    }

    fn open(&self, packet: &mut [u8], index: u64) {
        let mut iv = [0u8; 16];
        iv[4..12].copy_from_slice(&index.to_be_bytes());
        match self {
            Self::Gcm(key) => {
                let nonce = Nonce::assume_unique_for_key(iv[..12].try_into().expect("12 bytes"));
                let (header, rest) = packet.split_at_mut(HEADER);
                key.open_in_place(nonce, Aad::from(&*header), rest).expect("open");
            }
            Self::Cm(key, mac) => {
                let (signed, tag) = packet.split_at_mut(packet.len() - 10);
                let mut context = hmac::Context::with_key(mac);
                context.update(signed);
                context.update(&0u32.to_be_bytes());
                assert_eq!(&context.sign().as_ref()[..10], tag);
                key.less_safe_encrypt(&mut signed[HEADER..], EncryptionContext::Iv128(FixedLength::from(iv)))
                    .expect("decrypt");
            }
        }
    }
}

fn thread_cpu() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn set(fd: i32, level: i32, name: i32, value: i32) {
    let size = size_of::<i32>() as u32;
    unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
}

struct Arguments {
    subscribers: usize,
    size: usize,
    gcm: bool,
    seconds: f64,
    repeat: usize,
}

fn arguments() -> Arguments {
    let mut a = Arguments { subscribers: 100, size: 1100, gcm: true, seconds: 1.0, repeat: 5 };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().unwrap_or_default();
        match name.as_str() {
            "--subscribers" => a.subscribers = value.parse().expect("--subscribers N"),
            "--size" => a.size = value.parse().expect("--size BYTES"),
            "--profile" => a.gcm = value == "gcm",
            "--seconds" => a.seconds = value.parse().expect("--seconds S"),
            "--repeat" => a.repeat = value.parse().expect("--repeat N"),
            _ => panic!("unknown argument {name}"),
        }
    }
    a
}

fn main() {
    let a = arguments();
    let payload_len = a.size - HEADER;
    let sinks: Vec<UdpSocket> = (0..a.subscribers)
        .map(|_| {
            let sink = UdpSocket::bind("127.1.0.1:0").expect("sink");
            set(sink.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4096);
            sink
        })
        .collect();
    let socket = UdpSocket::bind("127.1.0.1:0").expect("socket");
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
    set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
    let address = socket.local_addr().expect("address");

    // The publisher: keeps the socket's queue full, in a thread whose time is not counted.
    let done = Arc::new(AtomicBool::new(false));
    let feeder = std::thread::spawn({
        let done = done.clone();
        let gcm = a.gcm;
        move || {
            let out = UdpSocket::bind("127.1.0.1:0").expect("feeder");
            let key = Key::new(gcm, 99);
            let payload = vec![7u8; payload_len];
            let packets: Vec<Vec<u8>> = (0..64u64)
                .map(|i| {
                    let mut slot = vec![0u8; SLOT];
                    slot[12..20].copy_from_slice(&i.to_be_bytes());
                    let n = key.seal(&mut slot, &payload, i);
                    slot.truncate(n);
                    slot
                })
                .collect();
            while !done.load(Ordering::Relaxed) {
                for packet in &packets {
                    let _ = out.send_to(packet, address);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });

    let publisher = Key::new(a.gcm, 99);
    let keys: Vec<Key> = (0..a.subscribers).map(|i| Key::new(a.gcm, i as u8)).collect();
    let mut targets: Vec<libc::sockaddr_in> = sinks
        .iter()
        .map(|sink| {
            let std::net::SocketAddr::V4(to) = sink.local_addr().expect("address") else { unreachable!() };
            sockaddr(to)
        })
        .collect();
    let mut input = vec![0u8; BATCH * SLOT];
    let mut slots = vec![0u8; BATCH * SLOT];
    let mut lengths = [0usize; BATCH];
    let mut owners = [0usize; BATCH];
    let mut values = Vec::new();
    let mut index = 0u64;

    for round in 0..=a.repeat {
        let (start, cpu, mut sent) = (Instant::now(), thread_cpu(), 0u64);
        while start.elapsed().as_secs_f64() < a.seconds {
            let got = receive(socket.as_raw_fd(), &mut input, &mut lengths);
            let mut queued = 0;
            for i in 0..got {
                let packet = &mut input[i * SLOT..i * SLOT + lengths[i]];
                let number = u64::from_be_bytes(packet[12..20].try_into().expect("8 bytes"));
                publisher.open(packet, number);
            }
            // Subscriber by subscriber, as the engine does.
            for (subscriber, key) in keys.iter().enumerate() {
                for i in 0..got {
                    index += 1;
                    let payload = &input[i * SLOT + HEADER..i * SLOT + HEADER + payload_len];
                    let slot = &mut slots[queued * SLOT..(queued + 1) * SLOT];
                    slot[0..2].copy_from_slice(&[0x90, 96]);
                    slot[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                    slot[4..12].copy_from_slice(&index.to_be_bytes());
                    slot[12..20].copy_from_slice(&[0xBE, 0xDE, 0, 1, 0x10, b'0', 0, 0]);
                    let n = key.seal(slot, payload, index);
                    owners[queued] = subscriber;
                    out_len(&mut slots, queued, n);
                    queued += 1;
                    if queued == BATCH {
                        sent += flush(socket.as_raw_fd(), &mut slots, &owners[..queued], &mut targets);
                        queued = 0;
                    }
                }
            }
            if queued > 0 {
                sent += flush(socket.as_raw_fd(), &mut slots, &owners[..queued], &mut targets);
            }
        }
        let used = thread_cpu() - cpu;
        if round > 0 {
            // The first round warms up the caches and fills the sinks.
            values.push(used.as_nanos() as f64 / sent.max(1) as f64);
        }
    }
    done.store(true, Ordering::Relaxed);
    feeder.join().expect("feeder");
    println!(
        "{{\"subscribers\":{},\"size\":{},\"profile\":\"{}\",\"ns_per_packet\":{:?}}}",
        a.subscribers,
        a.size,
        if a.gcm { "gcm" } else { "cm" },
        values
    );
}

fn sockaddr(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// The datagram's length lives in the last two bytes of its slot.
fn out_len(slots: &mut [u8], i: usize, n: usize) {
    slots[(i + 1) * SLOT - 2..(i + 1) * SLOT].copy_from_slice(&(n as u16).to_be_bytes());
}

fn receive(fd: i32, input: &mut [u8], lengths: &mut [usize; BATCH]) -> usize {
    // Bursts of 8 are what an encoder's frame looks like to the worker.
    const BURST: usize = 8;
    let mut iov: [libc::iovec; BURST] = unsafe { std::mem::zeroed() };
    let mut headers: [libc::mmsghdr; BURST] = unsafe { std::mem::zeroed() };
    for i in 0..BURST {
        iov[i] = libc::iovec { iov_base: input[i * SLOT..].as_mut_ptr().cast(), iov_len: SLOT };
        headers[i].msg_hdr.msg_iov = &raw mut iov[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    let flags = libc::MSG_WAITFORONE;
    let got = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), BURST as u32, flags, std::ptr::null_mut()) };
    let got = usize::try_from(got).unwrap_or(0);
    for i in 0..got {
        lengths[i] = headers[i].msg_len as usize;
    }
    got
}

fn flush(fd: i32, slots: &mut [u8], owners: &[usize], targets: &mut [libc::sockaddr_in]) -> u64 {
    let mut iov: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for (i, owner) in owners.iter().enumerate() {
        let end = (i + 1) * SLOT;
        let n = u16::from_be_bytes([slots[end - 2], slots[end - 1]]) as usize;
        iov[i] = libc::iovec { iov_base: slots[i * SLOT..].as_mut_ptr().cast(), iov_len: n };
        let header = &mut headers[i].msg_hdr;
        header.msg_iov = &raw mut iov[i];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut targets[*owner]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    }
    let mut sent = 0;
    while sent < owners.len() {
        let n = unsafe { libc::sendmmsg(fd, headers[sent..].as_mut_ptr(), (owners.len() - sent) as u32, 0) };
        if n <= 0 {
            break;
        }
        sent += n as usize;
    }
    sent as u64
}
