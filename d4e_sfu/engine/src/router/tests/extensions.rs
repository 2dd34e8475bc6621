//! Header extensions and what else a header holds: mapped by URI, in the form that each client takes; what ends here.

use super::client::{CAPTURE, DELAY, MID, Source, TWCC};
use super::{Client, Got, World, opus};
use crate::api::{Command, Extension};
use crate::wire::drop::DropReason;
use crate::wire::packet::Fields;
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc, Timestamp};

/// One packet of a voice from `speaker`, with these elements; they are named by the ids of its transport.
fn said(speaker: &mut Client, world: &mut World, seq: u16, elements: &[(u8, &[u8])]) {
    let fields = Fields {
        marker: false,
        padding: false,
        payload_type: 111,
        seq: SeqNo(seq),
        timestamp: Timestamp(u32::from(seq) * 960),
        ssrc: Ssrc(10),
    };
    let datagram = speaker.sealed(&fields, ExtSeq(u64::from(seq)), elements, &opus(seq as u8));
    world.handle(speaker.remote, &datagram);
}

/// The elements of each packet that this client got, by id; but for its transport-wide number, which is of no other's making.
fn elements(client: &mut Client, world: &mut World) -> Vec<Vec<(u8, Vec<u8>)>> {
    let got = client.got(world);
    got.iter()
        .filter_map(|got| match got {
            Got::Rtp { header, packet, .. } => Some(
                header
                    .extensions(packet)
                    .filter(|&(id, _)| id != TWCC)
                    .map(|(id, value)| (id, value.to_vec()))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

#[test]
fn extensions_are_mapped_by_uri_in_the_form_that_each_client_takes() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let (mut plain, mut mixed) = (Client::join(&mut world, 2), Client::join(&mut world, 3));
    let map = |world: &mut World, transport, level, capture, allow_mixed| {
        world.apply(Command::SetExtensions {
            transport,
            extensions: vec![
                (Extension::Mid, MID),
                (Extension::AudioLevel, level),
                (Extension::TransportWideCc, TWCC),
                (Extension::AbsCaptureTime, capture),
            ],
            allow_mixed,
        });
    };
    map(&mut world, 1, 33, 200, true);
    map(&mut world, 2, 34, 9, false);
    map(&mut world, 3, 34, 9, true);
    world.publish_voice(&speaker, 1);
    world.subscribe(&plain, 1, 1, Some(0));
    world.subscribe(&mixed, 2, 1, Some(0));
    // Ids over 14: the whole block is in the two-byte form, on the way in as well.
    said(
        &mut speaker,
        &mut world,
        1,
        &[(MID, b"p1"), (33, &[0x85]), (200, &[7; 16])],
    );
    let (mid, capture) = ((MID, b"s1".to_vec()), (9, vec![7; 16]));
    assert_eq!(
        elements(&mut plain, &mut world),
        [[mid, capture.clone()]],
        "nothing but the one-byte form, where no other was agreed on"
    );
    let mid = (MID, b"s2".to_vec());
    assert_eq!(
        elements(&mut mixed, &mut world),
        [[mid, (34, vec![0x85]), capture]]
    );
}

#[test]
fn who_knows_remb_alone_is_told_when_each_packet_left() {
    const SENT: u8 = 12;
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let (mut remb, mut both) = (Client::join(&mut world, 2), Client::join(&mut world, 3));
    for (transport, numbered) in [(2, false), (3, true)] {
        let mut extensions = vec![(Extension::Mid, MID), (Extension::AbsSendTime, SENT)];
        extensions.extend(numbered.then_some((Extension::TransportWideCc, TWCC)));
        world.apply(Command::SetExtensions {
            transport,
            extensions,
            allow_mixed: false,
        });
    }
    world.publish_voice(&speaker, 1);
    world.subscribe(&remb, 1, 1, Some(0));
    world.subscribe(&both, 2, 1, Some(0));
    // Seconds with 18 bits behind the point, and six before it.
    for (seq, ms, time) in [
        (1, 1_000, [0x04, 0, 0]),
        (2, 1_250, [0x05, 0, 0]),
        (3, 65_500, [0x06, 0, 0]),
    ] {
        let mid = (MID, b"s1".to_vec());
        while world.now.0 / 1_000_000 < ms {
            world.pass(5_000.min(ms - world.now.0 / 1_000_000));
            for client in [&speaker, &remb, &both] {
                client.check(&mut world, true);
            }
        }
        said(&mut speaker, &mut world, seq, &[(MID, b"p1")]);
        assert_eq!(
            elements(&mut remb, &mut world),
            [[(SENT, time.to_vec()), mid]]
        );
        assert_eq!(
            elements(&mut both, &mut world),
            [[(MID, b"s2".to_vec())]],
            "his numbers say more"
        );
    }
}

#[test]
fn capture_time_and_playout_delay_are_passed_and_a_delay_is_bounded() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let delay = |least: u32, longest: u32| (least << 12 | longest).to_be_bytes()[1..].to_vec();
    for (n, (sent, passed)) in [
        (delay(0, 0), Some(delay(0, 0))),
        (delay(20, 100), Some(delay(20, 100))),
        (delay(50, 4_095), Some(delay(50, 4_095))),
        (delay(51, 4_095), Some(delay(50, 4_095))),
        (delay(4_095, 4_095), Some(delay(50, 4_095))),
        (delay(21, 20), None),
        (vec![0, 1], None),
    ]
    .into_iter()
    .enumerate()
    {
        let stamp = [n as u8; 8];
        said(
            &mut speaker,
            &mut world,
            n as u16,
            &[(MID, b"p1"), (DELAY, &sent), (CAPTURE, &stamp)],
        );
        let got = elements(&mut listener, &mut world).concat();
        let value = |id| {
            got.iter()
                .find(|(found, _)| *found == id)
                .map(|(_, value)| value.clone())
        };
        assert_eq!(value(DELAY), passed, "{sent:?}");
        assert_eq!(value(CAPTURE), Some(stamp.to_vec()));
    }
}

#[test]
fn an_extension_whose_sizes_lie_is_dropped_by_name_before_it_is_opened() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(10, 111, 0).mid("p1");
    for (at, byte) in [(15, 0xff), (16, 0x1f)] {
        let mut datagram = source.next(&mut speaker, &opus(1), false);
        datagram[at] = byte;
        world.handle(speaker.remote, &datagram);
    }
    assert_eq!(world.drops(DropReason::BadExtension), 2);
    assert_eq!(world.drops(DropReason::BadAuthentication), 0);
    speaker.send(&mut world, &mut source, &opus(2), false);
    assert_eq!(listener.media(&mut world).len(), 1);
}

#[test]
fn contributing_sources_end_at_the_server() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let datagram = speaker.with_csrcs(Ssrc(10), SeqNo(1), &[0xaaaa_aaaa; 15], &opus(1));
    world.handle(speaker.remote, &datagram);
    let got = listener.got(&mut world);
    let [
        Got::Rtp {
            packet, payload, ..
        },
    ] = got.as_slice()
    else {
        panic!("{got:?}")
    };
    assert_eq!((packet[0] & 15, payload), (0, &opus(1)));
}
