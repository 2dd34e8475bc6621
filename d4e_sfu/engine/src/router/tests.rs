//! The router in virtual time, with clients made of the wire tier alone: what a person in the call would notice.

mod bottleneck;
mod client;
mod edges;
mod extensions;
mod floods;
mod followed;
mod hostile;
mod ice;
mod keyframes;
mod layers;
mod links;
mod measure;
mod media;
mod numbers;
mod pacing;
mod probing;
mod redundancy;
mod repair;
mod reports;
mod restarts;
mod runs;
mod seams;
mod simulcast;
mod stranger;
mod switching;
mod sync;
mod voice;
mod voices;
mod world;

pub(super) use self::client::{Client, Got, h264_keyframe, h264_slice, opus, vp8};
pub(super) use self::world::World;

/// Where wrap-around bugs live.
pub(super) const STARTS: [u16; 16] = [
    0, 1, 127, 128, 511, 512, 32_766, 32_767, 32_768, 32_769, 65_023, 65_024, 65_407, 65_533,
    65_534, 65_535,
];
