//! Losses: asked for upward, repaired downward, given up in the end.

use std::time::Duration;

use super::client::Source;
use super::world::{spec, without_repairs};
use super::{Client, World, opus, vp8};
use crate::api::{Codec, Command, Extension, SubscriptionSpec};
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc};

fn call() -> (World, Client, Source, Client) {
    let mut world = World::new();
    let publisher = Client::join(&mut world, 1);
    let viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    (
        world,
        publisher,
        Source::new(0x1111, 96, 65_500).mid("p1"),
        viewer,
    )
}

fn frame(n: u16, keyframe: bool) -> Vec<u8> {
    vp8(n, n as u8, 0, keyframe, &n.to_be_bytes().repeat(300))
}

fn media_only(got: Vec<(Header, Vec<u8>)>) -> Vec<(Header, Vec<u8>)> {
    got.into_iter()
        .filter(|(header, _)| header.ssrc == Ssrc(0x5000_0001))
        .collect()
}

#[test]
fn a_lost_packet_is_asked_for_repaired_and_fills_its_place() {
    let (mut world, mut publisher, mut source, mut viewer) = call();
    publisher.send(&mut world, &mut source, &frame(0, true), true);
    let lost_number = source.seq.seq();
    let _lost = source.next(&mut publisher, &frame(1, false), true);
    for n in 2..5 {
        publisher.send(&mut world, &mut source, &frame(n, false), true);
    }
    assert!(publisher.asked(&mut world).1.is_empty(), "it may be late");
    world.pass(20);
    assert_eq!(publisher.asked(&mut world).1, [(0x1111, lost_number.0)]);
    let mut rtx = Source::new(0x2222, 97, 9).mid("p1");
    let mut wrapped = lost_number.0.to_be_bytes().to_vec();
    wrapped.extend(frame(1, false));
    rtx.timestamp = source.timestamp;
    publisher.send(&mut world, &mut rtx, &wrapped, true);
    publisher.send(&mut world, &mut rtx, &wrapped, true); // and a second copy
    world.pass(500);
    assert!(publisher.asked(&mut world).1.is_empty());
    let got = media_only(viewer.media(&mut world));
    let first = got[0].0.seq;
    assert_eq!(
        got.iter()
            .map(|(header, _)| header.seq.since(first))
            .collect::<Vec<_>>(),
        [0, 2, 3, 4, 1]
    );
    assert_eq!(got[4].1, frame(1, false));
    assert_eq!(world.drops(DropReason::Duplicate), 1);
    assert_eq!(world.router.snapshot().counters.packets_repaired, 1);
}

#[test]
fn what_cannot_be_had_is_given_up_after_ten_tries_for_a_keyframe() {
    let (mut world, mut publisher, mut source, _viewer) = call();
    publisher.send(&mut world, &mut source, &frame(0, true), true);
    source.seq = source.seq.next();
    publisher.send(&mut world, &mut source, &frame(2, false), true);
    let _ = publisher.asked(&mut world);
    let (mut tries, mut plis) = (0, 0);
    for _ in 0..300 {
        world.pass(10);
        let (keyframes, lost) = publisher.asked(&mut world);
        tries += lost.len();
        plis += keyframes.len();
        if plis > 0 {
            break;
        }
    }
    assert_eq!((tries, plis), (10, 1));
}

#[test]
fn a_subscriber_gets_a_lost_packet_again_and_not_twice_within_a_round_trip() {
    let (mut world, mut publisher, mut source, mut viewer) = call();
    for n in 0..10 {
        publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
    }
    let got = viewer.media(&mut world);
    let (header, payload) = got[4].clone();
    for _ in 0..3 {
        viewer.nack(&mut world, 0x5000_0001, &[header.seq.0]);
    }
    let again = viewer.media(&mut world);
    assert_eq!(again.len(), 1);
    let (rtx, wrapped) = &again[0];
    assert_eq!((rtx.ssrc, rtx.payload_type), (Ssrc(0x6000_0001), 101));
    assert_eq!(
        (rtx.timestamp, rtx.marker),
        (header.timestamp, header.marker)
    );
    assert_eq!(wrapped[..2], header.seq.0.to_be_bytes());
    assert_eq!(wrapped[2..], payload);
    assert_eq!(world.drops(DropReason::RepeatedNack), 2);
    world.pass(100);
    viewer.nack(&mut world, 0x5000_0001, &[header.seq.0]);
    let later = viewer.media(&mut world);
    assert_eq!(later.len(), 1);
    assert_eq!(
        later[0].0.seq.since(rtx.seq),
        1,
        "a retransmission of its own number"
    );
    world.pass(1_000);
    viewer.nack(&mut world, 0x5000_0001, &[header.seq.0]);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::NotCached), 1, "older than a second");
}

/// As they left for him.
fn datagrams(world: &mut World, listener: &Client) -> Vec<Vec<u8>> {
    let left = std::mem::take(&mut world.kept.datagrams);
    left.into_iter()
        .filter(|(_, remote, datagram)| *remote == listener.remote && datagram[1] & 0x7f == 100)
        .map(|(_, _, datagram)| datagram)
        .collect()
}

#[test]
fn without_a_stream_for_it_a_voices_packet_goes_again_bit_by_bit_as_it_left() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe_as(&listener, 1, 1, without_repairs(1));
    let mut source = Source::new(0x1111, 111, 65_500).mid("p1");
    let mut speak = |world: &mut World, count: u8| {
        for n in 0..count {
            speaker.send(world, &mut source, &opus(n), false);
            world.pass(20);
        }
    };
    let number = |datagram: &[u8]| u16::from_be_bytes([datagram[2], datagram[3]]);
    speak(&mut world, 3);
    let before = number(&datagrams(&mut world, &listener)[1]);
    listener.nack(&mut world, 0x5000_0001, &[before]);
    assert_eq!(world.drops(DropReason::NotCached), 1, "kept since he asks");
    speak(&mut world, 20);
    let left = datagrams(&mut world, &listener);
    assert_eq!(left.len(), 20);
    for lost in [&left[3], &left[17]] {
        listener.nack(&mut world, 0x5000_0001, &[number(lost)]);
        assert_eq!(datagrams(&mut world, &listener), std::slice::from_ref(lost));
        listener.nack(&mut world, 0x5000_0001, &[number(lost)]);
        assert!(datagrams(&mut world, &listener).is_empty());
    }
    assert_eq!(world.drops(DropReason::RepeatedNack), 2);
    world.pass(800);
    listener.nack(&mut world, 0x5000_0001, &[number(&left[19])]);
    assert!(datagrams(&mut world, &listener).is_empty());
    assert_eq!(
        world.drops(DropReason::NotCached),
        2,
        "too late to be heard"
    );
    let _ = listener.media(&mut world);
}

#[test]
fn without_a_stream_for_it_a_picture_is_not_repaired() {
    let (mut world, mut publisher, mut source, mut viewer) = call();
    world.apply(Command::RemoveSubscription { subscription: 1 });
    world.subscribe_as(&viewer, 1, 1, without_repairs(1));
    for n in 0..3 {
        publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
        let left = datagrams(&mut world, &viewer);
        let number = u16::from_be_bytes([left[0][2], left[0][3]]);
        viewer.nack(&mut world, 0x5000_0001, &[number]);
        assert!(datagrams(&mut world, &viewer).is_empty());
    }
}

/// One who sees, and has told by a report that half of 400 packets of a voice have not come.
fn heavy(viewed: SubscriptionSpec) -> (World, Client, Source, Client) {
    let (mut world, mut publisher, source, mut viewer) = call();
    world.apply(Command::RemoveSubscription { subscription: 1 });
    world.apply(Command::SetExtensions {
        transport: 2,
        extensions: vec![(Extension::Mid, 1)],
        allow_mixed: false,
    });
    world.publish_voice(&publisher, 2);
    world.subscribe_as(&viewer, 2, 2, without_repairs(2));
    let mut voice = Source::new(0x3333, 111, 0).mid("p2");
    let mut highest = None;
    for (packets, lost) in [(1, 0), (400, 200)] {
        for n in 0..packets {
            publisher.send(&mut world, &mut voice, &opus(n as u8), false);
        }
        let heard = viewer.media(&mut world);
        let newest = highest.map_or(u32::from(heard[0].0.seq.0), |before| before + packets);
        highest = Some(newest);
        let block = rtcp::Block {
            ssrc: Ssrc(0x5000_0002),
            fraction_lost: 0,
            lost,
            highest: newest,
            jitter: 0,
            last_sr: 0,
            delay: 0,
        };
        viewer.send_rtcp(&mut world, |slot| {
            rtcp::write_receiver_report(slot, Ssrc(1), &[block])
        });
    }
    world.subscribe_as(&viewer, 1, 1, viewed);
    (world, publisher, source, viewer)
}

#[test]
fn where_a_fifth_is_lost_a_picture_goes_three_times_and_never_twice_under_one_number() {
    let (mut world, mut publisher, mut source, mut viewer) = heavy(spec(1, Some(0)));
    let mut copies = 0;
    for n in 0..100 {
        publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
        world.pass(40);
        // No SRTP index may come twice: `media` sees to that.
        let got = viewer.media(&mut world);
        assert_eq!(got.len(), 3);
        let (first, payload) = &got[0];
        assert_eq!(first.ssrc, Ssrc(0x5000_0001));
        for (copy, wrapped) in &got[1..] {
            assert_eq!((copy.ssrc, copy.payload_type), (Ssrc(0x6000_0001), 101));
            assert_eq!(copy.timestamp, first.timestamp);
            assert_eq!(wrapped[..2], first.seq.0.to_be_bytes(), "RFC 4588 §4");
            assert_eq!(wrapped[2..], payload[..]);
            copies += 1;
        }
    }
    assert_eq!(copies, 200);
    assert_eq!(world.drops(DropReason::CopyShed), 0);
}

#[test]
fn where_a_fifth_is_lost_and_there_is_no_stream_for_it_a_picture_goes_once() {
    let (mut world, mut publisher, mut source, mut viewer) = heavy(without_repairs(1));
    let dropped = |world: &World| -> u64 {
        let counters = world.router.snapshot().counters;
        counters.drops.iter().map(|(_, count)| count).sum()
    };
    let before = dropped(&world);
    for n in 0..100 {
        publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
        world.pass(40);
        let got = viewer.media(&mut world);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].0.ssrc, Ssrc(0x5000_0001));
    }
    assert_eq!(dropped(&world), before, "nor was one made in vain");
}

#[test]
fn of_two_copies_of_each_picture_those_that_the_link_has_no_room_for_are_dropped_by_name() {
    let (mut world, mut publisher, mut source, mut viewer) = heavy(spec(1, Some(0)));
    // 600 bytes 25 times a second are 120 kbit/s, and with their copies three times that.
    viewer.remb(&mut world, 250_000);
    let (mut pictures, mut copies) = (0, 0);
    for n in 0..250 {
        if n < 240 {
            publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
        }
        if n % 25 == 0 {
            viewer.check(&mut world, true);
            publisher.check(&mut world, true);
        }
        world.pass(40);
        for (header, _) in viewer.media(&mut world) {
            match header.ssrc {
                Ssrc(0x5000_0001) => pictures += 1,
                Ssrc(0x6000_0001) => copies += 1,
                _ => {}
            }
        }
    }
    let shed = world.drops(DropReason::CopyShed);
    assert_eq!(pictures, 240, "copies leave behind them");
    assert_eq!(copies + shed, 2 * pictures, "each was sent or has a reason");
    assert!(copies > 100 && shed > 100, "{copies} sent, {shed} shed");
}

#[test]
fn the_round_trip_is_learnt_from_reports() {
    let (mut world, mut publisher, mut source, mut viewer) = call();
    publisher.send(&mut world, &mut source, &frame(0, true), true);
    let info = rtcp::SenderInfo {
        ntp: 0x0123_4567_89AB_CDEF,
        rtp: crate::wire::seq::Timestamp(0),
        packets: 0,
        octets: 0,
    };
    publisher.send_rtcp(&mut world, |slot| {
        rtcp::write_sender_report(slot, Ssrc(0x1111), &info, &[])
    });
    world.pass(40);
    let block = rtcp::Block {
        ssrc: Ssrc(0x5000_0001),
        fraction_lost: 0,
        lost: 0,
        highest: 0,
        jitter: 0,
        last_sr: 0x4567_89AB,
        delay: 65_536 / 100,
    };
    viewer.send_rtcp(&mut world, |slot| {
        rtcp::write_receiver_report(slot, Ssrc(1), &[block])
    });
    let row = world.router.transports.row(2).unwrap();
    let measured = world.router.transports.get(row).unwrap().round_trip();
    assert!(
        measured.abs_diff(Duration::from_millis(30)) < Duration::from_millis(1),
        "{measured:?}: 40 ms less 10 held"
    );
}

#[test]
fn one_nack_of_a_whole_datagram_moves_no_mountain() {
    let (mut world, mut publisher, mut source, mut viewer) = call();
    for n in 0..100 {
        publisher.send(&mut world, &mut source, &frame(n, n == 0), true);
        world.pass(5);
    }
    let sent: usize = viewer
        .media(&mut world)
        .iter()
        .map(|(_, payload)| payload.len())
        .sum();
    let everything: Vec<u16> = (0..5_000u16).map(|n| n.wrapping_mul(13)).collect();
    let mut again = 0;
    for chunk in everything.chunks(300) {
        viewer.nack(&mut world, 0x5000_0001, chunk);
        again += viewer
            .media(&mut world)
            .iter()
            .map(|(_, payload)| payload.len())
            .sum::<usize>();
    }
    assert!(again <= sent / 2, "{again} of {sent}");
}

#[test]
fn a_keyframe_and_packets_that_wait_survive_reordering_of_any_kind() {
    // Every order of five packets: nothing lost, nothing twice, every number in place.
    let mut orders = vec![vec![]];
    for n in 0..5usize {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut next = order.clone();
                    next.insert(at, n);
                    next
                })
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let (mut world, mut publisher, mut source, mut viewer) = call();
        let datagrams: Vec<_> = (0..5)
            .map(|n| source.next(&mut publisher, &frame(n, n == 0), true))
            .collect();
        for &n in &order {
            world.handle(publisher.remote, &datagrams[n]);
        }
        let mut got = media_only(viewer.media(&mut world));
        got.sort_by_key(|(header, _)| header.seq.since(SeqNo(0)));
        assert_eq!(got.len(), 5, "{order:?}");
        for (n, (header, payload)) in got.iter().enumerate() {
            assert_eq!(header.seq.since(got[0].0.seq), n as i16, "{order:?}");
            assert_eq!(*payload, frame(n as u16, n == 0), "{order:?}");
        }
    }
}
