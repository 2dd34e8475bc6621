//! What Python is told of voices and links, and how often.

use super::{Client, World, opus, vp8};
use crate::api::{Codec, Leg, Link, Rate, Voice};
use crate::router::tests::client::Source;
use crate::wire::rtcp::{self, Block};
use crate::wire::seq::{SeqNo, Ssrc};

const VIEWED: u32 = 0x5000_0001;

/// Half a second of a voice, and what was told at the end of it.
fn speak(
    world: &mut World,
    speaker: &mut Client,
    source: &mut Source,
    level: Option<u8>,
) -> Vec<Voice> {
    source.level = level;
    world.measured();
    for n in 0..25 {
        speaker.send(world, source, &opus(n), n == 0);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.pass(20);
    }
    world.measured().0
}

#[test]
fn speech_is_told_with_its_loudness_and_length_and_silence_is_not() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 7);
    world.publish_voice(&speaker, 3);
    let mut source = Source::new(0x1111, 111, 500).mid("p3");
    for quiet in [Some(0x80 | 60), None] {
        assert!(speak(&mut world, &mut speaker, &mut source, quiet).is_empty());
    }
    let told = speak(&mut world, &mut speaker, &mut source, Some(30));
    let [voice] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (voice.transport, voice.publication, voice.level),
        (7, 3, 30)
    );
    assert!((160..=220).contains(&voice.spoken_ms), "{voice:?}");
    world.pass(1_000);
    world.measured();
    world.pass(1_000);
    assert!(world.measured().0.is_empty(), "he has stopped");
}

#[test]
fn speech_that_may_not_be_published_is_not_heard() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 7);
    let mut source = Source::new(0x1111, 111, 500).mid("p3");
    assert!(speak(&mut world, &mut speaker, &mut source, Some(10)).is_empty());
}

fn link(world: &mut World, transport: u32) -> Link {
    world.pass(2_100);
    let links = world.measured().1;
    *links
        .iter()
        .find(|link| link.transport == transport)
        .unwrap()
}

#[test]
fn what_a_publisher_lost_on_his_way_is_told_as_his_up_leg() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, crate::api::Codec::Vp8, &[]);
    let mut source = Source::new(0x1111, 96, 65_500).mid("p1");
    assert_eq!(link(&mut world, 1).up, Leg::default());
    for n in 0..100u16 {
        if n % 10 == 5 {
            source.seq = source.seq.next();
        }
        publisher.send(&mut world, &mut source, &vp8(n, 0, 0, n == 0, b"x"), true);
        world.pass(10);
    }
    let link = link(&mut world, 1);
    assert_eq!((link.up.expected, link.up.lost), (110, 10));
    assert_eq!(link.up.jitter_ms, 0, "a picture's is not asked");
    assert!(link.silent_ms >= 1_000, "{link:?}");
    assert_eq!(link.round_trip_ms, None);
}

#[test]
fn what_a_subscriber_reports_as_lost_is_told_as_his_down_leg() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_video(&publisher, 1, crate::api::Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 96, 7).mid("p1");
    let mut seen = SeqNo(0);
    let report = |world: &mut World, viewer: &mut Client, highest: u32, lost: i32| {
        let block = Block {
            ssrc: Ssrc(VIEWED),
            fraction_lost: 0,
            lost,
            highest,
            jitter: 900,
            last_sr: 0,
            delay: 0,
        };
        viewer.send_rtcp(world, |slot| {
            rtcp::write_receiver_report(slot, Ssrc(1), &[block])
        });
    };
    for n in 0..100u16 {
        publisher.send(&mut world, &mut source, &vp8(n, 0, 0, n == 0, b"x"), true);
        for (header, _) in viewer.media(&mut world) {
            seen = header.seq;
        }
        if n == 9 {
            report(&mut world, &mut viewer, u32::from(seen.0), 2);
        }
        world.pass(10);
    }
    report(&mut world, &mut viewer, u32::from(seen.0), 20);
    let told = link(&mut world, 2);
    assert_eq!((told.down.expected, told.down.lost), (90, 18));
    assert_eq!((told.sent, told.up), (100, Leg::default()));
    // Somebody else's stream, and one that is not there.
    report(&mut world, &mut publisher, 50_000, 20);
    assert_eq!(link(&mut world, 1).down, Leg::default());
}

#[test]
fn each_layer_of_an_encoding_is_weighed_alone_with_all_that_is_around_its_packets() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::Vp8, &["q", "h"]);
    let mut small = Source::new(0x1111, 96, 65_500).mid("p1").rid("q");
    let mut large = Source::new(0x2222, 96, 10).mid("p1").rid("h");
    world.pass(1_000);
    let mut told = world.rates();
    let mut sizes = [0, 0];
    for n in 0..50u16 {
        let tid = (n % 2) as u8;
        let payload = vp8(n, 0, tid, n == 0, &[0; 100]);
        sizes[usize::from(tid)] += payload.len();
        publisher.send(&mut world, &mut small, &payload, true);
        if n < 10 {
            publisher.send(
                &mut world,
                &mut large,
                &vp8(n, 0, 0, n == 0, &[0; 800]),
                true,
            );
        }
        world.pass(20);
        told.extend(world.rates());
    }
    // Told each second and a tick: together they are the bits of all of it, but for what the ticks are longer.
    told.extend(world.rates());
    world.pass(1_100);
    told.extend(world.rates());
    let told = |layer: (u8, u8, u8)| {
        let all = told.iter().flat_map(
            |Rate {
                 encoding, layers, ..
             }| { layers.iter().map(|&(s, t, bits)| ((*encoding, s, t), bits)) },
        );
        all.filter(|&(of, _)| of == layer)
            .map(|(_, bits)| bits as usize / 8)
            .sum::<usize>()
    };
    for (layer, size, count) in [
        ((0, 0, 0), sizes[0], 25),
        ((0, 0, 1), sizes[1], 25),
        ((1, 0, 0), 10 * vp8(0, 0, 0, false, &[0; 800]).len(), 10),
    ] {
        // Header with its extensions, seal, UDP and IP: 12 to 32, 16, 28 bytes.
        let around = (told(layer) - size) / count;
        assert!(
            (44..=80).contains(&around),
            "{around} around each of {layer:?}"
        );
    }
    world.pass(2_000);
    assert!(world.rates().is_empty(), "nothing has come since");
}
