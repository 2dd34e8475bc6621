"""Offers for the tests of negotiation: sections as browsers write them, and what a room asks to have answered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from d4e_sfu._engine import Codec
from d4e_sfu.core import sdp
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.negotiation import Answer, LocalTransport, Negotiation, Outgoing, PendingTrack
from d4e_sfu.core.sdp import Direction, HeaderExtension, Payload, Rid, RidChoice, Section, Session, Setup, Simulcast

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
JOIN = (VECTORS / "chromium-join.sdp").read_bytes().decode()
PUBLISH = (VECTORS / "chromium-publish.sdp").read_bytes().decode()
ALL = (Codec.Opus, Codec.Vp8, Codec.H264, Codec.Pcmu, Codec.Pcma)
LOCAL = LocalTransport(
    ufrag="server00",
    pwd="0123456789abcdefghijklmn",
    fingerprint=("sha-256", ":".join(["A5"] * 32)),
    candidates=(("192.0.2.10", 7882), ("2001:db8::10", 7882)),
)

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TWCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

OPUS = Payload(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", ("transport-cc",))
VIDEO_FEEDBACK = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
VP8 = Payload(96, "VP8", 90_000, feedback=VIDEO_FEEDBACK)
RTX = Payload(97, "rtx", 90_000, format="apt=96")


def h264(number: int, profile: str, mode: int | None) -> Payload:
    words = ["level-asymmetry-allowed=1", f"profile-level-id={profile}"]
    if mode is not None:
        words.insert(1, f"packetization-mode={mode}")
    return Payload(number, "H264", 90_000, format=";".join(words), feedback=VIDEO_FEEDBACK)


def audio(mid: str, direction: Direction = Direction.RECVONLY) -> Section:
    return Section(
        kind="audio",
        protocol="UDP/TLS/RTP/SAVPF",
        payloads=(OPUS, Payload(0, "PCMU", 8_000)),
        mid=mid,
        direction=direction,
        rtcp_mux=True,
        extensions=(HeaderExtension(1, LEVEL), HeaderExtension(3, TWCC), HeaderExtension(4, MID)),
    )


def video(mid: str, direction: Direction = Direction.RECVONLY, *payloads: Payload) -> Section:
    return Section(
        kind="video",
        protocol="UDP/TLS/RTP/SAVPF",
        payloads=payloads or (VP8, RTX),
        mid=mid,
        direction=direction,
        rtcp_mux=True,
        extensions=(
            HeaderExtension(3, TWCC),
            HeaderExtension(4, MID),
            HeaderExtension(10, RID),
            HeaderExtension(11, REPAIRED_RID),
        ),
    )


def application(mid: str) -> Section:
    return Section(
        kind="application",
        protocol="UDP/DTLS/SCTP",
        formats=("webrtc-datachannel",),
        mid=mid,
        sctp_port=5000,
        max_message_size=262_144,
    )


def session_of(*sections: Section) -> Session:
    return Session(
        bundles=(tuple(section.mid for section in sections if section.port and section.mid),),
        ice_ufrag="client",
        ice_pwd="0123456789abcdefghijklmn",
        fingerprints=(("sha-256", ":".join(["C1"] * 32)),),
        setup=Setup.ACTPASS,
        extmap_allow_mixed=True,
        sections=sections,
    )


def offer_of(*sections: Section) -> str:
    return sdp.write(session_of(*sections))


def negotiation(codecs: Sequence[Codec] = ALL, *, max_sections: int = 512) -> Negotiation:
    fresh = (f"again{number}" for number in itertools.count(1))
    return Negotiation(
        LOCAL, codecs=codecs, credentials=lambda: (next(fresh), "a-password-of-24-letters"), max_sections=max_sections
    )


def mic(sid: str = "TR_mic", cid: str = "cid-mic") -> PendingTrack:
    return PendingTrack(sid, cid, "audio", "audio/opus", 64_000)


def cam(sid: str = "TR_cam", cid: str = "cid-cam", mime_type: str = "video/vp8") -> PendingTrack:
    return PendingTrack(sid, cid, "video", mime_type, 3_000_000)


def voice(number: int) -> Outgoing:
    return Outgoing(
        SubscriptionId(number),
        f"TR_{number}",
        "PA_x",
        "audio",
        Codec.Opus,
        100 + number,
        200 + number,
        "PA_x",
        (300 + number, 400 + number),
    )


def picture(number: int, codec: Codec = Codec.Vp8, fmtp: str = "") -> Outgoing:
    return replace(voice(number), kind="video", codec=codec, format=fmtp)


def sections_of(answer: Answer) -> dict[str, Section]:
    return {section.mid or "": section for section in sdp.parse(answer.sdp).sections}


def directions(answer: Answer) -> dict[str, str]:
    return {mid: str(section.direction) for mid, section in sections_of(answer).items() if section.direction}


def simulcast(*streams: str, declared: str | None = None) -> Section:
    return replace(
        video("0", Direction.SENDONLY),
        rids=tuple(Rid(name.strip("~"), "send") for name in (declared.split() if declared is not None else streams)),
        simulcast=Simulcast(send=tuple((RidChoice(name.strip("~"), name.startswith("~")),) for name in streams)),
    )


def publishing(mid: str, cid: str, kind: str = "video") -> Section:
    section = video(mid, Direction.SENDONLY) if kind == "video" else audio(mid, Direction.SENDONLY)
    return replace(section, msids=(("stream", cid),))
