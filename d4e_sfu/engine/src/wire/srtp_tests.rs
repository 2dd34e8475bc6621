//! SRTP against the vectors of RFC 3711 appendix B, RFC 6188 §7 and RFC 7714 §16–17, and against itself.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|b| (b as char).to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&hex(text));
    out
}

#[test]
fn rfc_3711_b2_key_stream() {
    let Some(key) = CounterMode::new(&array("2b7e151628aed2a6abf7158809cf4f3c")) else {
        unreachable!()
    };
    let id = PacketId {
        ssrc: [0; 4],
        index: 0,
    };
    let iv = id.cm_iv(&array("f0f1f2f3f4f5f6f7f8f9fafbfcfd"));
    let mut stream = vec![0; 0xff03 * 16];
    key.stream(iv).apply(&mut stream);
    for (block, expected) in [
        (0, "e03ead0935c95e80e166b16dd92b4eb4"),
        (1, "d23513162b02d0f72a43a2fe4a5f97ab"),
        (2, "41e95b3bb0a2e8dd477901e4fca894c0"),
        (0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
        (0xff00, "362b7c3c6773516318a077d7fc5073ae"),
        (0xff01, "6a2cc3787889374fbeb4c81b17ba6c44"),
    ] {
        assert_eq!(
            stream[block * 16..][..16],
            hex(expected),
            "block {block:#x}"
        );
    }
}

#[test]
fn rfc_3711_b3_key_derivation() {
    let Ok(master) = counter_mode(&hex("e1f97a0d3e018be0d64fa32c06de4139")) else {
        unreachable!()
    };
    let salt = array("0ec675ad498afeebb6960b3aabe6");
    for (label, expected) in [
        (0, "c61e7a93744f39ee10734afe3ff7a087"),
        (2, "30cbbc08863d8c85d49db34a9ae1"),
        (1, "cebe321f6ff7716b6fd4ab49af256a156d38baa4"),
    ] {
        let expected = hex(expected);
        let mut out = vec![0xff; expected.len()];
        assert_eq!(prf(&master, &salt, label, &mut out), Ok(()));
        assert_eq!(out, expected, "label {label}");
    }
}

#[test]
fn rfc_6188_7_2_key_derivation_with_256_bits() {
    let Ok(master) = counter_mode(&hex(
        "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
    )) else {
        unreachable!()
    };
    let salt = array("3b04803de51ee7c96423ab5b78d2");
    for (label, expected) in [
        (
            0,
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
        ),
        (2, "fa31791685ca444a9e07c6c64e93"),
        (1, "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
    ] {
        let expected = hex(expected);
        let mut out = vec![0xff; expected.len()];
        assert_eq!(prf(&master, &salt, label, &mut out), Ok(()));
        assert_eq!(out, expected, "label {label}");
    }
}

/// 00 01 02 …, of 16 or 32 bytes.
fn gcm(key_len: u8) -> Cipher {
    let key: Vec<u8> = (0..key_len).collect();
    let quid_pro_quo = array("517569642070726f2071756f");
    let Ok(cipher) = Cipher::gcm(&key, quid_pro_quo) else {
        unreachable!()
    };
    cipher
}

fn gcm_pair(key_len: u8) -> (Sealer, Opener) {
    (
        Sealer {
            rtp: gcm(key_len),
            rtcp: gcm(key_len),
        },
        Opener {
            rtp: gcm(key_len),
            rtcp: gcm(key_len),
        },
    )
}

#[test]
fn rfc_7714_16_1_srtp() {
    srtp(
        16,
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d \
         7f27beb1 6a9152cf 765ee439 0cce",
    );
}

#[test]
fn rfc_7714_16_2_srtp_with_256_bits() {
    srtp(
        32,
        "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 \
         db36dfff d6b0f9bb 7878d7a7 6c13",
    );
}

fn srtp(key_len: u8, sealed: &str) {
    let plain = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
    );
    let sealed = hex(sealed);
    let (sealer, opener) = gcm_pair(key_len);
    for prefix_len in [0, 1, 5, 16, 38] {
        let mut slot = [0; 100];
        slot[..12 + prefix_len].copy_from_slice(&plain[..12 + prefix_len]);
        assert_eq!(
            sealer.seal_rtp(&mut slot, 12, prefix_len, &plain[12 + prefix_len..], 0),
            Some(sealed.len())
        );
        assert_eq!(slot[..sealed.len()], sealed, "prefix of {prefix_len}");
    }
    let mut packet = sealed;
    assert_eq!(
        opener.open_rtp(&mut packet, 12, ExtSeq(0xf17b)),
        Ok(plain.len())
    );
    assert_eq!(packet[..plain.len()], plain);
}

#[test]
fn rfc_7714_17_1_srtcp() {
    srtcp(
        16,
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b \
         c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
    );
}

#[test]
fn rfc_7714_17_2_srtcp_with_256_bits() {
    srtcp(
        32,
        "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad \
         1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
    );
}

fn srtcp(key_len: u8, sealed: &str) {
    let plain = hex(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
    );
    let sealed = hex(sealed);
    let (sealer, opener) = gcm_pair(key_len);
    let mut slot = [0; 100];
    slot[..plain.len()].copy_from_slice(&plain);
    assert_eq!(
        sealer.seal_rtcp(&mut slot, plain.len(), 0x5d4),
        Some(sealed.len())
    );
    assert_eq!(slot[..sealed.len()], sealed);
    let mut packet = sealed;
    assert_eq!(opener.open_rtcp(&mut packet), Ok((plain.len(), 0x5d4)));
    assert_eq!(packet[..plain.len()], plain);
}

const PROFILES: [Profile; 3] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::Aes128CmHmacSha1_80,
];

fn pair(profile: Profile) -> (Sealer, Opener) {
    let master: Vec<u8> = (0..profile.key_len() + profile.salt_len())
        .map(|i| (i as u8).wrapping_mul(7) + 1)
        .collect();
    match (Sealer::new(profile, &master), Opener::new(profile, &master)) {
        (Ok(sealer), Ok(opener)) => (sealer, opener),
        _ => unreachable!(),
    }
}

/// libsrtp's `srtp_validate` (test/srtp_driver.c): AES_CM_128_HMAC_SHA1_80, whole packets of RTP and RTCP.
#[test]
fn libsrtp_reference_packets() {
    let master = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let (Ok(sealer), Ok(opener)) = (
        Sealer::new(Profile::Aes128CmHmacSha1_80, &master),
        Opener::new(Profile::Aes128CmHmacSha1_80, &master),
    ) else {
        unreachable!()
    };
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let sealed = hex(
        "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb",
    );
    let mut slot = [0; 64];
    slot[..12].copy_from_slice(&plain[..12]);
    assert_eq!(
        sealer.seal_rtp(&mut slot, 12, 0, &plain[12..], 0),
        Some(sealed.len())
    );
    assert_eq!(slot[..sealed.len()], sealed);
    let mut packet = sealed;
    assert_eq!(
        opener.open_rtp(&mut packet, 12, ExtSeq(0x1234)),
        Ok(plain.len())
    );
    assert_eq!(packet[..plain.len()], plain);

    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    let sealed = hex(
        "81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798",
    );
    let mut slot = [0; 64];
    slot[..plain.len()].copy_from_slice(&plain);
    assert_eq!(
        sealer.seal_rtcp(&mut slot, plain.len(), 1),
        Some(sealed.len())
    );
    assert_eq!(slot[..sealed.len()], sealed);
}

#[test]
fn every_flipped_bit_is_noticed() {
    for profile in PROFILES {
        let (sealer, opener) = pair(profile);
        let mut slot = [0x80; 64];
        let Some(len) = sealer.seal_rtp(&mut slot, 12, 3, &[9; 20], 4) else {
            unreachable!()
        };
        assert_eq!(len, 35 + profile.rtp_overhead());
        let seq = u64::from(u16::from_be_bytes([slot[2], slot[3]]));
        let index = ExtSeq(4 << 16 | seq);
        assert_eq!(
            opener.open_rtp(&mut slot[..len].to_vec(), 12, index),
            Ok(35)
        );
        assert_eq!(
            opener.open_rtp(&mut slot[..len].to_vec(), 12, ExtSeq(3 << 16 | seq)),
            Err(DropReason::BadAuthentication)
        );
        for bit in 0..len * 8 {
            let mut changed = slot[..len].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                opener.open_rtp(&mut changed, 12, index),
                Err(DropReason::BadAuthentication),
                "bit {bit}"
            );
        }
        let mut slot = [0x81; 64];
        let Some(len) = sealer.seal_rtcp(&mut slot, 28, 77) else {
            unreachable!()
        };
        assert_eq!(len, 28 + profile.rtcp_overhead());
        assert_eq!(opener.open_rtcp(&mut slot[..len].to_vec()), Ok((28, 77)));
        for bit in 0..len * 8 {
            let mut changed = slot[..len].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open_rtcp(&mut changed).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn keys_and_slots_of_the_wrong_length_are_refused() {
    for profile in PROFILES {
        let right = profile.key_len() + profile.salt_len();
        for len in [0, 15, 16, 32, right - 1, right + 1] {
            assert!(
                Sealer::new(profile, &vec![0; len]).is_err()
                    && Opener::new(profile, &vec![0; len]).is_err()
            );
        }
        let (sealer, _) = pair(profile);
        let need = 12 + 2 + 10 + profile.rtp_overhead();
        assert_eq!(
            sealer.seal_rtp(&mut vec![0x80; need], 12, 2, &[0; 10], 0),
            Some(need)
        );
        assert_eq!(
            sealer.seal_rtp(&mut vec![0x80; need - 1], 12, 2, &[0; 10], 0),
            None
        );
        assert_eq!(sealer.seal_rtp(&mut [0x80; 99], 11, 2, &[0; 10], 0), None);
        assert_eq!(
            sealer.seal_rtp(&mut [0x80; 99], 12, usize::MAX, &[0; 10], 0),
            None
        );
        assert_eq!(sealer.seal_rtcp(&mut [0x80; 99], 7, 0), None);
        assert_eq!(
            sealer.seal_rtcp(&mut vec![0x80; 8 + profile.rtcp_overhead() - 1], 8, 0),
            None
        );
    }
}

/// Sixteen starts around the circle; cycle 0 everywhere.
#[test]
fn roll_over_and_replay_from_sixteen_starts() {
    for start in (0..16u64).map(|i| i * 4096 + 5) {
        let mut window = ReplayWindow::default();
        for n in 0..150_000u64 {
            let seq = SeqNo((start + n) as u16);
            assert_eq!(window.check(seq), Ok(ExtSeq(start + n)));
            window.accept(ExtSeq(start + n));
            assert_eq!(window.check(seq), Err(DropReason::Replayed));
        }
        let last = start + 149_999;
        // A hole, then packets behind it: each once.
        window.accept(ExtSeq(last + 700));
        for index in [last + 1, last + 699, last + 350] {
            assert_eq!(window.check(SeqNo(index as u16)), Ok(ExtSeq(index)));
            window.accept(ExtSeq(index));
            assert_eq!(window.check(SeqNo(index as u16)), Err(DropReason::Replayed));
        }
        let highest = last + 700;
        assert_eq!(
            window.check_index(highest - 1023),
            Err(DropReason::Replayed)
        );
        assert_eq!(window.check_index(highest - 1024), Err(DropReason::TooOld));
        // A jump over the whole window forgets it.
        window.accept(ExtSeq(highest + 5000));
        assert_eq!(
            window.check_index(highest + 4500),
            Ok(ExtSeq(highest + 4500))
        );
        assert_eq!(window.check_index(highest), Err(DropReason::TooOld));
    }
}

#[test]
fn nothing_before_the_first_cycle() {
    let mut window = ReplayWindow::default();
    window.accept(ExtSeq(3));
    assert_eq!(window.check(SeqNo(2)), Ok(ExtSeq(2)));
    assert_eq!(window.check(SeqNo(65_535)), Err(DropReason::TooOld));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80), header_len in 0..100usize, index in any::<u64>()) {
        for profile in PROFILES {
            let (_, opener) = pair(profile);
            prop_assert!(opener.open_rtp(&mut bytes.clone(), header_len, ExtSeq(index)).is_err());
            prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        }
    }

    #[test]
    fn any_order_passes_each_index_at_most_once(steps in proptest::collection::vec(0..3000u64, 1..200)) {
        let mut window = ReplayWindow::default();
        let mut passed = std::collections::HashSet::new();
        let mut base = 60_000;
        for (n, step) in steps.into_iter().enumerate() {
            base += n as u64 % 7 * 50;
            let index = base + step;
            if let Ok(index) = window.check_index(index) {
                window.accept(index);
                prop_assert!(passed.insert(index.0));
            } else {
                prop_assert!(passed.contains(&index) || window.highest().is_some_and(|highest| index + WINDOW <= highest.0));
            }
        }
    }
}
