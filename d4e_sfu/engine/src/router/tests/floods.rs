//! Attacks by number: what a stranger, a client with keys or somebody with a copy of the wire can send without end. Each is
//! held to the same measure, a voice call of two others in the same router: not one packet of it may be missing, and
//! what the flood leaves behind in memory is bounded.

use super::client::Source;
use super::{Client, Got, World, opus, vp8};
use crate::api::{Codec, Profile};
use crate::transport::streams::MAX_STREAMS;
use crate::wire::drop::DropReason;
use crate::wire::packet::{Fields, write_header};
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc, Timestamp};

/// Two who speak and listen, and know nothing of the others.
struct Bystanders {
    speaker: Client,
    listener: Client,
    voice: Source,
    spoken: usize,
    heard: usize,
}

impl Bystanders {
    fn new(world: &mut World) -> Self {
        let (speaker, listener) = (Client::join(world, 240), Client::join(world, 241));
        world.publish_voice(&speaker, 240);
        world.subscribe(&listener, 240, 240, Some(0));
        Self {
            speaker,
            listener,
            voice: Source::new(0xb001, 111, 65_500).mid("p240"),
            spoken: 0,
            heard: 0,
        }
    }

    fn speak(&mut self, world: &mut World) {
        let word = opus(self.spoken as u8);
        self.speaker.send(world, &mut self.voice, &word, false);
        self.spoken += 1;
        self.heard += self
            .listener
            .media(world)
            .into_iter()
            .filter(|(_, payload)| *payload == word)
            .count();
    }

    fn judge(&self) {
        assert!(self.spoken >= 20, "or nothing is proved");
        assert_eq!(self.heard, self.spoken);
    }
}

/// One who publishes voice (1) and picture (2), one who receives both, and the bystanders.
fn call(profile: Profile) -> (World, Client, Client, Bystanders) {
    let mut world = World::new();
    let publisher = Client::join_with(&mut world, 1, profile);
    let viewer = Client::join_with(&mut world, 2, profile);
    world.publish_voice(&publisher, 1);
    world.publish_video(&publisher, 2, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.subscribe(&viewer, 2, 2, Some(0));
    let bystanders = Bystanders::new(&mut world);
    world.kept.datagrams.clear();
    (world, publisher, viewer, bystanders)
}

fn streams(world: &World, client: &Client) -> usize {
    let row = world.router.transports.row(client.id).unwrap();
    world.router.transports.get(row).unwrap().streams.len()
}

/// A packet that its sender had no key for.
fn unkeyed(ssrc: u32, seq: u16) -> Vec<u8> {
    let mut datagram = vec![0x5a; 60];
    let fields = Fields {
        marker: false,
        padding: false,
        payload_type: 111,
        seq: SeqNo(seq),
        timestamp: Timestamp(u32::from(seq)),
        ssrc: Ssrc(ssrc),
    };
    write_header(&mut datagram, &fields, &[(super::client::MID, b"p1")]).unwrap();
    datagram
}

#[test]
fn a_flood_of_forged_media_on_a_live_stream_ends_no_call() {
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmHmacSha1_80] {
        let (mut world, mut publisher, mut viewer, mut bystanders) = call(profile);
        let mut voice = Source::new(0x1111, 111, 60_000).mid("p1");
        let (mut spoken, mut heard, mut forged) = (0, 0, 0);
        // From the publisher's own address, under his SSRC: 500 forgeries for each packet of his, over all numbers.
        for n in 0..20_000u16 {
            world.handle(publisher.remote, &unkeyed(0x1111, n.wrapping_mul(7)));
            forged += 1;
            if n % 500 == 0 {
                publisher.send(&mut world, &mut voice, &opus(spoken as u8), false);
                spoken += 1;
                heard += viewer.media(&mut world).len();
                bystanders.speak(&mut world);
                world.now.0 += 20_000_000;
            }
        }
        assert_eq!(heard, spoken, "his own call as well");
        bystanders.judge();
        let dropped: u64 = [
            DropReason::BadAuthentication,
            DropReason::Replayed,
            DropReason::TooOld,
        ]
        .map(|reason| world.drops(reason))
        .iter()
        .sum();
        assert_eq!(dropped, forged, "each is counted");
        assert!(world.drops(DropReason::BadAuthentication) > forged / 2);
        assert_eq!(streams(&world, &publisher), 1);
    }
}

#[test]
fn two_hundred_thousand_unauthenticated_ssrcs_cost_no_state() {
    let (mut world, publisher, viewer, mut bystanders) = call(Profile::AeadAes128Gcm);
    let stranger = "203.0.113.9:9".parse().unwrap();
    for n in 0..200_000u32 {
        let from = [stranger, publisher.remote, viewer.remote][n as usize % 3];
        world.handle(from, &unkeyed(0x0100_0000 + n, n as u16 >> 1));
        if n % 5_000 == 0 {
            bystanders.speak(&mut world);
        }
    }
    assert_eq!(streams(&world, &publisher) + streams(&world, &viewer), 0);
    assert_eq!(world.router.by_address.len(), 4);
    let dropped = world.drops(DropReason::UnknownAddress)
        + world.drops(DropReason::BadAuthentication)
        + world.drops(DropReason::NotPermitted);
    assert_eq!(dropped, 200_000);
    bystanders.judge();
}

#[test]
fn names_of_streams_without_end_bind_nothing_and_are_forgotten() {
    let (mut world, mut publisher, mut viewer, mut bystanders) = call(Profile::AeadAes128Gcm);
    world.publish_video(&publisher, 3, Codec::Vp8, &["q", "h"]);
    world.subscribe(&viewer, 3, 3, Some(1));
    // The viewer publishes too: his retransmissions must not find the publisher's encodings.
    world.publish_video(&viewer, 4, Codec::Vp8, &["f"]);
    let packet = vp8(1, 1, 0, true, b"x");
    let mut sent = 0u64;
    for n in 0..3_000u32 {
        let ssrc = 0x0200_0000 + 8 * n;
        let name = |n: u32| format!("m{n}");
        for source in [
            Source::new(ssrc, 96, 0).mid(&name(n)),
            Source::new(ssrc + 1, 96, 0).mid("p3").rid(&name(n)),
            Source::new(ssrc + 2, 96, 0).rid(&name(n)),
            Source::new(ssrc + 3, 97, 0)
                .mid("p3")
                .repaired_rid(&name(n)),
            Source::new(ssrc + 4, 97, 0).mid("p4").repaired_rid("f"),
        ] {
            publisher.send(&mut world, &mut { source }, &packet, true);
            sent += 1;
        }
        for source in [
            Source::new(ssrc, 97, 0).mid("p3").repaired_rid("q"),
            Source::new(ssrc + 1, 97, 0).repaired_rid("h"),
            Source::new(ssrc + 2, 96, 0).mid("p2"),
        ] {
            viewer.send(&mut world, &mut { source }, &packet, true);
            sent += 1;
        }
        if n % 100 == 0 {
            bystanders.speak(&mut world);
        }
    }
    assert_eq!(world.drops(DropReason::UnknownStream), sent);
    assert_eq!(streams(&world, &publisher) + streams(&world, &viewer), 0);
    assert!(viewer.media(&mut world).is_empty());
    // What is named rightly still binds, however often its SSRC changes, and the table keeps its size.
    for n in 0..1_000u32 {
        let mut restarted = Source::new(0x0300_0000 + n, 96, 0).mid("p3").rid("h");
        publisher.send(&mut world, &mut restarted, &packet, true);
    }
    assert!((1..=MAX_STREAMS).contains(&streams(&world, &publisher)));
    assert!(!viewer.media(&mut world).is_empty());
    bystanders.judge();
}

#[test]
fn what_two_hundred_viewers_ask_for_reaches_the_publisher_once_a_second() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    let mut camera = Source::new(0x1111, 96, 0).mid("p1");
    let mut viewers: Vec<Client> = (2..202).map(|id| Client::join(&mut world, id)).collect();
    for viewer in &viewers {
        world.subscribe(viewer, viewer.id, 1, Some(0));
    }
    let mut bystanders = Bystanders::new(&mut world);
    let mut requests = Vec::new();
    let (mut keyframe, mut frames, mut keyframes) = (true, 0u16, 0);
    for tick in 0..100u64 {
        // 200 viewers × 10 a second, half of them FIR with a new number each time (RFC 5104 §4.3.1).
        for viewer in &mut viewers {
            let media = Ssrc(0x5000_0000 + viewer.id);
            if viewer.id % 2 == 0 {
                viewer.pli(&mut world, media.0);
            } else {
                viewer.send_rtcp(&mut world, |slot| {
                    rtcp::write_fir(slot, Ssrc(1), media, tick as u8)
                });
            }
        }
        camera.timestamp += 9_000;
        let packet = vp8(frames, frames as u8, 0, keyframe, b"x");
        publisher.send(&mut world, &mut camera, &packet, true);
        keyframes += u32::from(keyframe);
        frames += 1;
        bystanders.speak(&mut world);
        let asked = publisher.asked(&mut world).0.len();
        requests.extend(std::iter::repeat_n(tick, asked));
        keyframe = asked > 0;
        world.kept.datagrams.clear();
        world.pass(100);
    }
    assert_eq!(
        world.router.snapshot().counters.keyframe_requests_received,
        20_000
    );
    assert!(
        (3..=10).contains(&requests.len()),
        "heard, ever more rarely, and no more than once a second: {requests:?}"
    );
    assert!(
        requests.windows(2).all(|pair| pair[1] - pair[0] >= 10),
        "in ticks of 100 ms: {requests:?}"
    );
    assert!(keyframes <= 11);
    bystanders.judge();
}

#[test]
fn a_thousand_nacks_a_second_bring_back_half_of_the_stream_at_most() {
    let (mut world, mut publisher, mut viewer, mut bystanders) = call(Profile::AeadAes128Gcm);
    let mut camera = Source::new(0x1111, 96, 0).mid("p2");
    let body = [7; 1_000];
    let (mut sent, mut again) = ([0usize; 10], [0usize; 10]);
    let mut number = SeqNo(0);
    for ms in 0..10_000u64 {
        if ms % 8 == 0 {
            // 125 packets a second of 1,000 bytes: one Mbit/s.
            let n = (ms / 8) as u16;
            camera.timestamp += 720;
            let packet = vp8(n, n as u8, 0, ms == 0, &body);
            publisher.send(&mut world, &mut camera, &packet, true);
        }
        // One NACK of all that was sent in the last five seconds.
        let lost: Vec<u16> = (0..600).rev().map(|n| number.0.wrapping_sub(n)).collect();
        viewer.nack(&mut world, 0x5000_0002, &lost);
        if ms % 100 == 0 {
            bystanders.speak(&mut world);
        }
        for got in viewer.got(&mut world) {
            let Got::Rtp { header, packet, .. } = got else {
                continue;
            };
            let second = ms as usize / 1_000;
            if header.ssrc == Ssrc(0x5000_0002) {
                sent[second] += packet.len();
                number = header.seq;
            } else if header.ssrc == Ssrc(0x6000_0002) {
                again[second] += packet.len();
            }
        }
        world.pass(1);
    }
    assert!(sent.iter().sum::<usize>() > 1_200_000, "{sent:?}");
    assert!(again[1] > 0, "it did ask for what is there: {again:?}");
    // A second may have some of what the one before it did not use.
    for second in 0..10 {
        assert!(
            again[second] <= sent[second] * 11 / 20,
            "second {second}: {again:?} of {sent:?}"
        );
    }
    assert!(again.iter().sum::<usize>() <= sent.iter().sum::<usize>() / 2);
    bystanders.judge();
}

#[test]
fn feedback_bombs_are_refused_and_everything_else_of_the_compound_with_them() {
    let (mut world, mut publisher, mut viewer, mut bystanders) = call(Profile::AeadAes128Gcm);
    let mut camera = Source::new(0x1111, 96, 0).mid("p2");
    publisher.send(&mut world, &mut camera, &vp8(0, 0, 0, true, b"x"), true);
    // Two bytes name 8,191 packets, so one datagram could name millions.
    let bomb = |count: u16, chunks: usize, base: u16, reference: i32| {
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend(base.to_be_bytes());
        packet.extend(count.to_be_bytes());
        packet.extend(&reference.to_be_bytes()[1..]);
        packet.push(0);
        packet.extend([0x1f, 0xff].repeat(chunks));
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = (packet.len() / 4 - 1) as u16;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        packet
    };
    let requests = |world: &World| {
        let counters = world.router.snapshot().counters;
        counters.keyframe_requests_received
    };
    for n in 0..500u16 {
        let mut compound = vec![0; 12];
        rtcp::write_pli(&mut compound, Ssrc(1), Ssrc(0x5000_0002)).unwrap();
        compound.extend(match n % 3 {
            0 => bomb(u16::MAX, 9, n, 0),
            1 => bomb(8_191, 1, n.wrapping_mul(9_973), -8_388_608).repeat(50),
            _ => bomb(16_385, 3, u16::MAX - n, 8_388_607),
        });
        viewer.send_rtcp(&mut world, |slot| {
            slot[..compound.len()].copy_from_slice(&compound);
            Some(compound.len())
        });
        if n % 20 == 0 {
            bystanders.speak(&mut world);
        }
    }
    assert_eq!(world.drops(DropReason::BadRtcp), 500);
    assert_eq!(requests(&world), 0, "the request before it counts no more");
    // As much as may be told is taken.
    viewer.send_rtcp(&mut world, |slot| {
        let fair = bomb(8_191, 1, 0, 0);
        slot[..fair.len()].copy_from_slice(&fair);
        Some(fair.len())
    });
    assert_eq!(world.drops(DropReason::BadRtcp), 500);
    bystanders.judge();
}
