"""What a moderator may do to others: mute, give and take rights, names and attributes, remove.

He asks through the server API, from his own page or from a server of the key's holder, so none of this needs a
signalling connection. Whether he may is decided before (`policy.check_moderator`); here is what becomes of it, in the
room and hence in the engine, within the call. Each is announced with ids alone, for whoever keeps records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from livekit.protocol import models, room, rtc

from d4e_sfu.core import policy
from d4e_sfu.core.participant import clean_attributes
from d4e_sfu.core.requests import fits
from d4e_sfu.core.tokens import LEEWAY, MAX_ATTRIBUTES
from d4e_sfu.errors import Forbidden, NotFound, NotNow, TooLarge, Unauthorized

if TYPE_CHECKING:
    from d4e_sfu.config import Config
    from d4e_sfu.core.boundary import Announcer
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.room import Room
    from d4e_sfu.core.tokens import Grants

Request = room.MuteRoomTrackRequest | room.UpdateParticipantRequest | room.RoomParticipantIdentity
Response = room.MuteRoomTrackResponse | models.ParticipantInfo | room.RemoveParticipantResponse

MAX_DECISIONS: Final = 10_000  # remembered at the same time; the oldest fall out


class Moderation:
    """What moderators ask, of all rooms; and the memory of what they decided."""

    def __init__(self, rooms: Mapping[str, Room], announcer: Announcer) -> None:
        self.decisions = Decisions()
        self._rooms = rooms
        self._announcer = announcer

    def answer(self, grants: Grants, request: Request, *, config: Config, wall: float, now: float) -> Response:
        """Do what is asked, whole. Raises ClientError where that cannot be, and has then changed nothing."""
        policy.check_moderator(config, self.decisions.applied(grants, wall=wall), request.room)
        place = self._rooms.get(request.room)
        participant = None if place is None else place.participants.get(request.identity)
        if place is None or participant is None:
            raise NotFound("This participant is not in this room.", rule="no_such_participant")
        asked = who_asked("", grants, place)  # before he removes himself
        response: Response
        match request:
            case room.MuteRoomTrackRequest():
                action = "mute" if request.muted else "unmute"
                response = _mute(participant, request, now=now)
            case room.UpdateParticipantRequest():
                action = "update"
                response = _update(participant, request, config=config, now=now)
                if request.HasField("permission"):
                    self.decisions.add(participant.grants, request.permission, wall=wall)
            case room.RoomParticipantIdentity():
                action = "remove"
                self.decisions.add(participant.grants, None, wall=wall)
                place.leave(participant, models.DisconnectReason.PARTICIPANT_REMOVED, now=now)
                response = room.RemoveParticipantResponse()
        self._announcer.announce("moderated", {**participant.who, **asked, "action": action})
        return response


def who_asked(action: str, grants: Grants, place: Room) -> dict[str, str]:
    """For announcements: what was done, and by whom. Who is in the room himself is named by his sid."""
    moderator = place.participants.get(grants.identity)
    by = f"key:{grants.key}" if moderator is None else moderator.sid
    return {"action": action, "by": by, "by_identity": grants.identity}


def _mute(participant: Participant, request: room.MuteRoomTrackRequest, *, now: float) -> room.MuteRoomTrackResponse:
    """His client is told and shows it. He may unmute himself again: what he must not send at all is a right."""
    publication = participant.publications.get(request.track_sid)
    if publication is None:
        raise NotFound("This participant publishes nothing of this id.", rule="no_such_track")
    if not request.muted and not participant.room.policy.remote_unmute:
        raise NotNow("In this room people unmute themselves.", rule="remote_unmute")
    if publication.info.muted != request.muted:
        participant.room.mute(publication, request.muted, now=now)
        participant.send(rtc.SignalResponse(mute=rtc.MuteTrackRequest(sid=publication.sid, muted=request.muted)))
        participant.changed()
        participant.room.tell_others(participant, himself=True, at_once=True, now=now)
    return room.MuteRoomTrackResponse(track=publication.info)


def _update(
    participant: Participant, request: room.UpdateParticipantRequest, *, config: Config, now: float
) -> models.ParticipantInfo:
    """Empty metadata or name: unchanged. An attribute with an empty value: deleted. A permission replaces the whole."""
    few = len(request.attributes) <= MAX_ATTRIBUTES
    attributes = clean_attributes({**participant.attributes, **request.attributes}) if few else {}
    name, metadata = request.name or participant.name, request.metadata or participant.metadata
    if not (few and fits(name, metadata, attributes)):
        raise TooLarge("The metadata is too large.", rule="metadata_size")
    rights, grants = participant.rights, participant.grants
    if request.HasField("permission"):
        grants = policy.permitted(grants, request.permission)
        try:
            rights = policy.rights(config, grants)
        except (NotFound, Unauthorized):
            raise NotNow("The role of this participant has been taken away.", rule="role_gone") from None
    participant.name, participant.metadata, participant.attributes = name, metadata, attributes
    participant.changed()
    if request.HasField("permission"):
        participant.room.set_rights(participant, grants, rights, now=now)
    else:
        participant.room.tell_others(participant, himself=True, now=now)
    return participant.info()


class _Decision(NamedTuple):
    permission: models.ParticipantPermission | None  # None: removed
    at: float
    until: float  # the end of the token that he held


class Decisions:
    """Who was removed from which room, and what was given and taken: it holds for the token that he still has.

    Without this a page that is loaded again would bring back what was taken away. It lasts for the life of that token.
    One that is signed after the decision is as it says: somebody has thought again. Times are Unix seconds, as in
    tokens.
    """

    def __init__(self) -> None:
        self._decisions: dict[tuple[str, str], _Decision] = {}  # by room and identity, the oldest first

    def __len__(self) -> int:
        return len(self._decisions)

    def add(self, grants: Grants, permission: models.ParticipantPermission | None, *, wall: float) -> None:
        """`permission` None: he was removed."""
        key = grants.room, grants.identity
        self._decisions.pop(key, None)
        if len(self._decisions) >= MAX_DECISIONS:
            self._decisions = {key: each for key, each in self._decisions.items() if each.until + LEEWAY > wall}
        while len(self._decisions) >= MAX_DECISIONS:
            del self._decisions[next(iter(self._decisions))]
        # The clock of whoever signed may be ahead of ours: no token that he holds counts as signed after this.
        self._decisions[key] = _Decision(permission, max(wall, grants.not_before), grants.expires)

    def applied(self, grants: Grants, *, wall: float) -> Grants:
        """What is left of a token's grants. Raises `Forbidden` where he was removed."""
        decision = self._decisions.get((grants.room, grants.identity))
        if decision is None or grants.not_before > decision.at or wall >= decision.until + LEEWAY:
            return grants
        if decision.permission is None:
            raise Forbidden("You were removed from this room.", rule="removed")
        return policy.permitted(grants, decision.permission)
