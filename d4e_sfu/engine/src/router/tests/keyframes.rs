//! Keyframe requests: merged upward; and joiners who need none because the picture is in the cache.

use super::client::Source;
use super::{Client, World, h264_keyframe, h264_slice, vp8};
use crate::api::Codec;

struct Camera {
    client: Client,
    source: Source,
    frame: u16,
}

impl Camera {
    fn new(world: &mut World) -> Self {
        let client = Client::join(world, 1);
        world.publish_video(&client, 1, Codec::Vp8, &[]);
        Self {
            client,
            source: Source::new(0x1111, 96, 0).mid("p1"),
            frame: 0,
        }
    }
    fn shoot(&mut self, world: &mut World, keyframe: bool) {
        self.source.timestamp = self.source.timestamp.wrapping_add(3_000);
        let payload = vp8(
            self.frame,
            self.frame as u8,
            0,
            keyframe,
            &self.frame.to_be_bytes(),
        );
        self.frame += 1;
        self.client.send(world, &mut self.source, &payload, true);
    }
    fn requests(&mut self, world: &mut World) -> usize {
        self.client.asked(world).0.len()
    }
}

#[test]
fn the_first_request_goes_at_once_and_the_next_not_within_a_second() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let mut viewers: Vec<_> = (2..22).map(|id| Client::join(&mut world, id)).collect();
    for viewer in &viewers {
        world.subscribe(viewer, viewer.id, 1, Some(0));
    }
    camera.shoot(&mut world, true);
    let _ = camera.requests(&mut world);
    world.pass(1_500);
    camera.shoot(&mut world, false);
    let _ = camera.requests(&mut world);
    // Two hundred requests in a second and a half.
    let mut sent = Vec::new();
    for step in 0..15 {
        for viewer in &mut viewers {
            let ssrc = 0x5000_0000 + viewer.id;
            viewer.pli(&mut world, ssrc);
        }
        for _ in 0..camera.requests(&mut world) {
            sent.push(step);
        }
        world.pass(100);
    }
    assert_eq!(sent, [0, 10], "in steps of 100 ms");
    assert_eq!(
        world.router.snapshot().counters.keyframe_requests_received,
        300
    );
}

#[test]
fn one_who_asks_without_end_gets_a_keyframe_every_four_seconds_and_others_theirs_at_once() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let mut crook = Client::join(&mut world, 2);
    let mut honest = Client::join(&mut world, 3);
    world.subscribe(&crook, 2, 1, Some(0));
    world.subscribe(&honest, 3, 1, Some(0));
    let _ = camera.requests(&mut world);
    let mut sent = Vec::new();
    for step in 0..240 {
        if step % 20 == 0 {
            for client in [&crook, &honest, &camera.client] {
                client.check(&mut world, true);
            }
        }
        // The crook from 2 to 18 s, and once more when he has been quiet; the honest one once, between two of his.
        if (20..180).contains(&step) || step == 230 {
            crook.pli(&mut world, 0x5000_0002);
        }
        if step == 110 {
            honest.pli(&mut world, 0x5000_0003);
        }
        let asked = camera.requests(&mut world);
        sent.extend(std::iter::repeat_n(step, asked));
        world.pass(50);
        camera.shoot(&mut world, asked > 0 || step == 0);
        world.pass(50);
    }
    assert_eq!(sent, [20, 30, 50, 90, 110, 130, 170, 230]);
}

#[test]
fn a_keyframe_answers_what_was_asked_before_it_and_silence_is_asked_again_each_second() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let viewer = Client::join(&mut world, 2);
    camera.shoot(&mut world, false);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut sent = camera.requests(&mut world);
    assert_eq!(sent, 1, "at once");
    for _ in 0..30 {
        world.pass(100);
        camera.shoot(&mut world, false);
        sent += camera.requests(&mut world);
    }
    assert_eq!(sent, 4, "and once a second while none comes");
    camera.shoot(&mut world, true);
    for _ in 0..30 {
        world.pass(100);
        sent += camera.requests(&mut world);
    }
    assert_eq!(sent, 4);
}

#[test]
fn a_joiner_within_a_second_of_the_keyframe_is_served_from_the_cache() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let first = Client::join(&mut world, 2);
    world.subscribe(&first, 1, 1, Some(0));
    camera.shoot(&mut world, true);
    for _ in 0..9 {
        world.pass(33);
        camera.shoot(&mut world, false);
    }
    let _ = camera.requests(&mut world);
    let mut late = Client::join(&mut world, 3);
    world.subscribe(&late, 2, 1, Some(0));
    let got = late.media(&mut world);
    assert_eq!(got.len(), 10, "the whole picture, at once");
    assert_eq!(got[0].1, vp8(0, 0, 0, true, &[0, 0]));
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
    camera.shoot(&mut world, false);
    assert_eq!(
        late.media(&mut world).len(),
        1,
        "and then live, nothing twice (the client checks)"
    );
    assert_eq!(camera.requests(&mut world), 0, "nobody was asked");
    assert_eq!(world.router.snapshot().counters.pictures_from_cache, 1);
    // A second after the keyframe its picture is too old: the publisher is asked.
    world.pass(1_000);
    let mut later = Client::join(&mut world, 4);
    world.subscribe(&later, 3, 1, Some(0));
    assert!(later.media(&mut world).is_empty());
    let _ = camera.requests(&mut world);
    camera.shoot(&mut world, true);
    assert_eq!(later.media(&mut world).len(), 1);
}

#[test]
fn the_start_of_a_keyframe_that_comes_last_still_opens_the_picture() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let client = &mut camera.client;
    let start = camera
        .source
        .next(client, &vp8(0, 0, 0, true, b"start"), false);
    let mut rest = vp8(0, 0, 0, false, b"rest");
    rest[0] &= !0x10; // not the start of a partition
    let rest = camera.source.next(client, &rest, true);
    let remote = client.remote;
    world.handle(remote, &rest);
    assert!(viewer.media(&mut world).is_empty());
    world.handle(remote, &start);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 2);
    assert!(got[0].1.ends_with(b"start") && got[1].1.ends_with(b"rest"));
}

#[test]
fn an_h264_picture_begins_with_its_parameter_sets() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::H264, &[]);
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    publisher.send(&mut world, &mut source, &h264_keyframe(), false);
    publisher.send(&mut world, &mut source, &h264_slice(true, 1), true);
    world.pass(1_200);
    world.subscribe(&viewer, 1, 1, Some(0));
    source.timestamp += 3_000;
    publisher.send(&mut world, &mut source, &h264_slice(false, 2), true);
    source.timestamp += 3_000;
    publisher.send(&mut world, &mut source, &h264_slice(true, 3), true);
    assert!(
        viewer.media(&mut world).is_empty(),
        "an IDR slice whose parameter sets are missing opens nothing"
    );
    source.timestamp += 3_000;
    publisher.send(&mut world, &mut source, &h264_keyframe(), false);
    publisher.send(&mut world, &mut source, &h264_slice(true, 4), true);
    let got = viewer.media(&mut world);
    assert_eq!(
        got.iter()
            .map(|(_, payload)| payload.clone())
            .collect::<Vec<_>>(),
        [h264_keyframe(), h264_slice(true, 4)]
    );
}

#[test]
fn nobody_watches_nobody_asks() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let viewer = Client::join(&mut world, 2);
    camera.shoot(&mut world, false);
    world.subscribe(&viewer, 1, 1, None);
    for _ in 0..30 {
        camera.shoot(&mut world, false);
        world.pass(100);
    }
    assert_eq!(
        camera.requests(&mut world),
        0,
        "a paused subscription waits for nothing"
    );
}

#[test]
fn a_keyframe_and_its_rest_in_one_batch_go_out_once_in_any_order() {
    for order in [[0usize, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let mut world = World::new();
        let mut camera = Camera::new(&mut world);
        let mut viewer = Client::join(&mut world, 2);
        world.subscribe(&viewer, 1, 1, Some(0));
        let client = &mut camera.client;
        let sent = [0u16, 1, 2].map(|n| {
            camera
                .source
                .next(client, &vp8(n, n as u8, 0, n == 0, &[n as u8]), true)
        });
        let remote = client.remote;
        world.handle_batch(remote, &order.map(|n| sent[n].as_slice()));
        let mut got: Vec<u8> = viewer
            .media(&mut world)
            .iter()
            .map(|(_, payload)| payload[payload.len() - 1])
            .collect();
        got.sort_unstable();
        assert_eq!(
            got,
            [0, 1, 2],
            "{order:?}; that none is sealed twice the client checks"
        );
    }
}

#[test]
fn a_keyframe_that_comes_after_its_successor_does_not_rewind_the_picture() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let late = camera
        .source
        .next(&mut camera.client, &vp8(0, 0, 0, true, b"first"), true);
    camera.frame = 1;
    camera.shoot(&mut world, true);
    assert_eq!(viewer.media(&mut world).len(), 1);
    let layer = |spatial| crate::api::Command::SetLayer {
        subscription: 1,
        spatial,
        temporal: 255,
    };
    world.apply(layer(None));
    world.apply(layer(Some(0)));
    let remote = camera.client.remote;
    world.handle(remote, &late);
    assert!(viewer.media(&mut world).is_empty());
}

#[test]
fn a_picture_begins_with_the_first_of_its_parameter_sets() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::H264, &[]);
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    publisher.send(&mut world, &mut source, &[0x67, 0x42, 0xe0, 0x1f], false);
    publisher.send(&mut world, &mut source, &h264_keyframe(), false);
    publisher.send(&mut world, &mut source, &h264_slice(true, 1), true);
    let mut late = Client::join(&mut world, 2);
    world.subscribe(&late, 1, 1, Some(0));
    assert_eq!(late.media(&mut world).len(), 3);
}

#[test]
fn without_parameter_sets_in_band_a_picture_begins_with_its_first_slice() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::H264, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    for n in 0..3 {
        publisher.send(&mut world, &mut source, &h264_slice(true, n), n == 2);
    }
    assert!(
        viewer.media(&mut world).is_empty(),
        "the first one's parameter sets may still come"
    );
    source.timestamp += 3_000;
    for n in 0..3 {
        publisher.send(&mut world, &mut source, &h264_slice(true, n), n == 2);
    }
    assert_eq!(viewer.media(&mut world).len(), 3);
}

#[test]
fn the_very_first_picture_is_whole_even_if_its_slice_comes_before_its_parameter_sets() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, Codec::H264, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    let sets = source.next(&mut publisher, &h264_keyframe(), false);
    publisher.send(&mut world, &mut source, &h264_slice(true, 1), true);
    assert!(viewer.media(&mut world).is_empty());
    let remote = publisher.remote;
    world.handle(remote, &sets);
    let got = viewer.media(&mut world);
    assert_eq!(
        got.iter()
            .map(|(_, payload)| payload.clone())
            .collect::<Vec<_>>(),
        [h264_keyframe(), h264_slice(true, 1)]
    );
}

#[test]
fn a_first_picture_whose_parameter_sets_come_late_begins_with_them() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::H264, &[]);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 0).mid("p1");
    let sps = source.next(&mut publisher, &[0x67, 1, 2, 3], false);
    for n in 0..2 {
        publisher.send(&mut world, &mut source, &h264_slice(true, n), n == 1);
        assert!(viewer.media(&mut world).is_empty());
    }
    let remote = publisher.remote;
    world.handle(remote, &sps);
    assert_eq!(viewer.media(&mut world).len(), 3);
}

#[test]
fn who_leaves_no_longer_waits() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let viewer = Client::join(&mut world, 2);
    camera.shoot(&mut world, false);
    world.subscribe(&viewer, 1, 1, Some(0));
    assert_eq!(camera.requests(&mut world), 1);
    world.apply(crate::api::Command::RemoveSubscription { subscription: 1 });
    let mut sent = 0;
    for _ in 0..50 {
        world.pass(100);
        camera.shoot(&mut world, false);
        sent += camera.requests(&mut world);
    }
    assert_eq!(sent, 0);
}

#[test]
fn a_request_that_crossed_the_keyframe_is_not_passed_on() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world);
    let mut viewer = Client::join(&mut world, 2);
    camera.shoot(&mut world, false);
    world.subscribe(&viewer, 1, 1, Some(0));
    assert_eq!(camera.requests(&mut world), 1);
    world.pass(60);
    camera.shoot(&mut world, true);
    world.pass(99);
    viewer.pli(&mut world, 0x5000_0001);
    world.pass(2_000);
    assert_eq!(
        camera.requests(&mut world),
        0,
        "the keyframe went less than a round trip ago"
    );
    viewer.pli(&mut world, 0x5000_0001);
    assert_eq!(camera.requests(&mut world), 1, "this one knows what he got");
}
