//! Single packets at the edge of what their formats allow, and over it: sealed with good keys, or with almost good ones.
//! Each is forwarded or has its reason; none is neither.

use super::client::{MID, Source};
use super::{Client, Got, World, opus, vp8};
use crate::api::{Codec, Profile};
use crate::wire::drop::DropReason;
use crate::wire::rtcp;
use crate::wire::seq::{ExtSeq, Ssrc};

const PROFILES: [Profile; 3] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::Aes128CmHmacSha1_80,
];

/// A voice from 1 to 2.
fn call(profile: Profile) -> (World, Client, Client) {
    let mut world = World::new();
    let speaker = Client::join_with(&mut world, 1, profile);
    let listener = Client::join_with(&mut world, 2, profile);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    (world, speaker, listener)
}

fn drops(world: &World) -> u64 {
    let counters = world.router.snapshot().counters;
    counters.drops.iter().map(|(_, count)| count).sum()
}

/// An RTP header by hand: first byte, payload type with marker, number; then whatever follows.
fn header(first: u8, second: u8, seq: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![first, second];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 3, 0, 0, 0, 0x11, 0x11]);
    packet.extend(rest);
    packet
}

#[test]
fn headers_at_their_edges_are_forwarded_or_have_a_reason() {
    let mid = [0xbe, 0xde, 0, 1, MID << 4 | 1, b'p', b'1', 0];
    let two_byte = [0x10, 0, 0, 2, MID, 2, b'p', b'1', 9, 0, 0, 0];
    // What follows the fixed header; how much of the packet is header; the payload with its padding.
    type Case<'a> = (&'a str, u8, Vec<u8>, usize, Vec<u8>, Option<DropReason>);
    let long = [&[0xbe, 0xde, 0, 16][..], &[0xff; 64]].concat();
    let cases: Vec<Case<'_>> = vec![
        (
            "15 sources",
            0x9f,
            [&[5; 60][..], &mid].concat(),
            80,
            opus(1),
            None,
        ),
        (
            "15 sources, none there",
            0x8f,
            vec![],
            12,
            vec![],
            Some(DropReason::BadRtp),
        ),
        (
            "an extension past the end",
            0x90,
            vec![0xbe, 0xde, 0xff, 0xff],
            16,
            opus(1),
            Some(DropReason::BadExtension),
        ),
        (
            "an extension that is cut",
            0x90,
            vec![0xbe],
            13,
            vec![],
            Some(DropReason::BadExtension),
        ),
        (
            "an empty extension",
            0x90,
            vec![0xbe, 0xde, 0, 0],
            16,
            opus(1),
            None,
        ),
        (
            "two-byte elements",
            0x90,
            two_byte.to_vec(),
            24,
            opus(1),
            None,
        ),
        ("element 15 alone", 0x90, long, 80, opus(1), None),
        (
            "an element past its block",
            0x90,
            vec![0xbe, 0xde, 0, 1, MID << 4 | 15, 1, 2, 3],
            20,
            opus(1),
            Some(DropReason::BadExtension),
        ),
        (
            "a profile of nobody",
            0x90,
            vec![0x12, 0x34, 0, 1, 1, 2, 3, 4],
            20,
            opus(1),
            None,
        ),
        (
            "padding of nought",
            0xb0,
            mid.to_vec(),
            20,
            vec![0x78, 1, 1, 0],
            Some(DropReason::BadRtp),
        ),
        (
            "more padding than packet",
            0xb0,
            mid.to_vec(),
            20,
            vec![0x78, 1, 1, 255],
            Some(DropReason::BadRtp),
        ),
        (
            "padding alone",
            0xb0,
            mid.to_vec(),
            20,
            vec![0, 0, 0, 4],
            Some(DropReason::Padding),
        ),
        (
            "padding without a byte",
            0xb0,
            mid.to_vec(),
            20,
            vec![],
            Some(DropReason::BadRtp),
        ),
        (
            "padding behind a word",
            0xb0,
            mid.to_vec(),
            20,
            vec![0x78, 1, 0, 2],
            None,
        ),
        (
            "no payload",
            0x90,
            mid.to_vec(),
            20,
            vec![],
            Some(DropReason::Padding),
        ),
        (
            "as large as a datagram may be",
            0x90,
            mid.to_vec(),
            20,
            vec![0x78; 1_950],
            None,
        ),
    ];
    for profile in PROFILES {
        let (mut world, mut speaker, mut listener) = call(profile);
        let mut voice = Source::new(0x1111, 111, 100).mid("p1");
        speaker.send(&mut world, &mut voice, &opus(0), false);
        assert_eq!(listener.media(&mut world).len(), 1);
        for (name, first, rest, length, payload, reason) in &cases {
            for second in [111, 111 | 0x80] {
                let index = voice.seq;
                voice.seq = index.next();
                let mut plain = header(*first, second, index.seq().0, rest);
                plain.extend(payload);
                let datagram = speaker.sealed_raw(&plain, *length, index);
                let before = world.router.snapshot().counters.drops;
                world.handle(speaker.remote, &datagram);
                let forwarded = listener
                    .media(&mut world)
                    .iter()
                    .filter(|(_, payload)| !payload.is_empty())
                    .count();
                let after = world.router.snapshot().counters.drops;
                let dropped: Vec<DropReason> = DropReason::ALL
                    .iter()
                    .copied()
                    .filter(|&reason| after.get(reason) > before.get(reason))
                    .collect();
                let reasons: Vec<DropReason> = reason.iter().copied().collect();
                let expected = (usize::from(reason.is_none()), reasons);
                assert_eq!((forwarded, dropped), expected, "{name}: {profile:?}");
            }
        }
        speaker.send(&mut world, &mut voice, &opus(9), false);
        let got = listener.media(&mut world);
        assert!(got.iter().any(|(_, payload)| *payload == opus(9)));
    }
}

#[test]
fn datagrams_of_every_size_from_nothing_to_all_that_udp_holds() {
    let (mut world, mut speaker, mut listener) = call(Profile::AeadAes128Gcm);
    let sizes = [
        0, 1, 11, 12, 1_199, 1_500, 2_047, 2_048, 2_049, 9_000, 65_507,
    ];
    for first in [0u8, 22, 0x80, 0x90, 0xbf, 0xff] {
        for size in sizes {
            let before = drops(&world);
            world.handle(speaker.remote, &vec![first; size]);
            assert!(drops(&world) > before || first == 22, "{first} × {size}");
        }
    }
    assert_eq!(world.drops(DropReason::Oversized), 6 * 3);
    let mut voice = Source::new(0x1111, 111, 100).mid("p1");
    speaker.send(&mut world, &mut voice, &opus(0), false);
    assert_eq!(listener.media(&mut world).len(), 1);
}

#[test]
fn tags_that_are_nought_short_or_missing_open_nothing() {
    for profile in PROFILES {
        let (mut world, mut speaker, mut listener) = call(profile);
        let mut voice = Source::new(0x1111, 111, 100).mid("p1");
        speaker.send(&mut world, &mut voice, &opus(0), false);
        assert_eq!(listener.media(&mut world).len(), 1);
        let (tag, rtcp_tag) = match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => (16, 16),
            Profile::Aes128CmHmacSha1_80 => (10, 10),
        };
        let mut bad = 0;
        for filling in [0, 0xff] {
            let media = voice.next(&mut speaker, &opus(1), false);
            let report = speaker.sealed_rtcp(|slot| rtcp::write_bye(slot, &[Ssrc(0x1111)]));
            // The whole tag, and any one end of it. Behind SRTCP's tag or before it is its index (RFC 3711 §3.4,
            // RFC 7714 §9.1): the tag of GCM is before the index, HMAC's behind.
            let index = if profile == Profile::Aes128CmHmacSha1_80 {
                0
            } else {
                4
            };
            for (sealed, tag, behind) in [(&media, tag, 0), (&report, rtcp_tag, index)] {
                for (from, to) in [(0, tag), (0, tag / 2), (tag / 2, tag)] {
                    let mut forged = sealed.clone();
                    let start = forged.len() - behind - tag;
                    forged[start + from..start + to].fill(filling);
                    world.handle(speaker.remote, &forged);
                    bad += 1;
                }
                for cut in [1, 4, tag - 1, tag, tag + behind] {
                    world.handle(speaker.remote, &sealed[..sealed.len() - cut]);
                    bad += 1;
                }
            }
        }
        assert!(listener.media(&mut world).is_empty());
        let refused = world.drops(DropReason::BadAuthentication)
            + world.drops(DropReason::BadRtcp)
            + world.drops(DropReason::BadRtp);
        assert_eq!(refused, bad, "{profile:?}");
        // Neither the number nor the BYE has been taken note of.
        voice.seq = ExtSeq(101);
        speaker.send(&mut world, &mut voice, &opus(2), false);
        assert_eq!(listener.media(&mut world).len(), 1, "{profile:?}");
    }
}

#[test]
fn copies_forged_jumps_and_loss_do_not_turn_the_roll_over_count() {
    for profile in PROFILES {
        let (mut world, mut speaker, mut listener) = call(profile);
        let mut voice = Source::new(0x1111, 111, 65_530).mid("p1");
        let mut chance = 12_345u32;
        let mut draw = || {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            chance >> 16
        };
        let (mut spoken, mut copies) = (Vec::new(), 0);
        let mut wire: Vec<Vec<u8>> = Vec::new();
        let mut heard = Vec::new();
        for n in 0..400u32 {
            let datagram = voice.next(&mut speaker, &opus(n as u8), false);
            // Whoever sees the wire may send it with another number: near, half the circle away, over the wrap.
            for jump in [1u16, 100, 0x3fff, 0x7fff, 0x8000, 0xfff0] {
                let mut forged = datagram.clone();
                let seq = u16::from_be_bytes([forged[2], forged[3]]).wrapping_add(jump);
                forged[2..4].copy_from_slice(&seq.to_be_bytes());
                world.handle(speaker.remote, &forged);
            }
            // The first must come: a stream is known by its first packet.
            if n > 0 && draw() % 100 < 30 {
                continue;
            }
            world.handle(speaker.remote, &datagram);
            spoken.push(opus(n as u8));
            wire.push(datagram);
            for back in [1, 2, 63, 64, 200] {
                if let Some(copy) = wire.len().checked_sub(back).map(|at| wire[at].clone()) {
                    world.handle(speaker.remote, &copy);
                    copies += 1;
                }
            }
            heard.extend(listener.media(&mut world).into_iter().map(|(_, word)| word));
        }
        assert!(spoken.len() < 350, "much was lost");
        assert_eq!(heard, spoken, "each once and in order: {profile:?}");
        let refused = world.drops(DropReason::Replayed) + world.drops(DropReason::TooOld);
        let forged = world.drops(DropReason::BadAuthentication);
        assert_eq!(refused + forged, copies + 6 * 400);
        assert!(refused >= copies);
    }
}

#[test]
fn a_compound_that_lies_anywhere_is_dropped_whole() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut camera = Source::new(0x1111, 96, 0).mid("p1");
    publisher.send(&mut world, &mut camera, &vp8(0, 0, 0, true, b"x"), true);
    let remb = [
        0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B',
    ];
    let tcc = |chunk: [u8; 2]| {
        let mut packet = vec![
            0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0,
        ];
        packet.extend(chunk);
        packet.extend([0, 0]);
        packet
    };
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("REMB of 255 sources", [&remb[..], &[255, 0, 0, 1]].concat()),
        (
            "REMB past 64 bits",
            [&remb[..], &[0, 0xff, 0xff, 0xff]].concat(),
        ),
        ("REMB that is cut", {
            let mut cut = remb.to_vec();
            cut[3] = 3;
            cut
        }),
        ("a reserved symbol, as a run", tcc([0x60, 4])),
        ("a reserved symbol, in a vector", tcc([0xff, 0xff])),
        ("deltas that are not there", tcc([0x20, 4])),
        ("SDES of 31 chunks", vec![0x9f, 202, 0, 1, 0, 0, 0, 1]),
        (
            "SDES with an item past its end",
            vec![0x81, 202, 0, 2, 0, 0, 0, 1, 1, 255, 0, 0],
        ),
        (
            "SDES without an end",
            vec![0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, b'a', b'b'],
        ),
        ("BYE of 31", vec![0x9f, 203, 0, 1, 0, 0, 0x11, 0x11]),
        ("a report of 31 blocks", vec![0x9f, 201, 0, 1, 0, 0, 0, 1]),
        (
            "a sender report without its clock",
            vec![0x80, 200, 0, 1, 0, 0, 0, 1],
        ),
        (
            "a NACK of nothing",
            vec![0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
        ),
        ("a FIR and a half", {
            let mut fir = vec![0x84, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
            fir.extend([0; 12]);
            fir
        }),
        ("a length past the end", vec![0x80, 207, 0, 9, 0, 0, 0, 1]),
        ("two bytes", vec![0x80, 201]),
        ("padding of nought", vec![0xa0, 207, 0, 1, 0, 0, 0, 0]),
        ("padding past its packet", vec![0xa0, 207, 0, 1, 0, 0, 0, 9]),
        ("version 1", vec![0x40, 201, 0, 1, 0, 0, 0, 1]),
        ("no RTCP at all", vec![0x80, 96, 0, 1, 0, 0, 0, 1]),
    ];
    let count = bad.len() as u64;
    for (name, packet) in bad {
        let before = world.drops(DropReason::BadRtcp);
        viewer.send_rtcp(&mut world, |slot| {
            let len = rtcp::write_pli(slot, Ssrc(1), Ssrc(0x5000_0001)).unwrap();
            slot[len..len + packet.len()].copy_from_slice(&packet);
            Some(len + packet.len())
        });
        assert_eq!(world.drops(DropReason::BadRtcp), before + 1, "{name}");
    }
    let counters = world.router.snapshot().counters;
    assert_eq!(counters.keyframe_requests_received, 0);
    // Packets of no length at all take a step each, and end.
    viewer.send_rtcp(&mut world, |slot| {
        let mut len = rtcp::write_pli(slot, Ssrc(1), Ssrc(0x5000_0001)).unwrap();
        for _ in 0..300 {
            slot[len..len + 4].copy_from_slice(&[0x80, 204, 0, 0]);
            len += 4;
        }
        Some(len)
    });
    let counters = world.router.snapshot().counters;
    assert_eq!(counters.keyframe_requests_received, 1);
    assert_eq!(world.drops(DropReason::BadRtcp), count);
}

#[test]
fn who_reports_and_sends_without_checks_is_gone_after_thirty_seconds() {
    let (mut world, mut speaker, mut listener) = call(Profile::AeadAes128Gcm);
    let mut voice = Source::new(0x1111, 111, 100).mid("p1");
    let mut last = None;
    // Only the listener's checks are kept from us: his reports, his media and the speaker's come as ever.
    for tick in 0..40_000 / 20 {
        if tick % 125 == 0 {
            speaker.check(&mut world, true);
        }
        if tick % 50 == 0 {
            listener.send_rtcp(&mut world, |slot| {
                rtcp::write_receiver_report(slot, Ssrc(1), &[])
            });
        }
        speaker.send(&mut world, &mut voice, &opus(1), false);
        let got = listener.got(&mut world);
        if got.iter().any(|got| matches!(got, Got::Rtp { .. })) {
            last = Some(tick * 20);
        }
        world.pass(20);
    }
    let last = last.unwrap();
    assert!((29_000..=30_100).contains(&last), "{last} ms");
    let to_him = world.kept.datagrams.iter();
    assert_eq!(
        to_him.filter(|(_, to, _)| *to == listener.remote).count(),
        0
    );
    assert_eq!(world.router.snapshot().transports, 1);
}
