"""One participant's peer connection as its SDP sees it: the client offers, we answer, and mids keep their meaning.

It decides which section carries which track, and with which payload types, header extensions and encodings (JSEP,
RFC 8829; BUNDLE, RFC 9143; simulcast, RFC 8853). It is not the room: who may publish, and what is subscribed, come in
as values, and what was decided goes out as values. It draws no random number and sees no clock, so the same offer in
the same state gives the same answer. On the path of a join: `core/room` → here → engine commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from d4e_sfu._engine import Codec, Extension, PublicationSpec, SubscriptionSpec
from d4e_sfu.core.boundary import DtlsRole, SubscriptionId
from d4e_sfu.errors import BadRequest

Kind = Literal["audio", "video"]


class NegotiationError(BadRequest, ValueError):
    """The offer is well formed, and we cannot answer it; `str(error)` tells the client why. Nothing has changed."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, rule="negotiation")


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end of the client's one transport: ICE-lite (RFC 8445 §2.5), every candidate known in advance."""

    ufrag: str
    pwd: str
    fingerprint: tuple[str, str]  # ("sha-256", "AB:CD:…")
    candidates: Sequence[tuple[str, int]]  # (address, UDP port), best first, at least one


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """The client's end, from its offer. `role` is ours in DTLS: "server" = we answered `a=setup:passive`."""

    ufrag: str
    pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    role: DtlsRole
    sctp_port: int | None  # None: no application section, no data channels
    max_message_size: int  # bytes that the client accepts; 0 in its SDP (no limit) is given as 2**31 - 1


@dataclass(frozen=True, slots=True)
class PendingTrack:
    """A track that the client has announced (`add_track`) and that we accepted; its section may come in any offer."""

    sid: str
    cid: str
    kind: Kind
    mime_type: str  # "video/vp8", as returned in TrackInfo; "" or one not offered: the first allowed one offered
    max_bitrate: int  # bits per second; for video also told to the client, as b=TIAS less room for retransmissions
    codec_cids: Sequence[str] = ()  # simulcast_codecs[].cid
    rids: Sequence[str] = ()  # lowest first, where the client named them (VideoLayer.rid); q, h, f need no naming
    dtx: bool = True  # False: TF_NO_DTX
    stereo: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A subscription that wants a section (or has one). Once placed, everything but `spatial` and `temporal` stays."""

    subscription: SubscriptionId
    track_sid: str
    participant_sid: str  # of the publisher
    kind: Kind
    codec: Codec
    ssrc: int
    rtx_ssrc: int  # used where the client offered RTX
    cname: str
    format: str = ""  # `Published.format` of the publication: the H.264 profile must fit
    spatial: int | None = None
    temporal: int = 255


@dataclass(frozen=True, slots=True)
class Published:
    """A pending track that has found its section."""

    track_sid: str
    sdp_cid: str  # track id in the section's a=msid, "" without; often not the `cid` of add_track
    spec: PublicationSpec
    format: str  # the codec's a=fmtp as negotiated; goes into `Outgoing.format` of its subscribers


@dataclass(frozen=True, slots=True)
class Placed:
    """A subscription that has found its section. Replaces what was placed under the same subscription before."""

    subscription: SubscriptionId
    spec: SubscriptionSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, and what changed against the answer before. Send it only after the updates that it refers to."""

    sdp: str
    mid_to_track_id: Mapping[str, str]  # every section that carries a track to the client, not only new ones
    remote: RemoteTransport  # the same in every answer of one Negotiation
    extensions: Sequence[tuple[Extension, int]]  # for Command.SetExtensions, whole
    published: Sequence[Published]  # newly bound
    unpublished: Sequence[str]  # track sids whose section stopped sending; apply before `published`
    placed: Sequence[Placed]  # newly placed
    displaced: Sequence[SubscriptionId]  # the client closed their section; in `placed` again if another was free
    missing: tuple[int, int]  # (audios, videos) of `outgoing` without a section: ask with media_sections_requirement


class Negotiation:
    """The negotiation of one peer connection, from its first offer to its last.

    Transport parameters hold for its life: an offer with other ICE credentials or another fingerprint (an ICE restart,
    a new DTLS association) is a NegotiationError; the client has to join again.
    """

    def __init__(self, local: LocalTransport, *, codecs: Sequence[Codec], max_sections: int = 512) -> None:
        """`codecs`: allowed ones, most wanted first."""
        self._local = local
        self._codecs = tuple(codecs)
        self._max_sections = max_sections

    def answer(self, sdp: str, *, pending: Sequence[PendingTrack], outgoing: Sequence[Outgoing]) -> Answer:
        """Answer one offer. Raises SdpError or NegotiationError, and has then changed nothing.

        `pending`: announced tracks without a section, oldest first. A sendonly section without one is answered
        inactive, and is bound by a later offer. `outgoing`: all current subscriptions, the most important first; the
        section of one that is no longer in it is freed.
        """
        raise NotImplementedError
