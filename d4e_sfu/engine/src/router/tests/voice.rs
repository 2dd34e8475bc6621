//! Voices: redundant audio, keys pressed, silence, and the codecs of old devices.

use super::client::Source;
use super::world::spec;
use super::{Client, STARTS, World, opus};
use crate::api::{Codec, Command, Encoding, PublicationSpec, SubscriptionSpec};
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::seq::{ExtSeq, Timestamp};

const VOICE: u8 = 111;
const RED: u8 = 63;
const KEYS: u8 = 110;

fn publish(world: &mut World, client: &Client, codec: Codec) {
    publish_with(world, client, codec, false);
}

fn publish_with(world: &mut World, client: &Client, codec: Codec, nack: bool) {
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
            nack,
        },
    });
}

fn subscribe(world: &mut World, client: &Client, red: Option<u8>, keys: Option<u8>) {
    let spec = SubscriptionSpec {
        payload_type: 9,
        red_payload_type: red,
        event_payload_type: keys,
        ..spec(client.id, Some(0))
    };
    world.subscribe_as(client, client.id, 1, spec);
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

/// Sends `source`'s next packets, `lost` of them not: one RED payload with as many blocks before it as there are (`blocks`).
fn speak(
    world: &mut World,
    speaker: &mut Client,
    source: &mut Source,
    packets: std::ops::Range<u8>,
    blocks: u8,
    lost: &[u8],
) {
    for n in packets {
        // A browser sends what it has nothing redundant for without RED.
        let before: Vec<u8> = (n.saturating_sub(blocks)..n).collect();
        source.payload_type = if before.is_empty() { VOICE } else { RED };
        let mut payload = Vec::new();
        for &old in &before {
            let word = ((u32::from(n - old) * 960) << 10) | 4;
            payload.push(0x80 | VOICE);
            payload.extend(&word.to_be_bytes()[1..]);
        }
        if !before.is_empty() {
            payload.push(VOICE);
        }
        before.iter().for_each(|&old| payload.extend(opus(old)));
        payload.extend(opus(n));
        let datagram = source.next(speaker, &payload, n == 0);
        source.timestamp = source.timestamp.wrapping_add(960);
        if !lost.contains(&n) {
            world.handle(speaker.remote, &datagram);
        }
        world.pass(20);
    }
}

#[test]
fn redundant_audio_is_taken_apart_and_what_was_lost_is_there_for_everyone() {
    for (start, blocks, lost) in STARTS.into_iter().flat_map(|start| {
        [
            (start, 1, &[][..]),
            (start, 1, &[3, 5, 8]),
            (start, 2, &[3, 4, 7]),
            (start, 3, &[2, 3, 4, 8, 10]),
        ]
    }) {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        let (mut modern, mut plain) = (Client::join(&mut world, 2), Client::join(&mut world, 3));
        publish_with(&mut world, &speaker, Codec::Opus, true);
        subscribe(&mut world, &modern, Some(35), None);
        subscribe(&mut world, &plain, None, None);
        let mut source = Source::new(10, RED, start).mid("p1");
        source.timestamp = 0_u32.wrapping_sub(4_000);
        speak(&mut world, &mut speaker, &mut source, 0..12, blocks, lost);
        for listener in [&mut modern, &mut plain] {
            let got = listener.media(&mut world);
            assert_eq!(numbers(&got), (0..12).collect::<Vec<_>>(), "{lost:?}");
            for (n, (header, payload)) in (0_u32..).zip(&got) {
                assert_eq!((header.payload_type, payload), (9, &opus(n as u8)));
                let began = 0_u32.wrapping_sub(4_000).wrapping_add(960 * n);
                assert_eq!(header.timestamp, Timestamp(began));
            }
        }
        let (_, nacks) = speaker.asked(&mut world);
        assert_eq!(nacks, [], "what is restored is not asked for");
        let restored = world.router.snapshot().counters.packets_restored;
        assert_eq!(restored, lost.len() as u64);
    }
}

#[test]
fn what_comes_after_it_was_restored_is_a_duplicate_and_what_no_block_brings_is_asked_for() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    publish_with(&mut world, &speaker, Codec::Opus, true);
    subscribe(&mut world, &listener, None, None);
    let mut source = Source::new(10, VOICE, 7).mid("p1");
    speaker.send(&mut world, &mut source, &opus(0), false);
    source.timestamp += 960;
    let late = source.next(&mut speaker, &opus(1), false);
    source.payload_type = RED;
    source.timestamp += 960;
    speaker.send(&mut world, &mut source, &red(VOICE, 1, 2), false);
    world.handle(speaker.remote, &late);
    assert_eq!(world.drops(DropReason::Duplicate), 1);
    // Two are lost, one is brought again.
    source.seq = ExtSeq(source.seq.0 + 2);
    source.timestamp += 3 * 960;
    speaker.send(&mut world, &mut source, &red(VOICE, 4, 5), false);
    world.pass(30);
    let got = listener.media(&mut world);
    assert_eq!(numbers(&got), [0, 1, 2, 4, 5]);
    assert_eq!(got[3].1, opus(4));
    assert_eq!(speaker.asked(&mut world).1, [(10, 10)]);
}

/// A block says when its sound began, and nothing of whose it is.
#[test]
fn a_block_whose_packet_cannot_be_known_restores_nothing() {
    // Ticks from the last packet before the gap to the one after it, how many are missing, and the block's offset.
    for (ticks, missing, offset, restored) in [
        (1_920, 1, 960, true),
        (5_000, 1, 960, true),    // after a pause: the only one that is missing
        (1_920, 1, 1_920, false), // the packet before the gap, which is here
        (1_920, 1, 2_880, false), // older than anything known
        (1_920, 1, 0, false),     // the packet itself
        (2_880, 2, 960, true),
        (5_000, 2, 960, false), // did the pause come before the first or the second?
        (2_880, 2, 700, false),
        (960, 0, 480, false), // nothing is missing
    ] {
        let mut world = World::new();
        let mut speaker = Client::join(&mut world, 1);
        publish(&mut world, &speaker, Codec::Opus);
        let mut source = Source::new(10, VOICE, 65_534).mid("p1");
        speaker.send(&mut world, &mut source, &opus(0), false);
        source.payload_type = RED;
        source.seq = ExtSeq(source.seq.0 + missing);
        source.timestamp += ticks;
        let mut payload = red(VOICE, 1, 2);
        let word = offset << 10 | 4_u32;
        payload[1..4].copy_from_slice(&word.to_be_bytes()[1..]);
        speaker.send(&mut world, &mut source, &payload, false);
        let counters = world.router.snapshot().counters;
        assert_eq!(
            counters.packets_restored,
            u64::from(restored),
            "{missing} missing in {ticks}, offset {offset}"
        );
    }
}

/// Retransmissions take a round trip: one that would come after its time is not asked for.
#[test]
fn a_voice_is_asked_for_again_only_while_it_can_still_be_in_time() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    publish_with(&mut world, &speaker, Codec::Opus, true);
    subscribe(&mut world, &listener, None, None);
    let mut source = Source::new(10, VOICE, 7).mid("p1");
    let mut asked = Vec::new();
    for n in 0..100 {
        if n != 3 {
            speaker.send(&mut world, &mut source, &opus(n), false);
        } else {
            source.seq = source.seq.next();
        }
        source.timestamp += 960;
        world.pass(20);
        let (_, nacks) = speaker.asked(&mut world);
        asked.extend(nacks.iter().map(|_| (u32::from(n) - 3) * 20));
    }
    assert!((2..=6).contains(&asked.len()), "{asked:?} ms");
    assert!(*asked.last().unwrap() < 720, "{asked:?} ms");
    // And one that is asked for is sent again while it helps, by its age here.
    let got = listener.media(&mut world);
    let number = |back: usize| got[got.len() - back].0.seq.0;
    listener.nack(&mut world, 0x5000_0002, &[number(40), number(10)]);
    let again = listener.media(&mut world);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].1[..2], number(10).to_be_bytes());
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
