//! SRTP and SRTCP framing: no bytes that we have not sealed open, however short; what we have sealed opens to the same, and
//! not with one bit changed; and a replay window lets every number through once.

#![no_main]

use std::sync::OnceLock;

use d4e_engine::wire::packet::Header;
use d4e_engine::wire::seq::{ExtSeq, SeqNo};
use d4e_engine::wire::srtp::{Opener, Profile, ReplayWindow, Sealer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[mode, at, with, roc], rest)) = data.split_first_chunk() else {
        return;
    };
    let profile = match (mode & 1, mode >> 3 & 1) {
        (0, 0) => Profile::AeadAes128Gcm,
        (0, _) => Profile::AeadAes256Gcm,
        _ => Profile::Aes128CmHmacSha1_80,
    };
    let (sealer, opener) = keys(profile);
    let change = (usize::from(at) * 5, with);
    match mode >> 1 & 3 {
        0 => foreign(opener, rest),
        1 => rtp(profile, sealer, opener, rest, u32::from(roc), change),
        2 => rtcp(profile, sealer, opener, rest, u32::from(roc), change),
        _ => window(rest),
    }
});

fn keys(profile: Profile) -> &'static (Sealer, Opener) {
    const PROFILES: [Profile; 3] = [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80,
    ];
    static KEYS: OnceLock<[(Sealer, Opener); 3]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        PROFILES.map(|profile| {
            let master = vec![5; profile.key_len() + profile.salt_len()];
            match (Sealer::new(profile, &master), Opener::new(profile, &master)) {
                (Ok(sealer), Ok(opener)) => (sealer, opener),
                _ => panic!("keys of the right length are refused"),
            }
        })
    });
    &keys[profile as usize]
}

/// Nothing that a stranger makes up is authentic.
fn foreign(opener: &Opener, bytes: &[u8]) {
    assert!(opener.open_rtcp(&mut bytes.to_vec()).is_err());
    let header_len = Header::parse(bytes).map_or(bytes.len().min(12), |header| header.len);
    let opened = opener.open_rtp(&mut bytes.to_vec(), header_len, ExtSeq(1));
    assert!(opened.is_err());
}

fn rtp(
    profile: Profile,
    sealer: &Sealer,
    opener: &Opener,
    plain: &[u8],
    roc: u32,
    change: (usize, u8),
) {
    let Ok(header) = Header::parse(plain) else {
        return;
    };
    let index = ExtSeq(u64::from(roc) << 16 | u64::from(header.seq.0));
    let payload = &plain[header.len..];
    let prefix = usize::from(change.1) % (payload.len() + 1);
    let mut slot = plain.to_vec();
    slot[header.len + prefix..].fill(0xee);
    slot.resize(plain.len() + profile.rtp_overhead(), 0);
    let sealed = sealer.seal_rtp(&mut slot, header.len, prefix, &payload[prefix..], roc);
    assert_eq!(sealed, Some(slot.len()), "it fits exactly");
    assert_eq!(
        slot[..header.len],
        plain[..header.len],
        "the header stays in clear"
    );
    let mut short = slot[..slot.len() - 1].to_vec();
    assert!(
        sealer
            .seal_rtp(&mut short, header.len, prefix, &payload[prefix..], roc)
            .is_none()
    );

    let mut opened = slot.clone();
    assert_eq!(
        opener.open_rtp(&mut opened, header.len, index),
        Ok(plain.len())
    );
    assert_eq!(opened[..plain.len()], *plain);
    if change.1 != 0 {
        let at = change.0 % slot.len();
        slot[at] ^= change.1;
        assert!(
            opener.open_rtp(&mut slot, header.len, index).is_err(),
            "byte {at} may be changed"
        );
    }
}

fn rtcp(
    profile: Profile,
    sealer: &Sealer,
    opener: &Opener,
    plain: &[u8],
    index: u32,
    change: (usize, u8),
) {
    let mut slot = plain.to_vec();
    slot.resize(plain.len() + profile.rtcp_overhead(), 0);
    let sealed = sealer.seal_rtcp(&mut slot, plain.len(), index);
    if plain.len() < 8 {
        assert_eq!(sealed, None, "no SSRC to seal under");
        return;
    }
    assert_eq!(sealed, Some(slot.len()), "it fits exactly");
    let mut opened = slot.clone();
    assert_eq!(opener.open_rtcp(&mut opened), Ok((plain.len(), index)));
    assert_eq!(opened[..plain.len()], *plain);
    if change.1 != 0 {
        let at = change.0 % slot.len();
        slot[at] ^= change.1;
        assert!(
            opener.open_rtcp(&mut slot).is_err(),
            "byte {at} may be changed"
        );
    }
}

/// Against a list of everything that was ever accepted.
fn window(numbers: &[u8]) {
    let mut window = ReplayWindow::default();
    let mut accepted: Vec<u64> = Vec::new();
    for pair in numbers.chunks_exact(2).take(400) {
        let Ok(index) = window.check(SeqNo(u16::from_be_bytes([pair[0], pair[1]]))) else {
            continue;
        };
        assert!(!accepted.contains(&index.0), "{} twice", index.0);
        let highest = accepted.iter().copied().max();
        assert!(highest.is_none_or(|highest| index.0.abs_diff(highest) <= 1 << 15));
        window.accept(index);
        accepted.push(index.0);
        assert_eq!(
            window.highest().map(|index| index.0),
            highest.max(Some(index.0))
        );
    }
}
