"""Signalling by one exchange over HTTP: WHIP (RFC 9725) publishes, WHEP plays; what their offers mean in a room.

A publisher is an ordinary participant whose tracks are announced by his offer itself; a player is an ordinary
subscriber who gets what the server picks, because nothing can be negotiated with him later. An ICE restart comes as a
fragment of SDP (RFC 8840). The HTTP of it is in drivers/whip.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

from d4e_sfu.config import Source
from d4e_sfu.core import connection, policy, sdp
from d4e_sfu.core.publication import PublicationState
from d4e_sfu.core.sdp import Direction
from d4e_sfu.errors import BadRequest, Forbidden, NothingYet, TooMany, Unprocessable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d4e_sfu.core.boundary import Client
    from d4e_sfu.core.netcheck import Way
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.publication import Publication
    from d4e_sfu.core.room import Room
    from d4e_sfu.core.sfu import Sfu
    from d4e_sfu.core.tokens import Grants

RETRY: Final = 5.0  # s; after which a player asks again whether something is on
MAX_FRAGMENT_LINES: Final = 1000
# Names that browsers' pages give to their encodings, lowest first; q, h, f are known anyway.
_RIDS: Final = (("l", "m", "h"), ("low", "mid", "high"), ("low", "medium", "high"), ("0", "1", "2"))
# RFC 8839 §5.4
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}", re.ASCII)
_PWD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}", re.ASCII)


def publish(
    sfu: Sfu, client: Client, grants: Grants, offer: str, *, way: Way | None = None, wall: float, now: float
) -> Participant | None:
    """All that the offer sends, or nothing: there is no second exchange that could mend it. Raises ClientError; None:
    the client was told why not, as in `Sfu.join`."""
    request = publisher(offer, max_sections=sfu.limits.sections)
    admission = sfu.admit(grants, request, way=way, wall=wall)
    for each in request.add_track_requests:
        source = policy.source_of(each.source, audio=each.type == models.TrackType.AUDIO)
        if source not in admission.rights.publish:
            raise Forbidden("You may not publish this here.", rule="whip_source")
    participant = sfu.join(client, admission, now=now)
    if participant is not None:
        published = [each for each in participant.publications.values() if each.state is PublicationState.BOUND]
        if len(published) < len(request.add_track_requests):
            participant.room.leave(participant, models.DisconnectReason.JOIN_FAILURE, now=now)
            raise Unprocessable("The offer has no codec that this room takes.", rule="whip_codec")
    return participant


def play(
    sfu: Sfu, client: Client, grants: Grants, offer: str, *, way: Way | None = None, wall: float, now: float
) -> Participant | None:
    """As `publish`, for somebody who only receives."""
    request, audios, videos = player(offer, max_sections=sfu.limits.sections)
    admission = sfu.admit(grants, request, way=way, wall=wall)
    if not admission.rights.subscribe:
        raise Forbidden("You may not watch here.", rule="whep_subscribe")
    room = sfu.rooms.get(admission.grants.room)
    found = [] if room is None else chosen(room, audios, videos)
    if not found:
        raise NothingYet("Nothing is on yet.", rule="whep_nothing_yet", retry_after=RETRY)
    return sfu.join(client, admission, subscribe=[each.sid for each in found], now=now)


def owns(participant: Participant, grants: Grants) -> bool:
    """Whether this token is of the one who has made the session, and for the same room."""
    owner = participant.grants
    return (grants.key, grants.room, grants.identity) == (owner.key, owner.room, owner.identity)


def publisher(offer: str, *, max_sections: int) -> rtc.JoinRequest:
    """A join that publishes what the offer sends, one voice and one picture at most (RFC 9725 §4.2). Raises
    ClientError."""
    request = _request(offer)
    for section in _media(offer, (Direction.SENDONLY, Direction.SENDRECV), max_sections=max_sections):
        audio = section.kind == "audio"
        kind = models.TrackType.AUDIO if audio else models.TrackType.VIDEO
        if any(each.type == kind for each in request.add_track_requests):
            raise Unprocessable("At most one audio and one video can be published.", rule="whip_tracks")
        rids = [choices[0].rid for choices in section.simulcast.send] if section.simulcast else []
        named = next((names for names in _RIDS if rids and {*rids} <= {*names}), ())
        cid = section.msids[0][1] if section.msids else ""
        request.add_track_requests.add(
            cid=cid or section.mid or section.kind,
            type=kind,
            source=models.TrackSource.MICROPHONE if audio else models.TrackSource.CAMERA,
            layers=[models.VideoLayer(rid=rid) for rid in named if rid in rids],
            # His second choice is not a second codec: he sends one, and nothing is negotiated later.
            simulcast_codecs=[rtc.SimulcastCodec(codec=codec) for codec in _codecs(section)[:1]],
        )
    if not request.add_track_requests:
        raise Unprocessable("The offer sends nothing.", rule="whip_nothing")
    return request


def player(offer: str, *, max_sections: int) -> tuple[rtc.JoinRequest, int, int]:
    """A join that only receives, and for how many voices and pictures there is room. Raises ClientError."""
    # Some players offer to send what they have not: the answer to it may be sendonly all the same (RFC 3264 §6.1).
    offer = offer.replace("a=sendrecv\r\n", "a=recvonly\r\n").replace("a=sendrecv\n", "a=recvonly\n")
    kinds = [section.kind for section in _media(offer, (Direction.RECVONLY,), max_sections=max_sections)]
    if not kinds:
        raise Unprocessable("The offer receives nothing.", rule="whep_nothing")
    return _request(offer), kinds.count("audio"), kinds.count("video")


def chosen(room: Room, audios: int, videos: int) -> list[Publication]:
    """What a player gets: a shared screen before cameras, who leads the conversation before others; then the voices of
    those whom he sees before others."""
    every = [
        publication
        for participant in room.participants.values()
        for publication in participant.publications.values()
        if publication.state is PublicationState.BOUND
    ]
    lead = room.speakers.dominant or room.speakers.lead
    pictures = sorted(
        (each for each in every if each.is_video),
        key=lambda each: (each.source is not Source.SCREEN_SHARE, each.publisher.sid != lead),
    )[:videos]
    seen = {each.publisher.sid for each in pictures}
    voices = sorted(
        (each for each in every if not each.is_video),
        key=lambda each: (each.publisher.sid not in seen, each.publisher.sid != lead, not each.is_voice),
    )[:audios]
    return [*voices, *pictures]


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a client says of its end of the connection; its candidates are not asked for: we are ICE-lite."""

    ufrag: str | None
    pwd: str | None


def fragment(text: str) -> Fragment:
    """An SDP fragment (RFC 8840 §9). Raises ClientError."""
    lines = text.splitlines()
    if len(lines) > MAX_FRAGMENT_LINES or not all(re.match(r"[a-z]=", line) for line in lines if line):
        raise BadRequest("This is not a fragment of SDP.", rule="fragment_form")
    values: dict[str, set[str]] = {"ice-ufrag": set(), "ice-pwd": set()}
    for line in lines:
        name, _, value = line.removeprefix("a=").partition(":")
        if line.startswith("a=") and name in values:
            values[name].add(value)
    ufrags, pwds = values["ice-ufrag"], values["ice-pwd"]
    if len(ufrags) > 1 or len(pwds) > 1 or len(ufrags) != len(pwds):
        raise BadRequest("One ufrag and one password are of one connection.", rule="fragment_credentials")
    if not (all(map(_UFRAG.fullmatch, ufrags)) and all(map(_PWD.fullmatch, pwds))):
        raise BadRequest("These are no ICE credentials.", rule="fragment_credentials")
    return Fragment(next(iter(ufrags), None), next(iter(pwds), None))


def is_restart(participant: Participant, said: Fragment) -> bool:
    remote = participant.remote
    return remote is not None and said.ufrag is not None and (said.ufrag, said.pwd) != (remote.ufrag, remote.pwd)


def restart(participant: Participant, said: Fragment, *, now: float) -> str:
    """An ICE restart: our new credentials and all our candidates, as a fragment (RFC 9725 §4.3.3). Raises
    ClientError."""
    assert said.ufrag is not None
    assert said.pwd is not None
    assert participant.negotiation is not None
    if not participant.offers.take(now=now):
        raise TooMany("Too many restarts.", rule="restart_rate", retry_after=1.0)
    local, remote = participant.negotiation.restart(said.ufrag, said.pwd)
    connection.restart_ice(participant.room, participant, local, remote)
    return participant.negotiation.fragment()


def _request(offer: str) -> rtc.JoinRequest:
    return rtc.JoinRequest(
        # Nothing is negotiated with him later, so he is as modern as anyone: nothing is done for elders.
        client_info=models.ClientInfo(protocol=16),
        publisher_offer=rtc.SessionDescription(type="offer", sdp=offer),
    )


def _media(offer: str, directions: Sequence[Direction], *, max_sections: int) -> Iterator[sdp.Section]:
    session = sdp.parse(offer, max_sections=max_sections)
    for section in session.sections:
        direction = section.direction or session.direction or Direction.SENDRECV
        if section.kind in ("audio", "video") and section.port and direction in directions:
            yield section


def _codecs(section: sdp.Section) -> list[str]:
    """In the order of his preference, as `add_track` names them; repair and the like are no codecs."""
    names = (payload.name.lower() for payload in section.payloads if payload.name)
    return [name for name in dict.fromkeys(names) if name not in ("rtx", "red", "ulpfec", "flexfec-03")][:3]
