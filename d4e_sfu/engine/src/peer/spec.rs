//! What a peer is told to do: plain values, the same as JSON on `d4e-peer`'s input and as dictionaries from Python.
//! Times are seconds, rates bits per second.

use std::net::SocketAddr;

use serde::Deserialize;

use super::scalability::Scalability;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    Opus,
    Vp8,
    H264,
    Vp9,
    Av1,
}

impl Codec {
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            _ => 90_000,
        }
    }

    #[must_use]
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Opus)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSpec {
    pub local_ufrag: String,
    pub local_pwd: String,
    pub remote_ufrag: String,
    pub remote_pwd: String,
    /// The other side's candidates. Empty for a lite peer, which waits.
    #[serde(default)]
    pub remotes: Vec<SocketAddr>,
    /// In virtual time the address that the peer sends from; behind sockets the address to bind.
    #[serde(default = "loopback")]
    pub local: SocketAddr,
    /// Answers checks and never sends any (the server's side, in tests of two peers and for the latency baseline).
    #[serde(default)]
    pub lite: bool,
    /// Checks of the other side are answered.
    #[serde(default = "yes")]
    pub answers: bool,
    #[serde(default)]
    pub extensions: ExtensionIds,
    #[serde(default)]
    pub seed: u64,
    /// Between checks of consent (varied by ±20 %, RFC 7675 §5.1); 0 = none: the other side must notice.
    #[serde(default = "default_consent")]
    pub consent: f64,
    /// Between transport-wide feedback packets; 0 = none.
    #[serde(default = "default_feedback")]
    pub feedback: f64,
}

/// Identifiers of header extensions, one mapping for the bundle; absent = not sent and not understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtensionIds {
    pub mid: Option<u8>,
    pub rid: Option<u8>,
    pub repaired_rid: Option<u8>,
    pub audio_level: Option<u8>,
    pub transport_cc: Option<u8>,
    pub abs_send_time: Option<u8>,
    pub dependency_descriptor: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishSpec {
    /// Written into every frame: where it comes from.
    pub publication: u32,
    pub codec: Codec,
    pub mid: String,
    pub payload_type: u8,
    #[serde(default)]
    pub rtx_payload_type: Option<u8>,
    pub encodings: Vec<EncodingSpec>,
    #[serde(default = "default_cname")]
    pub cname: String,
    /// Video only; voice is 50.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Seconds between keyframes; 0 = the first, and when asked.
    #[serde(default)]
    pub keyframe_interval: f64,
    /// How many times a delta frame's size; encoders of talking heads make 5–10.
    #[serde(default = "default_keyframe_factor")]
    pub keyframe_factor: f64,
    /// Layers of each encoding: spatial ones (VP9 and AV1) up to 3, each twice the size and rate of the one below, and
    /// temporal ones up to 3.
    #[serde(default = "one")]
    pub spatial_layers: u8,
    #[serde(default = "one")]
    pub temporal_layers: u8,
    /// Spatial layers refer to each other in keyframes alone (K-SVC).
    #[serde(default)]
    pub k_svc: bool,
    /// Frames carry a dependency descriptor, where the extension is mapped. AV1 tells of its layers by nothing else.
    #[serde(default = "yes")]
    pub dependency_descriptor: bool,
    /// Voice: silent by turns, a one-byte packet each 400 ms of it.
    #[serde(default)]
    pub dtx: bool,
    /// With `dtx`: seconds of talk, of the silence that follows, and how far into that round the publication begins.
    #[serde(default = "default_turns")]
    pub turns: [f64; 3],
    /// Largest RTP payload.
    #[serde(default = "default_max_payload")]
    pub max_payload: usize,
    /// Frame sizes vary by ± this part.
    #[serde(default = "default_spread")]
    pub spread: f64,
    /// MID and RID are sent until a receiver report names the SSRC, and at most on this many packets of it.
    #[serde(default = "default_identified")]
    pub identified: u64,
}

impl PublishSpec {
    #[must_use]
    pub fn scalability(&self) -> Scalability {
        let spatial = match self.codec {
            Codec::Vp9 | Codec::Av1 => self.spatial_layers.clamp(1, 3),
            Codec::Opus | Codec::Vp8 | Codec::H264 => 1,
        };
        Scalability {
            spatial,
            temporal: self.temporal_layers.clamp(1, 3),
            k_svc: self.k_svc,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingSpec {
    #[serde(default)]
    pub rid: Option<String>,
    pub ssrc: u32,
    #[serde(default)]
    pub rtx_ssrc: Option<u32>,
    pub bitrate: u32,
    #[serde(default = "default_width")]
    pub width: u16,
    #[serde(default = "default_height")]
    pub height: u16,
    #[serde(default)]
    pub start: StartSpec,
}

/// Where the numbers of an encoding begin; what is absent, by chance. A `sequence` from 2^15 on takes a network that does
/// not lose the first packets (RFC 3711 §3.3.1).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartSpec {
    pub sequence: Option<u16>,
    pub timestamp: Option<u32>,
    pub picture_id: Option<u16>,
    pub tl0_pic_idx: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveSpec {
    /// The caller's name for it.
    pub receiver: u32,
    pub codec: Codec,
    #[serde(default)]
    pub mid: Option<String>,
    pub payload_type: u8,
    #[serde(default)]
    pub rtx_payload_type: Option<u8>,
    /// Redundant audio (RFC 2198) on the same SSRC.
    #[serde(default)]
    pub red_payload_type: Option<u8>,
    /// Without it the first unknown stream with this MID, or (without a MID on it) this payload type is taken.
    #[serde(default)]
    pub ssrc: Option<u32>,
    #[serde(default)]
    pub rtx_ssrc: Option<u32>,
    #[serde(default = "yes")]
    pub nack: bool,
    /// How long a hole is waited for.
    #[serde(default = "default_max_wait")]
    pub max_wait: f64,
    /// Between two requests for the same packet.
    #[serde(default = "default_retry")]
    pub retry: f64,
    /// Voice: keep when each frame came, until it is taken.
    #[serde(default)]
    pub log: bool,
}

/// Keys given instead of a handshake: master key and salt of each direction, in hexadecimal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    pub profile: ProfileSpec,
    pub receive: String,
    pub send: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileSpec {
    Gcm,
    #[serde(rename = "gcm_256")]
    Gcm256,
    Cm,
}

/// Things that no honest client does, so many times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StormSpec {
    /// Packets of 17 × 60 NACKs each, for every received stream.
    pub nacks: f64,
    pub plis: f64,
    /// Authentic RTP, each of a new SSRC.
    pub ssrcs: f64,
    /// Binding requests with a wrong MESSAGE-INTEGRITY.
    pub stun: f64,
    /// The last sealed packets once more.
    pub replays: f64,
    /// Random bytes of random lengths, every first byte in turn.
    pub noise: f64,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
fn default_consent() -> f64 {
    2.5
}
fn default_feedback() -> f64 {
    0.1
}
fn default_cname() -> String {
    "d4e-peer".into()
}
fn default_fps() -> f64 {
    30.0
}
fn default_keyframe_factor() -> f64 {
    7.0
}
fn one() -> u8 {
    1
}
fn default_turns() -> [f64; 3] {
    [2.0, 2.0, 0.0]
}
fn default_max_payload() -> usize {
    1100
}
fn default_spread() -> f64 {
    0.3
}
fn default_identified() -> u64 {
    u64::MAX
}
fn default_width() -> u16 {
    640
}
fn default_height() -> u16 {
    360
}
fn yes() -> bool {
    true
}
fn default_max_wait() -> f64 {
    0.6
}
fn default_retry() -> f64 {
    0.1
}
