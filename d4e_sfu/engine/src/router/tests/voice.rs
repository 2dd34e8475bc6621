//! Voices: redundant audio, keys pressed, silence, and the codecs of old devices.

use super::client::Source;
use super::{Client, STARTS, World, opus};
use crate::api::{Codec, Command, Encoding, PublicationSpec, SubscriptionSpec};
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::seq::{ExtSeq, Timestamp};

const VOICE: u8 = 111;
const RED: u8 = 63;
const KEYS: u8 = 110;

fn publish(world: &mut World, client: &Client, codec: Codec) {
    world.apply(Command::AddPublication {
        publication: 1,
        transport: client.id,
        spec: PublicationSpec {
            codec,
            mid: "p1".into(),
            payload_type: VOICE,
            rtx_payload_type: None,
            red_payload_type: Some(RED),
            event_payload_type: Some(KEYS),
            encodings: vec![Encoding {
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
            }],
            max_bitrate: 1_000_000,
            nack: false,
        },
    });
}

fn subscribe(world: &mut World, client: &Client, red: Option<u8>, keys: Option<u8>) {
    world.apply(Command::AddSubscription {
        subscription: client.id,
        publication: 1,
        transport: client.id,
        spec: SubscriptionSpec {
            mid: "s".into(),
            payload_type: 9,
            rtx_payload_type: Some(101),
            red_payload_type: red,
            event_payload_type: keys,
            ssrc: 0x5000_0000 + client.id,
            rtx_ssrc: Some(0x6000_0000 + client.id),
            cname: "someone".into(),
            spatial: Some(0),
            temporal: 255,
            transport_wide: true,
        },
    });
}

/// One redundant block of four bytes, then the packet's own sound.
fn red(payload_type: u8, before: u8, own: u8) -> Vec<u8> {
    let word = 960 << 10 | 4_u32;
    let mut out = vec![0x80 | payload_type];
    out.extend(&word.to_be_bytes()[1..]);
    out.push(payload_type);
    out.extend(opus(before));
    out.extend(opus(own));
    out
}

fn numbers(got: &[(Header, Vec<u8>)]) -> Vec<i16> {
    got.iter()
        .map(|(header, _)| header.seq.since(got[0].0.seq))
        .collect()
}

#[test]
fn redundant_audio_is_passed_to_who_takes_it_and_taken_apart_for_who_does_not() {
    for start in STARTS {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        let (mut modern, mut plain) = (Client::join(&mut world, 2), Client::join(&mut world, 3));
        publish(&mut world, &speaker, Codec::Opus);
        subscribe(&mut world, &modern, Some(35), None);
        subscribe(&mut world, &plain, None, None);
        let mut source = Source::new(10, RED, start).mid("p1");
        for n in 0..6 {
            // A browser sends what it has nothing redundant for without RED.
            source.payload_type = if n == 0 { VOICE } else { RED };
            let payload = if n == 0 {
                opus(0)
            } else {
                red(VOICE, n - 1, n)
            };
            speaker.send(&mut world, &mut source, &payload, n == 0);
            source.timestamp += 960;
        }
        let (modern, plain) = (modern.media(&mut world), plain.media(&mut world));
        for (n, (header, payload)) in modern.iter().enumerate() {
            let (payload_type, expected) = match n as u8 {
                0 => (9, opus(0)),
                n => (35, red(9, n - 1, n)), // the blocks are named by this client's number too
            };
            assert_eq!((header.payload_type, payload), (payload_type, &expected));
        }
        for (n, (header, payload)) in plain.iter().enumerate() {
            assert_eq!((header.payload_type, payload), (9, &opus(n as u8)));
            assert_eq!(header.timestamp, Timestamp(1_000 + 960 * n as u32));
        }
        assert_eq!(numbers(&modern), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numbers(&plain), [0, 1, 2, 3, 4, 5]);
    }
}

/// RTX stands for the voice alone (RFC 4588 §8.6): a decoder would take blocks and keys for sound.
#[test]
fn what_is_sent_again_of_redundant_audio_is_the_voice() {
    for taken in [None, Some(35)] {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        let mut listener = Client::join(&mut world, 2);
        publish(&mut world, &speaker, Codec::Opus);
        subscribe(&mut world, &listener, taken, Some(36));
        let mut source = Source::new(10, RED, 1).mid("p1");
        for n in 1..9 {
            speaker.send(&mut world, &mut source, &red(VOICE, n - 1, n), false);
        }
        source.payload_type = KEYS;
        speaker.send(&mut world, &mut source, &[1, 0x80, 0, 160], false);
        let got = listener.media(&mut world);
        let (third, key) = (got[2].0.seq.0, got[8].0.seq.0);
        assert_eq!(got[8].0.payload_type, 36);
        listener.nack(&mut world, 0x5000_0002, &[third, key]);
        let again = listener.media(&mut world);
        assert_eq!(again.len(), 1, "a key repeats itself (RFC 4733 §2.5)");
        assert_eq!(again[0].0.payload_type, 101);
        assert_eq!(again[0].1, [&third.to_be_bytes()[..], &opus(3)].concat());
    }
}

#[test]
fn redundant_audio_that_lies_is_dropped_by_name_and_leaves_no_hole() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    publish(&mut world, &speaker, Codec::Opus);
    subscribe(&mut world, &listener, None, None);
    let mut source = Source::new(10, RED, 1).mid("p1");
    let mut lies = red(VOICE, 0, 0);
    lies[3] = 0xff;
    for payload in [red(VOICE, 1, 2), lies, red(KEYS, 1, 2), red(VOICE, 2, 3)] {
        speaker.send(&mut world, &mut source, &payload, false);
    }
    let got = listener.media(&mut world);
    assert_eq!(numbers(&got), [0, 1]);
    assert_eq!((&got[0].1, &got[1].1), (&opus(2), &opus(3)));
    assert_eq!(world.drops(DropReason::BadPayload), 2);
}

#[test]
fn keys_pressed_ride_on_the_voice_and_end_by_name_where_nobody_takes_them() {
    for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
        let mut world = World::new();
        let mut device = Client::join(&mut world, 1);
        let (mut dialled, mut deaf) = (Client::join(&mut world, 2), Client::join(&mut world, 3));
        publish(&mut world, &device, codec);
        subscribe(&mut world, &dialled, None, Some(101));
        subscribe(&mut world, &deaf, None, None);
        let mut source = Source::new(10, VOICE, 65_533).mid("p1");
        device.send(&mut world, &mut source, &opus(0), false);
        source.payload_type = KEYS;
        let began = source.timestamp + 960;
        for n in 0..4u8 {
            // "5", its volume, and how long it has been pressed; all with the time at which it was pressed.
            source.timestamp = began;
            device.send(&mut world, &mut source, &[5, 10, 0, n], n == 0);
        }
        device.send(&mut world, &mut source, &[5, 10, 0], false); // no event has three bytes
        source.payload_type = VOICE;
        source.timestamp = began + 4 * 960;
        device.send(&mut world, &mut source, &opus(1), false);

        let got = dialled.media(&mut world);
        let types: Vec<u8> = got.iter().map(|(header, _)| header.payload_type).collect();
        assert_eq!(types, [9, 101, 101, 101, 101, 9]);
        assert_eq!(numbers(&got), [0, 1, 2, 3, 4, 5]);
        assert!(got[1..5].iter().enumerate().all(|(n, (header, payload))| {
            header.timestamp == Timestamp(began)
                && header.marker == (n == 0)
                && **payload == [5, 10, 0, n as u8]
        }));
        let got = deaf.media(&mut world);
        assert_eq!(numbers(&got), [0, 1], "the voice alone, without a hole");
        assert_eq!(world.drops(DropReason::UnmappedPayload), 4);
        assert_eq!(world.drops(DropReason::BadPayload), 1);
    }
}

#[test]
fn a_key_that_comes_late_fills_its_place_empty_for_who_takes_none() {
    let mut world = World::new();
    let mut device = Client::join(&mut world, 1);
    let mut deaf = Client::join(&mut world, 2);
    publish(&mut world, &device, Codec::Pcmu);
    subscribe(&mut world, &deaf, None, None);
    let mut source = Source::new(10, VOICE, 1).mid("p1");
    device.send(&mut world, &mut source, &opus(0), false);
    source.payload_type = KEYS;
    let late = source.next(&mut device, &[5, 10, 0, 1], true);
    source.payload_type = VOICE;
    device.send(&mut world, &mut source, &opus(1), false);
    world.handle(device.remote, &late);
    let got = deaf.media(&mut world);
    assert_eq!(numbers(&got), [0, 2, 1]);
    assert_eq!(got[2].1, [0u8; 0]);
}

#[test]
fn silence_is_no_loss_and_the_first_word_after_it_is_heard() {
    for start in STARTS {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        let mut listener = Client::join(&mut world, 2);
        publish(&mut world, &speaker, Codec::Opus);
        subscribe(&mut world, &listener, Some(35), None);
        let mut source = Source::new(10, VOICE, start).mid("p1");
        source.timestamp = u32::MAX - 48_000;
        for (told, silence) in (0_u8..).zip([0, 20, 400, 400, 3_000, 20_000, 20]) {
            // One packet of at most two bytes each 400 ms, or none at all (RFC 7587 §3.1.3): the numbers go on, time jumps.
            world.pass(silence);
            source.timestamp = source.timestamp.wrapping_add(48 * silence as u32);
            // What follows a pause has the marker (RFC 3551 §4.1).
            speaker.check(&mut world, false);
            listener.check(&mut world, false);
            speaker.send(&mut world, &mut source, &opus(told), silence > 20);
            let got = listener.media(&mut world);
            assert_eq!(got.len(), 1, "after {silence} ms");
            assert_eq!(
                (got[0].0.timestamp, got[0].0.marker),
                (Timestamp(source.timestamp), silence > 20)
            );
            assert_eq!(
                got[0].0.seq.0,
                (0x5000_0002_u32 as u16).wrapping_add(u16::from(told))
            );
        }
        let counters = world.router.snapshot().counters;
        assert_eq!(
            (counters.nacks_sent, counters.keyframe_requests_sent),
            (0, 0)
        );
        let (plis, nacks) = speaker.asked(&mut world);
        assert_eq!((plis, nacks), (vec![], vec![]));
    }
}

#[test]
fn the_clock_of_an_old_device_counts_eight_thousand_a_second() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut world = World::new();
        let mut device = Client::join(&mut world, 1);
        let mut listener = Client::join(&mut world, 2);
        publish(&mut world, &device, codec);
        subscribe(&mut world, &listener, None, None);
        let mut first = Source::new(10, VOICE, 7).mid("p1");
        device.send(&mut world, &mut first, &[0x55; 160], true);
        // The device starts anew: another stream with another clock, half a second later.
        world.pass(500);
        let mut second = Source::new(11, VOICE, 40_000).mid("p1");
        second.timestamp = 0xdead_beef;
        device.send(&mut world, &mut second, &[0x55; 160], true);
        let got = listener.media(&mut world);
        let [(before, _), (after, _)] = got.as_slice() else {
            panic!("{got:?}")
        };
        assert_eq!(after.timestamp.since(before.timestamp), 4_000);
        assert_eq!(after.seq.since(before.seq), 1);
    }
}

#[test]
fn a_voice_is_known_by_any_of_its_payload_types() {
    for payload_type in [VOICE, RED, KEYS] {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        publish(&mut world, &speaker, Codec::Opus);
        let mut source = Source::new(10, payload_type, 7); // without MID
        let payload = [red(VOICE, 0, 1), vec![0; 2]].concat()[..12].to_vec();
        speaker.send(&mut world, &mut source, &payload, true);
        assert_eq!(world.drops(DropReason::UnknownStream), 0, "{payload_type}");
        source.payload_type = 64;
        source.seq = ExtSeq(source.seq.0 + 1);
        speaker.send(&mut world, &mut source, &payload, false);
        assert_eq!(world.drops(DropReason::BadPayload), 1, "{payload_type}");
    }
}
