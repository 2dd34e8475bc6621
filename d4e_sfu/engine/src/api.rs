//! Everything that crosses between Python and the engine: commands down, events up, values in both.
//!
//! This file and `_engine.pyi` are one contract written twice. Nothing here has behaviour; the meaning of each
//! command is in `router.rs`. Times are not part of a command: the router applies it at the `now` it is given.

#[cfg(feature = "python")]
use pyo3::prelude::*;

pub type TransportId = u32;
pub type PublicationId = u32;
pub type SubscriptionId = u32;

/// Encodings of one publication: `q`, `h`, `f`.
pub const MAX_ENCODINGS: usize = 3;

/// SRTP protection profile, as negotiated by `use_srtp` (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[cfg_attr(feature = "python", pyclass(frozen, eq, eq_int, hash, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    AeadAes128Gcm,
    AeadAes256Gcm,
    Aes128CmHmacSha1_80,
}

#[cfg_attr(feature = "python", pyclass(frozen, eq, eq_int, hash, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Opus,
    Vp8,
    H264,
    Vp9,
    Av1,
    Pcmu,
    Pcma,
}

/// RTP header extensions that the engine reads or writes, each by its URI (RFC 8285).
/// One mapping of ids holds for a whole transport, because its sections are bundled.
#[cfg_attr(feature = "python", pyclass(frozen, eq, eq_int, hash, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extension {
    /// urn:ietf:params:rtp-hdrext:sdes:mid
    Mid,
    /// urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
    Rid,
    /// urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
    RepairedRid,
    /// urn:ietf:params:rtp-hdrext:ssrc-audio-level (RFC 6464)
    AudioLevel,
    /// http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
    TransportWideCc,
    /// http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
    AbsSendTime,
    /// http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time
    AbsCaptureTime,
    /// urn:3gpp:video-orientation
    VideoOrientation,
    /// http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
    PlayoutDelay,
    /// https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension
    DependencyDescriptor,
}

/// One encoding of a publication (RFC 8853): bound by rid, or by SSRC where the client signals `a=ssrc`.
/// An encoding without either is bound by the publication's MID or payload type.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub rid: Option<String>,
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
}

/// What a publisher offered and we accepted: the facts of one m-section that the router needs.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationSpec {
    pub codec: Codec,
    pub mid: String,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    /// Redundant audio (RFC 2198) of this voice, on the same SSRC.
    pub red_payload_type: Option<u8>,
    /// Keys pressed (telephone-event, RFC 4733), on the same SSRC and clock.
    pub event_payload_type: Option<u8>,
    /// Lowest first (`q`, `h`, `f`); one for audio and for video without simulcast; at most 3.
    pub encodings: Vec<Encoding>,
    /// bits per second of RTP over all encodings (retransmissions included); above it packets drop as `OverBitrate`.
    pub max_bitrate: u32,
    /// `a=rtcp-fb … nack` was negotiated.
    pub nack: bool,
}

/// How one subscriber receives one publication: the facts of its m-section.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSpec {
    pub mid: String,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    /// Redundant audio (RFC 2198), made for him while he loses packets; `None`: he gets none.
    pub red_payload_type: Option<u8>,
    /// `None`: keys pressed end here.
    pub event_payload_type: Option<u8>,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    /// RTCP SDES CNAME; one per publishing participant, so that voice and picture are synchronised.
    pub cname: String,
    /// Highest spatial layer to forward, `None` = paused (also for audio): the index of the encoding, or, where there is
    /// only one encoding, the spatial layer inside it (SVC).
    pub spatial: Option<u8>,
    /// Highest temporal layer to forward; 255 = all.
    pub temporal: u8,
    /// Transport-wide numbers were agreed on for its section: the client reports what comes on it.
    pub transport_wide: bool,
}

#[cfg_attr(feature = "python", pyclass(frozen, eq, from_py_object))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A participant's ICE + DTLS + SRTP association. Until its first valid check it costs a table row and nothing else.
    /// `remote_pwd`: signs our own checks of an address to which the client seems to have moved; empty = there are none.
    /// `may_publish`: without it every RTP packet from this transport drops as `NotPermitted`.
    /// `start_bitrate`: what its link is taken to carry until feedback has told, bits per second; 0 = only REMB limits it.
    AddTransport {
        transport: TransportId,
        local_ufrag: String,
        local_pwd: String,
        remote_ufrag: String,
        remote_pwd: String,
        may_publish: bool,
        start_bitrate: u32,
    },
    /// ICE restart (RFC 8445 §9): checks with these credentials count from now on. Those before stay valid for 30 s, and the
    /// path stays until the client nominates a pair with the new ones; keys and streams go on.
    RestartIce {
        transport: TransportId,
        local_ufrag: String,
        local_pwd: String,
        remote_ufrag: String,
        remote_pwd: String,
    },
    /// Ids of header extensions on this transport, replaced whole. Both forms are understood, with ids 1–255; what the
    /// one-byte form cannot say (ids over 14, values of 0 or over 16 bytes) is sent only where both forms may come in one
    /// stream (`a=extmap-allow-mixed`, RFC 8285 §6).
    SetExtensions {
        transport: TransportId,
        extensions: Vec<(Extension, u8)>,
        allow_mixed: bool,
    },
    SetMayPublish {
        transport: TransportId,
        may_publish: bool,
    },
    /// Master key followed by master salt, as exported from DTLS (RFC 5764 §4.2). Given once.
    SetKeys {
        transport: TransportId,
        profile: Profile,
        receive: Vec<u8>,
        send: Vec<u8>,
    },
    /// A DTLS datagram to the client, on the validated path; silently dropped where there is none.
    SendDtls {
        transport: TransportId,
        datagram: Vec<u8>,
    },
    /// The client's signalling socket is lost (or back): consent then expires after 15 s instead of 30 s.
    SetSignalLost {
        transport: TransportId,
        lost: bool,
    },
    /// Removes its publications and subscriptions as well.
    RemoveTransport {
        transport: TransportId,
    },
    AddPublication {
        publication: PublicationId,
        transport: TransportId,
        spec: PublicationSpec,
    },
    /// 0 = blocked: everything drops as `OverBitrate`.
    SetMaxBitrate {
        publication: PublicationId,
        max_bitrate: u32,
    },
    RemovePublication {
        publication: PublicationId,
    },
    AddSubscription {
        subscription: SubscriptionId,
        publication: PublicationId,
        transport: TransportId,
        spec: SubscriptionSpec,
    },
    /// Wanted layer, as in `SubscriptionSpec`; the switch happens at the next keyframe, or before it where the structure of
    /// the layers allows. `spatial` None = paused.
    SetLayer {
        subscription: SubscriptionId,
        spatial: Option<u8>,
        temporal: u8,
    },
    RemoveSubscription {
        subscription: SubscriptionId,
    },
    /// What he would be sent if his link had no limit, bits per second: how far it is worth probing. 0 = nothing more than
    /// he gets.
    SetDemand {
        transport: TransportId,
        bitrate: u32,
    },
    /// May his voices be sent with redundancy (RFC 2198) while he loses packets? From the start they may; whether it is of use
    /// the engine decides. For when what his link carries does not suffice.
    SetRedundancy {
        transport: TransportId,
        allowed: bool,
    },
    /// At most so many voices pass to him at a time (32 and more are 32), `None`: all. The engine picks them per packet, by
    /// level (RFC 6464) and rank: who has a place keeps it until a second after he was last loud.
    SetVoices {
        transport: TransportId,
        voices: Option<u8>,
    },
    /// Of a voice, 0 at first: who ranks higher and speaks takes the place of who ranks lower and speaks.
    SetRank {
        subscription: SubscriptionId,
        rank: u8,
    },
    /// Answered by `Event::Debug` with the same token and the router's `debug_state()` as JSON.
    Debug {
        token: u32,
    },
}

/// Speech that was heard in one publication since the last `Event::Voices`.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    pub transport: TransportId,
    pub publication: PublicationId,
    /// Mean loudness of the speech, −dBov (RFC 6464): 0 is the loudest.
    pub level: u8,
    /// How long it was, ms.
    pub spoken_ms: u16,
}

/// One direction of a client's link. Counts begin with the transport.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// Packets that should have come.
    pub expected: u64,
    /// Those that did not, repaired or not.
    pub lost: u64,
    /// The worst of a voice since the last `Event::Links` (RFC 3550 §6.4.1).
    pub jitter_ms: u32,
    /// How long a voice has waited on the way beyond the shortest time of late, the worst since the last `Event::Links`.
    /// Known of the way to us; of the other, `Estimate` tells.
    pub queue_ms: u32,
}

/// How one client's link does.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub transport: TransportId,
    /// From the client, by what came here.
    pub up: Leg,
    /// To the client, by his receiver reports.
    pub down: Leg,
    /// Packets sent to him on the subscriptions that he has now: with these and no reports, nothing arrives.
    pub sent: u64,
    /// Since anything authentic last came from him.
    pub silent_ms: u32,
    /// As his receiver reports tell it; `None` before the first.
    pub round_trip_ms: Option<u32>,
}

/// What the link to one client carries, from the first packet sent on: the start bitrate, until he tells more by
/// transport-wide feedback or REMB.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub transport: TransportId,
    /// Bits per second, with everything down to the IP header. `u32::MAX`: he has agreed to give no feedback or gives none
    /// after all, and counts as one without an estimate.
    pub bitrate: u32,
    /// Of what was sent lately, per mille.
    pub loss: u16,
    /// What waits in the link, beyond its own delay.
    pub queue_ms: u16,
    /// The link is the limit: pictures wait or are shed at the pacer. Else the estimate may be low because little is sent.
    pub limited: bool,
    /// Earlier packets that go with each of a voice's for what he loses of them, or would if `SetRedundancy` let them; 0:
    /// he loses none.
    pub redundancy: u8,
    /// How often each packet of a picture goes again before anybody asks, as far as the link has room for it: he loses so many
    /// that what is asked for again is often lost as well.
    pub copies: u8,
}

/// What one encoding of a publication has brought in the last second.
#[cfg_attr(feature = "python", pyclass(frozen, eq, get_all, from_py_object))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    pub publication: PublicationId,
    pub encoding: u8,
    /// (spatial, temporal, bits per second with everything down to the IP header) of each layer that has brought anything,
    /// alone: who gets a layer gets those below it as well.
    pub layers: Vec<(u8, u8, u32)>,
}

#[cfg_attr(feature = "python", pyclass(frozen, eq))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A DTLS datagram from a validated address. Dropped (counted) when the queue is full.
    Dtls {
        transport: TransportId,
        datagram: Vec<u8>,
    },
    /// First nominated pair, or a move of the path: `local` and `remote` as `ip:port`.
    PathChanged {
        transport: TransportId,
        local: String,
        remote: String,
    },
    /// Consent expired: no authenticated check for 30 s (15 s when the signalling is lost). The router has removed it.
    TransportGone {
        transport: TransportId,
    },
    /// The first packet of an encoding arrived (`active`), or none for 1 s although it was active.
    EncodingActive {
        publication: PublicationId,
        encoding: u8,
        active: bool,
    },
    /// The layer that is really forwarded changed; `None` = nothing yet, or paused.
    LayerChanged {
        subscription: SubscriptionId,
        spatial: Option<u8>,
    },
    /// Who was heard to speak, and how loud; every 200 ms while someone speaks. The latest replaces what waits.
    Voices {
        voices: Vec<Voice>,
    },
    /// How the links of all transports do, every two seconds. The latest replaces what waits.
    Links {
        links: Vec<Link>,
    },
    /// All that is estimated; at most every 200 ms, when one changed by more than 3 %, and every second. The latest replaces
    /// what waits.
    Estimates {
        estimates: Vec<Estimate>,
    },
    /// What each encoding brings, every second; those that have brought nothing since are left out. The latest replaces what
    /// waits.
    Rates {
        rates: Vec<Rate>,
    },
    Debug {
        token: u32,
        state: String,
    },
    /// The worker's thread has panicked or lost its sockets; every transport on it is gone. `transport`: with whose packets
    /// or commands it was busy then, if with anybody's.
    WorkerDied {
        reason: String,
        transport: Option<TransportId>,
    },
}
