"""What servers ask about rooms by the server API: make, end, list, look, tell; what moderators do is in moderation.py.

None of it needs a signalling connection. A room is made and ended by whoever holds `roomCreate`, seen in a list by
`roomList`; everything in one room is a moderator's. Each checks the right and the bounds, then calls the room; what
changes something is announced with ids alone, for whoever keeps records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from livekit.protocol import models, room, rtc

from d4e_sfu.core import datapacket, moderation, policy
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.requests import MAX_SIDS
from d4e_sfu.core.roominfo import RoomInfo
from d4e_sfu.core.tokens import MAX_METADATA, is_name
from d4e_sfu.errors import BadRequest, NotFound, NotHere, TooLarge

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from d4e_sfu.config import Config
    from d4e_sfu.core.boundary import Announcer
    from d4e_sfu.core.moderation import Moderation
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.room import Room
    from d4e_sfu.core.tokens import Grants

MAX_EMPTY: Final = 86_400.0  # seconds; as `rooms.idle_timeout`
MAX_NONCE: Final = 64  # bytes; SDKs send 16
MAX_NONCES: Final = 10_000  # remembered at the same time, of all rooms; the oldest fall out

_DATA_KINDS: Final = {
    models.DataPacket.Kind.RELIABLE: DataKind.RELIABLE,
    models.DataPacket.Kind.LOSSY: DataKind.LOSSY,
}


class Rooms(Protocol):
    """The table of rooms, as far as calls change it; the Sfu."""

    def make_room(self, name: str, info: RoomInfo, *, now: float) -> Room:
        """Raises ClientError where there is no place for one more."""

    def end_room(self, place: Room, *, now: float) -> None: ...


class RoomCalls:
    """Every call of the `RoomService`, by its name. One for the process."""

    def __init__(self, rooms: Mapping[str, Room], table: Rooms, moderation: Moderation, announcer: Announcer) -> None:
        self._rooms = rooms
        self._table = table
        self._moderation = moderation
        self._announcer = announcer
        self._nonces: dict[tuple[str, bytes], None] = {}  # by sid of the room, the oldest first

    def answer(self, method: str, grants: Grants, request: Any, *, config: Config, wall: float, now: float) -> Message:
        """Do what is asked, whole. Raises ClientError where that cannot be, and has then changed nothing.

        `method` is one of `CALLS`, and the request of its type.
        """
        if method in _MODERATION:
            return self._moderation.answer(grants, request, config=config, wall=wall, now=now)
        grants = self._moderation.decisions.applied(grants, wall=wall)
        answer: Callable[..., Message] = getattr(self, _OWN[method])
        return answer(grants, request, config=config, wall=wall, now=now)

    # --- rooms -------------------------------------------------------------------------------------------------------

    def create(
        self, grants: Grants, request: room.CreateRoomRequest, *, config: Config, wall: float, now: float
    ) -> models.Room:
        """The room; if it is there already, with what is wished for now."""
        policy.check_server(config, grants, "room_create")
        if not request.name or not is_name(request.name):
            raise BadRequest("A room needs a name.", rule="room_name")
        _check_metadata(request.metadata)
        allowed = policy.room_policy(config, request.name)
        wished = RoomInfo(
            made_wall=wall,
            metadata=request.metadata,
            capacity=request.max_participants or None,
            empty_timeout=min(float(request.empty_timeout), MAX_EMPTY) or None,
            departure_timeout=min(float(request.departure_timeout), MAX_EMPTY) or None,
        )
        place = self._rooms.get(request.name)
        if place is None:
            place = self._table.make_room(request.name, wished, now=now)
        else:
            place.policy = allowed
            place.about.capacity = wished.capacity or place.about.capacity
            place.about.empty_timeout = wished.empty_timeout or place.about.empty_timeout
            place.about.departure_timeout = wished.departure_timeout or place.about.departure_timeout
            if request.metadata:
                _set_metadata(place, request.metadata)
        self._announce("create_room", grants, place)
        return place.info()

    def list(
        self, grants: Grants, request: room.ListRoomsRequest, *, config: Config, wall: float, now: float
    ) -> room.ListRoomsResponse:
        policy.check_server(config, grants, "room_list")
        names = frozenset(request.names)
        open_to_all = (place for place in self._rooms.values() if place.policy.stay is None)  # no network checks
        rooms = [place.info() for place in open_to_all if not names or place.name in names]
        return room.ListRoomsResponse(rooms=rooms)

    def delete(
        self, grants: Grants, request: room.DeleteRoomRequest, *, config: Config, wall: float, now: float
    ) -> room.DeleteRoomResponse:
        policy.check_server(config, grants, "room_create")
        place = self._room(request.room)
        self._table.end_room(place, now=now)
        self._announce("delete_room", grants, place)
        return room.DeleteRoomResponse()

    def update_metadata(
        self, grants: Grants, request: room.UpdateRoomMetadataRequest, *, config: Config, wall: float, now: float
    ) -> models.Room:
        policy.check_moderator(config, grants, request.room)
        _check_metadata(request.metadata)
        place = self._room(request.room)
        _set_metadata(place, request.metadata)
        self._announce("room_metadata", grants, place)
        return place.info()

    # --- people ------------------------------------------------------------------------------------------------------

    def list_participants(
        self, grants: Grants, request: room.ListParticipantsRequest, *, config: Config, wall: float, now: float
    ) -> room.ListParticipantsResponse:
        """Who is hidden is in it: whoever may remove him may know of him. Nobody is in a room that is not there."""
        policy.check_moderator(config, grants, request.room)
        place = self._rooms.get(request.room)
        people = [] if place is None else place.participants.values()
        return room.ListParticipantsResponse(participants=[each.info() for each in people])

    def get_participant(
        self, grants: Grants, request: room.RoomParticipantIdentity, *, config: Config, wall: float, now: float
    ) -> models.ParticipantInfo:
        policy.check_moderator(config, grants, request.room)
        return self._participant(request.room, request.identity).info()

    def update_subscriptions(
        self, grants: Grants, request: room.UpdateSubscriptionsRequest, *, config: Config, wall: float, now: float
    ) -> room.UpdateSubscriptionsResponse:
        policy.check_moderator(config, grants, request.room)
        participant = self._participant(request.room, request.identity)
        sids = [*request.track_sids, *(sid for each in request.participant_tracks for sid in each.track_sids)]
        if len(sids) > MAX_SIDS:
            raise TooLarge("Too many publications in one request.", rule="subscription_size")
        place = participant.room
        change = place.subscribe if request.subscribe else place.unsubscribe
        for sid in sids:
            change(participant, sid, now=now)
        self._announce("subscribe" if request.subscribe else "unsubscribe", grants, place, participant)
        return room.UpdateSubscriptionsResponse()

    # --- data --------------------------------------------------------------------------------------------------------

    def send_data(
        self, grants: Grants, request: room.SendDataRequest, *, config: Config, wall: float, now: float
    ) -> room.SendDataResponse:
        """In nobody's name. The same nonce twice is one packet: whoever heard no answer asks again."""
        policy.check_moderator(config, grants, request.room)
        if len(request.nonce) > MAX_NONCE or len(request.topic.encode()) > MAX_METADATA:
            raise TooLarge("The nonce or the topic is too long.", rule="data_size")
        identities, sids = frozenset(request.destination_identities), frozenset(request.destination_sids)
        if len(identities) + len(sids) > datapacket.MAX_DESTINATIONS:
            raise TooLarge("Too many recipients.", rule="data_destinations")
        kind = _DATA_KINDS.get(request.kind)
        if kind is None:
            raise BadRequest("There is no such kind of data.", rule="data_kind")
        packet = models.DataPacket(
            kind=request.kind,
            destination_identities=request.destination_identities,
            user=models.UserPacket(
                payload=request.data,
                topic=request.topic if request.HasField("topic") else None,
                destination_identities=request.destination_identities,
                destination_sids=request.destination_sids,
                nonce=request.nonce,
            ),
        )
        payload = packet.SerializeToString()
        if len(payload) > config.limits.data.packet:
            raise TooLarge("The data are too large for one packet.", rule="data_size")
        place = self._room(request.room)
        if request.nonce:
            if (place.sid, request.nonce) in self._nonces:
                return room.SendDataResponse()
            self._nonces[place.sid, request.nonce] = None
            if len(self._nonces) > MAX_NONCES:
                del self._nonces[next(iter(self._nonces))]
        for each in place.participants.values():
            if not (identities or sids) or each.identity in identities or each.sid in sids:
                datapacket.deliver(each, kind, payload, now=now)
        self._announce("send_data", grants, place)
        return room.SendDataResponse()

    def elsewhere(self, grants: Grants, request: Any, *, config: Config, wall: float, now: float) -> Message:
        """Moving between rooms, and calls of a participant by the server: the open reference server has neither."""
        raise NotHere("This server does not do that.", rule="unimplemented")

    # --- beneath -----------------------------------------------------------------------------------------------------

    def _room(self, name: str) -> Room:
        place = self._rooms.get(name)
        if place is None or place.policy.stay is not None:
            raise NotFound(policy.NO_SUCH_ROOM, rule="no_such_room")
        return place

    def _participant(self, name: str, identity: str) -> Participant:
        place = self._rooms.get(name)
        participant = None if place is None else place.participants.get(identity)
        if participant is None:
            raise NotFound("This participant is not in this room.", rule="no_such_participant")
        return participant

    def _announce(self, action: str, grants: Grants, place: Room, participant: Participant | None = None) -> None:
        whom = {"room": place.sid, "room_name": place.name} if participant is None else participant.who
        self._announcer.announce("moderated", {**whom, **moderation.who_asked(action, grants, place)})


def _check_metadata(metadata: str) -> None:
    if len(metadata.encode()) > MAX_METADATA:
        raise TooLarge("The metadata is too large.", rule="metadata_size")


def _set_metadata(place: Room, metadata: str) -> None:
    """Everyone in it is told at once."""
    if place.about.metadata == metadata:
        return
    place.about.metadata = metadata
    update = rtc.SignalResponse(room_update=rtc.RoomUpdate(room=place.info()))
    for participant in place.participants.values():
        participant.send(update)


_MODERATION: Final = frozenset({"MutePublishedTrack", "UpdateParticipant", "RemoveParticipant"})
_OWN: Final[Mapping[str, str]] = {
    "CreateRoom": "create",
    "ListRooms": "list",
    "DeleteRoom": "delete",
    "ListParticipants": "list_participants",
    "GetParticipant": "get_participant",
    "UpdateSubscriptions": "update_subscriptions",
    "SendData": "send_data",
    "UpdateRoomMetadata": "update_metadata",
    "ForwardParticipant": "elsewhere",
    "MoveParticipant": "elsewhere",
    "PerformRpc": "elsewhere",
}
CALLS: Final[Mapping[str, type[Message]]] = {
    "MutePublishedTrack": room.MuteRoomTrackRequest,
    "UpdateParticipant": room.UpdateParticipantRequest,
    "RemoveParticipant": room.RoomParticipantIdentity,
    "CreateRoom": room.CreateRoomRequest,
    "ListRooms": room.ListRoomsRequest,
    "DeleteRoom": room.DeleteRoomRequest,
    "ListParticipants": room.ListParticipantsRequest,
    "GetParticipant": room.RoomParticipantIdentity,
    "UpdateSubscriptions": room.UpdateSubscriptionsRequest,
    "SendData": room.SendDataRequest,
    "UpdateRoomMetadata": room.UpdateRoomMetadataRequest,
    "ForwardParticipant": room.ForwardParticipantRequest,
    "MoveParticipant": room.MoveParticipantRequest,
    "PerformRpc": room.PerformRpcRequest,
}
"""Every method of the service, and the type of its request."""
