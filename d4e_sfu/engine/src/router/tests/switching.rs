//! Layers: switching at keyframes, falling back, pausing, temporal layers; seen from the subscriber's decoder, who must
//! never notice but by the size of the picture.

use super::client::Source;
use super::{Client, STARTS, World, opus, vp8};
use crate::api::{Codec, Command, Event};
use crate::wire::codec::vp8::Descriptor;
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::rtcp;
use crate::wire::seq::{Ssrc, Timestamp};

struct Simulcast {
    client: Client,
    sources: Vec<Source>,
    pictures: Vec<u16>,
}

impl Simulcast {
    /// Each encoding counts from a beginning of its own.
    fn new(world: &mut World, start: u16) -> Self {
        let client = Client::join(world, 1);
        world.publish_video(&client, 1, Codec::Vp8, &["q", "h", "f"]);
        let sources = [("q", 10u32), ("h", 20), ("f", 30)]
            .map(|(rid, ssrc)| {
                let mut source = Source::new(ssrc, 96, start.wrapping_mul(ssrc as u16))
                    .mid("p1")
                    .rid(rid);
                source.timestamp = ssrc.wrapping_mul(0x3333_3333);
                source
            })
            .into();
        Self {
            client,
            sources,
            pictures: vec![start, start.wrapping_add(9_000), start.wrapping_sub(70)],
        }
    }

    /// One frame of one packet in encoding `n`, 33 ms after the last.
    fn shoot(&mut self, world: &mut World, n: usize, keyframe: bool) {
        let picture = self.pictures[n];
        self.pictures[n] = picture.wrapping_add(1);
        let payload = vp8(picture, picture as u8, 0, keyframe, &[n as u8; 10]);
        self.client
            .send(world, &mut self.sources[n], &payload, true);
    }

    fn frame(&mut self, world: &mut World, encodings: &[usize]) {
        for &n in encodings {
            self.shoot(world, n, false);
        }
        self.tick(world);
    }

    fn tick(&mut self, world: &mut World) {
        for source in &mut self.sources {
            source.timestamp = source.timestamp.wrapping_add(2_970);
        }
        world.pass(33);
        let _ = self.client.got(world);
    }
}

fn encoding_of(payload: &[u8]) -> u8 {
    payload[payload.len() - 1]
}

/// Everything counts up by one; time moves forward, by about a frame.
fn seamless(got: &[(Header, Vec<u8>)], name: &str) {
    for pair in got.windows(2) {
        let ((before, a), (after, b)) = (&pair[0], &pair[1]);
        let (a, b) = (Descriptor::parse(a).unwrap(), Descriptor::parse(b).unwrap());
        assert_eq!(after.seq.since(before.seq), 1, "{name}");
        assert_eq!(
            b.picture_id.unwrap().wrapping_sub(a.picture_id.unwrap()) & 0x7fff,
            1,
            "{name}"
        );
        assert_eq!(
            b.tl0_pic_idx.unwrap().wrapping_sub(a.tl0_pic_idx.unwrap()),
            1,
            "{name}"
        );
        let step = after.timestamp.since(before.timestamp);
        assert!(step > 0, "{name}: time stands still or runs back: {step}");
    }
}

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
fn late_packets_around_a_switch_find_their_old_numbers() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.shoot(&mut world, 1, true);
    // One packet of the old encoding is under way longer than the switch takes, and one of the new comes before its keyframe.
    let late =
        publisher.sources[0].next(&mut publisher.client, &vp8(2, 2, 0, false, &[0; 4]), true);
    publisher.pictures[0] = 3;
    publisher.shoot(&mut world, 0, false);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(1),
        temporal: 255,
    });
    let keyframe = publisher.sources[1].next(
        &mut publisher.client,
        &vp8(9_002, 2, 0, true, &[1; 4]),
        true,
    );
    let after = publisher.sources[1].next(
        &mut publisher.client,
        &vp8(9_003, 3, 0, false, &[1; 4]),
        true,
    );
    let remote = publisher.client.remote;
    for datagram in [&after, &keyframe, &late] {
        world.handle(remote, datagram);
    }
    let got = viewer.media(&mut world);
    let first = got[0].0.seq;
    let order: Vec<(i16, u8)> = got
        .iter()
        .map(|(header, payload)| (header.seq.since(first), encoding_of(payload)))
        .collect();
    assert_eq!(order, [(0, 0), (2, 0), (3, 1), (4, 1), (1, 0)]);
}

#[test]
fn padding_ends_at_the_server_and_leaves_no_hole() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    for _ in 0..20 {
        publisher
            .client
            .send(&mut world, &mut publisher.sources[0], &[], false);
        publisher.frame(&mut world, &[0]);
    }
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 21);
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
    assert_eq!(world.drops(DropReason::Padding), 20);
    // Padding for which a number was kept, because it was late, fills that number with an empty packet.
    let padding = publisher.sources[0].next(&mut publisher.client, &[], false);
    publisher.shoot(&mut world, 0, false);
    let remote = publisher.client.remote;
    world.handle(remote, &padding);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].0.seq.since(got[1].0.seq), 1);
    assert!(got[1].1.is_empty() && got[1].0.padding);
}

#[test]
fn temporal_layers_are_left_out_without_a_trace() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    let mut sent = 0u16;
    let mut tl0 = 0u8;
    let mut shoot = |world: &mut World, publisher: &mut Simulcast, frames: u16| {
        for _ in 0..frames {
            // 0 2 1 2, two packets each.
            let tid = [0, 2, 1, 2][usize::from(sent % 4)];
            tl0 = tl0.wrapping_add(u8::from(tid == 0));
            let payload = vp8(sent, tl0, tid, sent == 0, &[tid; 8]);
            let mut second = payload.clone();
            second[0] &= !0x10;
            publisher
                .client
                .send(world, &mut publisher.sources[0], &payload, false);
            publisher
                .client
                .send(world, &mut publisher.sources[0], &second, true);
            sent += 1;
            publisher.tick(world);
        }
    };
    shoot(&mut world, &mut publisher, 8);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 0,
    });
    shoot(&mut world, &mut publisher, 16);
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 1,
    });
    shoot(&mut world, &mut publisher, 16);
    let got = viewer.media(&mut world);
    let tids: Vec<u8> = got
        .chunks(2)
        .map(|frame| frame[0].1[frame[0].1.len() - 1])
        .collect();
    assert_eq!(tids[..8], [0, 2, 1, 2, 0, 2, 1, 2]);
    assert_eq!(tids[8..12], [0; 4]);
    assert_eq!(tids[12..], [0, 1, 0, 1, 0, 1, 0, 1]);
    let ids: Vec<u16> = got
        .chunks(2)
        .map(|frame| Descriptor::parse(&frame[0].1).unwrap().picture_id.unwrap())
        .collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    assert!(
        got.windows(2)
            .all(|pair| pair[1].0.seq.since(pair[0].0.seq) == 1)
    );
}

#[test]
fn a_publisher_who_starts_anew_needs_a_keyframe_and_nothing_else() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    publisher.tick(&mut world);
    publisher.frame(&mut world, &[0]);
    publisher.sources[0] = Source::new(77, 96, 40_000).mid("p1").rid("q");
    publisher.sources[0].timestamp = 5;
    publisher.pictures[0] = 30_000;
    publisher.shoot(&mut world, 0, false);
    assert_eq!(publisher.client.asked(&mut world).0, [77]);
    publisher.tick(&mut world);
    publisher.shoot(&mut world, 0, true);
    let got = viewer.media(&mut world);
    assert_eq!(got.len(), 3);
    seamless(&got, "across the new SSRC");
}

#[test]
fn a_voice_goes_on_after_a_jump_without_waiting_for_anything() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    for n in 0..4u64 {
        source.timestamp += 960;
        speaker.send(&mut world, &mut source, &opus(n as u8), false);
        source.seq.0 += n * 1_000;
    }
    let got = listener.media(&mut world);
    assert_eq!(got.len(), 4);
    assert!(got.windows(2).all(|pair| {
        let step = pair[1].0.seq.since(pair[0].0.seq);
        step == 1
    }));
}

#[test]
fn a_late_packet_of_a_layer_left_out_fills_its_number_empty() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.apply(Command::SetLayer {
        subscription: 1,
        spatial: Some(0),
        temporal: 0,
    });
    publisher.shoot(&mut world, 0, true);
    let upper = vp8(2, 1, 2, false, &[2; 10]);
    let late = publisher.sources[0].next(&mut publisher.client, &upper, true);
    publisher.pictures[0] = 3;
    publisher.shoot(&mut world, 0, false);
    let remote = publisher.client.remote;
    world.handle(remote, &late);
    let got = viewer.media(&mut world);
    let first = got[0].0.seq;
    let numbers: Vec<_> = got
        .iter()
        .map(|(header, _)| header.seq.since(first))
        .collect();
    assert_eq!(numbers, [0, 2, 1]);
    assert!(got[2].1.is_empty() && got[2].0.padding && !got[2].0.marker);
    // And it is not repaired either.
    viewer.nack(&mut world, 0x5000_0001, &[got[2].0.seq.0]);
    assert!(viewer.media(&mut world).is_empty());
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
fn what_came_before_a_jump_is_over() {
    let mut world = World::new();
    let mut publisher = Simulcast::new(&mut world, 3);
    let mut viewer = Client::join(&mut world, 2);
    world.subscribe(&viewer, 1, 1, Some(0));
    publisher.shoot(&mut world, 0, true);
    let before =
        publisher.sources[0].next(&mut publisher.client, &vp8(5, 5, 0, true, b"old"), true);
    publisher.sources[0].seq.0 += 300;
    publisher.shoot(&mut world, 0, true);
    assert_eq!(viewer.media(&mut world).len(), 2);
    let remote = publisher.client.remote;
    world.handle(remote, &before);
    assert!(viewer.media(&mut world).is_empty());
    assert_eq!(world.drops(DropReason::Late), 1);
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
