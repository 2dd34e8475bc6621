"""What servers ask about rooms: the grant and the role both count, sizes are bounded, a refusal changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, room, rtc

from d4e_sfu.config import Config, RoomRule
from d4e_sfu.core import roomcalls
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.participant import State
from d4e_sfu.core.roomcalls import CALLS
from d4e_sfu.errors import BadRequest, ClientError, Forbidden, Full, NotFound, NotHere, TooLarge
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person
from tests.doubles import microphone

SERVER = {"roomJoin": False, "roomCreate": True, "roomList": True, "roomAdmin": True}


def call(house: House, method: str, *, by: str = "", now: float = 0.0, video: Any = SERVER, **fields: Any) -> Any:
    """As a portal would, which is nobody in the room."""
    grants = house.sfu.verify(house.mint(by, video=video), wall=WALL)
    return house.sfu.call(method, grants, CALLS[method](**fields), wall=WALL, now=now)


def heard(house: House) -> list[tuple[str, str]]:
    """What was announced of moderators: action and room."""
    return [
        (str(facts["action"]), str(facts["room_name"]))
        for event, facts in house.announcer.heard
        if event == "moderated"
    ]


# --- rooms -----------------------------------------------------------------------------------------------------------


def test_a_room_is_there_before_anyone_and_as_it_was_wished_for(house: House) -> None:
    made = call(
        house, "CreateRoom", name="ward", metadata="m", max_participants=1, empty_timeout=7, departure_timeout=3
    )
    assert (made.name, made.metadata, made.max_participants) == ("ward", "m", 1)
    assert (made.empty_timeout, made.departure_timeout, made.creation_time) == (7, 3, int(WALL))
    an = house.join("an")
    told = an.client.take("join")[0].room
    assert (told.sid, told.metadata, told.max_participants) == (made.sid, "m", 1)
    with pytest.raises(Full) as refused:
        house.join("binh")
    assert refused.value.rule == "room_capacity"
    assert heard(house) == [("create_room", "ward")]


def test_a_room_that_is_there_is_given_what_is_wished_for_now(house: House) -> None:
    an = house.join("an")
    sid = house.sfu.rooms["ward"].sid
    assert call(house, "CreateRoom", name="ward", metadata="new", max_participants=5).sid == sid
    assert an.client.last("room_update").room.metadata == "new"
    again = call(house, "CreateRoom", name="ward")
    assert (again.sid, again.metadata, again.max_participants) == (sid, "new", 5), "what is not said stays"


def test_no_wish_goes_beyond_the_rule_of_the_room(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="ward", capacity=3),)}), mint)
    assert call(house, "CreateRoom", name="ward", max_participants=100).max_participants == 3
    with pytest.raises(NotFound):
        call(house, "CreateRoom", name="other")
    assert call(house, "CreateRoom", name="ward", empty_timeout=10**9).empty_timeout == roomcalls.MAX_EMPTY


def test_it_is_forgotten_after_one_time_if_nobody_comes_and_after_another_when_all_have_left(house: House) -> None:
    call(house, "CreateRoom", name="ward", empty_timeout=100, departure_timeout=10)
    house.sfu.tick(now=99.0)
    an = house.join("an", now=99.0)
    an.ask(leave=rtc.LeaveRequest(), now=100.0)
    house.sfu.tick(now=109.0)
    assert "ward" in house.sfu.rooms
    house.sfu.tick(now=110.0)
    assert "ward" not in house.sfu.rooms
    call(house, "CreateRoom", name="ward", empty_timeout=100, now=200.0)
    house.sfu.tick(now=299.0)
    assert "ward" in house.sfu.rooms
    house.sfu.tick(now=300.0)
    assert "ward" not in house.sfu.rooms


def test_no_room_is_made_where_none_could_be_joined(house: House) -> None:
    house.engine.busy = None
    with pytest.raises(Full):
        call(house, "CreateRoom", name="ward")
    house.engine.busy = 0.0
    house.sfu.drain()
    with pytest.raises(Full):
        call(house, "CreateRoom", name="ward")
    assert house.sfu.rooms == {}


def test_empty_rooms_make_place_and_full_ones_do_not(config: Config, mint: MintToken) -> None:
    limits = config.limits.model_copy(update={"rooms": 2})
    house = House(config.model_copy(update={"limits": limits}), mint)
    house.join("an")
    call(house, "CreateRoom", name="a")
    call(house, "CreateRoom", name="b")
    assert sorted(house.sfu.rooms) == ["b", "ward"]
    house.join("binh", room="b")
    with pytest.raises(Full):
        call(house, "CreateRoom", name="c")


def test_who_lists_rooms_sees_all_or_those_that_he_names(house: House) -> None:
    house.join("an")
    call(house, "CreateRoom", name="other")
    assert sorted(each.name for each in call(house, "ListRooms").rooms) == ["other", "ward"]
    [ward] = call(house, "ListRooms", names=["ward", "nowhere"]).rooms
    assert (ward.name, ward.num_participants) == ("ward", 1)


def test_a_room_that_is_ended_sends_everyone_away_and_a_new_one_may_begin(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = house.sfu.rooms["ward"].sid
    call(house, "DeleteRoom", room="ward")
    for person in (an, binh):
        leave = person.client.last("leave")
        assert (leave.reason, leave.action) == (models.DisconnectReason.ROOM_DELETED, leave.DISCONNECT)
        assert person.participant.state is State.DISCONNECTED
    assert house.sfu.rooms == {}
    with pytest.raises(NotFound):
        call(house, "DeleteRoom", room="ward")
    house.join("an")
    assert house.sfu.rooms["ward"].sid != sid


def test_metadata_of_a_room_are_told_to_everyone_once(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    assert call(house, "UpdateRoomMetadata", room="ward", metadata="x").metadata == "x"
    call(house, "UpdateRoomMetadata", room="ward", metadata="x")
    for person in (an, binh):
        assert [update.room.metadata for update in person.client.take("room_update")] == ["x"]
    with pytest.raises(TooLarge):
        call(house, "UpdateRoomMetadata", room="ward", metadata="é" * 4097)
    assert house.sfu.rooms["ward"].info().metadata == "x"


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb"], ids=["none", "long", "lines"])
def test_a_room_has_a_name_as_a_token_could_say_it(house: House, name: str) -> None:
    with pytest.raises(BadRequest):
        call(house, "CreateRoom", name=name)


# --- people ----------------------------------------------------------------------------------------------------------


def test_who_is_in_a_room_is_listed_even_if_he_is_hidden(config: Config, mint: MintToken) -> None:
    doctor = config.roles["doctor"].model_copy(update={"hidden": True})
    house = House(config.model_copy(update={"roles": {**config.roles, "doctor": doctor}}), mint)
    house.join("an")
    house.join("binh", video={"hidden": True})
    people = call(house, "ListParticipants", room="ward").participants
    assert [(each.identity, each.permission.hidden) for each in people] == [("an", False), ("binh", True)]
    assert call(house, "GetParticipant", room="ward", identity="binh").identity == "binh"
    with pytest.raises(NotFound):
        call(house, "GetParticipant", room="ward", identity="chi")


def test_nobody_is_in_a_room_that_is_not_there(house: House) -> None:
    assert list(call(house, "ListParticipants", room="ward").participants) == []


def test_what_somebody_receives_is_taken_from_him_and_given_back(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    assert sid in binh.participant.subscriptions
    call(house, "UpdateSubscriptions", room="ward", identity="binh", track_sids=[sid])
    assert binh.participant.subscriptions == {}
    of = models.ParticipantTracks(participant_sid=an.sid, track_sids=[sid])
    call(house, "UpdateSubscriptions", room="ward", identity="binh", participant_tracks=[of], subscribe=True)
    assert sid in binh.participant.subscriptions
    with pytest.raises(TooLarge):
        call(house, "UpdateSubscriptions", room="ward", identity="binh", track_sids=["TR_x"] * 1001)
    assert heard(house) == [("unsubscribe", "ward"), ("subscribe", "ward")]


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(house: House) -> list[Person]:
    """Three of them, with open channels."""
    found = [house.join(identity) for identity in ("an", "binh", "chi")]
    for person in found:
        person.connect()
        for kind in DataKind:
            house.sfu.data_ready(person.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    return found


def received(house: House, people: list[Person]) -> dict[str, list[models.DataPacket]]:
    of = {person.participant.transport: person.participant.identity for person in people}
    found: dict[str, list[models.DataPacket]] = {}
    for transport, _, payload in house.associations.sent:
        found.setdefault(of[transport], []).append(models.DataPacket.FromString(payload))
    house.associations.sent.clear()
    return found


def test_data_reach_everyone_or_those_who_are_named_and_say_nobodys_name(house: House, people: list[Person]) -> None:
    call(house, "SendData", room="ward", data=b"x", topic="t")
    packets = received(house, people)
    assert sorted(packets) == ["an", "binh", "chi"]
    [packet] = packets["an"]
    assert (packet.user.payload, packet.user.topic, packet.participant_identity) == (b"x", "t", "")
    call(house, "SendData", room="ward", data=b"x", destination_identities=["an"], kind=1)
    assert [packet.kind for packet in received(house, people)["an"]] == [models.DataPacket.Kind.LOSSY]
    call(house, "SendData", room="ward", data=b"x", destination_sids=[people[1].sid])
    assert sorted(received(house, people)) == ["binh"]


def test_the_same_nonce_is_the_same_packet(house: House, people: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roomcalls, "MAX_NONCES", 2)
    for nonce in (b"1", b"1", b"2", b"3", b"1"):
        call(house, "SendData", room="ward", data=nonce, nonce=nonce)
    got = [packet.user.payload for packet in received(house, people)["an"]]
    assert got == [b"1", b"2", b"3", b"1"], "the oldest was forgotten"


@pytest.mark.parametrize(
    "fields",
    [
        {"data": b"x" * 65_536},
        {"nonce": b"x" * 65},
        {"topic": "x" * 8193},
        {"destination_identities": [str(n) for n in range(1001)]},
        {"kind": 7},
    ],
    ids=["data", "nonce", "topic", "recipients", "kind"],
)
def test_data_have_bounds(house: House, people: list[Person], fields: dict[str, Any]) -> None:
    with pytest.raises((TooLarge, BadRequest)):
        call(house, "SendData", room="ward", **fields)
    assert received(house, people) == {}


# --- who may ---------------------------------------------------------------------------------------------------------

REQUESTS: dict[str, dict[str, Any]] = {
    "CreateRoom": {"name": "other"},
    "ListRooms": {},
    "DeleteRoom": {"room": "ward"},
    "ListParticipants": {"room": "ward"},
    "GetParticipant": {"room": "ward", "identity": "an"},
    "RemoveParticipant": {"room": "ward", "identity": "an"},
    "MutePublishedTrack": {"room": "ward", "identity": "an", "muted": True},
    "UpdateParticipant": {"room": "ward", "identity": "an", "name": "fool"},
    "UpdateSubscriptions": {"room": "ward", "identity": "an", "track_sids": ["TR_x"]},
    "SendData": {"room": "ward", "data": b"x"},
    "UpdateRoomMetadata": {"room": "ward", "metadata": "x"},
}
ELSEWHERE = {"ForwardParticipant", "MoveParticipant", "PerformRpc"}


def test_every_call_is_looked_at_here() -> None:
    assert set(CALLS) == set(REQUESTS) | ELSEWHERE
    assert set(CALLS) == {method.name for method in room.DESCRIPTOR.services_by_name["RoomService"].methods}


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize(
    ("video", "role"),
    [
        ({"roomJoin": False}, None),
        ({}, "moderator"),
        ({**SERVER, "roomJoin": True}, "doctor"),
        ({**SERVER, "roomCreate": False, "roomList": False, "room": "other"}, None),
        (SERVER, "patient"),
        (SERVER, "unheard-of"),
    ],
    ids=["no grant", "no admin", "no role", "another room", "a server's role", "unknown role"],
)
def test_who_may_not_changes_nothing(house: House, method: str, video: dict[str, Any], role: str | None) -> None:
    an = house.join("an")
    before = len(house.announcer.heard)
    grants = house.sfu.verify(house.mint("binh", role, video=video), wall=WALL)
    with pytest.raises(Forbidden):
        house.sfu.call(method, grants, CALLS[method](**REQUESTS[method]), wall=WALL, now=0.0)
    assert list(house.sfu.rooms) == ["ward"]
    assert (an.participant.name, an.client.closed, house.sfu.rooms["ward"].info().metadata) == ("", None, "")
    assert len(house.announcer.heard) == before


@pytest.mark.parametrize("method", sorted(set(REQUESTS) - {"CreateRoom", "ListRooms", "ListParticipants"}))
def test_what_is_not_there_is_not_found(house: House, method: str) -> None:
    with pytest.raises(NotFound):
        call(house, method, **REQUESTS[method])


def test_a_moderator_who_joins_lists_and_makes_rooms_where_his_token_says_so(house: House) -> None:
    grants = house.sfu.verify(house.mint("mai", "moderator", video={"roomCreate": True, "roomList": True}), wall=WALL)
    house.sfu.call("CreateRoom", grants, room.CreateRoomRequest(name="other"), wall=WALL, now=0.0)
    [made] = house.sfu.call("ListRooms", grants, room.ListRoomsRequest(), wall=WALL, now=0.0).rooms  # type: ignore[attr-defined]
    assert made.name == "other"


@pytest.mark.parametrize("method", sorted(ELSEWHERE))
def test_what_the_open_reference_server_does_not_do_is_said_so(house: House, method: str) -> None:
    with pytest.raises(NotHere) as refused:
        call(house, method)
    assert isinstance(refused.value, ClientError)
    assert refused.value.status == 501


def test_each_act_is_announced_once_and_a_look_is_none(house: House) -> None:
    an = house.join("an")
    sid = an.publish(microphone())
    for method in ("ListRooms", "ListParticipants", "GetParticipant"):
        call(house, method, **REQUESTS[method])
    assert heard(house) == []
    for method in ("CreateRoom", "SendData", "UpdateRoomMetadata", "UpdateSubscriptions", "UpdateParticipant"):
        call(house, method, **REQUESTS[method])
    call(house, "MutePublishedTrack", room="ward", identity="an", track_sid=sid, muted=True)
    call(house, "RemoveParticipant", **REQUESTS["RemoveParticipant"])
    call(house, "DeleteRoom", **REQUESTS["DeleteRoom"])
    actions = ["create_room", "send_data", "room_metadata", "unsubscribe", "update", "mute", "remove", "delete_room"]
    assert [action for action, _ in heard(house)] == actions
