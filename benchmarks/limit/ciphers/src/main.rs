//! Which library the engine's ciphers should come from: each seals the same packet (header in the slot, payload read where it
//! lies) through the calls that the engine would make, with keys that are set up once, a hundred of them in rotation. Prints
//! one JSON line per profile, size and library: CPU nanoseconds per packet, one value per round; the libraries take turns.
//!
//! Every library must write the same bytes, or nothing is printed.

use std::time::{Duration, Instant};

use aes::Aes128;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, KeyInit};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use ctr::cipher::{InnerIvInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors};
use d4e_engine::wire::cm::{CounterMode, Mac};
use hmac::{Hmac, Mac as _};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use sha1::Sha1;

const KEYS: usize = 100;
const HEADER: usize = 20;
const SIZES: [usize; 2] = [1_100, 120];
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);
const TAG: usize = 10;

/// Seals packet `index` under key `k`: slot (header written), payload. Returns the datagram's length.
type Seal = Box<dyn FnMut(usize, u64, &mut [u8], &[u8]) -> usize>;

fn main() {
    for (profile, overhead) in [("gcm", 16), ("cm", TAG)] {
        for size in SIZES {
            let payload: Vec<u8> = (0..size - HEADER - overhead)
                .map(|n| (n * 7) as u8)
                .collect();
            let mut libraries: Vec<(&str, Seal)> = match profile {
                "gcm" => vec![
                    ("aws-lc", aws_lc_gcm()),
                    ("openssl", openssl_gcm()),
                    ("rustcrypto", rustcrypto_gcm()),
                ],
                _ => vec![
                    ("aws-lc", aws_lc_cm()),
                    ("aws-lc-rs", aws_lc_rs_cm()),
                    ("openssl", openssl_cm()),
                    ("rustcrypto", rustcrypto_cm()),
                ],
            };
            agree(&mut libraries, &payload);
            let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); libraries.len()];
            for _ in 0..ROUNDS {
                for ((_, seal), rounds) in libraries.iter_mut().zip(&mut rounds) {
                    rounds.push(measure(seal, &payload));
                }
            }
            for ((library, _), rounds) in libraries.iter().zip(rounds) {
                println!(
                    "{{\"profile\":\"{profile}\",\"size\":{size},\"library\":\"{library}\",\"ns\":{rounds:.1?}}}"
                );
            }
        }
    }
    eprintln!("{}", openssl::version::version());
}

fn agree(libraries: &mut [(&str, Seal)], payload: &[u8]) {
    let mut first: Option<Vec<u8>> = None;
    for (library, seal) in libraries {
        let mut slot = vec![0x5a; 1_500];
        let len = seal(3, 70_000, &mut slot, payload);
        slot.truncate(len);
        assert_eq!(
            *first.get_or_insert_with(|| slot.clone()),
            slot,
            "{library} writes other bytes"
        );
    }
}

fn measure(seal: &mut Seal, payload: &[u8]) -> f64 {
    let mut slots = vec![0x5a; 64 * 1_500];
    let (began, cpu, mut index) = (Instant::now(), thread_cpu(), 1u64);
    while began.elapsed() < ROUND {
        for _ in 0..256 {
            let at = (index % 64) as usize * 1_500;
            seal(
                index as usize % KEYS,
                index,
                &mut slots[at..at + 1_500],
                payload,
            );
            index += 1;
        }
    }
    (thread_cpu() - cpu).as_nanos() as f64 / (index - 1) as f64
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: time is live.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn key(k: usize) -> [u8; 16] {
    [k as u8 + 1; 16]
}

fn auth(k: usize) -> [u8; 20] {
    [k as u8 + 101; 20]
}

fn nonce(index: u64) -> [u8; 12] {
    let mut nonce = [9; 12];
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    nonce
}

/// RFC 3711 §4.1.1: the counter of a packet's blocks begins at 0.
fn iv(index: u64) -> [u8; 16] {
    let mut iv = [9; 16];
    iv[6..14].copy_from_slice(&index.to_be_bytes());
    iv[14..].fill(0);
    iv
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// What the engine has: `wire/srtp.rs`.
fn aws_lc_gcm() -> Seal {
    let keys: Vec<_> = (0..KEYS)
        .map(|k| LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key(k)).expect("key")))
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (header, rest) = slot.split_at_mut(HEADER);
        let (out, tag) = rest.split_at_mut(payload.len());
        let nonce = Nonce::assume_unique_for_key(nonce(index));
        keys[k]
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(&*header),
                payload,
                out,
                &[],
                &mut tag[..16],
            )
            .expect("seal");
        HEADER + payload.len() + 16
    })
}

fn openssl_gcm() -> Seal {
    let mut keys: Vec<_> = (0..KEYS)
        .map(|k| {
            let mut context = CipherCtx::new().expect("context");
            context
                .encrypt_init(Some(Cipher::aes_128_gcm()), Some(&key(k)), Some(&nonce(0)))
                .expect("key");
            context
        })
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (header, rest) = slot.split_at_mut(HEADER);
        let (out, tag) = rest.split_at_mut(payload.len());
        let context = &mut keys[k];
        context
            .encrypt_init(None, None, Some(&nonce(index)))
            .expect("nonce");
        context.cipher_update(header, None).expect("header");
        context.cipher_update(payload, Some(out)).expect("payload");
        context.cipher_final(&mut []).expect("end");
        context.tag(&mut tag[..16]).expect("tag");
        HEADER + payload.len() + 16
    })
}

fn rustcrypto_gcm() -> Seal {
    let keys: Vec<_> = (0..KEYS).map(|k| Aes128Gcm::new(&key(k).into())).collect();
    Box::new(move |k, index, slot, payload| {
        let (header, rest) = slot.split_at_mut(HEADER);
        let (out, tag) = rest.split_at_mut(payload.len());
        let buffer = InOutBuf::new(payload, out).expect("equal lengths");
        let written = keys[k]
            .encrypt_inout_detached(&nonce(index).into(), header, buffer)
            .expect("seal");
        tag[..16].copy_from_slice(&written);
        HEADER + payload.len() + 16
    })
}

/// The safe calls of the same library: the payload is copied and encrypted in place; a MAC context is made for each packet.
fn aws_lc_rs_cm() -> Seal {
    let keys: Vec<_> = (0..KEYS)
        .map(|k| {
            let cipher = UnboundCipherKey::new(&AES_128, &key(k)).expect("key");
            let mac = aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
            (
                DecryptingKey::ctr(cipher).expect("key"),
                aws_lc_rs::hmac::Key::new(mac, &auth(k)),
            )
        })
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (cipher, mac) = &keys[k];
        let end = HEADER + payload.len();
        slot[HEADER..end].copy_from_slice(payload);
        let context = DecryptionContext::Iv128(FixedLength::from(iv(index)));
        cipher
            .decrypt(&mut slot[HEADER..end], context)
            .expect("encrypt");
        let mut context = aws_lc_rs::hmac::Context::with_key(mac);
        context.update(&slot[..end]);
        context.update(&roc(index));
        slot[end..end + TAG].copy_from_slice(&context.sign().as_ref()[..TAG]);
        end + TAG
    })
}

/// What the engine has, `wire/cm.rs`: the same library's C interface.
fn aws_lc_cm() -> Seal {
    let keys: Vec<_> = (0..KEYS)
        .map(|k| {
            (
                CounterMode::new(&key(k)).expect("key"),
                Mac::new(&auth(k)).expect("key"),
            )
        })
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (cipher, mac) = &keys[k];
        let end = HEADER + payload.len();
        let (packet, tag) = slot.split_at_mut(end);
        cipher
            .stream(iv(index))
            .apply_between(payload, &mut packet[HEADER..])
            .expect("encrypt");
        tag[..TAG].copy_from_slice(&mac.sign(packet, &roc(index)).expect("sign")[..TAG]);
        end + TAG
    })
}

/// SHA-1's own interface with both pads hashed beforehand: the quickest way to a MAC that OpenSSL has.
fn openssl_cm() -> Seal {
    let pad = |k: usize, byte: u8| {
        let mut block = [byte; 64];
        block
            .iter_mut()
            .zip(auth(k))
            .for_each(|(pad, key)| *pad ^= key);
        let mut hash = openssl::sha::Sha1::new();
        hash.update(&block);
        hash
    };
    let mut keys: Vec<_> = (0..KEYS)
        .map(|k| {
            let mut context = CipherCtx::new().expect("context");
            context
                .encrypt_init(Some(Cipher::aes_128_ctr()), Some(&key(k)), Some(&iv(0)))
                .expect("key");
            (context, pad(k, 0x36), pad(k, 0x5c))
        })
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (context, inner, outer) = &mut keys[k];
        let end = HEADER + payload.len();
        context
            .encrypt_init(None, None, Some(&iv(index)))
            .expect("iv");
        context
            .cipher_update(payload, Some(&mut slot[HEADER..end]))
            .expect("payload");
        let (mut inner, mut outer) = (inner.clone(), outer.clone());
        inner.update(&slot[..end]);
        inner.update(&roc(index));
        outer.update(&inner.finish());
        slot[end..end + TAG].copy_from_slice(&outer.finish()[..TAG]);
        end + TAG
    })
}

fn rustcrypto_cm() -> Seal {
    let keys: Vec<_> = (0..KEYS)
        .map(|k| {
            let mac = <Hmac<Sha1> as KeyInit>::new_from_slice(&auth(k)).expect("key");
            (Aes128::new(&key(k).into()), mac)
        })
        .collect();
    Box::new(move |k, index, slot, payload| {
        let (cipher, mac) = &keys[k];
        let end = HEADER + payload.len();
        let core = CtrCore::<_, flavors::Ctr128BE>::inner_iv_init(cipher, &iv(index).into());
        StreamCipherCoreWrapper::from_core(core)
            .apply_keystream_b2b(payload, &mut slot[HEADER..end]);
        let mut mac = mac.clone();
        mac.update(&slot[..end]);
        mac.update(&roc(index));
        slot[end..end + TAG].copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        end + TAG
    })
}
