//! Forwarding: who gets what, under which numbers; and how streams find their publication.

use super::client::{LEVEL, MID, Source, TWCC};
use super::{Client, Got, STARTS, World, opus, vp8};
use crate::api::{Codec, Command, Encoding, Event, Profile, PublicationSpec};
use crate::outlet::Class;
use crate::wire::codec::vp8::Descriptor;
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc, Timestamp};

#[test]
fn a_voice_reaches_the_others_and_not_oneself() {
    for profile in [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80,
    ] {
        let mut world = World::new();
        let mut speaker = Client::join_with(&mut world, 1, profile);
        let mut listeners = [
            Client::join_with(&mut world, 2, profile),
            Client::join_with(&mut world, 3, profile),
        ];
        world.publish_voice(&speaker, 1);
        for (n, listener) in listeners.iter().enumerate() {
            world.subscribe(listener, n as u32 + 1, 1, Some(0));
        }
        let mut source = Source::new(0x1111, 111, 500).mid("p1");
        source.level = Some(0x80 | 30);
        for n in 0..10 {
            source.timestamp = 1_000 + 960 * n;
            speaker.send(&mut world, &mut source, &opus(n as u8), n == 0);
            assert_eq!(world.kept.class, Some(Class::Voice));
        }
        for (n, listener) in listeners.iter_mut().enumerate() {
            let got: Vec<_> = listener.got(&mut world);
            let packets: Vec<_> = got
                .iter()
                .filter_map(|got| match got {
                    Got::Rtp {
                        header,
                        packet,
                        payload,
                    } => Some((header, packet, payload)),
                    _ => None,
                })
                .collect();
            assert_eq!(packets.len(), 10);
            for (i, (header, packet, payload)) in packets.iter().enumerate() {
                assert_eq!(header.ssrc, Ssrc(0x5000_0001 + n as u32));
                assert_eq!(header.payload_type, 100);
                assert_eq!(header.seq.since(packets[0].0.seq), i as i16);
                assert_eq!(header.timestamp, Timestamp(1_000 + 960 * i as u32));
                assert_eq!(header.marker, i == 0);
                assert_eq!(**payload, opus(i as u8));
                assert_eq!(
                    header.extension(packet, MID),
                    Some(format!("s{}", n + 1).as_bytes())
                );
                assert_eq!(header.extension(packet, LEVEL), Some(&[0x80 | 30][..]));
                let number = |header: &Header, packet: &[u8]| {
                    let bytes = header.extension(packet, TWCC).unwrap();
                    SeqNo(u16::from_be_bytes(bytes.try_into().unwrap()))
                };
                assert_eq!(
                    number(header, packet).since(number(packets[0].0, packets[0].1)),
                    i as i16,
                    "each transport counts its own packets"
                );
                assert_eq!(
                    header.extensions(packet).count(),
                    3,
                    "nothing of the publisher's own labels leaks"
                );
            }
        }
        assert!(speaker.media(&mut world).is_empty());
    }
}

#[test]
fn numbers_go_on_over_every_wrap_of_the_publishers() {
    for start in STARTS {
        let mut world = World::new();
        let mut publisher = Client::join(&mut world, 1);
        let mut viewer = Client::join(&mut world, 2);
        world.publish_video(&publisher, 1, Codec::Vp8, &[]);
        world.subscribe(&viewer, 1, 1, Some(0));
        let mut source = Source::new(0x1111, 96, start).mid("p1");
        for n in 0..40u16 {
            // Sequence number, timestamp, picture id and TL0PICIDX wrap within the run.
            source.timestamp = (u32::MAX - 3_000 * 20).wrapping_add(3_000 * u32::from(n));
            let picture = (0x7fff - 20 + n) & 0x7fff;
            let tl0 = 240u8.wrapping_add(n as u8);
            publisher.send(
                &mut world,
                &mut source,
                &vp8(picture, tl0, 0, n == 0, &[n as u8; 20]),
                true,
            );
            assert_eq!(world.kept.class, Some(Class::Picture));
        }
        let got = viewer.media(&mut world);
        assert_eq!(got.len(), 40, "start {start}");
        let first = Descriptor::parse(&got[0].1).unwrap();
        for (n, (header, payload)) in got.iter().enumerate() {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!(header.seq.since(got[0].0.seq), n as i16, "start {start}");
            assert_eq!(header.timestamp.since(got[0].0.timestamp), 3_000 * n as i32);
            assert_eq!(
                descriptor
                    .picture_id
                    .unwrap()
                    .wrapping_sub(first.picture_id.unwrap())
                    & 0x7fff,
                n as u16
            );
            assert_eq!(
                descriptor
                    .tl0_pic_idx
                    .unwrap()
                    .wrapping_sub(first.tl0_pic_idx.unwrap()),
                n as u8
            );
        }
    }
}

#[test]
fn a_subscribers_own_count_rolls_over_and_srtp_with_it() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    let mut count = 0;
    for n in 0..140_000u32 {
        source.timestamp = n.wrapping_mul(960);
        speaker.send(&mut world, &mut source, &opus(n as u8), false);
        if n % 1_000 == 999 {
            world.now = world.now.plus(std::time::Duration::from_secs(20));
            speaker.check(&mut world, true);
            listener.check(&mut world, true);
            count += listener.media(&mut world).len();
            let _ = speaker.got(&mut world);
        }
    }
    assert_eq!(
        count, 140_000,
        "every packet opens under its roll-over count"
    );
}

#[test]
fn nothing_leaves_before_path_and_keys_and_media_begins_by_itself_then() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::announced(&mut world, 2, Profile::AeadAes128Gcm);
    world.publish_voice(&publisher, 1);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    publisher.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(world.drops(DropReason::NotConnected), 1);
    viewer.check(&mut world, true);
    publisher.send(&mut world, &mut source, &opus(2), false);
    assert!(viewer.media(&mut world).is_empty(), "a path without keys");
    viewer.keyed(&mut world, Profile::AeadAes128Gcm);
    publisher.send(&mut world, &mut source, &opus(3), false);
    assert_eq!(viewer.media(&mut world).len(), 1);
}

#[test]
fn streams_are_bound_by_rid_and_keep_their_binding_without_it() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::Vp8, &["q", "h", "f"]);
    let _ = world.events();
    let mut sources = [("q", 10), ("h", 20), ("f", 30)]
        .map(|(rid, ssrc)| Source::new(ssrc, 96, 0).mid("p1").rid(rid));
    for source in &mut sources {
        publisher.send(&mut world, source, &vp8(1, 1, 0, true, b"x"), true);
        (source.mid, source.rid) = (None, None);
    }
    let activated: Vec<_> = world.events();
    assert_eq!(
        activated,
        [0, 1, 2].map(|encoding| Event::EncodingActive {
            publication: 1,
            encoding,
            active: true
        })
    );
    for source in &mut sources {
        publisher.send(&mut world, source, &vp8(2, 2, 0, false, b"x"), true);
    }
    assert_eq!(world.drops(DropReason::UnknownStream), 0);
}

#[test]
fn what_names_no_publication_is_dropped_by_name() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::Vp8, &["q", "h"]);
    world.publish_video(&publisher, 2, Codec::Vp8, &["q", "h"]);
    let packet = vp8(1, 1, 0, true, b"x");
    for mut source in [
        Source::new(9, 96, 0),          // by payload type: four could be meant
        Source::new(2, 96, 0).rid("q"), // two could be meant
        Source::new(3, 96, 0).mid("p1").rid("z"), // no such rid
        Source::new(4, 96, 0).mid("p9").rid("q"), // no such mid
        Source::new(5, 96, 0).mid("p1"), // which encoding?
        Source::new(6, 97, 0).mid("p1").repaired_rid("z"),
    ] {
        publisher.send(&mut world, &mut source, &packet, true);
    }
    assert_eq!(world.drops(DropReason::UnknownStream), 6);
    let mut right = Source::new(7, 96, 0).mid("p2").rid("h");
    publisher.send(&mut world, &mut right, &packet, true);
    assert_eq!(world.drops(DropReason::UnknownStream), 6);
    let active = Event::EncodingActive {
        publication: 2,
        encoding: 1,
        active: true,
    };
    assert!(world.events().contains(&active));
}

#[test]
fn signalled_ssrcs_and_a_lone_payload_type_bind_too() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.apply(Command::AddPublication {
        publication: 1,
        transport: 1,
        spec: PublicationSpec {
            codec: Codec::Vp8,
            mid: "0".into(),
            payload_type: 96,
            rtx_payload_type: Some(97),
            red_payload_type: None,
            event_payload_type: None,
            encodings: vec![
                Encoding {
                    rid: None,
                    ssrc: Some(10),
                    rtx_ssrc: Some(11),
                },
                Encoding {
                    rid: None,
                    ssrc: Some(20),
                    rtx_ssrc: Some(21),
                },
            ],
            max_bitrate: 10_000_000,
            nack: true,
        },
    });
    world.publish_voice(&publisher, 2);
    publisher.send(
        &mut world,
        &mut Source::new(20, 96, 0),
        &vp8(1, 1, 0, true, b"x"),
        true,
    );
    publisher.send(&mut world, &mut Source::new(99, 111, 0), &opus(1), true);
    let active = |publication, encoding| Event::EncodingActive {
        publication,
        encoding,
        active: true,
    };
    let events = world.events();
    assert!(
        events.contains(&active(1, 1)) && events.contains(&active(2, 0)),
        "{events:?}"
    );
    // A second SSRC with that payload type does not push the first one out.
    publisher.send(&mut world, &mut Source::new(98, 111, 0), &opus(1), true);
    assert_eq!(world.drops(DropReason::UnknownStream), 1);
}

#[test]
fn a_retransmission_may_come_before_its_media() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &["q", "h"]);
    world.subscribe(&viewer, 1, 1, Some(1));
    let mut rtx = Source::new(21, 97, 700).mid("p1").repaired_rid("h");
    let mut wrapped = 40u16.to_be_bytes().to_vec();
    wrapped.extend(vp8(1, 1, 0, true, b"first"));
    publisher.send(&mut world, &mut rtx, &wrapped, false);
    let mut media = Source::new(20, 96, 41).mid("p1").rid("h");
    publisher.send(
        &mut world,
        &mut media,
        &vp8(1, 1, 0, false, b"second"),
        true,
    );
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 2);
    assert!(got[0].1.ends_with(b"first") && got[1].1.ends_with(b"second"));
    assert_eq!(got[1].0.seq.since(got[0].0.seq), 1);
}

#[test]
fn rights_and_caps_are_enforced_here() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&publisher, 1);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    publisher.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(viewer.media(&mut world).len(), 1);
    world.apply(Command::SetMayPublish {
        transport: 1,
        may_publish: false,
    });
    publisher.send(&mut world, &mut source, &opus(2), false);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::NotPermitted), 1);
    world.apply(Command::SetMayPublish {
        transport: 1,
        may_publish: true,
    });
    world.apply(Command::SetMaxBitrate {
        publication: 1,
        max_bitrate: 0,
    });
    publisher.send(&mut world, &mut source, &opus(3), false);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::OverBitrate), 1);
    // 800 kbit/s: over ten seconds no more than the rate and one burst get through.
    world.apply(Command::SetMaxBitrate {
        publication: 1,
        max_bitrate: 800_000,
    });
    let mut bytes = 0;
    for _ in 0..2_000 {
        let sent = publisher.send(&mut world, &mut source, &[0x78; 1_000], false);
        bytes += viewer.media(&mut world).len() * sent.len();
        publisher.check(&mut world, true);
        viewer.check(&mut world, true);
        world.pass(5);
    }
    let bits = bytes * 8;
    assert!(bits <= 10 * 800_000 + 2_000_000 + 16_000, "{bits}");
    assert!(
        bits >= 10 * 800_000 - 16_000,
        "{bits}: the cap itself must fit"
    );
}

#[test]
fn a_participants_ssrc_is_his_own() {
    let mut world = World::new();
    let (mut alice, mut bob) = (Client::join(&mut world, 1), Client::join(&mut world, 2));
    let mut viewer = Client::join(&mut world, 3);
    world.publish_voice(&alice, 1);
    world.subscribe(&viewer, 1, 1, Some(0));
    alice.send(
        &mut world,
        &mut Source::new(0x1111, 111, 0).mid("p1"),
        &opus(1),
        false,
    );
    bob.send(
        &mut world,
        &mut Source::new(0x1111, 111, 1).mid("p1"),
        &opus(66),
        false,
    );
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1, opus(1));
    assert_eq!(world.drops(DropReason::UnknownStream), 1);
}

#[test]
fn the_publisher_learns_what_arrived_and_when() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_voice(&publisher, 1);
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    let (mut feedback, mut statuses, mut reports) = (0, Vec::new(), Vec::new());
    for n in 0..100u32 {
        let datagram = source.next(&mut publisher, &opus(n as u8), false);
        if n % 10 != 9 {
            world.handle(publisher.remote, &datagram);
        }
        world.pass(20);
        for got in publisher.got(&mut world) {
            let Got::Rtcp(compound) = got else { continue };
            for packet in rtcp::Compound::parse(&compound).unwrap() {
                match packet {
                    rtcp::Packet::TransportFeedback(told) => {
                        feedback += 1;
                        statuses.extend(told.statuses());
                    }
                    rtcp::Packet::ReceiverReport { blocks, .. } => reports.extend(blocks),
                    _ => {}
                }
            }
        }
    }
    assert!(
        (15..=41).contains(&feedback),
        "every 50 to 100 ms: {feedback} in 2 s"
    );
    let lost: Vec<u16> = statuses
        .iter()
        .filter(|(_, arrival)| arrival.is_none())
        .map(|(seq, _)| seq.0)
        .collect();
    assert_eq!(
        lost,
        [10, 20, 30, 40, 50, 60, 70, 80, 90],
        "the numbers that did not come"
    );
    let arrivals: Vec<i64> = statuses
        .iter()
        .filter_map(|(_, arrival)| *arrival)
        .collect();
    assert!(
        arrivals
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 80 || pair[1] - pair[0] == 160),
        "20 ms are 80 ticks"
    );
    let last = reports.last().unwrap();
    assert_eq!((last.ssrc, last.jitter > 0), (Ssrc(0x1111), true));
    assert!((5..=10).contains(&last.lost), "{last:?}");
    assert!(
        (20..=30).contains(&last.fraction_lost),
        "a tenth of 256: {last:?}"
    );
}

#[test]
fn sender_reports_carry_the_publishers_time_in_the_subscribers_numbers() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&publisher, 1);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    source.timestamp = 50_000;
    publisher.send(&mut world, &mut source, &opus(1), false);
    let info = rtcp::SenderInfo {
        ntp: 0xDEAD_BEEF_0000_0000,
        rtp: Timestamp(49_000),
        packets: 1,
        octets: 4,
    };
    publisher.send_rtcp(&mut world, |slot| {
        rtcp::write_sender_report(slot, Ssrc(0x1111), &info, &[])
    });
    let got = viewer.got(&mut world);
    let (report, names) = got
        .iter()
        .find_map(|got| {
            let Got::Rtcp(compound) = got else {
                return None;
            };
            let mut packets = rtcp::Compound::parse(compound).unwrap();
            let Some(rtcp::Packet::SenderReport { sender, info, .. }) = packets.next() else {
                return None;
            };
            let Some(rtcp::Packet::Sdes(mut sdes)) = packets.next() else {
                return None;
            };
            Some((
                (sender, info),
                sdes.next().map(|(ssrc, name)| (ssrc, name.to_vec())),
            ))
        })
        .unwrap();
    assert_eq!(report.0, Ssrc(0x5000_0001));
    assert_eq!(
        report.1,
        rtcp::SenderInfo {
            ntp: 0xDEAD_BEEF_0000_0000,
            rtp: Timestamp(49_000),
            packets: 1,
            octets: 4
        }
    );
    assert_eq!(names, Some((Ssrc(0x5000_0001), b"someone".to_vec())));
}

#[test]
fn removing_things_in_any_order_leaves_nothing_behind() {
    let mut world = World::new();
    for round in 0..3u32 {
        let publisher = Client::join(&mut world, 1);
        let viewer = Client::join(&mut world, 2);
        world.publish_voice(&publisher, 1);
        world.publish_video(&viewer, 2, Codec::H264, &[]);
        world.subscribe(&viewer, 1, 1, Some(0));
        world.subscribe(&publisher, 2, 2, Some(0));
        match round {
            0 => world.apply(Command::RemoveTransport { transport: 1 }),
            1 => world.apply(Command::RemovePublication { publication: 1 }),
            _ => world.apply(Command::RemoveSubscription { subscription: 2 }),
        }
        for transport in [1, 2] {
            world.apply(Command::RemoveTransport { transport });
        }
        let snapshot = world.router.snapshot();
        assert_eq!(
            (
                snapshot.transports,
                snapshot.publications,
                snapshot.subscriptions
            ),
            (0, 0, 0)
        );
        assert!(world.router.by_address.is_empty() && world.router.by_ufrag.is_empty());
        assert_eq!(world.router.next_timeout(), None);
    }
}

#[test]
fn without_the_right_to_publish_even_unknown_streams_are_not_permitted() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.apply(Command::SetMayPublish {
        transport: 1,
        may_publish: false,
    });
    for ssrc in 0..5 {
        publisher.send(&mut world, &mut Source::new(ssrc, 96, 0), &opus(1), false);
    }
    assert_eq!(world.drops(DropReason::NotPermitted), 5);
}
