//! Lips and voice: what a viewer's player finds from the sender reports that it gets, against when things were captured.

use std::collections::VecDeque;

use super::client::Source;
use super::{Client, Got, World, vp8};
use crate::api::{Codec, Command};
use crate::wire::codec::vp8::Descriptor;
use crate::wire::rtcp::{self, Packet};
use crate::wire::seq::{Ssrc, Timestamp};

/// What the issue allows, in milliseconds.
const ALLOWED: f64 = 20.0;
const MINUTES: u64 = 10;
/// Between frames, and between packets of the voice.
const FRAME: u64 = 100;
/// libwebrtc draws a line through so many sender reports (RtpToNtpEstimator).
const SMOOTHED: usize = 20;

/// A clock of the publisher: what it shows at a true time in milliseconds, so many parts in a million too fast.
#[derive(Clone, Copy)]
struct Clock {
    rate: f64,
    start: u32,
    ppm: f64,
}

impl Clock {
    fn at(&self, ms: f64) -> Timestamp {
        let ticks = (ms / 1_000.0 * self.rate * (1.0 + self.ppm / 1e6)).round() as u64;
        Timestamp(self.start.wrapping_add(ticks as u32))
    }
}

fn wall(ms: f64, ppm: f64) -> f64 {
    ms * (1.0 + ppm / 1e6)
}

fn ntp(ms: f64, ppm: f64) -> u64 {
    0xE000_0000_0000_0000 + (wall(ms, ppm) / 1_000.0 * 4_294_967_296.0) as u64
}

/// What a player makes of one stream: by the last report, as RFC 3550 §6.4.1 has it, and by a line through the last ones.
#[derive(Default)]
struct Player {
    reports: VecDeque<(f64, Timestamp)>,
}

impl Player {
    fn report(&mut self, ntp: u64, rtp: Timestamp) {
        let ms = (ntp - 0xE000_0000_0000_0000) as f64 / 4_294_967_296.0 * 1_000.0;
        if self.reports.back().is_none_or(|last| last.1 != rtp) {
            self.reports.push_back((ms, rtp));
        }
        if self.reports.len() > SMOOTHED {
            self.reports.pop_front();
        }
    }

    /// Capture times in milliseconds of the publisher's wall clock, both ways of finding them.
    fn captured(&self, timestamp: Timestamp, rate: f64) -> Option<[f64; 2]> {
        let &(last, origin) = self.reports.back()?;
        let x = |timestamp: Timestamp| f64::from(timestamp.since(origin)) / rate * 1_000.0;
        let by_last = last + x(timestamp);
        let n = self.reports.len() as f64;
        if n < 2.0 {
            return Some([by_last; 2]);
        }
        let (mx, my) = self.reports.iter().fold((0.0, 0.0), |(mx, my), (y, t)| {
            (mx + x(*t) / n, my + (y - last) / n)
        });
        let (sxy, sxx) = self.reports.iter().fold((0.0, 0.0), |(sxy, sxx), (y, t)| {
            let dx = x(*t) - mx;
            (sxy + dx * (y - last - my), sxx + dx * dx)
        });
        let slope = if sxx > 0.0 { sxy / sxx } else { 1.0 };
        Some([by_last, last + my + slope * (x(timestamp) - mx)])
    }
}

struct Figures {
    worst: f64,
    frames: usize,
    switches: usize,
}

/// Ten minutes of a voice and of a picture in two sizes, the larger and the smaller one in turn.
fn watch(wall_ppm: f64, voice_ppm: f64, picture_ppm: f64) -> Figures {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let mut viewer = Client::join(&mut world, 2);
    world.publish_voice(&publisher, 1);
    world.publish_video(&publisher, 2, Codec::Vp8, &["q", "h"]);
    world.subscribe(&viewer, 1, 1, Some(0));
    world.subscribe(&viewer, 2, 2, Some(0));
    let clock = |rate, start, ppm| Clock { rate, start, ppm };
    let voice_clock = clock(48_000.0, u32::MAX - 3_000_000, voice_ppm);
    let clocks = [
        clock(90_000.0, 77_777, picture_ppm),
        clock(90_000.0, u32::MAX - 9_000_000, picture_ppm),
    ];
    let mut voice = Source::new(10, 111, 5).mid("p1");
    let mut sizes = [
        Source::new(20, 96, 65_000).mid("p2").rid("q"),
        Source::new(21, 96, 9_000).mid("p2").rid("h"),
    ];
    let mut chance = 1u32;
    let mut jitter = move |below: u64| {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(chance >> 16) % below
    };
    let (mut heard, mut seen) = (Player::default(), Player::default());
    let (mut worst, mut frames, mut switches) = (0.0f64, 0, 0);
    let mut voice_error = None;
    let (mut asked, mut newest, mut current) = ([true; 2], 0, None);
    let began = world.now.0 / 1_000_000;
    for n in 0..MINUTES * 60_000 / FRAME {
        let ms = n * FRAME;
        world.now = crate::now::Now::from_millis(began + ms + jitter(10));
        let captured = ms as f64;
        let payload = [&[0x78][..], &(ms as u32).to_be_bytes()].concat();
        voice.timestamp = voice_clock.at(captured).0;
        publisher.send(&mut world, &mut voice, &payload, false);
        if ms.is_multiple_of(20_000) {
            let spatial = Some((ms / 20_000 % 2) as u8);
            world.apply(Command::SetLayer {
                subscription: 2,
                spatial,
                temporal: 255,
            });
        }
        for (at, size) in sizes.iter_mut().enumerate() {
            size.timestamp = clocks[at].at(captured).0;
            let keyframe = std::mem::take(&mut asked[at]);
            let body = (ms as u32).to_be_bytes();
            let frame = vp8(n as u16, n as u8, 0, keyframe, &body);
            if keyframe && at == 1 {
                // A large keyframe takes longer than two frames of the small size: it comes in three parts.
                size.timestamp = clocks[at].at(captured - 2.5 * FRAME as f64).0;
                let late = ((ms as f64 - 2.5 * FRAME as f64).max(0.0) as u32).to_be_bytes();
                publisher.send(
                    &mut world,
                    size,
                    &vp8(n as u16, n as u8, 0, true, &late),
                    true,
                );
                size.timestamp = clocks[at].at(captured).0;
                publisher.send(
                    &mut world,
                    size,
                    &vp8(n as u16 + 1, n as u8 + 1, 0, false, &body),
                    true,
                );
            } else {
                publisher.send(&mut world, size, &frame, true);
            }
        }
        // Reports: of the voice every five seconds, of the pictures every second, as browsers do; each when it is sent.
        let mut report = |world: &mut World, ssrc, clock: &Clock| {
            let info = rtcp::SenderInfo {
                ntp: ntp(captured + 3.0, wall_ppm),
                rtp: clock.at(captured + 3.0),
                packets: 1,
                octets: 1,
            };
            publisher.send_rtcp(world, |slot| {
                rtcp::write_sender_report(slot, Ssrc(ssrc), &info, &[])
            });
        };
        if ms.is_multiple_of(5_000) {
            report(&mut world, 10, &voice_clock);
        }
        for (at, ssrc) in [(0, 20), (1, 21)] {
            if (ms + 300 * at as u64).is_multiple_of(1_000) {
                report(&mut world, ssrc, &clocks[at]);
            }
        }
        if ms.is_multiple_of(5_000) {
            publisher.check(&mut world, false);
            viewer.check(&mut world, false);
        }
        let (plis, _) = publisher.asked(&mut world);
        for ssrc in plis {
            asked[ssrc as usize - 20] = true;
        }
        for got in viewer.got(&mut world) {
            match got {
                Got::Rtcp(compound) => {
                    for packet in rtcp::Compound::parse(&compound).unwrap() {
                        if let Packet::SenderReport { sender, info, .. } = packet {
                            let player = if sender.0 == 0x5000_0001 {
                                &mut heard
                            } else {
                                &mut seen
                            };
                            player.report(info.ntp, info.rtp);
                        }
                    }
                }
                Got::Rtp {
                    header, payload, ..
                } => {
                    let tail = payload[payload.len() - 4..].try_into().unwrap();
                    let truly = f64::from(u32::from_be_bytes(tail));
                    let truth = wall(truly, wall_ppm);
                    if header.ssrc.0 == 0x5000_0001 {
                        voice_error = heard
                            .captured(header.timestamp, 48_000.0)
                            .map(|found| found.map(|ms| ms - truth));
                        continue;
                    }
                    let size = Descriptor::parse(&payload).map(|d| d.keyframe);
                    switches += usize::from(size == Some(true) && current.is_some());
                    current = size;
                    // A picture older than one already shown is no longer about to be in step with anything.
                    let old = (truly as u64) < newest;
                    newest = newest.max(truly as u64);
                    if let (false, Some(voice), Some(picture)) =
                        (old, voice_error, seen.captured(header.timestamp, 90_000.0))
                    {
                        frames += 1;
                        for (voice, picture) in voice.into_iter().zip(picture) {
                            worst = worst.max((voice - (picture - truth)).abs());
                        }
                    }
                }
                Got::Other => {}
            }
        }
    }
    Figures {
        worst,
        frames,
        switches,
    }
}

#[test]
fn lips_and_voice_stay_together_for_ten_minutes_across_switches_with_clocks_that_run_wrong() {
    for (wall, voice, picture) in [
        (0.0, 100.0, 0.0),
        (0.0, -100.0, 100.0),
        (100.0, 100.0, 100.0),
    ] {
        let found = watch(wall, voice, picture);
        assert!(found.frames > 5_800, "{} frames", found.frames);
        assert!(found.switches >= 25, "{} switches", found.switches);
        assert!(
            found.worst <= ALLOWED,
            "{} ms at {wall} {voice} {picture} ppm",
            found.worst
        );
    }
}
