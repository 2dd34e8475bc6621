//! Which encoding is forwarded, and when it changes: at keyframes, falling back, pausing; seen from the subscriber's decoder,
//! who must never notice but by the size of the picture.

use super::simulcast::{Simulcast, encoding_of, seamless};
use super::{Client, STARTS, World};
use crate::api::{Command, Event};
use crate::wire::codec::vp8::Descriptor;
use crate::wire::drop::DropReason;
use crate::wire::rtcp;
use crate::wire::seq::{Ssrc, Timestamp};

#[test]
fn a_switch_happens_at_the_next_keyframe_and_is_seamless_from_every_start() {
    for start in STARTS {
        let mut world = World::new();
        let mut publisher = Simulcast::new(&mut world, start);
        let mut viewer = Client::join(&mut world, 2);
        world.subscribe(&viewer, 1, 1, Some(0));
        for n in 0..3 {
            publisher.shoot(&mut world, n, true);
        }
        publisher.tick(&mut world);
        for _ in 0..5 {
            publisher.frame(&mut world, &[0, 1, 2]);
        }
        let _ = world.events();
        world.apply(Command::SetLayer {
            subscription: 1,
            spatial: Some(2),
            temporal: 255,
        });
        for _ in 0..5 {
            publisher.frame(&mut world, &[0, 1, 2]);
        }
        assert!(world.events().is_empty(), "no keyframe yet");
        publisher.shoot(&mut world, 0, false);
        publisher.shoot(&mut world, 2, true);
        publisher.tick(&mut world);
        for _ in 0..5 {
            publisher.frame(&mut world, &[0, 1, 2]);
        }
        assert_eq!(
            world.events(),
            [Event::LayerChanged {
                subscription: 1,
                spatial: Some(2)
            }]
        );
        let got = viewer.media(&mut world);
        let layers: Vec<u8> = got
            .iter()
            .map(|(_, payload)| encoding_of(payload))
            .collect();
        assert_eq!(
            layers,
            [[0; 12].as_slice(), &[2; 6]].concat(),
            "start {start}"
        );
        seamless(&got, &format!("start {start}"));
        let steps: Vec<i32> = got
            .windows(2)
            .map(|p| p[1].0.timestamp.since(p[0].0.timestamp))
            .collect();
        assert!(
            steps
                .iter()
                .enumerate()
                .all(|(at, &step)| at == 11 || step == 2_970),
            "{steps:?}"
        );
        assert!(
            world.drops(DropReason::OtherLayer) > 0
                && world.drops(DropReason::AwaitingKeyframe) > 0
        );
    }
}

#[test]
fn sender_reports_make_the_switch_exact() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.shoot(&mut world, 2, true);
    // Both clocks now, by the publisher's wall clock.
    for n in [0, 2] {
        let info = rtcp::SenderInfo {
            ntp: 0xE000_0000_0000_0000,
            rtp: Timestamp(publisher.sources[n].timestamp),
            packets: 1,
            octets: 1,
        };
        let ssrc = publisher.sources[n].ssrc;
        publisher.client.send_rtcp(&mut world, |slot| {
            rtcp::write_sender_report(slot, Ssrc(ssrc), &info, &[])
        });
    }
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0, 2]);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(2),
        temporal: 255,
    });
    // The keyframe of the larger encoding takes 20 ms longer on its way than its frame in the smaller one.
    world.pass(20);
    publisher.shoot(&mut world, 2, true);
    let got = viewer.media(&mut world);
    let last = got.len() - 1;
    assert_eq!(encoding_of(&got[last].1), 2);
    assert_eq!(
        got[last].0.timestamp.since(got[last - 1].0.timestamp),
        2_970,
        "when it was captured, not when it came"
    );
}

#[test]
fn it_falls_back_when_the_encoding_stops_and_returns_when_it_is_back() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(2));
    for n in 0..3 {
        publisher.shoot(&mut world, n, true);
    }
    for _ in 0..5 {
        publisher.frame(&mut world, &[0, 1, 2]);
    }
    assert_eq!(encoding_of(&viewer.media(&mut world).last().unwrap().1), 2);
    let _ = world.events();
    let mut asked = Vec::new();
    for _ in 0..40 {
        for n in [0, 1] {
            publisher.shoot(&mut world, n, false);
        }
        for source in &mut publisher.sources {
            source.timestamp = source.timestamp.wrapping_add(2_970);
        }
        world.pass(33);
        asked.extend(publisher.client.asked(&mut world).0);
    }
    assert_eq!(
        world.events(),
        [Event::EncodingActive {
            publication: 1,
            encoding: 2,
            active: false
        }]
    );
    assert_eq!(
        asked.first(),
        Some(&20),
        "a keyframe of the next lower encoding"
    );
    publisher.shoot(&mut world, 1, true);
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0, 1]);
    assert_eq!(
        world.events(),
        [Event::LayerChanged {
            subscription: 1,
            spatial: Some(1)
        }]
    );
    let got = viewer.media(&mut world);
    assert!(got.iter().all(|(_, payload)| encoding_of(payload) == 1) && got.len() == 2);
    // It comes back: active at once, forwarded from its keyframe on.
    publisher.shoot(&mut world, 2, false);
    publisher.shoot(&mut world, 2, true);
    let events = world.events();
    assert_eq!(
        events,
        [
            Event::EncodingActive {
                publication: 1,
                encoding: 2,
                active: true
            },
            Event::LayerChanged {
                subscription: 1,
                spatial: Some(2)
            }
        ]
    );
}

#[test]
fn a_still_screen_is_not_a_reason_to_fall_back() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(2));
    for n in 0..3 {
        publisher.shoot(&mut world, n, true);
    }
    world.pass(5_000);
    publisher.client.check(&mut world, true);
    viewer.check(&mut world, true);
    let _ = (
        world.events(),
        publisher.client.got(&mut world),
        viewer.got(&mut world),
    );
    publisher.shoot(&mut world, 2, false);
    let got = viewer.media(&mut world);
    assert_eq!(
        got.iter()
            .map(|(_, payload)| encoding_of(payload))
            .collect::<Vec<_>>(),
        [2],
        "it goes on where it stopped"
    );
    assert!(
        publisher.client.asked(&mut world).0.is_empty(),
        "without a new keyframe"
    );
}

#[test]
fn pausing_leaves_no_trace_in_the_numbers() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0]);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: None,
        temporal: 255,
    });
    for _ in 0..90 {
        publisher.frame(&mut world, &[0]);
    }
    assert_eq!(viewer.media(&mut world).len(), 2);
    assert_eq!(world.drops(DropReason::Paused), 90);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 255,
    });
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0]);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 2);
    let first = Descriptor::parse(&got[0].1).unwrap();
    // Two frames went before: numbers go on, time has passed.
    assert_eq!(first.picture_id, Some(1 + 2));
    assert_eq!(
        got[0].0.timestamp.0,
        10u32.wrapping_mul(0x3333_3333).wrapping_add(2_970 * 92)
    );
    seamless(&got, "after the pause");
    let told: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::LayerChanged { .. }))
        .collect();
    assert_eq!(
        told,
        [Event::LayerChanged {
            subscription: 1,
            spatial: Some(0)
        }]
    );
}

#[test]
fn a_picture_seen_before_the_pause_is_not_shown_again_after_it() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    let layer = |spatial| Command::SetLayer {
        subscription: 1,
        spatial,
        temporal: 255,
    };
    world.apply(layer(None));
    world.apply(layer(Some(0)));
    publisher.frame(&mut world, &[0]);
    assert_eq!(viewer.media(&mut world).len(), 1);
    publisher.shoot(&mut world, 0, true);
    assert_eq!(viewer.media(&mut world).len(), 1);
}

#[test]
fn time_never_runs_back_even_if_the_keyframe_is_older_than_what_was_shown() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.shoot(&mut world, 2, true);
    for n in [0, 2] {
        let info = rtcp::SenderInfo {
            ntp: 0xE000_0000_0000_0000,
            rtp: Timestamp(publisher.sources[n].timestamp),
            packets: 1,
            octets: 1,
        };
        let ssrc = publisher.sources[n].ssrc;
        publisher.client.send_rtcp(&mut world, |slot| {
            rtcp::write_sender_report(slot, Ssrc(ssrc), &info, &[])
        });
    }
    publisher.tick(&mut world);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(2),
        temporal: 255,
    });
    // Captured together, but the small one has come and gone when the large one arrives, and the next small one too.
    let large = publisher.sources[2].timestamp;
    publisher.frame(&mut world, &[0]);
    publisher.frame(&mut world, &[0]);
    publisher.sources[2].timestamp = large;
    publisher.shoot(&mut world, 2, true);
    let got = viewer.media(&mut world);
    assert_eq!(encoding_of(&got[got.len() - 1].1), 2);
    let step = got[got.len() - 1]
        .0
        .timestamp
        .since(got[got.len() - 2].0.timestamp);
    assert_eq!(step, 1);
}

#[test]
fn a_joiner_gets_the_clock_at_once_and_not_with_the_next_report() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    publisher.shoot(&mut world, 0, true);
    let ssrc = publisher.sources[0].ssrc;
    let info = rtcp::SenderInfo {
        ntp: 1 << 40,
        rtp: Timestamp(7),
        packets: 1,
        octets: 1,
    };
    publisher.client.send_rtcp(&mut world, |slot| {
        rtcp::write_sender_report(slot, Ssrc(ssrc), &info, &[])
    });
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let got = viewer.got(&mut world);
    assert!(
        matches!(
            got.as_slice(),
            [super::Got::Rtp { .. }, super::Got::Rtcp(_)]
        ),
        "the picture from the cache and the report: {got:?}"
    );
}

#[test]
fn a_joiner_before_a_still_screen_asks_the_best_encoding_that_there_is() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    for n in [0, 1] {
        publisher.shoot(&mut world, n, true);
    }
    world.pass(3_000);
    let _ = publisher.client.got(&mut world);
    let viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(2));
    assert_eq!(
        publisher.client.asked(&mut world).0,
        [20],
        "h is silent and bound, f was never there"
    );
}
