//! The limit: packets of one publisher received, opened, and sealed for N subscribers, with the cipher calls and the system
//! calls of the engine's worker and nothing else: no tables, no cache, no repairs, no statistics, no timers, no switches.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::thread::JoinHandle;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use d4e_engine::wire::cm::{CounterMode, Mac};

use crate::measure::{self, Load, SLOT, Subject, Targets};

/// Datagrams per system call, as the engine has it.
const BATCH: usize = 64;
/// Fixed header (12 bytes) and one block of extensions with the MID, as the engine writes it for a subscriber.
pub const HEADER: usize = 20;
const EXTENSIONS: [u8; 8] = [0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0];
const THREAD: &str = "smallest";

pub struct Smallest {
    socket: UdpSocket,
    publisher: Key,
    payload: Vec<u8>,
    seq: u16,
    thread: Option<JoinHandle<u64>>,
}

impl Smallest {
    pub fn start(load: Load, targets: &Targets) -> Self {
        let socket = measure::bind((Ipv4Addr::LOCALHOST, 0).into());
        let fd = socket.as_raw_fd();
        measure::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
        measure::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20);
        measure::set(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        );
        let subscribers = (0..load.subscribers)
            .map(|n| Subscriber {
                key: Key::new(load.gcm, n as u8),
                ssrc: 1_000 + n as u32,
                index: n as u64,
                to: measure::sockaddr(targets.address(n)),
            })
            .collect();
        let thread = std::thread::Builder::new()
            .name(THREAD.into())
            .spawn({
                let (socket, publisher) =
                    (socket.try_clone().expect("socket"), Key::new(load.gcm, 99));
                move || forward(socket.as_raw_fd(), &publisher, subscribers)
            })
            .expect("thread");
        Self {
            socket,
            publisher: Key::new(load.gcm, 99),
            payload: vec![7; load.payload(HEADER)],
            seq: 0,
            thread: Some(thread),
        }
    }

    /// Ends the loop and returns how many datagrams the kernel took.
    pub fn stop(mut self, publisher: &UdpSocket) -> u64 {
        publisher
            .send_to(&[], self.socket.local_addr().expect("address"))
            .expect("end");
        self.thread
            .take()
            .map_or(0, |thread| thread.join().expect("limit"))
    }
}

impl Subject for Smallest {
    fn socket(&self) -> &UdpSocket {
        &self.socket
    }
    fn thread(&self) -> &str {
        THREAD
    }
    fn packet(&mut self, slot: &mut [u8]) -> usize {
        self.seq = self.seq.wrapping_add(1);
        write_header(slot, 96, u64::from(self.seq), 77);
        self.publisher
            .seal(slot, &self.payload, 77, self.seq.into())
    }
}

struct Subscriber {
    key: Key,
    ssrc: u32,
    index: u64,
    to: libc::sockaddr_in,
}

/// The loop itself. An empty datagram ends it.
fn forward(socket: RawFd, publisher: &Key, mut subscribers: Vec<Subscriber>) -> u64 {
    let mut incoming = Batch::new();
    let mut outgoing = Batch::new();
    let mut sent = 0;
    loop {
        let got = incoming.receive(socket);
        for n in 0..got {
            let packet = incoming.datagram(n);
            if packet.is_empty() {
                return sent;
            }
            let index = u16::from_be_bytes([packet[2], packet[3]]);
            publisher.open(packet, 77, index.into());
        }
        let tag = publisher.tag();
        // Subscriber by subscriber, slots back to back, as the engine does.
        let mut used = 0;
        for subscriber in &mut subscribers {
            for n in 0..got {
                let packet = incoming.datagram(n);
                let payload = &packet[HEADER..packet.len() - tag];
                subscriber.index += 1;
                let slot = &mut outgoing.bytes[used..];
                write_header(slot, 97, subscriber.index, subscriber.ssrc);
                let len = subscriber
                    .key
                    .seal(slot, payload, subscriber.ssrc, subscriber.index);
                outgoing.set(used, len, &mut subscriber.to);
                used += len;
                if outgoing.count == BATCH {
                    sent += outgoing.send(socket);
                    used = 0;
                }
            }
        }
        sent += outgoing.send(socket);
    }
}

fn write_header(slot: &mut [u8], payload_type: u8, index: u64, ssrc: u32) {
    slot[..2].copy_from_slice(&[0x90, payload_type]);
    slot[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    slot[4..8].copy_from_slice(&(index as u32).to_be_bytes());
    slot[8..12].copy_from_slice(&ssrc.to_be_bytes());
    slot[12..HEADER].copy_from_slice(&EXTENSIONS);
}

/// Session keys of one direction, through the library calls that `wire/srtp.rs` makes.
// One of each per subscriber, read for every packet.
#[allow(clippy::large_enum_variant)]
enum Key {
    Gcm(LessSafeKey),
    Cm(CounterMode, Mac),
}

impl Key {
    fn new(gcm: bool, seed: u8) -> Self {
        if gcm {
            Self::Gcm(LessSafeKey::new(
                UnboundKey::new(&AES_128_GCM, &[seed; 16]).expect("key"),
            ))
        } else {
            Self::Cm(
                CounterMode::new(&[seed; 16]).expect("key"),
                Mac::new(&[seed; 20]).expect("key"),
            )
        }
    }

    fn tag(&self) -> usize {
        match self {
            Self::Gcm(_) => 16,
            Self::Cm(..) => 10,
        }
    }

    /// The header is in the slot; the payload is read where it lies. Returns the datagram's length.
    fn seal(&self, slot: &mut [u8], payload: &[u8], ssrc: u32, index: u64) -> usize {
        let end = HEADER + payload.len();
        match self {
            Self::Gcm(key) => {
                let (header, rest) = slot.split_at_mut(HEADER);
                let (out, tag) = rest.split_at_mut(payload.len());
                key.seal_out_of_place_scatter(
                    nonce(ssrc, index),
                    Aad::from(&*header),
                    payload,
                    out,
                    &[],
                    &mut tag[..16],
                )
                .expect("seal");
                end + 16
            }
            Self::Cm(key, auth) => {
                let (packet, tag) = slot.split_at_mut(end);
                key.stream(iv(ssrc, index))
                    .apply_between(payload, &mut packet[HEADER..])
                    .expect("encrypt");
                tag[..10].copy_from_slice(&auth.sign(packet, &roc(index)).expect("sign")[..10]);
                end + 10
            }
        }
    }

    fn open(&self, packet: &mut [u8], ssrc: u32, index: u64) {
        match self {
            Self::Gcm(key) => {
                let (header, rest) = packet.split_at_mut(HEADER);
                key.open_in_place(nonce(ssrc, index), Aad::from(&*header), rest)
                    .expect("open");
            }
            Self::Cm(key, auth) => {
                let (signed, tag) = packet.split_at_mut(packet.len() - 10);
                assert_eq!(
                    &auth.sign(signed, &roc(index)).expect("sign")[..10],
                    tag,
                    "open"
                );
                key.stream(iv(ssrc, index)).apply(&mut signed[HEADER..]);
            }
        }
    }
}

fn nonce(ssrc: u32, index: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    Nonce::assume_unique_for_key(nonce)
}

fn iv(ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
    iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
    iv
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// Datagrams for one system call.
struct Batch {
    bytes: Box<[u8]>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    count: usize,
}

impl Batch {
    fn new() -> Self {
        // SAFETY: plain C structures, for which zeros are valid.
        let (mut headers, mut vectors): (Box<[libc::mmsghdr]>, Box<[libc::iovec]>) = unsafe {
            (
                (0..BATCH).map(|_| std::mem::zeroed()).collect(),
                (0..BATCH).map(|_| std::mem::zeroed()).collect(),
            )
        };
        let mut bytes = vec![0; BATCH * SLOT].into_boxed_slice();
        for n in 0..BATCH {
            vectors[n] = libc::iovec {
                iov_base: bytes[n * SLOT..].as_mut_ptr().cast(),
                iov_len: SLOT,
            };
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
        }
        Self {
            bytes,
            headers,
            vectors,
            count: 0,
        }
    }

    /// Waits for one datagram and takes what else is there.
    fn receive(&mut self, socket: RawFd) -> usize {
        // SAFETY: every header points to a live buffer of SLOT bytes.
        let got = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(
                socket,
                headers,
                BATCH as u32,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(got).unwrap_or_else(|_| panic!("receive: {}", io::Error::last_os_error()))
    }

    fn datagram(&mut self, n: usize) -> &mut [u8] {
        &mut self.bytes[n * SLOT..][..self.headers[n].msg_len as usize]
    }

    fn set(&mut self, at: usize, len: usize, to: &mut libc::sockaddr_in) {
        let n = self.count;
        self.vectors[n] = libc::iovec {
            iov_base: self.bytes[at..].as_mut_ptr().cast(),
            iov_len: len,
        };
        self.headers[n].msg_hdr.msg_name = (&raw mut *to).cast();
        self.headers[n].msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        self.count += 1;
    }

    fn send(&mut self, socket: RawFd) -> u64 {
        let (mut sent, count) = (0, std::mem::take(&mut self.count));
        while sent < count {
            // SAFETY: the headers up to `count` were set since the last call, and their addresses outlive it.
            let n = unsafe {
                libc::sendmmsg(
                    socket,
                    self.headers[sent..].as_mut_ptr(),
                    (count - sent) as u32,
                    0,
                )
            };
            assert!(n > 0, "send: {}", io::Error::last_os_error());
            sent += n as usize;
        }
        count as u64
    }
}
