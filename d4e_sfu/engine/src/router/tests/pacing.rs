//! A link that is the limit: who waits, who does not, and what is given up.

use super::client::Source;
use super::{Client, World, opus, vp8};
use crate::api::{Codec, Command, Event, Extension};
use crate::now::Now;
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;

const VOICE: u32 = 0x5000_0001;
const PICTURE: u32 = 0x5000_0002;

/// One who sends voice and picture, and one whose client tells by REMB what his link carries.
struct Scene {
    world: World,
    sender: Client,
    viewer: Client,
    voice: Source,
    camera: Source,
    picture: u16,
    /// Keyframe requests that have come to the sender, and when.
    asked: Vec<Now>,
    keyframe: bool,
    /// Of each frame.
    packets: usize,
    temporal_layers: u8,
    got: Vec<(Now, Header, Vec<u8>)>,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let (sender, viewer) = (Client::join(&mut world, 1), Client::join(&mut world, 2));
        // Nobody there knows transport-wide numbers.
        world.apply(Command::SetExtensions {
            transport: 2,
            extensions: vec![(Extension::Mid, 1)],
            allow_mixed: false,
        });
        world.publish_voice(&sender, 1);
        world.publish_video(&sender, 2, Codec::Vp8, &[]);
        world.subscribe(&viewer, 1, 1, Some(0));
        world.subscribe(&viewer, 2, 2, Some(0));
        Self {
            world,
            sender,
            viewer,
            voice: Source::new(11, 111, 0).mid("p1"),
            camera: Source::new(22, 96, 65_000).mid("p2"),
            picture: 0,
            asked: Vec::new(),
            keyframe: true,
            packets: 2,
            temporal_layers: 1,
            got: Vec::new(),
        }
    }

    /// Seconds of 50 voices and 25 frames.
    fn run(&mut self, seconds: u64) {
        self.run_ms(seconds * 1_000);
    }

    fn run_ms(&mut self, ms: u64) {
        for ms in 0..ms {
            if ms % 20 == 0 {
                self.voice.timestamp += 960;
                let sound = opus(ms as u8);
                self.sender
                    .send(&mut self.world, &mut self.voice, &sound, false);
            }
            if ms % 40 == 7 {
                self.frame();
            }
            if ms % 1_000 == 0 {
                self.viewer.check(&mut self.world, true);
                self.sender.check(&mut self.world, true);
            }
            self.collect();
            self.world.pass(1);
        }
        self.collect();
    }

    /// A receiver's REMB follows what comes, and is told at least once a second.
    fn widen(&mut self) {
        for _ in 0..8 {
            self.viewer.remb(&mut self.world, 5_000_000);
            self.run_ms(500);
        }
    }

    fn frame(&mut self) {
        self.camera.timestamp = self.camera.timestamp.wrapping_add(3_600);
        let keyframe = std::mem::take(&mut self.keyframe);
        let tid = if self.temporal_layers > 1 && !keyframe {
            (self.picture % u16::from(self.temporal_layers)) as u8
        } else {
            0
        };
        let (picture, tl0) = (self.picture, (self.picture / 2) as u8);
        self.picture = self.picture.wrapping_add(1);
        let packets = if keyframe {
            self.packets * 2
        } else {
            self.packets
        };
        for n in 0..packets {
            let mut payload = vp8(picture, tl0, tid, keyframe, &[n as u8; 1_000]);
            if n > 0 {
                payload[0] &= !0x10; // Not the start of the partition: not the first of its frame.
            }
            let last = n + 1 == packets;
            self.sender
                .send(&mut self.world, &mut self.camera, &payload, last);
        }
    }

    fn collect(&mut self) {
        let now = self.world.now;
        for (header, payload) in self.viewer.media(&mut self.world) {
            self.got.push((now, header, payload));
        }
        let (plis, _) = self.sender.asked(&mut self.world);
        if !plis.is_empty() {
            self.asked.push(now);
            self.keyframe = true;
        }
    }

    fn of(&self, ssrc: u32, since: Now) -> Vec<&(Now, Header, Vec<u8>)> {
        self.got
            .iter()
            .filter(|(at, header, _)| header.ssrc.0 == ssrc && *at >= since)
            .collect()
    }

    /// Bits per second of everything since then, with IP, UDP, header and tag.
    fn rate(&self, since: Now) -> u64 {
        let bytes: usize = self
            .got
            .iter()
            .filter(|(at, ..)| *at >= since)
            .map(|(_, header, payload)| header.len + payload.len() + 16 + 28)
            .sum();
        bytes as u64 * 8_000 / (self.world.now.since(since).as_millis() as u64).max(1)
    }
}

/// No number is missing, though much was given up: there is nothing to ask for.
fn assert_no_holes(packets: &[&(Now, Header, Vec<u8>)]) {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].1.seq.since(pair[0].1.seq), 1);
    }
}

#[test]
fn voice_never_waits_and_the_picture_is_shed_without_a_hole_in_its_numbers() {
    let mut scene = Scene::new();
    scene.run(2);
    assert_eq!(scene.of(PICTURE, Now(0)).len(), 102, "all of it, at once");
    scene.viewer.remb(&mut scene.world, 120_000);
    let since = scene.world.now;
    let events = scene.world.events();
    assert!(!events.contains(&paused()), "{events:?}");
    scene.run(20);
    let voices = scene.of(VOICE, since);
    assert_eq!(voices.len(), 1_000);
    for pair in voices.windows(2) {
        assert_eq!(pair[1].0.since(pair[0].0).as_millis(), 20, "voice waited");
    }
    let pictures = scene.of(PICTURE, Now(0));
    assert_no_holes(&pictures);
    let shed = scene.world.drops(DropReason::QueueFull);
    assert!(shed > 500, "{shed} of some thousand");
    let rate = scene.rate(since);
    assert!(rate <= 130_000, "{rate}: paced by what the link carries");
    assert!(rate >= 40_000, "{rate}: pictures are tried again");
    let asked: Vec<Now> = scene
        .asked
        .iter()
        .copied()
        .filter(|&at| at > since)
        .collect();
    assert!(asked.len() >= 3, "{asked:?}");
    for pair in asked.windows(2) {
        let apart = pair[1].since(pair[0]).as_millis();
        assert!(apart >= 2_000, "{apart} ms between keyframe requests");
    }
    assert!(scene.world.events().contains(&paused()));
    let estimates = scene.world.estimates();
    assert!(estimates.is_empty(), "told and taken: {estimates:?}");
    // The link is wide again: the picture is back within the time that it rests, and stays.
    scene.widen();
    scene.run(2);
    let since = scene.world.now;
    scene.run(2);
    assert_eq!(scene.of(PICTURE, since).len(), 100);
    assert_no_holes(&scene.of(PICTURE, Now(0)));
}

#[test]
fn a_client_whose_picture_is_held_gets_no_keyframe_however_often_he_asks() {
    let mut scene = Scene::new();
    scene.run(2);
    scene.viewer.remb(&mut scene.world, 120_000);
    let _ = scene.world.events();
    while !scene.world.events().contains(&paused()) {
        scene.run_ms(20);
    }
    let before = scene.asked.len();
    for _ in 0..18 {
        scene.viewer.pli(&mut scene.world, PICTURE);
        scene.run_ms(100);
    }
    assert_eq!(scene.asked.len(), before);
    scene.run_ms(400);
    assert_eq!(scene.asked.len(), before + 1, "when it is time");
}

fn paused() -> Event {
    Event::LayerChanged {
        subscription: 2,
        spatial: None,
    }
}

#[test]
fn higher_temporal_layers_go_first_and_the_picture_stays() {
    let mut scene = Scene::new();
    scene.temporal_layers = 2;
    scene.run(1);
    // 25 frames of 2,1xx bytes are 430 kbit/s; half of them fit.
    scene.viewer.remb(&mut scene.world, 260_000);
    let since = scene.world.now;
    let _ = scene.world.events();
    scene.run(10);
    assert!(!scene.world.events().contains(&paused()));
    let pictures = scene.of(PICTURE, since).len() / 2;
    assert!((125..230).contains(&pictures), "{pictures} of 250 frames");
    assert_no_holes(&scene.of(PICTURE, Now(0)));
    assert!(scene.world.drops(DropReason::QueueFull) > 0);
    scene.widen();
    let since = scene.world.now;
    scene.run(1);
    assert_eq!(scene.of(PICTURE, since).len(), 50, "all of them again");
}

#[test]
fn nothing_waits_longer_than_a_second_even_if_the_link_collapses() {
    let mut scene = Scene::new();
    scene.packets = 20;
    scene.run(1);
    scene.viewer.remb(&mut scene.world, 2_000_000);
    scene.run(1);
    scene.viewer.remb(&mut scene.world, 10_000);
    let since = scene.world.now;
    scene.run(5);
    let late = scene
        .of(PICTURE, since)
        .iter()
        .filter(|(at, ..)| at.since(since).as_millis() > 1_000)
        .count();
    assert_eq!(late, 0, "the voice alone is more than it carries");
    assert_no_holes(&scene.of(PICTURE, Now(0)));
    assert_eq!(scene.of(VOICE, since).len(), 250);
}

#[test]
fn a_retransmission_goes_before_pictures_and_counts_against_the_link() {
    let mut scene = Scene::new();
    scene.run(1);
    scene.viewer.remb(&mut scene.world, 300_000);
    scene.run(1);
    let newest = scene.of(PICTURE, Now(0)).last().unwrap().1.seq;
    let since = scene.world.now;
    let lost: Vec<u16> = (0..6).map(|n| newest.0.wrapping_sub(n)).collect();
    scene.viewer.nack(&mut scene.world, PICTURE, &lost);
    scene.run(1);
    let again = scene.of(0x6000_0002, since);
    assert!(again.len() >= 5, "{}", again.len());
    let (first, last) = (again[0].0, again[again.len() - 1].0);
    assert!(last.since(first).as_millis() >= 60, "in one burst");
    assert!(
        last.since(since).as_millis() <= 250,
        "too late to be of use"
    );
    let between = scene
        .of(PICTURE, first)
        .iter()
        .filter(|(at, ..)| *at < last)
        .count();
    assert_eq!(between, 0, "pictures go behind them");
}

#[test]
fn without_a_word_from_the_client_nothing_waits() {
    let mut scene = Scene::new();
    scene.packets = 60;
    scene.run(3);
    assert_eq!(scene.of(PICTURE, Now(0)).len(), 75 * 60 + 60);
    assert_eq!(scene.world.router.snapshot().counters.packets_paced, 0);
    let told = scene.world.estimates();
    assert!(told.iter().all(|estimate| estimate.bitrate == u32::MAX));
}

#[test]
fn what_waits_for_a_subscription_that_goes_is_forgotten() {
    let mut scene = Scene::new();
    scene.packets = 20;
    scene.run(1);
    scene.viewer.remb(&mut scene.world, 100_000);
    scene.run(1);
    scene.frame();
    scene
        .world
        .apply(Command::RemoveSubscription { subscription: 2 });
    scene.collect();
    let since = scene.world.now;
    // Its row is another's now.
    scene.world.publish_video(&scene.sender, 3, Codec::Vp8, &[]);
    scene.world.subscribe(&scene.viewer, 3, 3, Some(0));
    scene.run(1);
    assert!(scene.of(PICTURE, since).len() <= 1);
    assert!(scene.of(0x5000_0003, since).is_empty());
    scene.world.apply(Command::RemoveTransport { transport: 2 });
    scene.run(1);
    assert!(scene.world.router.pacing.is_empty());
}

/// Of two encodings, both wait while the one gives way to the other.
#[test]
fn a_switch_while_packets_wait_sends_none_twice_and_leaves_no_hole() {
    let mut world = World::new();
    let (mut sender, mut viewer) = (Client::join(&mut world, 1), Client::join(&mut world, 2));
    world.publish_video(&sender, 2, Codec::Vp8, &["q", "h"]);
    world.subscribe(&viewer, 2, 2, Some(0));
    viewer.remb(&mut world, 320_000);
    let mut sources = ["q", "h"].map(|rid| {
        Source::new(u32::from(rid.as_bytes()[0]), 96, 0)
            .mid("p2")
            .rid(rid)
    });
    let mut got: Vec<(Header, Vec<u8>)> = Vec::new();
    let mut shown = [0, 0];
    for n in 0..400u16 {
        if n % 40 == 10 {
            let spatial = Some((n / 40 % 2) as u8);
            world.apply(Command::SetLayer {
                subscription: 2,
                spatial,
                temporal: 255,
            });
        }
        // Both send 25 frames a second of 1,800 bytes: 360 kbit/s. A keyframe has three packets.
        for (at, source) in sources.iter_mut().enumerate() {
            source.timestamp = source.timestamp.wrapping_add(3_600);
            let keyframe = n % 20 == 0;
            let packets = if keyframe { 3 } else { 2 };
            for part in 0..packets {
                let mut payload = vp8(n, 0, 0, keyframe, &[at as u8; 900]);
                if part > 0 {
                    payload[0] &= !0x10;
                }
                sender.send(&mut world, source, &payload, part + 1 == packets);
            }
        }
        if n % 25 == 0 {
            viewer.check(&mut world, true);
            sender.check(&mut world, true);
        }
        for _ in 0..40 {
            world.pass(1);
            // No SRTP index may come twice: `media` sees to that.
            got.extend(viewer.media(&mut world));
        }
    }
    for pair in got.windows(2) {
        assert_eq!(pair[1].0.seq.since(pair[0].0.seq), 1);
    }
    for (_, payload) in &got {
        shown[usize::from(payload[payload.len() - 1])] += 1;
    }
    assert!(shown[0] > 100 && shown[1] > 100, "{shown:?}");
    let counters = world.router.snapshot().counters;
    assert!(counters.packets_paced > 100, "{}", counters.packets_paced);
}
