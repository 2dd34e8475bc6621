//! Checks as a client writes them, and what they are signed with.

use aws_lc_rs::hmac;
use d4e_engine::wire::stun;

/// Our ufrag, the client's, and our password.
pub fn names(id: u32, life: u32) -> (String, String, String) {
    (
        format!("ours{id}"),
        format!("theirs{life}"),
        format!("a password of its own {life}"),
    )
}

/// `extra`: attributes before MESSAGE-INTEGRITY.
pub fn binding_request(id: u32, life: u32, nominated: bool, extra: &[u8]) -> Vec<u8> {
    let (ours, theirs, password) = names(id, life);
    let mut out = vec![0; 512];
    let request = stun::BindingRequest {
        transaction: [3; 12],
        username: &format!("{ours}:{theirs}"),
        priority: 1_000,
        controlling: Some(9),
        controlled: None,
        use_candidate: nominated,
    };
    let key = stun::IntegrityKey::new(&password);
    let Some(len) = stun::write_binding_request(&mut out, &request, &key) else {
        panic!("a request fits")
    };
    out.truncate(len);
    if extra.is_empty() {
        return out;
    }
    // Before MESSAGE-INTEGRITY and FINGERPRINT, which are then made anew.
    out.truncate(len - 32);
    out.extend(extra);
    let words = |out: &[u8], more: usize| ((out.len() - 20 + more) as u16).to_be_bytes();
    let counted = words(&out, 24);
    out[2..4].copy_from_slice(&counted);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &out);
    out.extend([0, 8, 0, 20]);
    out.extend(tag.as_ref());
    let counted = words(&out, 8);
    out[2..4].copy_from_slice(&counted);
    let crc = crc32fast::hash(&out) ^ 0x5354_554e;
    out.extend([0x80, 0x28, 0, 4]);
    out.extend(crc.to_be_bytes());
    out
}
