//! Redundancy made for one viewer: who loses packets gets them again with later ones, and nobody else a byte more.

use std::collections::HashMap;

use super::client::Source;
use super::client::{Got, TWCC};
use super::world::without_repairs;
use super::{Client, World};
use crate::api::{Command, SubscriptionSpec};
use crate::wire::codec::red::Payload;
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc};

const OPUS: u8 = 9;
const RED: u8 = 35;
/// IP, UDP, RTP with its extensions, and the seal.
const HEADERS: usize = 28;
const PACKET_MS: u64 = 20;
/// From a frame's capture to its place in the playout, and the way to the viewer.
const PLAYOUT_MS: u64 = 250;
const ONE_WAY_MS: u64 = 50;

/// Gilbert and Elliott: `loss` in the long run, `run` in a row on average.
struct Link {
    chance: u64,
    bad: bool,
    loss: f64,
    run: f64,
}

impl Link {
    fn new(seed: u64, loss: f64, run: f64) -> Self {
        Self {
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            bad: false,
            loss,
            run,
        }
    }

    fn loses(&mut self) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let share = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
        self.bad ^= share
            < if self.bad {
                1.0 / self.run
            } else {
                self.loss / (1.0 - self.loss) / self.run
            };
        self.bad
    }
}

/// A viewer at the end of a link, who tells by transport-wide feedback what has come.
struct Viewer {
    client: Client,
    link: Link,
    arrivals: Vec<(u16, Option<i64>)>,
    feedback: u8,
    /// By number of the frame: after how many ms it came.
    heard: HashMap<u32, u64>,
    bytes: usize,
    packets: usize,
    red: usize,
}

impl Viewer {
    fn join(world: &mut World, id: u32, red: Option<u8>, link: Link) -> Self {
        let client = Client::join(world, id);
        let spec = SubscriptionSpec {
            mid: "s".into(),
            payload_type: OPUS,
            red_payload_type: red,
            ..without_repairs(id)
        };
        world.subscribe_as(&client, id, 1, spec);
        Self {
            client,
            link,
            arrivals: Vec::new(),
            feedback: 0,
            heard: HashMap::new(),
            bytes: 0,
            packets: 0,
            red: 0,
        }
    }

    fn forget(&mut self) {
        (self.bytes, self.packets, self.red) = (0, 0, 0);
        self.heard.clear();
    }

    /// Takes what has come while `frame` was the newest.
    fn hear(&mut self, world: &mut World, frame: u32) {
        for got in self.client.got(world) {
            let Got::Rtp {
                header,
                packet,
                payload,
            } = got
            else {
                continue;
            };
            self.bytes += packet.len() + HEADERS;
            self.packets += 1;
            self.red += usize::from(header.payload_type == RED);
            let lost = self.link.loses();
            let &[high, low] = header.extension(&packet, TWCC).unwrap() else {
                panic!("no number");
            };
            let tick = world.now.0 as i64 / 250_000;
            let number = u16::from_be_bytes([high, low]);
            self.arrivals.push((number, (!lost).then_some(tick)));
            if lost {
                continue;
            }
            let read =
                (header.payload_type == RED).then(|| Payload::parse(&payload, OPUS).unwrap());
            let primary = read.map_or(&payload[..], |read| read.primary());
            let blocks = read.iter().flat_map(|read| read.blocks());
            for (offset, sound) in blocks
                .map(|block| (u32::from(block.offset), block.sound))
                .chain([(0, primary)])
            {
                let number = u32::from_be_bytes(*sound[1..].first_chunk().unwrap());
                assert_eq!(header.timestamp.0 - offset, number * 960 + 1_000);
                let late = u64::from(frame - number) * PACKET_MS + ONE_WAY_MS;
                let entry = self.heard.entry(number).or_insert(late);
                *entry = late.min(*entry);
            }
        }
    }

    fn tell(&mut self, world: &mut World) {
        if self.arrivals.iter().all(|(_, at)| at.is_none()) {
            return; // There is no time from which to count.
        }
        let base = self.arrivals[0].0;
        let arrivals: Vec<_> = self.arrivals.drain(..).map(|(_, at)| at).collect();
        self.feedback = self.feedback.wrapping_add(1);
        let count = self.feedback;
        self.client.send_rtcp(world, |slot| {
            let base = SeqNo(base);
            rtcp::write_transport_feedback(slot, Ssrc(1), Ssrc(2), base, count, &arrivals)
                .map(|written| written.len)
        });
    }

    /// % of the frames that did not come in time.
    fn residual(&self, frames: std::ops::Range<u32>) -> f64 {
        let all = frames.len() as f64;
        let in_time = |number: &u32| {
            self.heard
                .get(number)
                .is_some_and(|&late| late <= PLAYOUT_MS)
        };
        100.0 * (1.0 - frames.filter(in_time).count() as f64 / all)
    }
}

struct Call {
    world: World,
    speaker: Client,
    source: Source,
    frame: u32,
}

impl Call {
    fn new() -> Self {
        let mut world = World::new();
        let speaker = Client::join(&mut world, 1);
        world.publish_voice(&speaker, 1);
        let source = Source::new(10, 111, 65_000).mid("p1");
        Self {
            world,
            speaker,
            source,
            frame: 0,
        }
    }

    fn talk(&mut self, frames: u32, viewers: &mut [&mut Viewer]) -> std::ops::Range<u32> {
        let first = self.frame;
        for _ in 0..frames {
            // 24 kbit/s; the frame says which it is.
            let mut payload = vec![0x78; 60];
            payload[1..5].copy_from_slice(&self.frame.to_be_bytes());
            self.source.timestamp = self.frame * 960 + 1_000;
            let (world, source) = (&mut self.world, &mut self.source);
            self.speaker.send(world, source, &payload, false);
            for viewer in viewers.iter_mut() {
                viewer.hear(world, self.frame);
                if self.frame.is_multiple_of(5) {
                    viewer.tell(world);
                }
                if self.frame.is_multiple_of(100) {
                    viewer.client.check(world, false);
                }
            }
            if self.frame.is_multiple_of(100) {
                self.speaker.check(world, false);
            }
            world.pass(PACKET_MS);
            self.frame += 1;
        }
        first..self.frame
    }
}

#[test]
fn who_loses_bursts_hears_all_but_little_and_the_others_get_not_a_byte_more() {
    let mut residuals = Vec::new();
    for seed in 1..=3 {
        let mut call = Call::new();
        let none = || Link::new(1, 0.0, 1.0);
        let mut weak = Viewer::join(&mut call.world, 2, Some(RED), Link::new(seed, 0.15, 3.0));
        let mut good = Viewer::join(&mut call.world, 3, Some(RED), none());
        let mut plain = Viewer::join(&mut call.world, 4, None, Link::new(seed, 0.15, 3.0));
        call.talk(500, &mut [&mut weak, &mut good, &mut plain]);
        assert_eq!((good.red, plain.red), (0, 0));
        for viewer in [&mut weak, &mut good, &mut plain] {
            viewer.forget();
        }
        let frames = call.talk(2_000, &mut [&mut weak, &mut good, &mut plain]);
        assert_eq!((good.red, plain.red), (0, 0));
        assert_eq!(good.packets, plain.packets);
        let overhead = 100.0 * (weak.bytes as f64 / good.bytes as f64 - 1.0);
        let (residual, without) = (weak.residual(frames.clone()), plain.residual(frames));
        println!("seed {seed}: {without:.1} % lost, {residual:.2} % with {overhead:.0} % more");
        assert!(without > 10.0);
        residuals.push(residual);
        assert!(overhead <= 150.0, "seed {seed}: {overhead:.0} %");
        if seed > 1 {
            continue;
        }
        // The link is good again, and then the overhead is gone.
        weak.link = none();
        call.talk(2_500, &mut [&mut weak]);
        weak.forget();
        call.talk(100, &mut [&mut weak]);
        assert_eq!(weak.red, 0);
    }
    let mean = residuals.iter().sum::<f64>() / residuals.len() as f64;
    assert!(mean <= 1.0, "{residuals:.2?} %");
    assert!(
        residuals.iter().all(|&residual| residual <= 1.5),
        "{residuals:.2?} %"
    );
}

#[test]
fn who_loses_less_than_one_percent_pays_nothing() {
    for seed in 1..=2 {
        let mut call = Call::new();
        let mut viewer = Viewer::join(&mut call.world, 2, Some(RED), Link::new(seed, 0.005, 1.01));
        call.talk(5_000, &mut [&mut viewer]);
        assert_eq!(viewer.red, 0, "seed {seed}");
        assert!(viewer.residual(0..5_000) > 0.1);
    }
}

#[test]
fn python_may_forbid_it_and_a_stalled_python_changes_nothing() {
    let mut call = Call::new();
    let mut weak = Viewer::join(&mut call.world, 2, Some(RED), Link::new(3, 0.15, 1.01));
    call.talk(500, &mut [&mut weak]);
    assert!(weak.red > 200);
    let forbid = |allowed| Command::SetRedundancy {
        transport: 2,
        allowed,
    };
    call.world.apply(forbid(false));
    weak.forget();
    call.talk(100, &mut [&mut weak]);
    assert_eq!((weak.red, weak.packets), (0, 100));
    call.world.apply(forbid(true));
    call.talk(10, &mut [&mut weak]);
    assert!(weak.red >= 9);
}
