//! RTCP by its rules: what a report must hold, times asked and answered, sources that end, and SSRCs that are taken.

use super::client::Source;
use super::world::spec;
use super::{Client, Got, World, opus};
use crate::api::{Command, Event, SubscriptionSpec};
use crate::wire::drop::DropReason;
use crate::wire::rtcp::{self, Packet};
use crate::wire::seq::Ssrc;

/// A voice from 1 to 2, one packet of it heard.
fn call() -> (World, Client, Source, Client) {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut voice = Source::new(10, 111, 7).mid("p1");
    speaker.send(&mut world, &mut voice, &opus(0), false);
    assert_eq!(listener.media(&mut world).len(), 1);
    (world, speaker, voice, listener)
}

fn compounds(client: &mut Client, world: &mut World) -> Vec<Vec<u8>> {
    let got = client.got(world);
    got.into_iter()
        .filter_map(|got| match got {
            Got::Rtcp(compound) => Some(compound),
            _ => None,
        })
        .collect()
}

/// Types of the packets of a compound, in order.
fn types(compound: &[u8]) -> Vec<u8> {
    let (mut rest, mut types) = (compound, vec![]);
    while let [_, packet_type, high, low, ..] = rest {
        types.push(*packet_type);
        rest = &rest[4 + usize::from(u16::from_be_bytes([*high, *low])) * 4..];
    }
    types
}

#[test]
fn a_report_comes_first_and_every_compound_of_reports_has_a_cname() {
    let (mut world, mut speaker, mut voice, mut listener) = call();
    let info = rtcp::SenderInfo {
        ntp: 0xE000_0000_0000_0000,
        rtp: crate::wire::seq::Timestamp(voice.timestamp),
        packets: 1,
        octets: 4,
    };
    speaker.send_rtcp(&mut world, |slot| {
        rtcp::write_sender_report(slot, Ssrc(10), &info, &[])
    });
    for n in 0..30 {
        world.pass(100);
        speaker.send(&mut world, &mut voice, &opus(n), false);
    }
    for (client, first) in [(&mut speaker, 201), (&mut listener, 200)] {
        let reports: Vec<_> = compounds(client, &mut world)
            .into_iter()
            .filter(|compound| !matches!(compound[1], 205 | 206))
            .collect();
        assert!(!reports.is_empty());
        for compound in reports {
            assert_eq!(types(&compound), [first, 202]);
            let named = rtcp::Compound::parse(&compound)
                .unwrap()
                .any(|packet| match packet {
                    Packet::Sdes(mut chunks) => chunks.any(|(_, cname)| !cname.is_empty()),
                    _ => false,
                });
            assert!(named);
        }
    }
}

/// On a thin link a report is as long as a packet of a voice, and those of all voices come together.
#[test]
fn a_voices_report_waits_until_little_is_before_it_but_no_longer_than_another_interval() {
    let (mut world, mut speaker, mut voice, mut listener) = call();
    listener.remb(&mut world, 60_000);
    let mut reports_after = |packets: u16, apart: u64, report: bool| {
        if report {
            let info = rtcp::SenderInfo {
                ntp: 0xE000_0000_0000_0000 + (world.now.0 >> 32),
                rtp: crate::wire::seq::Timestamp(voice.timestamp),
                packets: 1,
                octets: 4,
            };
            speaker.send_rtcp(&mut world, |slot| {
                rtcp::write_sender_report(slot, Ssrc(10), &info, &[])
            });
        }
        for n in 0..packets {
            world.pass(apart);
            speaker.send(&mut world, &mut voice, &[n as u8; 60], false);
        }
        let got = compounds(&mut listener, &mut world);
        got.iter().filter(|compound| compound[1] == 200).count()
    };
    assert_eq!(reports_after(20, 100, true), 1, "the first at once");
    assert_eq!(reports_after(500, 10, false), 0);
    assert_eq!(
        reports_after(100, 10, true),
        0,
        "a hundred a second are more than it carries"
    );
    assert_eq!(reports_after(1, 600, false), 1, "they have left");
    assert_eq!(reports_after(500, 10, false), 0);
    assert_eq!(reports_after(600, 10, true), 1, "9 s after the last");
}

#[test]
fn who_tells_his_time_learns_how_long_it_was_kept() {
    let (mut world, _, _, mut viewer) = call();
    compounds(&mut viewer, &mut world);
    // Two receivers in one client, one of which tells twice; and more of them than any client has.
    for (receiver, ntp) in [
        (70, 0x1111_2222_3333_4444),
        (71, 1),
        (70, 0xaaaa_bbbb_cccc_dddd),
    ] {
        world.pass(100);
        viewer.send_rtcp(&mut world, |slot| {
            rtcp::write_reference_time(slot, Ssrc(receiver), ntp)
        });
    }
    world.pass(1_000);
    let found = compounds(&mut viewer, &mut world);
    let [compound] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(types(compound), [201, 202, 207]);
    let xr = &compound[compound.len() - 36..];
    assert_eq!(xr[4..8], 1u32.to_be_bytes(), "from us");
    assert_eq!(xr[8..12], [5, 0, 0, 6], "two answers of three words");
    let word = |at: usize| u32::from_be_bytes(xr[at..at + 4].try_into().unwrap());
    assert_eq!((word(12), word(16)), (71, 0));
    assert_eq!(
        (word(24), word(28)),
        (70, 0xbbbb_cccc),
        "the latest of each"
    );
    let kept = |at: usize| word(at) * 1_000 / 65_536;
    assert!(kept(32) <= 1_000, "{} ms", kept(32));
    assert!(kept(20).abs_diff(kept(32) + 100) <= 1, "{} ms", kept(20));

    world.pass(5_000);
    assert!(
        compounds(&mut viewer, &mut world).is_empty(),
        "each is answered once"
    );
    for receiver in 100..200 {
        viewer.send_rtcp(&mut world, |slot| {
            rtcp::write_reference_time(slot, Ssrc(receiver % 60 + 100), 7)
        });
    }
    world.pass(3_000);
    let found = compounds(&mut viewer, &mut world);
    assert_eq!(found.len(), 1);
    assert!(found[0].len() < 150, "{} bytes", found[0].len());
}

#[test]
fn an_extended_report_that_lies_is_refused_whole() {
    for (blocks, good) in [
        (vec![4, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], true),
        (vec![99, 0, 0, 1, 0, 0, 0, 1], true), // of a kind that we do not know
        (vec![], true),
        (vec![4, 0, 0, 1, 0, 0, 0, 1], false), // half a time
        (vec![4, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2], false),
        (vec![99, 0, 0xff, 0xff], false),
    ] {
        let (mut world, mut speaker, ..) = call();
        speaker.send_rtcp(&mut world, |slot| {
            let words = (blocks.len() as u16 + 4) / 4;
            slot[..4].copy_from_slice(&[0x80, 207, (words >> 8) as u8, words as u8]);
            slot[4..8].copy_from_slice(&[0, 0, 0, 10]);
            slot[8..8 + blocks.len()].copy_from_slice(&blocks);
            Some(8 + blocks.len())
        });
        assert_eq!(
            world.drops(DropReason::BadRtcp),
            u64::from(!good),
            "{blocks:?}"
        );
    }
}

#[test]
fn a_source_that_ends_says_so_to_who_has_heard_it() {
    for by in [
        Command::RemoveSubscription { subscription: 1 },
        Command::RemovePublication { publication: 1 },
        Command::RemoveTransport { transport: 1 },
    ] {
        let (mut world, _, _, mut listener) = call();
        let silent = Client::join(&mut world, 3);
        world.subscribe(&silent, 3, 1, None); // paused: never sent
        let mut silent = silent;
        world.kept.datagrams.clear();
        world.apply(by.clone());
        let found = compounds(&mut listener, &mut world);
        assert_eq!(types(&found[0]), [201, 202, 203], "{by:?}");
        let ended: Vec<u32> = rtcp::Compound::parse(&found[0])
            .unwrap()
            .filter_map(|packet| match packet {
                Packet::Bye(ssrcs) => Some(ssrcs.map(|ssrc| ssrc.0).collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(ended, [0x5000_0001, 0x6000_0001]);
        assert!(compounds(&mut silent, &mut world).is_empty());
    }
}

#[test]
fn nothing_is_said_to_one_who_has_left_himself() {
    let (mut world, _, _, mut listener) = call();
    world.apply(Command::RemoveTransport { transport: 2 });
    assert!(compounds(&mut listener, &mut world).is_empty());
}

#[test]
fn a_goodbye_ends_a_stream_of_the_one_who_says_it_and_of_nobody_else() {
    let (mut world, mut speaker, mut voice, mut listener) = call();
    world.events();
    let active = |world: &mut World| {
        let events = world.events();
        events
            .iter()
            .filter_map(|event| match event {
                Event::EncodingActive { active, .. } => Some(*active),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    // Whoever else is authentic may say what he likes about that stream, and so may the speaker about others'.
    for (client, ssrc) in [(&mut listener, 10), (&mut speaker, 0x5000_0001)] {
        client.send_rtcp(&mut world, |slot| rtcp::write_bye(slot, &[Ssrc(ssrc)]));
    }
    assert!(active(&mut world).is_empty());
    speaker.send_rtcp(&mut world, |slot| rtcp::write_bye(slot, &[Ssrc(10)]));
    assert_eq!(active(&mut world), [false]);
    // A packet that was on its way, or a source that has thought better of it.
    speaker.send(&mut world, &mut voice, &opus(1), false);
    assert_eq!(active(&mut world), [true]);
    assert_eq!(listener.media(&mut world).len(), 1);
}

#[test]
fn a_stream_under_one_of_our_numbers_is_dropped_by_name() {
    let (mut world, mut speaker, _, mut listener) = call();
    // The listener publishes as well, under the SSRCs of what he gets, and under that of our reports.
    world.publish_voice(&listener, 2);
    world.subscribe(&speaker, 2, 2, Some(0));
    for (n, ssrc) in [0x5000_0001, 0x6000_0001, 1].into_iter().enumerate() {
        let mut source = Source::new(ssrc, 111, 5).mid("p2");
        listener.send(&mut world, &mut source, &opus(1), false);
        assert_eq!(world.drops(DropReason::SsrcCollision), n as u64 + 1);
    }
    assert!(speaker.media(&mut world).is_empty());
    // The numbers of other transports are other numbers.
    let mut source = Source::new(0x5000_0002, 111, 5).mid("p2");
    listener.send(&mut world, &mut source, &opus(1), false);
    assert_eq!(speaker.media(&mut world).len(), 1);
    assert_eq!(world.drops(DropReason::SsrcCollision), 3);
}

#[test]
fn no_number_is_given_to_two_of_our_streams_to_one_client() {
    let (mut world, mut speaker, mut voice, mut listener) = call();
    let subscribe = |world: &mut World, subscription, ssrc, rtx_ssrc| {
        world.apply(Command::AddSubscription {
            subscription,
            publication: 1,
            transport: 2,
            spec: SubscriptionSpec {
                ssrc,
                rtx_ssrc,
                ..spec(subscription, Some(0))
            },
        });
        let snapshot = world.router.snapshot();
        (snapshot.subscriptions, snapshot.counters.commands_ignored)
    };
    world.publish_voice(&listener, 2);
    let mut own = Source::new(77, 111, 5).mid("p2");
    listener.send(&mut world, &mut own, &opus(1), false);
    for (n, (ssrc, rtx_ssrc)) in [
        (0x5000_0001, Some(0x7000_0000)), // his other stream
        (0x6000_0001, None),              // its repair
        (0x7000_0001, Some(0x5000_0001)),
        (0x7000_0002, Some(0x7000_0002)),
        (77, None), // a stream that he sends
        (1, None),  // our reports
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            subscribe(&mut world, 9, ssrc, rtx_ssrc),
            (1, n as u64 + 1),
            "{ssrc:x}"
        );
    }
    assert_eq!(subscribe(&mut world, 9, 0x7000_0003, None), (2, 6));
    speaker.send(&mut world, &mut voice, &opus(2), false);
    assert_eq!(listener.media(&mut world).len(), 2); // `got` finds an index that was sealed twice
}
