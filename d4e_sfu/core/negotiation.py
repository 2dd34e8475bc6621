"""One participant's peer connection as its SDP sees it: the client offers, we answer, and mids keep their meaning.

It decides which section carries which track, and with which payload types, header extensions and encodings (JSEP,
RFC 8829; BUNDLE, RFC 9143; simulcast, RFC 8853). It is not the room: who may publish, and what is subscribed, come in
as values, and what was decided goes out as values. It draws no random number and sees no clock, so the same offer in
the same state gives the same answer. On the path of a join: `core/room` → here → engine commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from d4e_sfu._engine import Codec, Extension
from d4e_sfu.core import payloads, sdp
from d4e_sfu.core.bindings import Bound, PendingTrack, Published, bind
from d4e_sfu.core.boundary import Candidate as Reached
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.offer import (
    MAX_MESSAGE_SIZE,
    SCTP_PORT,
    Kind,
    NegotiationError,
    Offered,
    RemoteTransport,
    accept,
    remote_transport,
)
from d4e_sfu.core.placement import Outgoing, Place, Placed, place
from d4e_sfu.core.sdp import (
    Candidate,
    Direction,
    Payload,
    Rid,
    RidChoice,
    Section,
    Session,
    Setup,
    Simulcast,
    Source,
    SourceGroup,
)

__all__ = [
    "Answer",
    "Kind",
    "LocalTransport",
    "Negotiation",
    "NegotiationError",
    "Outgoing",
    "PendingTrack",
    "Placed",
    "Published",
    "RemoteTransport",
]


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end of the client's one transport: ICE-lite (RFC 8445 §2.5), every candidate known in advance."""

    ufrag: str
    pwd: str
    fingerprint: tuple[str, str]  # ("sha-256", "AB:CD:…")
    candidates: Sequence[Reached]  # best first, at least one, the first by UDP


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, and what changed against the answer before. Send it only after the updates that it refers to."""

    sdp: str
    mid_to_track_id: Mapping[str, str]  # every section that carries a track to the client, not only new ones
    local: LocalTransport
    remote: RemoteTransport  # both the same as in the answer before, but for the ICE credentials after a restart
    extensions: Sequence[tuple[Extension, int]]  # for Command.SetExtensions, whole
    allow_mixed: bool  # both forms of header extensions may come in one stream (RFC 8285 §6)
    published: Sequence[Published]  # newly bound
    unpublished: Sequence[str]  # track sids whose section stopped sending; apply before `published`
    placed: Sequence[Placed]  # newly placed
    displaced: Sequence[SubscriptionId]  # the client closed their section; in `placed` again if another was free
    unsupported: Sequence[SubscriptionId]  # the client's sections lack the codec; more of them would not help
    # (audios, videos) to ask for with media_sections_requirement; (0, 0) = a new offer is enough; None = do not ask.
    missing: tuple[int, int] | None

    def after(self, first: Answer, *, fallen: Set[int]) -> Answer:
        """To the same offer, when what was `fallen` of the first answer's unsupported had become other subscriptions:
        all that both have changed."""
        displaced = [each for each in first.displaced if each not in fallen]
        return replace(
            self,
            published=[*first.published, *self.published],
            unpublished=[*first.unpublished, *self.unpublished],
            placed=[*first.placed, *self.placed],
            displaced=[*displaced, *self.displaced],
        )


@dataclass(frozen=True, slots=True)
class _Answered:
    """The answer to one section, and all that it rests on; what rests on the same is answered with it again."""

    offered: Offered
    carries: Bound | Place | None
    ids_before: Mapping[Extension, int]  # of the header extensions that the sections above it have accepted
    ids: Mapping[Extension, int]  # with its own
    section: Section  # without candidates
    text: str  # as it is written


@dataclass(frozen=True, slots=True)
class _State:
    """What an answer leaves behind for the next; replaced whole, so that a failed offer leaves nothing."""

    remote: RemoteTransport | None = None
    offered: Mapping[str, Offered] = field(default_factory=dict)  # by mid
    bound: Mapping[str, Bound] = field(default_factory=dict)  # by mid
    places: Mapping[SubscriptionId, Place] = field(default_factory=dict)
    answered: Mapping[str, _Answered] = field(default_factory=dict)  # by mid
    version: int = 0
    body: Session | None = None


class Negotiation:
    """The negotiation of one peer connection, from its first offer to its last.

    Transport parameters hold for its life, but for the ICE credentials: other ones in an offer are an ICE restart, and
    get other ones of ours. An offer with another fingerprint (a new DTLS association) is a NegotiationError; the client
    has to join again.
    """

    def __init__(
        self,
        local: LocalTransport,
        *,
        codecs: Iterable[Codec],
        credentials: Callable[[], tuple[str, str]],
        max_sections: int = sdp.MAX_SECTIONS,
    ) -> None:
        """`codecs`: those that policy allows; their order means nothing, the client's does. `credentials`: a ufrag and
        a password for each ICE restart."""
        # RFC 8866 §5.2: unique for its owner, for the life of the session; the first ICE credentials are.
        self._id = int.from_bytes(local.ufrag.encode()[:7])
        self._local = local
        self._credentials = credentials
        self._codecs = frozenset(codecs)
        self._max_sections = max_sections
        self._sections = sdp.Sections()
        self._state = _State()

    def answer(self, offer: str, *, pending: Sequence[PendingTrack], outgoing: Sequence[Outgoing]) -> Answer:
        """Answer one offer. Raises SdpError or NegotiationError, and has then changed nothing.

        `pending`: announced tracks without a section, oldest first. A sendonly section without one is answered
        inactive, and is bound by a later offer. `outgoing`: all current subscriptions, the most important first; the
        section of one that is no longer in it is freed. The same offer again, with the same arguments, gets the same
        answer, with nothing newly published; newly placed is only what takes a section that had just lost its track.
        """
        old = self._state
        session = sdp.parse(offer, max_sections=self._max_sections, sections=self._sections)
        offered = accept(session, self._codecs, old.offered)
        remote = remote_transport(session, offered, old.remote)
        local = self._restarted(remote)
        bound = bind(offered, old.bound, pending, self._codecs)
        placement = place(offered, old.places, outgoing, room=self._max_sections - len(session.sections))
        ids: dict[Extension, int] = {}
        answered: dict[str, _Answered] = {}
        body, texts = self._compose(session, offered, local, remote, bound, placement.places, ids, answered)
        version = old.version + (body != old.body)
        kept = {each.published.track_sid for each in bound.values()} & {
            b.published.track_sid for b in old.bound.values()
        }
        answer = Answer(
            sdp=sdp.write(replace(body, version=version, sections=())) + "".join(texts),
            mid_to_track_id={place.mid: place.outgoing.track_sid for place in placement.places.values()},
            local=local,
            remote=remote,
            extensions=tuple(ids.items()),
            allow_mixed=_allows_mixed(session, offered.values()),
            published=[b.published for b in bound.values() if b.published.track_sid not in kept],
            unpublished=[b.published.track_sid for b in old.bound.values() if b.published.track_sid not in kept],
            placed=[
                Placed(subscription, place.spec)
                for subscription, place in placement.places.items()
                if subscription not in old.places or subscription in placement.displaced
            ],
            displaced=placement.displaced,
            unsupported=placement.unsupported,
            missing=placement.missing,
        )
        self._state = _State(remote, offered, bound, placement.places, answered, version, body)
        self._local = local
        return answer

    def restart(self, ufrag: str, pwd: str) -> tuple[LocalTransport, RemoteTransport]:
        """An ICE restart without an offer (RFC 9725 §4.3.3): the client's new credentials; returns both ends."""
        assert self._state.remote is not None, "something was offered"
        remote = replace(self._state.remote, ufrag=ufrag, pwd=pwd)
        self._local = self._restarted(remote)
        self._state = replace(self._state, remote=remote)
        return self._local, remote

    def fragment(self) -> str:
        """Our end of the connection as an SDP fragment (RFC 8840 §9), with all candidates."""
        body, local = self._state.body, self._local
        assert body is not None, "something was answered"
        tagged = next(section for section in body.sections if section.candidates)
        section = sdp.write_section(replace(tagged, ice_ufrag=local.ufrag, ice_pwd=local.pwd))
        said = ("m=", "a=mid:", "a=ice-", "a=candidate:", "a=end-of-candidates")
        lines = [line for line in section.splitlines(keepends=True) if line.startswith(said)]
        group = [f"a=group:BUNDLE {' '.join(mids)}\r\n" for mids in body.bundles]
        return "".join(["a=ice-lite\r\n", *group, *lines])

    def _restarted(self, remote: RemoteTransport) -> LocalTransport:
        """Our end, with other credentials where the client's are others than before (RFC 8445 §9)."""
        old = self._state.remote
        if old is None or (old.ufrag, old.pwd) == (remote.ufrag, remote.pwd):
            return self._local
        ufrag, pwd = self._credentials()
        return replace(self._local, ufrag=ufrag, pwd=pwd)

    @property
    def codecs(self) -> frozenset[Codec]:
        return self._codecs

    @property
    def max_sections(self) -> int:
        return self._max_sections

    def placed(self) -> dict[str, SubscriptionId]:
        """Which section carries which subscription, by mid."""
        return {place.mid: subscription for subscription, place in self._state.places.items()}

    def carried(self) -> dict[str, str]:
        """Which section carries which track, by mid and sid."""
        return {place.mid: place.outgoing.track_sid for place in self._state.places.values()}

    def withdraw(self, track_sid: str) -> None:
        """This track may no longer be published: its section is free for another, whatever the client goes on with."""
        bound = {mid: each for mid, each in self._state.bound.items() if each.published.track_sid != track_sid}
        self._state = replace(self._state, bound=bound)

    def receives(self, kind: Kind, codec: Codec, stream_format: str) -> bool:
        """Whether the client's sections show that it could decode this; as long as there are none, it could."""
        shown = False
        for each in self._state.offered.values():
            if each.direction is Direction.RECVONLY and each.section.kind == kind:
                if payloads.subscribable(each.section, codec, stream_format) is not None:
                    return True
                shown = True
        return not shown

    def missing(self, outgoing: Sequence[Outgoing]) -> tuple[int, int] | None:
        """What to ask the client for, between offers, as in `Answer.missing`, if these are the subscriptions now.

        (0, 0) also where a section only has to be freed: until the next answer the client goes on showing its track.
        """
        state = self._state
        placement = place(state.offered, state.places, outgoing, room=self._max_sections - len(state.offered))
        if placement.missing is None and placement.places.keys() != state.places.keys():
            return 0, 0
        return placement.missing

    def debug_state(self) -> dict[str, Any]:
        state = self._state
        return {
            "answers": state.version,
            "role": None if state.remote is None else state.remote.role,
            "sections": len(state.offered),
            "sections_read": self._sections.read,
            "published": {mid: bound.published.track_sid for mid, bound in state.bound.items()},
            "carried": self.carried(),
        }

    def _answer(
        self,
        found: Offered,
        carries: Bound | Place | None,
        local: LocalTransport,
        remote: RemoteTransport,
        ids: Mapping[Extension, int],
    ) -> _Answered:
        section = found.section
        address, port, *_ = local.candidates[0]
        choice = found.choice
        rtp = choice is not None
        mapping = dict(ids)
        # Also where nothing is sent yet: a browser that was refused rid once does not offer it to a later sender of
        # that section.
        published = carries.choice.codec if isinstance(carries, Bound) else None
        extensions = () if choice is None else payloads.extensions(section, mapping, choice=choice, published=published)
        answer = Section(
            kind=section.kind,
            port=port,
            protocol=section.protocol,
            mid=section.mid,
            address=address,
            rtcp_mux=rtp,
            rtcp_rsize=rtp and section.rtcp_rsize,
            extensions=extensions,
            extmap_allow_mixed=rtp and section.extmap_allow_mixed,
        )
        match carries:
            case Bound():
                answer = _receiving(answer, carries)
            case Place():
                answer = _sending(answer, carries)
            case None if found.choice is None:
                answer = _application(answer, section)
            case None:
                answer = replace(answer, direction=Direction.INACTIVE, payloads=found.choice.payloads)
        return _Answered(found, carries, dict(ids), mapping, answer, sdp.write_section(answer))

    def _compose(
        self,
        session: Session,
        offered: Mapping[str, Offered],
        local: LocalTransport,
        remote: RemoteTransport,
        bound: Mapping[str, Bound],
        places: Mapping[SubscriptionId, Place],
        ids: dict[Extension, int],
        answered: dict[str, _Answered],
    ) -> tuple[Session, list[str]]:
        """The answer as a value, version 0, and the text of each section. `ids` receives the header extensions that it
        accepts, `answered` its parts.

        What rests on the same as in the answer before is the same; it costs nothing but to look.
        """
        carried = {place.mid: place for place in places.values()}
        sections, texts = [], []
        for section in session.sections:
            found = offered.get(section.mid or "")
            if found is None or found.section is not section:
                sections.append(_rejected(section))
                texts.append(sdp.write_section(sections[-1]))
                continue
            carries = bound.get(found.mid) or carried.get(found.mid)
            before = self._state.answered.get(found.mid)
            if (
                before is None
                or before.offered is not found
                or before.carries != carries
                or before.ids_before != ids  # RFC 9143 §15: one mapping for the bundle
            ):
                before = self._answer(found, carries, local, remote, ids)
            ids.update(before.ids)
            answered[found.mid] = before
            sections.append(before.section)
            texts.append(before.text)
        # RFC 9143 §7.3.3: candidates belong to the transport, hence to the tagged section alone. So does our DTLS role:
        # it holds for all where it stands below, but pion, and with it the SDK for Go, looks for it in sections only.
        setup = Setup.PASSIVE if remote.role == "server" else Setup.ACTIVE
        tagged = next(iter(offered), None)
        for index, section in enumerate(sections):
            if section.port and section.mid == tagged:
                sections[index] = replace(
                    section,
                    candidates=tuple(_candidate(n, *candidate) for n, candidate in enumerate(local.candidates)),
                    end_of_candidates=True,
                    setup=setup,
                )
                texts[index] = sdp.write_section(sections[index])
        body = Session(
            id=self._id,
            bundles=(tuple(offered),) if session.bundles else (),
            # Once for all sections (RFC 8839 §5.4, RFC 8122 §5, RFC 4145 §4): repeated, a quarter of an answer.
            ice_lite=True,
            ice_ufrag=local.ufrag,
            ice_pwd=local.pwd,
            fingerprints=(local.fingerprint,),
            setup=setup,
            extmap_allow_mixed=session.extmap_allow_mixed,
            sections=tuple(sections),
        )
        return body, texts


def _allows_mixed(session: Session, offered: Iterable[Offered]) -> bool:
    """Said for all sections, or by each that has media: the engine knows one mapping for the whole transport."""
    return session.extmap_allow_mixed or all(each.section.extmap_allow_mixed for each in offered if each.choice)


def _rejected(section: Section) -> Section:
    """RFC 8829 §5.3.1: port 0, the first format, its mid, and nothing else."""
    return Section(
        kind=section.kind,
        port=0,
        protocol=section.protocol,
        payloads=tuple(Payload(payload.number) for payload in section.payloads[:1]),
        formats=section.formats[:1],
        mid=section.mid,
        direction=Direction.INACTIVE if section.payloads else None,
    )


def _application(base: Section, section: Section) -> Section:
    return replace(base, formats=section.formats, sctp_port=SCTP_PORT, max_message_size=MAX_MESSAGE_SIZE)


def _receiving(base: Section, bound: Bound) -> Section:
    """The client publishes. One codec and its repair, so that nothing else can arrive."""
    return replace(
        base,
        direction=Direction.RECVONLY,
        payloads=bound.choice.payloads,
        # Told, a client adapts; untold, it is cut off by the engine's cap. A fifth is left for repair and padding.
        # Not for audio: libwebrtc takes the cap of a voice as its target.
        bitrate=bound.track.max_bitrate * 4 // 5 if bound.track.kind == "video" else None,
        rids=tuple(Rid(rid, "recv") for rid in bound.rids),
        simulcast=Simulcast(recv=tuple((RidChoice(rid),) for rid in bound.rids)) if bound.rids else None,
    )


def _sending(base: Section, carried: Place) -> Section:
    """The client receives. The stream id names publisher and track; clients take both from there."""
    out, spec = carried.outgoing, carried.spec
    pairs = (spec.ssrc, spec.rtx_ssrc) if spec.rtx_ssrc is not None else (spec.ssrc,)
    return replace(
        base,
        direction=Direction.SENDONLY,
        payloads=carried.choice.payloads,
        msids=((f"{out.participant_sid}|{out.track_sid}", out.track_sid),),
        sources=tuple(Source(ssrc, out.cname) for ssrc in pairs),
        source_groups=(SourceGroup("FID", pairs),) if len(pairs) == 2 else (),
    )


def _candidate(index: int, address: str, port: int, transport: Literal["udp", "tcp"] = "udp") -> Candidate:
    """RFC 8445 §5.1.2.1: host type preference 126, local preference by order, component 1 (RTCP is multiplexed).

    By TCP, RFC 6544 §4.2: a type preference that is lower by 36, as what media takes when there is nothing else, and in
    the upper bits of the local preference that we wait to be called (4 of 7).
    """
    if transport == "tcp":
        priority = (90 << 24) | ((4 << 13 | (8_191 - index)) << 8) | 255
        return Candidate(str(index + 1), 1, "tcp", priority, address, port, "host", "tcptype passive")
    priority = (126 << 24) | ((65_535 - index) << 8) | 255
    return Candidate(str(index + 1), 1, "udp", priority, address, port, "host")
