//! Input that nobody should send: no panic, no answer, no memory, and nobody else disturbed.

use proptest::prelude::*;

use super::client::Source;
use super::{Client, World, opus, vp8};
use crate::api::{Codec, Command, Profile};
use crate::router::blame;
use crate::transport::streams::MAX_STREAMS;
use crate::wire::drop::DropReason;
use crate::wire::seq::ExtSeq;

/// A call in which one voice and one picture flow from 1 to 2.
fn call(profile: Profile) -> (World, Client, Source, Client) {
    let mut world = World::new();
    let mut publisher = Client::join_with(&mut world, 1, profile);
    let viewer = Client::join_with(&mut world, 2, profile);
    world.publish_voice(&publisher, 1);
    world.publish_video(&publisher, 2, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.subscribe(&viewer, 2, 2, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    publisher.send(&mut world, &mut source, &opus(0), false);
    world.kept.datagrams.clear();
    (world, publisher, source, viewer)
}

#[test]
fn every_first_byte_and_length_before_and_after_keys() {
    for profile in [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80,
    ] {
        let (mut world, mut publisher, mut source, mut viewer) = call(profile);
        let unkeyed = Client::announced(&mut world, 3, profile);
        unkeyed.check(&mut world, true);
        world.kept.datagrams.clear();
        let _ = world.events();
        let stranger = "203.0.113.9:9".parse().unwrap();
        for from in [stranger, unkeyed.remote, publisher.remote, viewer.remote] {
            for first in 0..=255u8 {
                for len in 0..=64usize {
                    let mut datagram = vec![first.wrapping_mul(7).wrapping_add(len as u8); len];
                    if let Some(byte) = datagram.first_mut() {
                        *byte = first;
                    }
                    world.handle(from, &datagram);
                }
            }
        }
        assert!(world.kept.datagrams.is_empty(), "silence");
        let events = world.events();
        assert!(
            events
                .iter()
                .all(|event| matches!(event, crate::api::Event::Dtls { .. })),
            "only DTLS goes up"
        );
        publisher.send(&mut world, &mut source, &opus(1), false);
        assert_eq!(viewer.media(&mut world).len(), 1, "the call goes on");
    }
}

/// Should the thread panic on it, that is the room to keep an eye on.
#[test]
fn whatever_is_worked_on_is_on_account_of_whoever_sent_it() {
    let (mut world, mut publisher, mut source, mut viewer) = call(Profile::AeadAes128Gcm);
    publisher.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(viewer.media(&mut world).len(), 1);
    assert_eq!(blame::get(), Some(1), "his packet, for the viewer as well");
    viewer.nack(&mut world, 0x9999, &[1]);
    assert_eq!(blame::get(), Some(2));
    viewer.check(&mut world, false);
    publisher.check(&mut world, false);
    assert_eq!(blame::get(), Some(1));
    world.handle("203.0.113.9:9".parse().unwrap(), &[0x80; 40]);
    assert_eq!(blame::get(), None, "a stranger's");
    world.apply(Command::SetSignalLost {
        transport: 2,
        lost: false,
    });
    assert_eq!(blame::get(), Some(2));
    world.router.apply(
        world.now,
        Command::RemovePublication { publication: 1 },
        &mut world.kept,
    );
    assert_eq!(blame::get(), Some(1));
    world.apply(Command::Debug { token: 1 });
    assert_eq!(blame::get(), None);
    world.pass(100);
    assert_eq!(blame::get(), Some(1), "the picture's turn came last");
}

#[test]
fn replays_and_forgeries_reach_nobody_and_move_nothing() {
    let (mut world, mut publisher, mut source, mut viewer) = call(Profile::AeadAes128Gcm);
    let real = publisher.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(viewer.media(&mut world).len(), 1);
    for _ in 0..10 {
        world.handle(publisher.remote, &real);
    }
    assert_eq!(world.drops(DropReason::Replayed), 10);
    for at in 0..real.len() {
        let mut forged = source.next(&mut publisher, &opus(9), false);
        forged[at] ^= 0x01;
        world.handle(publisher.remote, &forged);
    }
    for cut in 1..17 {
        let mut short = source.next(&mut publisher, &opus(9), false);
        short.truncate(short.len() - cut);
        world.handle(publisher.remote, &short);
    }
    assert!(viewer.media(&mut world).is_empty());
    // A forged jump of the sequence number must not turn the roll-over count.
    let mut jump = source.next(&mut publisher, &opus(9), false);
    jump[2] ^= 0x80;
    world.handle(publisher.remote, &jump);
    publisher.send(&mut world, &mut source, &opus(2), false);
    assert_eq!(viewer.media(&mut world).len(), 1);
}

#[test]
fn streams_without_end_cost_a_bounded_table_and_nobody_else() {
    let (mut world, mut publisher, mut source, mut viewer) = call(Profile::AeadAes128Gcm);
    for ssrc in 0..20_000u32 {
        let mut junk = Source::new(0x0100_0000 + ssrc, 120, 0);
        publisher.send(&mut world, &mut junk, &[1, 2, 3], false);
        if ssrc % 2 == 0 {
            // Bound ones too: every one takes the place of the one before.
            let mut named = Source::new(0x0200_0000 + ssrc, 96, 0).mid("p2");
            publisher.send(&mut world, &mut named, &vp8(1, 1, 0, false, b"x"), true);
        }
    }
    let row = world.router.transports.row(1).unwrap();
    assert!(world.router.transports.get(row).unwrap().streams.len() <= MAX_STREAMS);
    assert_eq!(world.drops(DropReason::UnknownStream), 20_000);
    publisher.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(
        viewer
            .media(&mut world)
            .iter()
            .filter(|(h, _)| h.ssrc.0 == 0x5000_0001)
            .count(),
        1
    );
}

#[test]
fn rtcp_senders_without_end_are_refused_beyond_the_cap() {
    let (mut world, mut publisher, ..) = call(Profile::AeadAes128Gcm);
    for ssrc in 0..1_000u32 {
        publisher.send_rtcp(&mut world, |slot| {
            crate::wire::rtcp::write_pli(
                slot,
                crate::wire::seq::Ssrc(ssrc),
                crate::wire::seq::Ssrc(1),
            )
        });
    }
    assert_eq!(world.drops(DropReason::TooManyStreams), 1_000 - 64);
}

#[test]
fn payloads_that_break_their_format_leave_no_hole() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    publisher.send(&mut world, &mut source, &vp8(0, 0, 0, true, b"x"), true);
    for _ in 0..10 {
        publisher.send(&mut world, &mut source, &[0xff, 0xff], true); // a descriptor cut short
        publisher.send(&mut world, &mut source, &vp8(1, 1, 0, false, b"x"), true);
    }
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 11);
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
    assert_eq!(world.drops(DropReason::BadPayload), 10);
}

#[test]
fn commands_in_any_order_about_anything_are_harmless() {
    let mut world = World::new();
    let profile = Profile::AeadAes128Gcm;
    let transport = 9;
    for command in [
        Command::SetMayPublish {
            transport,
            may_publish: true,
        },
        Command::SetKeys {
            transport,
            profile,
            receive: vec![0; 28],
            send: vec![0; 28],
        },
        Command::SendDtls {
            transport,
            datagram: vec![22; 2_048],
        },
        Command::SendDtls {
            transport,
            datagram: vec![],
        },
        Command::RemoveTransport { transport },
        Command::RemovePublication { publication: 1 },
        Command::RemoveSubscription { subscription: 1 },
        Command::SetLayer {
            subscription: 1,
            spatial: Some(255),
            temporal: 255,
        },
        Command::SetMaxBitrate {
            publication: 1,
            max_bitrate: u32::MAX,
        },
    ] {
        let before = world.router.snapshot().counters.commands_ignored;
        world.apply(command);
        assert_eq!(
            world.router.snapshot().counters.commands_ignored,
            before + 1
        );
    }
    let client = Client::join(&mut world, 1);
    world.publish_video(&client, 1, Codec::Vp8, &["q"]);
    world.publish_video(&client, 1, Codec::Vp8, &["q"]);
    world.publish_video(&client, 2, Codec::Vp8, &["a", "b", "c", "d"]);
    world.subscribe(&client, 1, 1, Some(200));
    world.subscribe(&client, 1, 1, Some(200));
    assert_eq!(world.router.snapshot().counters.commands_ignored, 9 + 3);
    assert_eq!(world.router.snapshot().subscriptions, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// An authentic client may send any bytes at all, as RTP payload, header extensions or RTCP.
    #[test]
    fn an_authentic_client_may_send_anything(
        packets in proptest::collection::vec(
            (0u32..6, 0u8..128, any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            1..60,
        ),
    ) {
        let (mut world, mut publisher, _, mut viewer) = call(Profile::AeadAes128Gcm);
        for (ssrc, kind, seq, timestamp, payload, rtcp) in packets {
            if rtcp {
                let mut compound = vec![0x80 | (kind & 31), 200 + kind % 8, 0, 0];
                compound.extend(&payload);
                compound.resize(compound.len().next_multiple_of(4).max(8), 0);
                let words = (compound.len() / 4 - 1) as u16;
                compound[2..4].copy_from_slice(&words.to_be_bytes());
                publisher.send_rtcp(&mut world, |slot| {
                    slot[..compound.len()].copy_from_slice(&compound);
                    Some(compound.len())
                });
            } else {
                let payload_type = [96, 97, 111, 96, 97, kind & 127][ssrc as usize];
                let mut source = Source::new(ssrc, payload_type, seq);
                source.seq = ExtSeq(u64::from(seq));
                source.timestamp = timestamp;
                source.mid = Some(if payload_type == 111 { "p1" } else { "p2" }.into());
                publisher.send(&mut world, &mut source, &payload, kind & 1 == 0);
            }
            world.pass(7);
        }
        // Every number that left is in its place and sealed once: opening checks it.
        let _ = viewer.got(&mut world);
    }

    /// Nobody needs to be authentic to send bytes.
    #[test]
    fn a_stranger_may_send_anything(datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..50)) {
        let (mut world, publisher, ..) = call(Profile::Aes128CmHmacSha1_80);
        for datagram in datagrams {
            world.handle(publisher.remote, &datagram);
            world.pass(3);
        }
    }
}
