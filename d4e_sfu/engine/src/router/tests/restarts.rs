//! Streams that end and begin again under another number, packets of the one after the other has come, long paths, silent
//! ones: what browsers and networks do now and then, and what must not cost a picture or a processor.

use super::client::Source;
use super::{Client, World, opus, vp8};
use crate::api::{Codec, Command, Encoding, PublicationSpec};
use crate::wire::drop::DropReason;
use crate::wire::rtcp;
use crate::wire::seq::Ssrc;

fn simulcast(world: &mut World) -> (Client, Client) {
    let publisher = Client::join(world, 1);
    let viewer = Client::join(world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &["q", "f"]);
    (publisher, viewer)
}

fn frame(n: u16, keyframe: bool) -> Vec<u8> {
    vp8(n, n as u8, 0, keyframe, &n.to_be_bytes())
}

#[test]
fn a_late_packet_of_a_stream_that_was_replaced_does_not_bring_it_back() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut old = Source::new(10, 96, 500).mid("p1").rid("q");
    publisher.send(&mut world, &mut old, &frame(0, true), true);
    let late = old.next(&mut publisher, &frame(1, false), true);
    let remote = publisher.remote;
    let mut new = Source::new(11, 96, 9_000).mid("p1").rid("q");
    publisher.send(&mut world, &mut new, &frame(700, true), true);
    // A report has named the new stream: it says its names no more.
    (new.mid, new.rid) = (None, None);
    assert_eq!(viewer.media(&mut world).len(), 2);
    let _ = publisher.asked(&mut world);
    world.handle(remote, &late);
    assert!(viewer.media(&mut world).is_empty());
    publisher.send(&mut world, &mut new, &frame(701, false), true);
    assert_eq!(viewer.media(&mut world).len(), 1, "the new stream goes on");
    assert!(publisher.asked(&mut world).0.is_empty());
}

#[test]
fn what_a_replaced_stream_once_sent_cannot_be_replayed() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut old = Source::new(10, 96, 500).mid("p1").rid("q");
    let taped = publisher.send(&mut world, &mut old, &frame(0, true), true);
    let mut new = Source::new(11, 96, 9_000).mid("p1").rid("q");
    publisher.send(&mut world, &mut new, &frame(700, true), true);
    world.pass(2_000);
    let _ = viewer.media(&mut world);
    let remote = publisher.remote;
    world.handle(remote, &taped);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::Replayed), 1);
}

#[test]
fn a_stream_that_comes_back_after_a_silence_of_the_other_is_taken_with_its_count() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut first = Source::new(10, 96, 65_530).mid("p1").rid("q");
    for n in 0..12 {
        publisher.send(&mut world, &mut first, &frame(n, n == 0), true);
    }
    let mut second = Source::new(11, 96, 9_000).mid("p1").rid("q");
    publisher.send(&mut world, &mut second, &frame(700, true), true);
    let _ = viewer.media(&mut world);
    world.pass(1_500);
    publisher.send(&mut world, &mut first, &frame(12, true), true);
    assert_eq!(viewer.media(&mut world).len(), 1);
}

#[test]
fn a_source_offered_again_keeps_the_count_of_its_stream() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    let mut source = Source::new(0x1111, 111, 65_530).mid("p1");
    for n in 0..12 {
        speaker.send(&mut world, &mut source, &opus(n), false);
    }
    world.apply(Command::RemovePublication { publication: 1 });
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    speaker.send(&mut world, &mut source, &opus(99), false);
    assert_eq!(listener.media(&mut world).len(), 1);
}

#[test]
fn the_first_two_packets_of_a_new_stream_may_change_places() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut old = Source::new(10, 96, 500).mid("p1").rid("q");
    publisher.send(&mut world, &mut old, &frame(0, true), true);
    let mut new = Source::new(11, 96, 9_000).mid("p1").rid("q");
    let key = new.next(&mut publisher, &frame(700, true), false);
    let rest = new.next(&mut publisher, &frame(701, false), true);
    let remote = publisher.remote;
    world.handle(remote, &rest);
    world.handle(remote, &key);
    assert_eq!(viewer.media(&mut world).len(), 3);
    // The same after a jump.
    new.seq.0 += 300;
    let key = new.next(&mut publisher, &frame(800, true), false);
    let rest = new.next(&mut publisher, &frame(801, false), true);
    world.handle(remote, &rest);
    world.handle(remote, &key);
    assert_eq!(viewer.media(&mut world).len(), 2);
}

#[test]
fn a_long_way_to_the_publisher_costs_patience_and_no_keyframe() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    let mut rtx = Source::new(0x2222, 97, 9).mid("p1");
    let (mut asked, mut keyframes, mut lost) = (0, 0, 0);
    let mut on_the_way: Vec<(u64, u16)> = Vec::new();
    for n in 0..3_000u64 {
        world.pass(10);
        if n % 3 == 0 {
            let payload = frame((n / 3) as u16, n == 0);
            if n % 60 == 30 {
                let _ = source.next(&mut publisher, &payload, true);
                lost += 1;
            } else {
                publisher.send(&mut world, &mut source, &payload, true);
            }
        }
        let (plis, nacks) = publisher.asked(&mut world);
        if n > 600 {
            keyframes += plis.len();
            asked += nacks.len();
        } else {
            lost = 0;
        }
        // 350 ms there and back.
        on_the_way.extend(nacks.iter().map(|&(_, seq)| (n + 35, seq)));
        let (here, there): (Vec<_>, Vec<_>) = on_the_way.into_iter().partition(|(at, _)| *at <= n);
        on_the_way = there;
        for (_, seq) in here {
            let mut wrapped = seq.to_be_bytes().to_vec();
            wrapped.extend(frame(seq, false));
            publisher.send(&mut world, &mut rtx, &wrapped, true);
        }
        if n % 200 == 0 {
            publisher.check(&mut world, true);
            viewer.check(&mut world, true);
        }
    }
    assert_eq!(keyframes, 0);
    assert!(asked <= 2 * lost, "{lost} lost, asked for {asked} times");
}

#[test]
fn losses_that_nobody_sees_ask_for_no_keyframe() {
    let mut world = World::new();
    let (mut publisher, viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut low = Source::new(10, 96, 0).mid("p1").rid("q");
    let mut high = Source::new(20, 96, 0).mid("p1").rid("f");
    for n in 0..100u16 {
        publisher.send(&mut world, &mut low, &frame(n, n == 0), true);
        publisher.send(&mut world, &mut high, &frame(n, n == 0), true);
        if n == 10 {
            high.seq = high.seq.next();
        }
        world.pass(33);
    }
    assert!(publisher.asked(&mut world).0.is_empty());
}

#[test]
fn a_loss_that_cannot_be_asked_for_keeps_nobody_awake() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    speaker.send(&mut world, &mut source, &opus(1), false);
    source.seq = source.seq.next();
    speaker.send(&mut world, &mut source, &opus(2), false);
    world.pass(3_000);
    assert!(!world.router.busy);
}

#[test]
fn nobody_was_there_nobody_asks_for_what_was_lost_then() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    publisher.send(&mut world, &mut source, &frame(0, true), true);
    source.seq = source.seq.next();
    publisher.send(&mut world, &mut source, &frame(2, false), true);
    world.pass(5_000);
    assert!(!world.router.busy);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.pass(100);
    assert!(publisher.asked(&mut world).1.is_empty());
}

#[test]
fn a_still_screen_that_moves_once_in_a_while_asks_for_no_keyframes() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(1));
    let mut low = Source::new(10, 96, 0).mid("p1").rid("q");
    let mut high = Source::new(20, 96, 0).mid("p1").rid("f");
    let _ = world.events();
    for n in 0..10u16 {
        publisher.send(&mut world, &mut low, &frame(n, n == 0), true);
        world.pass(15);
        publisher.send(&mut world, &mut high, &frame(n, n == 0), true);
        world.pass(1_200);
        if n == 0 {
            let _ = publisher.asked(&mut world);
        }
        publisher.check(&mut world, true);
        viewer.check(&mut world, true);
    }
    assert!(publisher.asked(&mut world).0.is_empty());
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 11, "the first low picture, then every high one");
}

#[test]
fn an_encoding_that_has_really_stopped_is_left_even_if_the_others_are_slow() {
    let mut world = World::new();
    let (mut publisher, mut viewer) = simulcast(&mut world);
    world.subscribe(&viewer, 1, 1, Some(1));
    let mut low = Source::new(10, 96, 0).mid("p1").rid("q");
    let mut high = Source::new(20, 96, 0).mid("p1").rid("f");
    publisher.send(&mut world, &mut high, &frame(0, true), true);
    publisher.send(&mut world, &mut low, &frame(0, true), true);
    for n in 1..4u16 {
        world.pass(1_200);
        publisher.send(&mut world, &mut low, &frame(n, false), true);
    }
    world.pass(300);
    assert!(publisher.asked(&mut world).0.contains(&10));
    low.timestamp += 90_000;
    publisher.send(&mut world, &mut low, &frame(5, true), true);
    assert_eq!(viewer.media(&mut world).len(), 2);
}

#[test]
fn a_copy_of_a_packet_of_no_stream_does_not_move_the_path() {
    let mut world = World::new();
    let mut client = Client::join(&mut world, 1);
    let stray = Source::new(0x7777, 120, 0).next(&mut client, &[1, 2, 3], false);
    let home = client.remote;
    world.handle(home, &stray);
    client.remote = "198.51.100.7:1234".parse().unwrap();
    client.check(&mut world, true);
    client.send_rtcp(&mut world, |slot| {
        rtcp::write_receiver_report(slot, Ssrc(1), &[])
    });
    let _ = world.events();
    world.handle(home, &stray);
    assert!(world.events().is_empty());
}

#[test]
fn a_voice_over_its_cap_is_cut_within_a_second() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.apply(Command::AddPublication {
        publication: 1,
        transport: 1,
        spec: PublicationSpec {
            codec: Codec::Opus,
            mid: "p1".into(),
            payload_type: 111,
            rtx_payload_type: None,
            red_payload_type: None,
            event_payload_type: None,
            encodings: vec![Encoding {
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
            }],
            max_bitrate: 64_000,
            nack: false,
        },
    });
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    for _ in 0..500 {
        speaker.send(&mut world, &mut source, &[0x78; 1_000], false);
        world.pass(2);
    }
    let bytes: usize = listener
        .media(&mut world)
        .iter()
        .map(|(_, payload)| payload.len())
        .sum();
    assert!(bytes * 8 <= 3 * 64_000, "{bytes} bytes in a second");
}
