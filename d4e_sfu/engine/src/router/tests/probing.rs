//! What a probe is made of. The estimator says when; here its wish is put in its place.

use super::client::Source;
use super::world::without_repairs;
use super::{Client, Got, World, opus, vp8};
use crate::api::{Codec, Command};
use crate::now::Now;
use crate::pacer::{Probe, ProbeId};
use crate::wire::packet::Header;

const RTX: u32 = 0x6000_0002;

fn wish(world: &mut World, packets: u32, padding: u8) {
    let row = world.router.transports.row(2).unwrap();
    let link = &mut world.router.transports.get_mut(row).unwrap().link;
    let probe = Probe {
        id: ProbeId(1),
        bps: 2_000_000,
        bytes: 0,
        packets,
        padding,
    };
    link.pacer.probe(world.now, probe);
    world.router.pacing.push(row);
}

fn packets(viewer: &mut Client, world: &mut World) -> Vec<(Now, Header, Vec<u8>, Vec<u8>)> {
    let mut packets = Vec::new();
    for _ in 0..100 {
        for got in viewer.got(world) {
            if let Got::Rtp {
                header,
                packet,
                payload,
            } = got
            {
                packets.push((world.now, header, packet, payload));
            }
        }
        world.pass(1);
    }
    packets
}

/// Somebody speaks and shows himself; the viewer's client has told what its link carries.
fn scene() -> (World, Client, Client) {
    let mut world = World::new();
    let sender = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&sender, 1);
    world.publish_video(&sender, 2, Codec::Vp8, &[]);
    viewer.remb(&mut world, 1_000_000);
    (world, sender, viewer)
}

#[test]
fn it_leaves_at_its_rate_beside_the_picture_and_repeats_nothing_that_was_sent() {
    let (mut world, mut sender, mut viewer) = scene();
    world.subscribe(&viewer, 2, 2, Some(0));
    let mut camera = Source::new(22, 96, 0).mid("p2");
    let mut sent = Vec::new();
    for n in 0..6u8 {
        let payload = vp8(u16::from(n), 0, 0, n == 0, &[n; 900]);
        sender.send(&mut world, &mut camera, &payload, true);
        sent.extend(viewer.media(&mut world));
        world.pass(10);
    }
    wish(&mut world, 8, 255);
    let got = packets(&mut viewer, &mut world);
    assert_eq!(got.len(), 8);
    let (newest, _) = &sent[5];
    for (n, (_, header, packet, payload)) in got.iter().enumerate() {
        assert_eq!((header.ssrc.0, header.payload_type), (RTX, 101));
        assert_eq!(header.seq.since(got[0].1.seq), n as i16);
        assert_eq!(header.timestamp, newest.timestamp, "when it was shown");
        assert!(
            payload.is_empty(),
            "nothing that the viewer would take for a repair"
        );
        assert_eq!(packet.len() - header.len, 255);
    }
    // 324 bytes at 2 Mbit/s are 1.3 ms.
    let took = got[7].0.since(got[0].0).as_millis();
    assert!((8..=11).contains(&took), "{took}");
    // A repair has the next number of that stream, and the picture goes on as if nothing had been.
    viewer.nack(&mut world, newest.ssrc.0, &[newest.seq.0]);
    let repair = viewer.media(&mut world);
    assert_eq!(repair[0].0.seq.since(got[7].1.seq), 1);
    sender.send(&mut world, &mut camera, &vp8(6, 0, 0, false, b"x"), true);
    let next = viewer.media(&mut world);
    assert_eq!(next[0].0.seq.since(newest.seq), 1);
}

#[test]
fn while_only_voice_flows_it_is_padding_on_the_stream_for_repairs_of_a_paused_picture() {
    let (mut world, mut sender, mut viewer) = scene();
    world.subscribe(&viewer, 1, 1, Some(0));
    world.subscribe(&viewer, 2, 2, None);
    // The voice's own stream of repairs is not what this is about: it has none.
    world.apply(Command::RemoveSubscription { subscription: 1 });
    world.subscribe_as(&viewer, 1, 1, without_repairs(1));
    let mut voice = Source::new(11, 111, 0).mid("p1");
    sender.send(&mut world, &mut voice, &opus(1), false);
    let _ = viewer.media(&mut world);
    wish(&mut world, 10, 60);
    let got = packets(&mut viewer, &mut world);
    assert_eq!(got.len(), 10);
    for (n, (_, header, packet, payload)) in got.iter().enumerate() {
        assert_eq!((header.ssrc.0, header.payload_type), (RTX, 101));
        assert_eq!(header.seq.since(got[0].1.seq), n as i16);
        assert!(payload.is_empty(), "nothing but padding");
        assert_eq!(packet.len() - header.len, 60);
    }
    // What is sent for him meanwhile is part of it.
    wish(&mut world, 5, 60);
    sender.send(&mut world, &mut voice, &opus(2), false);
    let got = packets(&mut viewer, &mut world);
    assert_eq!(got.len(), 5, "the voice is one of five");
}

#[test]
fn without_a_stream_for_repairs_there_is_no_probe() {
    let (mut world, mut sender, mut viewer) = scene();
    world.subscribe_as(&viewer, 1, 1, without_repairs(1));
    let mut voice = Source::new(11, 111, 0).mid("p1");
    sender.send(&mut world, &mut voice, &opus(1), false);
    let _ = viewer.media(&mut world);
    wish(&mut world, 5, 60);
    assert!(packets(&mut viewer, &mut world).is_empty());
    assert!(world.router.pacing.is_empty(), "it is given up");
}
