"""A session description as typed, frozen values: what SDP text says, without the text.

They hold what WebRTC endpoints write (RFC 8829 §5) and something here needs; no meaning is attached to them. Text ↔
values is sdp.py, what an answer says is negotiation.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, NamedTuple

from d4e_sfu.errors import BadRequest


class SdpError(BadRequest, ValueError):
    """Text that is not SDP as WebRTC writes it, or is over a cap; `str(error)` tells the client what is wrong."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, rule="sdp")


class Direction(enum.StrEnum):
    """RFC 3264 §5.1."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


class Setup(enum.StrEnum):
    """DTLS role, RFC 8842 §5.2."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"
    HOLDCONN = "holdconn"


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload type of an RTP section: `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` together."""

    number: int
    name: str = ""  # as written; "" where a static payload type has no rtpmap
    clock_rate: int = 0
    channels: int = 1
    format: str = ""  # a=fmtp without the number, as written
    feedback: tuple[str, ...] = ()  # "nack", "nack pli", …

    def parameters(self) -> dict[str, str]:
        """`format` as key → value; keys in lower case (RFC 6838 §4.3: names are case-insensitive)."""
        pairs = (part.partition("=") for part in self.format.split(";"))
        return {key.strip().lower(): value.strip() for key, _, value in pairs if key.strip()}


# What a hostile section holds by the thousand is a NamedTuple: made in a third of the time of a frozen dataclass.


class HeaderExtension(NamedTuple):
    """`a=extmap` (RFC 8285 §8). `direction` None = that of the section."""

    id: int
    uri: str
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class Rid:
    """`a=rid` (RFC 8851). `restrictions` as written, "pt=96;max-width=320"."""

    id: str
    direction: Literal["send", "recv"]
    restrictions: str = ""


class RidChoice(NamedTuple):
    """One alternative of one simulcast stream (RFC 8853 §5.1); `paused` = written with `~`."""

    rid: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Simulcast:
    """`a=simulcast`: streams in order, each with its alternatives, the preferred one first."""

    send: tuple[tuple[RidChoice, ...], ...] = ()
    recv: tuple[tuple[RidChoice, ...], ...] = ()


class Source(NamedTuple):
    """The `a=ssrc` lines of one SSRC (RFC 5576 §4.1); of its attributes only the CNAME is kept."""

    ssrc: int
    cname: str = ""


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """`a=ssrc-group` (RFC 5576 §4.2): "FID" = media, repair; "SIM" = simulcast, lowest first."""

    semantics: str
    ssrcs: tuple[int, ...]


class Candidate(NamedTuple):
    """`a=candidate` (RFC 8839 §5.1); `extensions` = what follows the type, as written."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    type: str
    extensions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One m-section. `payloads` for RTP, `formats` for anything else; the order is that of the m-line."""

    kind: str  # "audio", "video", "application", or whatever the client invented
    port: int = 9  # 0 = rejected or stopped
    protocol: str
    payloads: tuple[Payload, ...] = ()
    formats: tuple[str, ...] = ()
    mid: str | None = None
    direction: Direction | None = None  # None = not written; `Session.direction` then applies
    address: str = "0.0.0.0"  # c=
    bitrate: int | None = None  # b=TIAS, bits per second
    ice_ufrag: str | None = None
    ice_pwd: str | None = None
    ice_options: tuple[str, ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()  # (hash in lower case, hex in upper case)
    setup: Setup | None = None
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    bundle_only: bool = False
    extensions: tuple[HeaderExtension, ...] = ()
    extmap_allow_mixed: bool = False
    msids: tuple[tuple[str, str], ...] = ()  # (stream id, track id or "")
    rids: tuple[Rid, ...] = ()
    simulcast: Simulcast | None = None
    sources: tuple[Source, ...] = ()
    source_groups: tuple[SourceGroup, ...] = ()
    sctp_port: int | None = None
    max_message_size: int | None = None
    candidates: tuple[Candidate, ...] = ()
    end_of_candidates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A whole description. Session-level ICE, DTLS and direction attributes apply to sections without their own."""

    id: int = 0
    version: int = 0
    bundles: tuple[tuple[str, ...], ...] = ()
    ice_lite: bool = False
    ice_ufrag: str | None = None
    ice_pwd: str | None = None
    ice_options: tuple[str, ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()
    setup: Setup | None = None
    direction: Direction | None = None
    extmap_allow_mixed: bool = False
    sections: tuple[Section, ...] = ()
