"""Every method of the stock server SDK, over a real server, with stock clients in the room."""

from __future__ import annotations

import inspect

import aiohttp
import pytest
from livekit import api, rtc
from livekit.api.room_service import RoomService

from tests.e2e.test_moderation import call, moderator, publication, settled
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import KEY_ID, Server

# By test_moderation.py.
ELSEWHERE = {"mute_published_track", "update_participant", "remove_participant"}
HERE = {
    "create_room",
    "list_rooms",
    "delete_room",
    "update_room_metadata",
    "list_participants",
    "get_participant",
    "update_subscriptions",
    "send_data",
    "forward_participant",
    "move_participant",
}


def test_the_sdk_has_no_method_that_is_not_looked_at() -> None:
    methods = {name for name, _ in inspect.getmembers(RoomService, inspect.iscoroutinefunction)}
    assert methods == HERE | ELSEWHERE


async def test_rooms_are_made_listed_changed_and_ended_with_the_stock_sdk(server: Server) -> None:
    async with moderator(server) as room:
        made = await room.create_room(api.CreateRoomRequest(name="ward", metadata="round", max_participants=1))
        assert (made.name, made.metadata, made.max_participants) == ("ward", "round", 1)
        lan = LivekitClient()
        await lan.join(server.ws, server.token("ward", "lan", "doctor"))
        assert (await lan.room.sid, lan.room.metadata) == (made.sid, "round")
        with pytest.raises(rtc.ConnectError):
            await LivekitClient().join(server.ws, server.token("ward", "minh", "doctor"))
        [listed] = (await room.list_rooms(api.ListRoomsRequest(names=["ward"]))).rooms
        assert (listed.sid, listed.num_participants) == (made.sid, 1)
        changed = await room.update_room_metadata(api.UpdateRoomMetadataRequest(room="ward", metadata="night"))
        assert changed.metadata == "night"
        await settled("Lan is told", lambda: lan.room.metadata == "night")
        await room.delete_room(api.DeleteRoomRequest(room="ward"))
        await settled("Lan is out", lambda: ("disconnected", "") in lan.events)
        assert list((await room.list_rooms(api.ListRoomsRequest())).rooms) == []
        with pytest.raises(api.TwirpError) as refused:
            await room.delete_room(api.DeleteRoomRequest(room="ward"))
        assert (refused.value.code, refused.value.status) == ("not_found", 404)


async def test_people_are_listed_and_what_they_receive_is_changed_with_the_stock_sdk(server: Server) -> None:
    async with call(server) as (lan, minh), moderator(server) as room:
        people = (await room.list_participants(api.ListParticipantsRequest(room="ward"))).participants
        assert [each.identity for each in people] == ["lan", "minh"]
        info = await room.get_participant(api.RoomParticipantIdentity(room="ward", identity="lan"))
        picture = publication(lan, rtc.TrackSource.SOURCE_CAMERA).sid
        assert picture in [track.sid for track in info.tracks]
        change = api.UpdateSubscriptionsRequest(room="ward", identity="minh", track_sids=[picture])
        await room.update_subscriptions(change)
        assert picture not in await received(server, "minh")
        change.subscribe = True
        await room.update_subscriptions(change)
        assert picture in await received(server, "minh")
        before = minh.decoded["lan"].frames
        await settled("the picture is back", lambda: minh.decoded["lan"].frames > before + 5)


async def received(server: Server, identity: str) -> set[str]:
    """The sids of what the server sends him."""
    people = (await server.room("ward"))["participants"]
    return {
        each["publication"] for person in people if person["identity"] == identity for each in person["subscriptions"]
    }


async def test_data_of_a_server_reach_stock_clients_and_the_rest_is_said_not_to_be_there(server: Server) -> None:
    lan, got = LivekitClient(), []
    await lan.join(server.ws, server.token("ward", "lan", "doctor"))
    lan.room.on("data_received", lambda packet: got.append((packet.data, packet.topic, packet.participant)))
    async with moderator(server) as room:
        await room.send_data(api.SendDataRequest(room="ward", data=b"at once", topic="call"))
        await settled("Lan hears of it", lambda: got)
        assert got == [(b"at once", "call", None)]
        elsewhere = {"room": "ward", "identity": "lan", "destination_room": "other"}
        for method, request in (
            (room.move_participant, api.MoveParticipantRequest(**elsewhere)),
            (room.forward_participant, api.ForwardParticipantRequest(**elsewhere)),
        ):
            with pytest.raises(api.TwirpError) as refused:
                await method(request)
            assert (refused.value.code, refused.value.status) == ("unimplemented", 501)
    await lan.leave()


async def test_a_call_in_json_gets_its_answer_in_json(server: Server) -> None:
    token = api.AccessToken(KEY_ID, server.secret).with_grants(api.VideoGrants(room_create=True, room_list=True))
    headers = {"Authorization": f"Bearer {token.to_jwt()}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        base = f"{server.url}/twirp/livekit.RoomService/"
        async with http.post(base + "CreateRoom", json={"name": "ward", "maxParticipants": 3}) as answer:
            made = await answer.json()
        assert (answer.status, made["name"], made["max_participants"]) == (200, "ward", 3)
        assert isinstance(made["creation_time_ms"], str), "64 bits are a text in JSON"
        async with http.post(base + "ListRooms", json={}) as answer:
            assert [each["sid"] for each in (await answer.json())["rooms"]] == [made["sid"]]
