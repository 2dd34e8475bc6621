"""The server API over real sockets: protobuf and JSON, the errors of Twirp, what is refused before it is read."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import models, room, rtc

from d4e_sfu.config import Config, Http
from d4e_sfu.core.participant import Participant
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers import body, roomservice
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.http import http_log
from d4e_sfu.drivers.roomservice import ServerApi
from tests.conftest import WALL, MintToken
from tests.core.house import join_request
from tests.doubles import (
    ClientDouble,
    Description,
    EngineDouble,
    microphone,
    sfu_on,
)

BASE = "/twirp/livekit.RoomService/"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/protobuf"}


@dataclass
class House:
    sfu: Sfu
    http: TestClient[web.Request, web.Application]
    mint: MintToken

    def join(self, identity: str) -> Participant:
        request = join_request()
        request.publisher_offer.CopyFrom(Description(identity).offer())
        grants = self.sfu.verify(self.mint(identity, "doctor"), wall=WALL)
        participant = self.sfu.join(ClientDouble(), self.sfu.admit(grants, request, wall=WALL), now=0.0)
        assert participant is not None
        self.sfu.message(participant, rtc.SignalRequest(add_track=microphone()), now=0.0)
        return participant

    @property
    def moderator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.mint('mai', 'moderator', video={'roomAdmin': True})}"}

    async def call(self, method: str, body: bytes | str, headers: dict[str, str]) -> tuple[int, Any]:
        """Status, and the body: bytes of protobuf, or what the JSON says."""
        async with self.http.post(BASE + method, data=body, headers={**self.moderator, **headers}) as answer:
            if answer.content_type == "application/protobuf":
                return answer.status, await answer.read()
            assert answer.content_type == "application/json"
            return answer.status, await answer.json()


@asynccontextmanager
async def open_house(config: Config, mint: MintToken) -> AsyncIterator[House]:
    sfu = sfu_on(EngineDouble(), config)
    entrance, app = Entrance(config), web.Application()
    entrance.setup(app)
    ServerApi(sfu, entrance, wall=lambda: WALL).setup(app)
    server = TestServer(app)
    await server.start_server(access_log=None, auto_decompress=False, logger=http_log())
    async with TestClient(server) as http:
        yield House(sfu, http, mint)


@pytest.fixture
async def house(config: Config, mint: MintToken) -> AsyncIterator[House]:
    async with open_house(config, mint) as house:
        yield house


async def test_each_call_in_protobuf(house: House) -> None:
    an = house.join("an")
    (sid,) = an.publications
    mute = room.MuteRoomTrackRequest(room="ward", identity="an", track_sid=sid, muted=True)
    status, body = await house.call("MutePublishedTrack", mute.SerializeToString(), PROTOBUF)
    assert (status, room.MuteRoomTrackResponse.FromString(body).track.muted) == (200, True)
    update = room.UpdateParticipantRequest(room="ward", identity="an", name="An")
    status, body = await house.call("UpdateParticipant", update.SerializeToString(), PROTOBUF)
    assert (status, models.ParticipantInfo.FromString(body).name) == (200, "An")
    remove = room.RoomParticipantIdentity(room="ward", identity="an")
    assert await house.call("RemoveParticipant", remove.SerializeToString(), PROTOBUF) == (200, b"")
    assert house.sfu.rooms["ward"].participants == {}


@pytest.mark.parametrize("spelling", ["track_sid", "trackSid"])
async def test_each_call_in_json_in_both_spellings(house: House, spelling: str) -> None:
    an = house.join("an")
    (sid,) = an.publications
    body = {"room": "ward", "identity": "an", spelling: sid, "muted": True, "unheardOf": [1]}
    status, answer = await house.call("MutePublishedTrack", json.dumps(body), JSON)
    assert status == 200
    assert (answer["track"]["sid"], answer["track"]["muted"], answer["track"]["mime_type"]) == (sid, True, "audio/opus")
    canPublish = "can_publish" if spelling == "track_sid" else "canPublish"  # noqa: N806 - it is theirs
    body = {"room": "ward", "identity": "an", "permission": {canPublish: False}}
    status, answer = await house.call("UpdateParticipant", json.dumps(body), JSON)
    assert status == 200
    assert answer["permission"]["can_publish"] is False, "what is empty is written too"
    assert answer["joined_at"] == str(int(WALL)), "64 bits are a text in JSON"
    assert not an.rights.publish
    status, answer = await house.call("RemoveParticipant", json.dumps({"room": "ward", "identity": "an"}), JSON)
    assert (status, answer) == (200, {})


GONE = json.dumps({"room": "ward", "identity": "nobody"})
UNMUTE = json.dumps({"room": "ward", "identity": "an", "track_sid": "SID", "muted": False})


@pytest.mark.parametrize(
    ("method", "body", "headers", "status", "code"),
    [
        ("ListRooms", "{}", {}, 403, "permission_denied"),
        ("ListEgress", "{}", {}, 404, "bad_route"),
        ("MoveParticipant", GONE, {}, 501, "unimplemented"),
        ("SendData", json.dumps({"room": "ward", "data": 7}), {}, 400, "malformed"),
        ("SendData", json.dumps({"room": "ward", "nonce": "x" * 100}), {}, 400, "invalid_argument"),
        ("", "{}", {}, 404, "bad_route"),
        ("RemoveParticipant/more", GONE, {}, 404, "bad_route"),
        ("RemoveParticipant", GONE, {"Content-Type": "text/plain"}, 404, "bad_route"),
        ("RemoveParticipant", GONE, {}, 404, "not_found"),
        ("RemoveParticipant", "{", {}, 400, "malformed"),
        ("RemoveParticipant", b"\xff", {}, 400, "malformed"),
        ("RemoveParticipant", "[" * 100_000, {}, 400, "malformed"),
        ("RemoveParticipant", '{"room": 7}', {}, 400, "malformed"),
        ("RemoveParticipant", b"\xff" * 20, PROTOBUF, 400, "malformed"),
        ("RemoveParticipant", " " * (roomservice.MAX_BODY + 1), {}, 400, "invalid_argument"),
        ("RemoveParticipant", GONE, {"Authorization": "Bearer rubbish"}, 401, "unauthenticated"),
        ("RemoveParticipant", GONE, {"Authorization": "Basic YTpi"}, 401, "unauthenticated"),
        ("ListRooms", GONE, {"Authorization": "Bearer rubbish"}, 401, "unauthenticated"),
        ("RemoveParticipant", GONE.replace("ward", "other"), {}, 403, "permission_denied"),
        ("RemoveParticipant", GONE, {"Origin": "https://evil.example"}, 403, "permission_denied"),
        ("MutePublishedTrack", UNMUTE, {}, 412, "failed_precondition"),
    ],
)
async def test_errors_are_twirps_in_json_and_a_page_can_read_them(
    house: House, method: str, body: bytes | str, headers: dict[str, str], status: int, code: str
) -> None:
    (sid,) = house.join("an").publications
    body = body.replace("SID", sid) if isinstance(body, str) else body
    async with house.http.post(BASE + method, data=body, headers={**house.moderator, **JSON, **headers}) as answer:
        said = await answer.json()
        assert (answer.status, said["code"]) == (status, code)
        assert said.keys() == {"code", "msg"}
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert list(house.sfu.rooms["ward"].participants) == ["an"]


async def test_a_token_comes_in_the_header_alone_and_is_not_logged(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = house.moderator["Authorization"].removeprefix("Bearer ")
    answer = await house.http.post(f"{BASE}RemoveParticipant?access_token={token}", data=GONE, headers=JSON)
    assert answer.status == 401
    await house.call("RemoveParticipant", GONE, JSON)
    assert "call refused status=404 rule=no_such_participant" in caplog.text
    assert token not in caplog.text
    assert "nobody" not in caplog.text


async def test_a_get_is_no_call_and_slashes_are_tolerated(house: House) -> None:
    answer = await house.http.get(BASE + "RemoveParticipant", headers=house.moderator)
    assert (answer.status, (await answer.json())["code"]) == (404, "bad_route")
    address = f"http://{house.http.host}:{house.http.port}/{BASE}RemoveParticipant"
    async with house.http.session.post(address, data=GONE, headers={**house.moderator, **JSON}) as answer:
        assert (await answer.json())["code"] == "not_found"


async def test_a_page_of_ours_may_call_from_a_browser(house: House, config: Config, mint: MintToken) -> None:
    preflight = await house.http.options(BASE + "RemoveParticipant")
    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    config = config.model_copy(update={"http": Http(allowed_origins=("https://portal.example.vn",))})
    async with open_house(config, mint) as other:
        own = f"http://{other.http.host}:{other.http.port}"
        for origin in (own, "https://portal.example.vn"):
            status, said = await other.call("RemoveParticipant", GONE, {**JSON, "Origin": origin})
            assert (status, said["code"]) == (404, "not_found"), origin


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 50", b"{"),
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n" * 3),
        ("Content-Encoding: gzip\r\nContent-Length: 20", b"\x1f\x8b" + b"\0" * 18),
    ],
    ids=["cut", "no chunks", "cut between chunks", "compressed"],
)
async def test_a_body_that_is_cut_or_broken_leaves_no_trace(
    house: House, caplog: pytest.LogCaptureFixture, head: str, body: bytes
) -> None:
    reader, writer = await asyncio.open_connection(house.http.host, house.http.port)
    authorization = house.moderator["Authorization"]
    writer.write(
        f"POST {BASE}RemoveParticipant HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\n{head}\r\n\r\n".encode()
    )
    await asyncio.sleep(0.05)
    writer.write(body)
    await asyncio.sleep(0.05)
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], caplog.text


async def test_a_body_that_does_not_come_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3)

    async with house.http.post(
        BASE + "RemoveParticipant", data=silent(), headers={**house.moderator, **JSON}
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed")
