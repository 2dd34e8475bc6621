"""What of an offered section we accept: one codec with its retransmission, its feedback, and header extensions.

Each function looks at one section and a table below; nothing is remembered. Payload types and extension ids are always
the client's. Which codec a track should have, and what the whole answer looks like, is in negotiation.py.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from d4e_sfu._engine import Codec, Extension
from d4e_sfu.core.sdp import Direction, HeaderExtension, Payload, Section

# name in lower case, clock rate, channels
_RTPMAPS: Final[Mapping[Codec, tuple[str, int, int]]] = {
    Codec.Opus: ("opus", 48_000, 2),  # RFC 7587 §7: always 2
    Codec.Vp8: ("vp8", 90_000, 1),
    Codec.H264: ("h264", 90_000, 1),
    Codec.Vp9: ("vp9", 90_000, 1),
    Codec.Av1: ("av1", 90_000, 1),
    Codec.Pcmu: ("pcmu", 8_000, 1),
    Codec.Pcma: ("pcma", 8_000, 1),
}
# RFC 3551 §6, table 4: what old devices offer by number alone.
_STATIC: Final = {0: Payload(0, "PCMU", 8_000), 8: Payload(8, "PCMA", 8_000)}
_CODECS: Final = {rtpmap: codec for codec, rtpmap in _RTPMAPS.items()}
MIME_TYPES: Final[Mapping[Codec, str]] = {
    Codec.Opus: "audio/opus",
    Codec.Vp8: "video/vp8",
    Codec.H264: "video/h264",
    Codec.Vp9: "video/vp9",
    Codec.Av1: "video/av1",
    Codec.Pcmu: "audio/pcmu",
    Codec.Pcma: "audio/pcma",
}

_FEEDBACK: Final = frozenset(("transport-cc", "ccm fir", "nack", "nack pli"))
# Estimation is by transport-wide feedback. Only who knows no such is asked for REMB: where both are agreed on,
# libwebrtc follows REMB.
_WITHOUT_TRANSPORT_CC: Final = _FEEDBACK | {"goog-remb"}

_EXTENSIONS: Final[Mapping[str, Extension]] = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": Extension.Mid,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": Extension.Rid,
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": Extension.RepairedRid,
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": Extension.AudioLevel,
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": Extension.TransportWideCc,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": Extension.AbsSendTime,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time": Extension.AbsCaptureTime,
    "urn:3gpp:video-orientation": Extension.VideoOrientation,
    # The engine bounds what a publisher may ask of his viewers by it.
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay": Extension.PlayoutDelay,
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension": (
        Extension.DependencyDescriptor
    ),
}

_FLIPPED: Final = {
    None: None,
    Direction.SENDRECV: Direction.SENDRECV,
    Direction.SENDONLY: Direction.RECVONLY,
    Direction.RECVONLY: Direction.SENDONLY,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A codec of a section, with the payload types that the client gave it; feedback is cut to what we do."""

    codec: Codec
    media: Payload
    rtx: Payload | None
    red: Payload | None = None  # redundant audio (RFC 2198) of `media`
    events: Payload | None = None  # keys pressed (RFC 4733), on the clock of `media`

    @property
    def payloads(self) -> tuple[Payload, ...]:
        """In the order of an answer: a client sends what comes first, so RED where it was agreed on."""
        return tuple(each for each in (self.red, self.media, self.rtx, self.events) if each is not None)


def codec_of(mime_type: str) -> Codec | None:
    """ "video/VP8" → Vp8; None for anything that the engine does not forward."""
    lowered = mime_type.lower()
    return next((codec for codec, name in MIME_TYPES.items() if name == lowered), None)


def publishable(section: Section, allowed: Collection[Codec], wanted: Codec | None) -> Choice | None:
    """The codec in which the client is to send: the wanted one, else the first that it offers and we allow."""
    offered = dict.fromkeys(codec for codec, _ in _known(section) if codec in allowed)
    for codec in sorted(offered, key=lambda codec: codec != wanted):
        candidates = [payload for known, payload in _known(section) if known == codec]
        if codec == Codec.H264:
            candidates = sorted(filter(_is_baseline, candidates), key=_publish_rank)
        elif codec in _MAIN:
            candidates = [payload for payload in candidates if _variant(codec, payload) == _MAIN[codec]]
        if candidates:
            return _choice(section, codec, candidates[0])
    return None


def placeholder(section: Section, allowed: Collection[Codec]) -> Choice | None:
    """The codec of a section that carries nothing yet: some format must be accepted, or the section is rejected."""
    return next((_choice(section, codec, payload) for codec, payload in _known(section) if codec in allowed), None)


def subscribable(section: Section, codec: Codec, stream_format: str) -> Choice | None:
    """Payload types under which the client can receive this codec; `stream_format`: the fmtp of what is published."""
    candidates = [payload for known, payload in _known(section) if known == codec]
    if codec == Codec.H264:
        stream = Payload(0, format=stream_format)
        decoders = _DECODERS.get(_profile(stream), ())
        fitting = [p for p in candidates if _profile(p) in decoders and _mode(stream) <= _mode(p) <= 1]
        candidates = sorted(fitting, key=lambda p: (decoders.index(_profile(p)), _mode(p) != _mode(stream)))
    elif codec in _MAIN:
        stream = Payload(0, format=stream_format)
        candidates = [payload for payload in candidates if _variant(codec, payload) == _variant(codec, stream)]
    return _choice(section, codec, candidates[0]) if candidates else None


def extensions(
    section: Section, ids: dict[Extension, int], *, choice: Choice, published: Codec | None = None
) -> tuple[HeaderExtension, ...]:
    """What to accept of `a=extmap`. `ids` is the mapping so far and grows: one mapping for a whole BUNDLE.

    `choice`: what was agreed on for this section. `published`: the codec in which the client sends on it.

    RFC 9143 §15: within a bundle an id means one URI. Where an offer contradicts itself the first meaning holds, and
    the later one is not accepted.
    """
    accepted = []
    for offered in section.extensions:
        known = _EXTENSIONS.get(offered.uri)
        # RFC 8285 §4.2, §4.3: 15 is reserved in the one-byte form, and 255 is the largest id there is.
        if known is None or offered.direction not in _FLIPPED or not 1 <= offered.id <= 255 or offered.id == 15:
            continue
        # libwebrtc leaves picture ids and layers out of VP8's own descriptor where there is another. Subscribers who do
        # not know the other need them.
        if known == Extension.DependencyDescriptor and published == Codec.Vp8:
            continue
        # REMB is estimated by it, and nothing else is: without it libwebrtc goes by RTP timestamps, which say when a
        # picture was taken and not when we sent it.
        if known == Extension.AbsSendTime and "goog-remb" not in choice.media.feedback:
            continue
        if known not in ids and offered.id in ids.values():
            continue
        if ids.setdefault(known, offered.id) == offered.id:
            accepted.append(offered._replace(direction=_FLIPPED[offered.direction]))
    return tuple(accepted)


def reports_arrivals(section: Section, choice: Choice) -> bool:
    """The client tells when what it receives on this section has come, by transport-wide numbers.

    Firefox does so for pictures only: a voice that bore numbers would look lost.
    """
    return "transport-cc" in choice.media.feedback and any(
        _EXTENSIONS.get(offered.uri) == Extension.TransportWideCc and offered.direction in _FLIPPED
        for offered in section.extensions
    )


def _known(section: Section) -> Iterator[tuple[Codec, Payload]]:
    for payload in section.payloads:
        payload = payload if payload.name else _STATIC.get(payload.number, payload)
        codec = _CODECS.get((payload.name.lower(), payload.clock_rate, payload.channels))
        # RFC 5761 §4: 64–95 look like RTCP on a multiplexed port.
        if codec is not None and not 64 <= payload.number <= 95:
            yield codec, payload


def _choice(section: Section, codec: Codec, media: Payload) -> Choice:
    apt = str(media.number)
    rtx = next(
        (
            payload
            for payload in section.payloads
            if payload.name.lower() == "rtx"
            and not 64 <= payload.number <= 95
            and payload.clock_rate == media.clock_rate
            and payload.parameters().get("apt") == apt
        ),
        None,
    )
    known = _FEEDBACK if "transport-cc" in media.feedback else _WITHOUT_TRANSPORT_CC
    feedback = tuple(dict.fromkeys(value for value in media.feedback if value in known))
    return Choice(
        codec,
        replace(media, feedback=feedback),
        None if rtx is None else replace(rtx, feedback=()),
        _beside(section, "red", media) if codec == Codec.Opus else None,
        _beside(section, "telephone-event", media) if section.kind == "audio" else None,
    )


def _beside(section: Section, name: str, media: Payload) -> Payload | None:
    """A format that rides on the stream of `media`, hence on its clock; every block of RED must be of `media`."""
    for payload in section.payloads:
        if payload.name.lower() != name or payload.clock_rate != media.clock_rate or 64 <= payload.number <= 95:
            continue
        if name != "red" or (
            payload.channels == media.channels and set(payload.format.split("/")) == {str(media.number)}
        ):
            return replace(payload, feedback=())
    return None


# Names of the parameters that a decoder must agree to, and their values where nothing is said, which every decoder
# takes: RFC 9628 §6 (profile 0), RTP Payload Format for AV1 §7.2 (Main profile, Main tier; level-idx tells what a
# client would like to receive, and levels may differ).
_VARIANT: Final = {Codec.Vp9: ("profile-id",), Codec.Av1: ("profile", "tier")}
_MAIN: Final = {codec: ("0",) * len(names) for codec, names in _VARIANT.items()}


def _variant(codec: Codec, payload: Payload) -> tuple[str, ...]:
    parameters = payload.parameters()
    return tuple(parameters.get(name, "0") for name in _VARIANT[codec])


class _Profile(enum.Enum):
    """H.264 profiles of RFC 6184 §8.1, table 5."""

    CONSTRAINED_BASELINE = enum.auto()
    BASELINE = enum.auto()
    MAIN = enum.auto()
    CONSTRAINED_HIGH = enum.auto()
    HIGH = enum.auto()
    OTHER = enum.auto()


# Who can decode a stream of a profile, the closest first. What WebRTC encoders call baseline uses neither FMO, ASO nor
# redundant slices, so every decoder of constrained baseline takes it. Levels may differ (level-asymmetry-allowed).
_ALL: Final = (_Profile.MAIN, _Profile.CONSTRAINED_HIGH, _Profile.HIGH)
_DECODERS: Final[Mapping[_Profile, Sequence[_Profile]]] = {
    _Profile.CONSTRAINED_BASELINE: (_Profile.CONSTRAINED_BASELINE, _Profile.BASELINE, *_ALL),
    _Profile.BASELINE: (_Profile.BASELINE, _Profile.CONSTRAINED_BASELINE, *_ALL),
    _Profile.MAIN: (_Profile.MAIN, _Profile.HIGH),
    _Profile.CONSTRAINED_HIGH: (_Profile.CONSTRAINED_HIGH, _Profile.HIGH),
    _Profile.HIGH: (_Profile.HIGH,),
}


def _profile(payload: Payload) -> _Profile:
    text = payload.parameters().get("profile-level-id", "420010")  # RFC 6184 §8.1: baseline, level 1
    try:
        idc, iop, _level = bytes.fromhex(text)
    except ValueError:
        return _Profile.OTHER
    if (idc == 0x42 and iop & 0x40) or (idc == 0x4D and iop & 0x80) or (idc == 0x58 and iop & 0xC0 == 0xC0):
        return _Profile.CONSTRAINED_BASELINE
    if idc == 0x64 and iop & 0x0C == 0x0C:
        return _Profile.CONSTRAINED_HIGH
    return {0x42: _Profile.BASELINE, 0x4D: _Profile.MAIN, 0x64: _Profile.HIGH}.get(idc, _Profile.OTHER)


def _mode(payload: Payload) -> int:
    """0 single NAL unit, 1 non-interleaved; anything else is not used by WebRTC (RFC 7742 §6.2)."""
    return {"": 0, "0": 0, "1": 1}.get(payload.parameters().get("packetization-mode", ""), 2)


def _is_baseline(payload: Payload) -> bool:
    """Only what every subscriber can decode may be published (RFC 7742 §5: constrained baseline is mandatory)."""
    return _mode(payload) <= 1 and _profile(payload) in (_Profile.CONSTRAINED_BASELINE, _Profile.BASELINE)


def _publish_rank(payload: Payload) -> tuple[bool, bool]:
    return _mode(payload) != 1, _profile(payload) is not _Profile.CONSTRAINED_BASELINE
