//! STUN: any bytes, and any attributes behind a right MESSAGE-INTEGRITY and FINGERPRINT, which no mutation would find. What
//! is read is bounded by the datagram; what we write is read back; whoever does not hold the key cannot pass.

#![no_main]

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use d4e_engine::wire::stun::{
    BindingRequest, Class, IntegrityKey, Message, write_binding_error, write_binding_request,
    write_binding_success,
};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "a password of 22 bytes";

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        read(data);
    } else {
        let Some(signed) = sign(data) else { return };
        let message = read(&signed);
        if let Some(message) = message {
            assert!(message.fingerprint, "FINGERPRINT was not seen");
            assert!(message.verify(&IntegrityKey::new(PASSWORD)) || holds_integrity(&signed));
        }
        if let [.., at, with] = *data {
            altered(&signed, usize::from(at) * 7, with);
        }
    }
});

/// Reads, and holds what was read to what must be true of it.
fn read(datagram: &[u8]) -> Option<Message<'_>> {
    let message = Message::parse(datagram).ok()?;
    assert!(!message.verify(&IntegrityKey::new("another password of 22")));
    assert!(message.unknown_count * 4 <= datagram.len());
    if let Some((ours, theirs)) = message.ufrags() {
        assert!(ours.len() + theirs.len() < datagram.len());
        written(&message, ours, theirs);
    }
    Some(message)
}

/// A request with the fields of this message, and the answers to it.
fn written(message: &Message<'_>, ours: &str, theirs: &str) {
    let key = IntegrityKey::new(PASSWORD);
    let username = format!("{ours}:{theirs}");
    let request = BindingRequest {
        transaction: message.transaction,
        username: &username,
        priority: message.priority.unwrap_or(0),
        controlling: message.controlling,
        controlled: message.controlled,
        use_candidate: message.use_candidate,
    };
    let mut out = [0; 2_048];
    let Some(len) = write_binding_request(&mut out, &request, &key) else {
        return;
    };
    let Ok(again) = Message::parse(&out[..len]) else {
        panic!("our own request is refused")
    };
    assert!(again.class == Class::Request && again.fingerprint && again.verify(&key));
    assert_eq!(again.ufrags(), Some((ours, theirs)));
    assert_eq!(again.priority, Some(request.priority));
    assert_eq!(
        (again.controlling, again.controlled),
        (message.controlling, message.controlled)
    );
    assert_eq!(again.use_candidate, message.use_candidate);

    let address = message
        .mapped
        .unwrap_or(SocketAddr::from(([192, 0, 2, 1], 40_000)));
    let Some(len) = write_binding_success(&mut out, &message.transaction, address, &key) else {
        panic!("an answer always fits")
    };
    let again = Message::parse(&out[..len]);
    assert!(again.is_ok_and(|again| again.mapped == Some(address) && again.verify(&key)));

    let unknown = &message.unknown[..message.unknown_count.min(message.unknown.len())];
    let transaction = &message.transaction;
    let error = write_binding_error(&mut out, transaction, 420, "Unknown", unknown, &key);
    let Some(len) = error else {
        panic!("an answer always fits")
    };
    assert!(Message::parse(&out[..len]).is_ok_and(|again| again.error == Some(420)));
}

/// `attributes` in a Binding request, and then the two that prove it; by its own arithmetic, not by the engine's. `None`
/// where the last attribute would swallow the proof.
fn sign(attributes: &[u8]) -> Option<Vec<u8>> {
    let attributes = &attributes[..attributes.len() & !3];
    kinds(attributes)?;
    let mut out = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    out.extend([9; 12]);
    out.extend(attributes);
    let len = |extra: usize| u16::try_from(attributes.len() + extra).map(u16::to_be_bytes);
    out[2..4].copy_from_slice(&len(24).ok()?);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
    let tag = hmac::sign(&key, &out);
    out.extend([0, 8, 0, 20]);
    out.extend(tag.as_ref());
    out[2..4].copy_from_slice(&len(32).ok()?);
    let crc = crc32fast::hash(&out) ^ 0x5354_554e;
    out.extend([0x80, 0x28, 0, 4]);
    out.extend(crc.to_be_bytes());
    Some(out)
}

/// The fuzzed attributes hold a MESSAGE-INTEGRITY of their own: the first one counts, and it is not ours.
fn holds_integrity(signed: &[u8]) -> bool {
    kinds(&signed[20..]).is_some_and(|kinds| kinds.iter().filter(|&&kind| kind == 8).count() > 1)
}

fn kinds(attributes: &[u8]) -> Option<Vec<u16>> {
    let (mut kinds, mut rest) = (Vec::new(), attributes);
    while !rest.is_empty() {
        let &[k0, k1, l0, l1, ref after @ ..] = rest else {
            return None;
        };
        kinds.push(u16::from_be_bytes([k0, k1]));
        rest = after.get(usize::from(u16::from_be_bytes([l0, l1])).next_multiple_of(4)..)?;
    }
    Some(kinds)
}

/// One byte of a proven message, changed: it proves nothing any more.
fn altered(signed: &[u8], at: usize, with: u8) {
    let at = at % signed.len();
    let mut changed = signed.to_vec();
    changed[at] ^= with;
    if with == 0 {
        return;
    }
    if let Ok(message) = Message::parse(&changed) {
        let proven = message.fingerprint && message.verify(&IntegrityKey::new(PASSWORD));
        assert!(!proven, "byte {at} may be changed");
    }
}
