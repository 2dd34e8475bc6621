//! The judge of what a receiver gets: is every frame whole, decodable, in unbroken sequence, and in time.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::wire::seq::{Ssrc, Timestamp};

use super::canary::Stamp;
use super::latency::{Latency, Quantiles};
use super::payload::Layer;
use super::scalability::Read;
use super::spec::Codec;
use super::{Nanos, SECOND};

/// Decoded frames that later ones may refer to.
const REMEMBERED: usize = 64;
/// An RTP timestamp may be off the capture clock by this much before it counts as a seam: a forwarder cannot know the
/// offsets of two encodings better before their sender reports.
const TIMESTAMP_TOLERANCE: f64 = 0.1;

/// Breaks of continuity, each of a kind that a decoder or renderer would stumble over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seams {
    /// The sequence number leapt by more than any loss explains.
    pub sequence: u64,
    /// Not newer than the frame before, or off the capture clock.
    pub timestamp: u64,
    pub picture_id: u64,
    pub tl0_pic_idx: u64,
    /// A frame number or a template of the dependency descriptor that means another frame.
    pub dependency: u64,
    /// A frame ended without its marker, or went on behind it.
    pub marker: u64,
}

impl Seams {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sequence
            + self.timestamp
            + self.picture_id
            + self.tl0_pic_idx
            + self.dependency
            + self.marker
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct FrameStats {
    pub frames: u64,
    pub keyframes: u64,
    /// Whole, but what it refers to is missing.
    pub undecodable: u64,
    /// Put together, and not what the publisher made.
    pub corrupt: u64,
    /// Given up with a packet missing.
    pub broken: u64,
    /// Voice in silence.
    pub dtx: u64,
    /// Voice frames that never came although no packet was missing.
    pub skipped: u64,
    /// The encoding or the spatial layer changed (also back).
    pub switches: u64,
    pub encoding: Option<u8>,
    /// Spatial layer of the last picture, and how many pictures there were of each temporal one.
    pub spatial: Option<u8>,
    pub temporal: [u64; 3],
    /// RFC-less, as in WebRTC statistics: a gap above max(3 × mean, mean + 150 ms).
    pub freezes: u64,
    pub freeze_seconds: f64,
    pub first_frame: Option<f64>,
    pub last_frame: Option<f64>,
    /// Decodable frames by the publication that made them.
    pub sources: BTreeMap<u32, u64>,
    pub seams: Seams,
    pub max_timestamp_error: f64,
}

pub struct Checker {
    codec: Codec,
    decoded: VecDeque<Decoded>,
    /// All frames of the picture so far could be decoded.
    whole: bool,
    last: Option<Last>,
    /// Mean time between decodable frames, nanoseconds.
    mean_gap: f64,
    pub latency: Latency,
    pub stats: FrameStats,
}

/// A frame that has arrived whole, and in order.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub timestamp: Timestamp,
    pub layer: Layer,
    pub keyframe: bool,
    pub stamp: Option<Stamp>,
    /// Its dependency descriptor.
    pub described: Option<Read>,
    /// First and last frame of its picture.
    pub opens: bool,
    pub closes: bool,
}

impl Arrival {
    /// By its picture id, or by its dependency descriptor, it is another frame than it is, or refers to others than it does.
    fn misreferred(&self, stamp: Stamp, references: [Option<&Decoded>; 2]) -> (bool, bool) {
        let [earlier, below] = references;
        let by_picture = match (self.layer.difference, self.layer.picture_id) {
            (Some(difference), Some(id)) => earlier.is_some_and(|earlier| {
                earlier.picture_id != Some(id.wrapping_sub(u16::from(difference)) & 0x7fff)
            }),
            _ => false,
        };
        let by_number = self.described.is_some_and(|read| {
            let referred = |difference: Option<u16>| {
                difference.is_none_or(|difference| {
                    let number = Some(read.number.wrapping_sub(difference));
                    [earlier, below]
                        .iter()
                        .flatten()
                        .any(|decoded| decoded.number == number)
                })
            };
            read.template != stamp.template || !read.differences.into_iter().all(referred)
        });
        (by_picture, by_number)
    }
}

struct Decoded {
    ssrc: Ssrc,
    frame: u32,
    picture_id: Option<u16>,
    number: Option<u16>,
}

impl Decoded {
    fn is(&self, ssrc: Ssrc, frame: u32) -> bool {
        (self.ssrc, self.frame) == (ssrc, frame)
    }
}

struct Last {
    timestamp: Timestamp,
    layer: Layer,
    stamp: Option<Stamp>,
    at: Nanos,
    /// A packet was given up since: continuity is not judged over it.
    hole: bool,
}

impl Checker {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            decoded: VecDeque::new(),
            whole: true,
            last: None,
            mean_gap: 0.0,
            latency: Latency::default(),
            stats: FrameStats::default(),
        }
    }

    /// A packet was given up: the next frames may jump and may be undecodable, and that is the network's fault.
    pub fn hole(&mut self) {
        if let Some(last) = &mut self.last {
            last.hole = true;
        }
    }

    pub fn silence(&mut self, timestamp: Timestamp) {
        self.stats.dtx += 1;
        if let Some(last) = &mut self.last {
            if !last.hole && !timestamp.newer_than(last.timestamp) {
                self.stats.seams.timestamp += 1;
            }
            last.timestamp = timestamp;
            last.stamp = None;
        }
    }

    /// A whole frame arrived in order. True when it can be decoded.
    pub fn frame(&mut self, now: Nanos, arrival: Arrival) -> bool {
        let Some(stamp) = arrival
            .stamp
            .filter(|stamp| self.codec == Codec::Opus || stamp.is_key() == arrival.keyframe)
        else {
            self.stats.corrupt += 1;
            return false;
        };
        self.continuity(&arrival, stamp);
        let known = |frame: u32| {
            self.decoded
                .iter()
                .find(|decoded| decoded.is(stamp.ssrc, frame))
        };
        let references = [stamp.reference, stamp.below].map(known);
        let decodable = stamp.is_key() || references.iter().all(Option::is_some);
        if decodable && !stamp.is_key() {
            let wrong = arrival.misreferred(stamp, references);
            self.stats.seams.picture_id += u64::from(wrong.0);
            self.stats.seams.dependency += u64::from(wrong.1);
        }
        if stamp.is_key() && self.codec != Codec::Opus && decodable {
            // What came before a keyframe is not referred to again.
            self.decoded.clear();
        }
        if decodable {
            if self.decoded.len() == REMEMBERED {
                self.decoded.pop_front();
            }
            self.decoded.push_back(Decoded {
                ssrc: stamp.ssrc,
                frame: stamp.frame,
                picture_id: arrival.layer.picture_id,
                number: arrival.described.map(|read| read.number),
            });
            self.stats.keyframes += u64::from(stamp.is_key() && self.codec != Codec::Opus);
        }
        if !arrival.opens {
            self.whole &= decodable;
        } else {
            self.whole = decodable;
        }
        if !arrival.closes {
            return decodable;
        }
        self.picture(now, &arrival, stamp);
        decodable
    }

    /// The last frame of a picture is here: it is shown, if all of it could be decoded.
    fn picture(&mut self, now: Nanos, arrival: &Arrival, stamp: Stamp) {
        let before = self.last.replace(Last {
            timestamp: arrival.timestamp,
            layer: arrival.layer,
            stamp: Some(stamp),
            at: now,
            hole: false,
        });
        if !self.whole {
            self.stats.undecodable += 1;
            // A freeze lasts until a picture is shown.
            if let (Some(last), Some(before)) = (&mut self.last, before) {
                last.at = before.at;
            }
            return;
        }
        let shown = (Some(stamp.encoding), Some(stamp.spatial));
        if self.stats.frames > 0 && (self.stats.encoding, self.stats.spatial) != shown {
            self.stats.switches += 1;
        }
        (self.stats.encoding, self.stats.spatial) = shown;
        self.stats.temporal[usize::from(stamp.temporal.min(2))] += 1;
        self.stats.frames += 1;
        *self.stats.sources.entry(stamp.publication).or_default() += 1;
        let seconds = now as f64 / SECOND as f64;
        self.stats.first_frame.get_or_insert(seconds);
        self.stats.last_frame = Some(seconds);
        self.latency.add(now.saturating_sub(stamp.sent));
        if let Some(before) = before {
            self.gap((now - before.at) as f64);
        }
    }

    fn continuity(&mut self, arrival: &Arrival, stamp: Stamp) {
        let Some(last) = self
            .last
            .as_ref()
            .filter(|last| !last.hole && arrival.opens)
        else {
            return;
        };
        let (timestamp, layer) = (arrival.timestamp, arrival.layer);
        let seams = &mut self.stats.seams;
        let advance = timestamp.since(last.timestamp);
        let mut bad_time = advance <= 0;
        if let Some(before) = last.stamp {
            let passed = stamp.clock.wrapping_sub(before.clock) as i32;
            let error =
                (f64::from(advance) - f64::from(passed)).abs() / f64::from(self.codec.clock_rate());
            self.stats.max_timestamp_error = self.stats.max_timestamp_error.max(error);
            bad_time |= error > TIMESTAMP_TOLERANCE;
            if self.codec == Codec::Opus && before.ssrc == stamp.ssrc {
                self.stats.skipped +=
                    u64::from(stamp.frame.wrapping_sub(before.frame).saturating_sub(1));
            }
        }
        seams.timestamp += u64::from(bad_time);
        if let (Some(id), Some(before)) = (layer.picture_id, last.layer.picture_id) {
            let step = id.wrapping_sub(before) & 0x7fff;
            // In VP9 the distance has a meaning, so that pictures left out leave theirs: see `misreferred`.
            let expected = if self.codec == Codec::Vp9 {
                1..=8
            } else {
                1..=1
            };
            seams.picture_id += u64::from(!expected.contains(&step));
        }
        if let (Some(index), Some(before)) = (layer.tl0_pic_idx, last.layer.tl0_pic_idx) {
            let expected = before.wrapping_add(u8::from(layer.tid.unwrap_or(0) == 0));
            seams.tl0_pic_idx += u64::from(index != expected);
        }
    }

    fn gap(&mut self, gap: f64) {
        if self.codec == Codec::Opus {
            return;
        }
        let limit = (self.mean_gap * 3.0).max(self.mean_gap + 0.15 * SECOND as f64);
        if self.stats.frames > 5 && gap > limit {
            self.stats.freezes += 1;
            self.stats.freeze_seconds += gap / SECOND as f64;
        } else {
            let weight = if self.stats.frames < 30 {
                1.0 / self.stats.frames as f64
            } else {
                1.0 / 30.0
            };
            self.mean_gap += (gap - self.mean_gap) * weight;
        }
    }

    pub fn quantiles(&self) -> Quantiles {
        self.latency.quantiles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u32 = 3000;

    /// Frame `n` of encoding `encoding`, as an honest forwarder would deliver it at `n` thirtieths of a second.
    fn honest(n: u32, encoding: u8, key: bool) -> (Timestamp, Layer, bool, Stamp) {
        let layer = Layer {
            picture_id: Some(0x7ffe_u16.wrapping_add(n as u16) & 0x7fff),
            ..Layer::default()
        };
        let stamp = Stamp {
            publication: 7,
            encoding,
            ssrc: Ssrc(u32::from(encoding)),
            frame: n,
            reference: if key { n } else { n - 1 },
            below: if key { n } else { n - 1 },
            spatial: 0,
            temporal: 0,
            template: 0,
            clock: n * TICK,
            sent: u64::from(n) * SECOND / 30,
        };
        (Timestamp(u32::MAX - 4000).add(n * TICK), layer, key, stamp)
    }

    /// Ten frames, the first and (by a switch) the sixth a keyframe; `change` spoils one of them.
    fn run(change: impl Fn(u32, &mut (Timestamp, Layer, bool, Stamp))) -> FrameStats {
        let mut checker = Checker::new(Codec::Vp8);
        for n in 1..=10 {
            let mut frame = honest(n, u8::from(n > 5), n == 1 || n == 6);
            change(n, &mut frame);
            let (timestamp, layer, key, stamp) = frame;
            let arrival = Arrival {
                timestamp,
                layer,
                keyframe: key,
                stamp: Some(stamp),
                described: None,
                opens: true,
                closes: true,
            };
            checker.frame(stamp.sent + SECOND / 50, arrival);
        }
        checker.stats
    }

    #[test]
    fn a_clean_switch_is_no_seam() {
        let stats = run(|_, _| ());
        assert_eq!(
            (
                stats.frames,
                stats.keyframes,
                stats.switches,
                stats.undecodable
            ),
            (10, 2, 1, 0)
        );
        assert_eq!(stats.seams, Seams::default());
    }

    #[test]
    fn every_break_is_seen() {
        let seams = |change: fn(&mut (Timestamp, Layer, bool, Stamp))| {
            run(|n, frame| {
                if n == 7 {
                    change(frame)
                }
            })
            .seams
        };
        assert_eq!(
            seams(|frame| frame.1.picture_id = Some(99)).picture_id,
            2,
            "there and back"
        );
        assert_eq!(seams(|frame| frame.0 = frame.0.add(TICK * 6)).timestamp, 2);
        assert_eq!(
            seams(|frame| frame.0 = frame.0.add(0u32.wrapping_sub(TICK))).timestamp,
            1,
            "not newer"
        );
    }

    #[test]
    fn a_switch_without_its_keyframe_cannot_be_decoded() {
        let stats = run(|n, frame| {
            if n == 6 {
                (frame.2, frame.3.reference, frame.3.below) = (false, 5, 5);
            }
        });
        assert_eq!((stats.frames, stats.undecodable), (5, 5));
    }

    #[test]
    fn a_keyframe_in_name_alone_is_corrupt() {
        let stats = run(|n, frame| frame.2 |= n == 3);
        assert_eq!(
            (stats.corrupt, stats.undecodable),
            (1, 2),
            "and what refers to it is lost until the next"
        );
    }
}
