//! Transport-wide numbers: every packet to a client who has agreed to tell of it bears the next one.

use super::client::{Source, TWCC};
use super::world::without_repairs;
use super::{Client, Got, World, opus, vp8};
use crate::api::{Codec, Command, Extension, SubscriptionSpec};
use crate::pacer::{Probe, ProbeId};
use crate::wire::packet::Header;
use crate::wire::seq::SeqNo;

/// SSRC, header, transport-wide number and what is behind the header of each packet that this client got.
fn got(client: &mut Client, world: &mut World) -> Vec<(u32, Header, Option<SeqNo>, Vec<u8>)> {
    client
        .got(world)
        .into_iter()
        .filter_map(|got| match got {
            Got::Rtp {
                header,
                packet,
                payload,
            } => {
                let number = header
                    .extension(&packet, TWCC)
                    .map(|bytes| SeqNo(u16::from_be_bytes(bytes.try_into().unwrap())));
                Some((header.ssrc.0, header, number, payload))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn voice_picture_retransmission_and_padding_share_one_count() {
    let mut world = World::new();
    let mut sender = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&sender, 1);
    world.publish_video(&sender, 2, Codec::Vp8, &[]);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.subscribe(&viewer, 2, 2, Some(0));
    let mut voice = Source::new(11, 111, 0).mid("p1");
    let mut camera = Source::new(22, 96, 0).mid("p2");
    let mut last: Option<SeqNo> = None;
    let mut kinds = [0; 4];
    for n in 0..1_000u16 {
        sender.send(&mut world, &mut voice, &opus(n as u8), false);
        for part in 0..3 {
            let payload = vp8(n, 0, 0, n == 0 && part == 0, &[part; 50]);
            sender.send(&mut world, &mut camera, &payload, part == 2);
        }
        let packets = got(&mut viewer, &mut world);
        let newest = packets[packets.len() - 1].1.seq;
        viewer.nack(&mut world, 0x5000_0002, &[newest.0]);
        if n % 100 == 50 {
            // What the estimator would ask for. The account is open: REMB, for nothing is paced before a word has come.
            viewer.remb(&mut world, 100_000_000);
            let row = world.router.transports.row(2).unwrap();
            let link = &mut world.router.transports.get_mut(row).unwrap().link;
            link.pacer.probe(
                world.now,
                Probe {
                    id: ProbeId(1),
                    bps: 10_000_000,
                    bytes: 0,
                    packets: 1,
                    padding: 255,
                },
            );
            world.router.pacing.push(row);
        }
        world.pass(20);
        for (ssrc, _, number, _) in packets.into_iter().chain(got(&mut viewer, &mut world)) {
            let number = number.unwrap();
            if let Some(last) = last {
                assert_eq!(number.since(last), 1, "of {ssrc:x}");
            }
            last = Some(number);
            kinds[match ssrc {
                0x5000_0001 => 0,
                0x5000_0002 => 1,
                _ => 2,
            }] += 1;
        }
        if n % 100 == 0 {
            viewer.check(&mut world, true);
            sender.check(&mut world, true);
        }
    }
    let probes = world.router.snapshot().counters;
    assert_eq!(kinds[..2], [1_000, 3_000]);
    assert!(kinds[2] > 900, "retransmissions");
    let mut sent = Vec::new();
    probes.each(|name, value| sent.push((name.to_owned(), value)));
    assert!(
        sent.contains(&("packets_sent_probe".into(), 10)),
        "{sent:?}"
    );
}

#[test]
fn a_section_that_has_not_agreed_bears_none_and_disturbs_no_count() {
    let mut world = World::new();
    let mut sender = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&sender, 1);
    world.publish_video(&sender, 2, Codec::Vp8, &[]);
    world.subscribe(&viewer, 2, 2, Some(0));
    let spec = SubscriptionSpec {
        transport_wide: false,
        ..without_repairs(1)
    };
    world.subscribe_as(&viewer, 1, 1, spec);
    let mut voice = Source::new(11, 111, 0).mid("p1");
    let mut camera = Source::new(22, 96, 0).mid("p2");
    let mut numbers = Vec::new();
    for n in 0..10 {
        sender.send(&mut world, &mut voice, &opus(n), false);
        sender.send(
            &mut world,
            &mut camera,
            &vp8(n.into(), 0, 0, n == 0, b"x"),
            true,
        );
        for (ssrc, _, number, _) in got(&mut viewer, &mut world) {
            assert_eq!(number.is_some(), ssrc == 0x5000_0002);
            numbers.extend(number);
        }
    }
    assert_eq!(numbers.len(), 10);
    assert!(numbers.windows(2).all(|pair| pair[1].since(pair[0]) == 1));
}

#[test]
fn a_number_has_its_place_in_either_form_and_none_where_no_form_can_say_it() {
    for (id, allow_mixed, bears) in [(14, false, true), (15, true, true), (15, false, false)] {
        let mut world = World::new();
        let mut sender = Client::join(&mut world, 1);
        let mut viewer = Client::join(&mut world, 2);
        world.apply(Command::SetExtensions {
            transport: 2,
            extensions: vec![(Extension::Mid, 1), (Extension::TransportWideCc, id)],
            allow_mixed,
        });
        world.publish_voice(&sender, 1);
        world.subscribe(&viewer, 1, 1, Some(0));
        let mut voice = Source::new(11, 111, 0).mid("p1");
        let mut numbers = Vec::new();
        for n in 0..3 {
            sender.send(&mut world, &mut voice, &opus(n), false);
            for got in viewer.got(&mut world) {
                let Got::Rtp {
                    header,
                    packet,
                    payload,
                } = got
                else {
                    continue;
                };
                assert_eq!(payload, opus(n));
                assert_eq!(header.extension(&packet, 1), Some(&b"s1"[..]));
                numbers.extend(header.extension(&packet, id).map(|bytes| bytes.to_vec()));
            }
        }
        assert_eq!(
            numbers.len(),
            if bears { 3 } else { 0 },
            "{id} {allow_mixed}"
        );
        assert!(numbers.windows(2).all(|pair| pair[1][1] == pair[0][1] + 1));
    }
}
