//! Where streams are joined or packets left out: late packets, padding, temporal layers, frames cut in two, streams that start
//! anew. Whatever happens, numbers go on and nothing is sealed twice (the client checks).

use super::client::Source;
use super::simulcast::{Simulcast, encoding_of, seamless};
use super::{Client, World, opus, vp8};
use crate::api::Command;
use crate::wire::codec::vp8::Descriptor;
use crate::wire::drop::DropReason;

#[test]
fn late_packets_around_a_switch_find_their_old_numbers() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.shoot(&mut world, 1, true);
    // One packet of the old encoding is under way longer than the switch takes, and one of the new comes before its keyframe.
    let late =
        publisher.sources[0].next(&mut publisher.client, &vp8(2, 2, 0, false, &[0; 4]), true);
    publisher.pictures[0] = 3;
    publisher.shoot(&mut world, 0, false);
    publisher.tick(&mut world);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(1),
        temporal: 255,
    });
    let keyframe = publisher.sources[1].next(
        &mut publisher.client,
        &vp8(9_002, 2, 0, true, &[1; 4]),
        true,
    );
    let after = publisher.sources[1].next(
        &mut publisher.client,
        &vp8(9_003, 3, 0, false, &[1; 4]),
        true,
    );
    let remote = publisher.client.remote;
    for datagram in [&after, &keyframe, &late] {
        world.handle(remote, datagram);
    }
    let got = viewer.media(&mut world);
    let first = got[0].0.seq;
    let order: Vec<(i16, u8)> = got
        .iter()
        .map(|(header, payload)| (header.seq.since(first), encoding_of(payload)))
        .collect();
    assert_eq!(order, [(0, 0), (2, 0), (3, 1), (4, 1), (1, 0)]);
}

#[test]
fn padding_ends_at_the_server_and_leaves_no_hole() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    for _ in 0..20 {
        publisher
            .client
            .send(&mut world, &mut publisher.sources[0], &[], false);
        publisher.frame(&mut world, &[0]);
    }
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 21);
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
    assert_eq!(world.drops(DropReason::Padding), 20);
    // Padding for which a number was kept, because it was late, fills that number with an empty packet.
    let padding = publisher.sources[0].next(&mut publisher.client, &[], false);
    publisher.shoot(&mut world, 0, false);
    let remote = publisher.client.remote;
    world.handle(remote, &padding);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].0.seq.since(got[1].0.seq), 1);
    assert!(got[1].1.is_empty() && got[1].0.padding);
}

#[test]
fn temporal_layers_are_left_out_without_a_trace() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut sent = 0u16;
    let mut tl0 = 0u8;
    let mut shoot = |world: &mut World, publisher: &mut Simulcast, frames: u16| {
        for _ in 0..frames {
            // 0 2 1 2, two packets each.
            let tid = [0, 2, 1, 2][usize::from(sent % 4)];
            tl0 = tl0.wrapping_add(u8::from(tid == 0));
            let payload = vp8(sent, tl0, tid, sent == 0, &[tid; 8]);
            let mut second = payload.clone();
            second[0] &= !0x10;
            publisher
                .client
                .send(world, &mut publisher.sources[0], &payload, false);
            publisher
                .client
                .send(world, &mut publisher.sources[0], &second, true);
            sent += 1;
            publisher.tick(world);
        }
    };
    shoot(&mut world, &mut publisher, 8);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 0,
    });
    shoot(&mut world, &mut publisher, 16);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 1,
    });
    shoot(&mut world, &mut publisher, 16);
    let got = viewer.media(&mut world);
    let tids: Vec<u8> = got
        .chunks(2)
        .map(|frame| frame[0].1[frame[0].1.len() - 1])
        .collect();
    assert_eq!(tids[..8], [0, 2, 1, 2, 0, 2, 1, 2]);
    assert_eq!(tids[8..12], [0; 4]);
    assert_eq!(tids[12..], [0, 1, 0, 1, 0, 1, 0, 1]);
    let ids: Vec<u16> = got
        .chunks(2)
        .map(|frame| Descriptor::parse(&frame[0].1).unwrap().picture_id.unwrap())
        .collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
}

#[test]
fn a_publisher_who_starts_anew_needs_a_keyframe_and_nothing_else() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0]);
    publisher.sources[0] = Source::new(77, 96, 40_000).mid("p1").rid("q");
    publisher.sources[0].timestamp = 5;
    publisher.pictures[0] = 30_000;
    publisher.shoot(&mut world, 0, false);
    assert_eq!(publisher.client.asked(&mut world).0, [77]);
    publisher.tick(&mut world);
    publisher.shoot(&mut world, 0, true);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 3);
    seamless(&got, "across the new SSRC");
}

#[test]
fn a_voice_goes_on_after_a_jump_without_waiting_for_anything() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    for n in 0..4u64 {
        source.timestamp += 960;
        speaker.send(&mut world, &mut source, &opus(n as u8), false);
        source.seq.0 += n * 1_000;
    }
    let got = listener.media(&mut world);
    assert_eq!(got.len(), 4);
    assert!(got.windows(2).all(|pair| {
        let step = pair[1].0.seq.since(pair[0].0.seq);
        step == 1
    }));
}

#[test]
fn a_late_packet_of_a_layer_left_out_fills_its_number_empty() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 0,
    });
    publisher.shoot(&mut world, 0, true);
    let upper = vp8(2, 1, 2, false, &[2; 10]);
    let late = publisher.sources[0].next(&mut publisher.client, &upper, true);
    publisher.pictures[0] = 3;
    publisher.shoot(&mut world, 0, false);
    let remote = publisher.client.remote;
    world.handle(remote, &late);
    let got = viewer.media(&mut world);
    let first = got[0].0.seq;
    let numbers: Vec<_> = got
        .iter()
        .map(|(header, _)| header.seq.since(first))
        .collect();
    assert_eq!(numbers, [0, 2, 1]);
    assert!(got[2].1.is_empty() && got[2].0.padding && !got[2].0.marker);
    // A hole would stop a decoder for as long as it waits: what is empty is repaired like the rest.
    viewer.nack(&mut world, 0x5000_0001, &[got[2].0.seq.0]);
    assert_eq!(viewer.media(&mut world).len(), 1);
}

#[test]
fn what_came_before_a_jump_is_over() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    let before =
        publisher.sources[0].next(&mut publisher.client, &vp8(5, 5, 0, true, b"old"), true);
    publisher.sources[0].seq.0 += 300;
    publisher.shoot(&mut world, 0, true);
    assert_eq!(viewer.media(&mut world).len(), 2);
    let remote = publisher.client.remote;
    world.handle(remote, &before);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::Late), 1);
}

/// One frame in several packets.
fn fragments(picture: u16, keyframe: bool, encoding: u8, count: usize) -> Vec<Vec<u8>> {
    let first = vp8(picture, picture as u8, 0, keyframe, &[encoding; 10]);
    let mut rest = vp8(picture, picture as u8, 0, false, &[encoding; 10]);
    rest[0] &= !0x10; // not the start of a partition
    std::iter::once(first)
        .chain(std::iter::repeat_n(rest, count - 1))
        .collect()
}

#[test]
fn the_old_picture_goes_on_until_the_new_one_is_whole_and_no_frame_is_cut() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    for n in 0..2 {
        publisher.shoot(&mut world, n, true);
    }
    publisher.tick(&mut world);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(1),
        temporal: 255,
    });
    assert_eq!(viewer.media(&mut world).len(), 1);
    assert_eq!(publisher.client.asked(&mut world).0, [20]);
    let remote = publisher.client.remote;
    let seal = |publisher: &mut Simulcast, n: usize, frame: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let last = frame.len() - 1;
        let sealed = frame.iter().enumerate().map(|(at, payload)| {
            publisher.sources[n].next(&mut publisher.client, payload, at == last)
        });
        sealed.collect()
    };
    let keyframe = seal(&mut publisher, 1, &fragments(9_010, true, 1, 3));
    let old = seal(&mut publisher, 0, &fragments(2, false, 0, 3));
    let after = seal(&mut publisher, 1, &fragments(9_011, false, 1, 1));
    let shown = |viewer: &mut Client, world: &mut World| -> Vec<u8> {
        viewer
            .media(world)
            .iter()
            .map(|(_, payload)| encoding_of(payload))
            .collect()
    };
    for datagram in [&keyframe[0], &old[0], &keyframe[2], &old[1]] {
        world.handle(remote, datagram);
    }
    assert_eq!(
        shown(&mut viewer, &mut world),
        [0, 0],
        "a packet of the keyframe is missing"
    );
    world.handle(remote, &keyframe[1]);
    assert!(
        shown(&mut viewer, &mut world).is_empty(),
        "whole, but the old frame has not ended"
    );
    world.handle(remote, &old[2]);
    assert_eq!(shown(&mut viewer, &mut world), [0, 1, 1, 1]);
    world.handle(remote, &after[0]);
    publisher.shoot(&mut world, 0, false);
    assert_eq!(shown(&mut viewer, &mut world), [1]);
    world.pass(1_100);
    assert!(
        !publisher.client.asked(&mut world).0.contains(&20),
        "nobody asked for a second keyframe meanwhile"
    );
}

#[test]
fn a_frame_whose_end_is_lost_does_not_hold_up_the_switch() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    let unended = vp8(2, 2, 0, false, &[0; 10]);
    publisher
        .client
        .send(&mut world, &mut publisher.sources[0], &unended, false);
    publisher.shoot(&mut world, 1, false);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(1),
        temporal: 255,
    });
    publisher.shoot(&mut world, 1, true);
    let _ = viewer.media(&mut world);
    for _ in 0..10 {
        publisher.frame(&mut world, &[1]);
    }
    let layers: Vec<u8> = viewer
        .media(&mut world)
        .iter()
        .map(|(_, payload)| encoding_of(payload))
        .collect();
    assert!(
        layers.len() >= 10 && layers.iter().all(|&layer| layer == 1),
        "{layers:?}"
    );
}

#[test]
fn one_who_sees_a_picture_is_not_taken_back_to_an_older_one() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    for n in 0..2 {
        publisher.shoot(&mut world, n, true);
    }
    for _ in 0..10 {
        publisher.frame(&mut world, &[0, 1]);
    }
    let _ = viewer.media(&mut world);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(1),
        temporal: 255,
    });
    publisher.frame(&mut world, &[0, 1]);
    let layers: Vec<u8> = viewer
        .media(&mut world)
        .iter()
        .map(|(_, payload)| encoding_of(payload))
        .collect();
    assert_eq!(
        layers,
        [0],
        "the keyframe in the cache is a third of a second old"
    );
}
