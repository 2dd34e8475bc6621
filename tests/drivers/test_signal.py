"""Signalling over real sockets: what is refused before the upgrade, what ends a connection after it, and pings."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import models, rtc

from d4e_sfu.config import Config, Http
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers import signal
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.signal import MAX_LINE, Signalling
from d4e_sfu.errors import TooLarge
from tests.conftest import WALL, MintToken
from tests.doubles import Description, EngineDouble, sfu_on

PATH = "/rtc/v1"
SOON = 0.05  # s: hostile input ends within this


@dataclass
class House:
    sfu: Sfu
    signalling: Signalling
    http: TestClient[web.Request, web.Application]

    async def socket(self, token: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        socket: aiohttp.ClientWebSocketResponse = await self.http.ws_connect(PATH, params=query(token), **options)
        return socket


@asynccontextmanager
async def open_house(config: Config) -> AsyncIterator[House]:
    sfu = sfu_on(EngineDouble(), config)
    entrance = Entrance(config)
    signalling = Signalling(sfu, entrance, wall=lambda: WALL)
    app = web.Application()
    entrance.setup(app)
    signalling.setup(app)
    server = TestServer(app)
    await server.start_server(max_line_size=MAX_LINE, max_field_size=MAX_LINE, access_log=None)
    async with TestClient(server) as http:
        yield House(sfu, signalling, http)


@pytest.fixture
async def house(config: Config) -> AsyncIterator[House]:
    async with open_house(config) as house:
        yield house


def wrap(request: rtc.JoinRequest, *, compressed: bool = True) -> str:
    payload = request.SerializeToString()
    wrapped = rtc.WrappedJoinRequest(
        compression=rtc.WrappedJoinRequest.Compression.GZIP if compressed else 0,  # type: ignore[arg-type]
        join_request=gzip.compress(payload) if compressed else payload,
    )
    return base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()


def join_request(name: str = "an") -> rtc.JoinRequest:
    return rtc.JoinRequest(
        client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.JS, protocol=17),
        connection_settings=rtc.ConnectionSettings(auto_subscribe=True),
        publisher_offer=Description(name).offer(),
    )


def query(token: str, **more: str) -> dict[str, str]:
    return {"access_token": token, "join_request": wrap(join_request()), **more}


async def receive(socket: aiohttp.ClientWebSocketResponse) -> rtc.SignalResponse:
    """The next message; a fresh token, which may come at any time, is none that a test here waits for."""
    while True:
        frame = await socket.receive(timeout=2)
        assert frame.type is WSMsgType.BINARY, frame
        response = rtc.SignalResponse.FromString(frame.data)
        if not response.HasField("refresh_token"):
            return response


async def receive_kinds(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    """Everything until the close, but for fresh tokens."""
    kinds = []
    while (frame := await socket.receive(timeout=2)).type is WSMsgType.BINARY:
        kinds.append(str(rtc.SignalResponse.FromString(frame.data).WhichOneof("message")))
    return [kind for kind in kinds if kind != "refresh_token"]


# --- joining ---------------------------------------------------------------------------------------------------------


async def test_a_join_over_a_socket(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as socket:
        assert (await receive(socket)).WhichOneof("message") == "join"
        answer = await receive(socket)
        assert answer.answer.sdp.startswith("v=0")
        assert house.signalling.connections == 1
    for _ in range(100):
        if house.signalling.connections == 0:
            break
        await asyncio.sleep(0.01)
    assert house.signalling.connections == 0
    assert house.sfu.rooms["ward"].participants == {}


async def test_a_base_url_may_end_in_a_slash(house: House) -> None:
    reader, writer = await asyncio.open_connection(house.http.host, house.http.port)
    writer.write(b"GET //rtc/v1/validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_who_offers_compression_gets_it_and_who_does_not_does_not(house: House, mint: MintToken) -> None:
    for offered in (15, 0):
        async with house.http.ws_connect(PATH, params=query(mint("an")), compress=offered) as socket:
            assert bool(socket.compress) is bool(offered)
            assert (await receive(socket)).WhichOneof("message") == "join"
            assert (await receive(socket)).answer.sdp.startswith("v=0")
            offer = join_request().publisher_offer
            await socket.send_bytes(rtc.SignalRequest(offer=offer).SerializeToString())
            assert (await receive(socket)).answer.id == offer.id


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_megabyte_is_taken_compressed_or_not(house: House, mint: MintToken, compressed: bool) -> None:
    async with house.http.ws_connect(PATH, params=query(mint("an")), compress=15 * compressed) as socket:
        for _ in range(2):
            await receive(socket)
        large = rtc.SignalRequest(update_metadata=rtc.UpdateParticipantMetadata(request_id=7, metadata="x" * 1_000_000))
        await socket.send_bytes(large.SerializeToString())
        assert (await receive(socket)).request_response.request_id == 7


async def test_a_compressed_message_that_inflates_to_more_than_the_limit_closes(house: House, mint: MintToken) -> None:
    async with house.http.ws_connect(PATH, params=query(mint("an")), compress=15) as socket:
        for _ in range(2):
            await receive(socket)
        await socket.send_bytes(bytes(64 << 20))
        _, code, _ = await ended(socket)
        assert code == 1009
        assert house.sfu.rooms["ward"].participants == {}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("padded", [True, False])
async def test_join_requests_are_taken_in_all_their_spellings(
    house: House, mint: MintToken, compressed: bool, padded: bool
) -> None:
    text = wrap(join_request(), compressed=compressed)
    text = text if padded else text.rstrip("=")
    for spelling in (text, text.replace("-", "+").replace("_", "/")):
        answer = await house.http.get(PATH + "/validate", params={"access_token": mint("an"), "join_request": spelling})
        assert (answer.status, await answer.text()) == (200, "success")


async def test_the_header_wins_over_the_query(house: House, mint: MintToken) -> None:
    headers = {"Authorization": f"Bearer {mint('an')}"}
    answer = await house.http.get(PATH + "/validate", params=query("rubbish"), headers=headers)
    assert answer.status == 200
    answer = await house.http.get(PATH + "/validate", params=query(mint("an")), headers={"Authorization": "Bearer x"})
    assert answer.status == 401


async def test_a_token_of_eight_kilobytes_passes(house: House, mint: MintToken) -> None:
    token = mint("an", metadata="x" * 8000)
    answer = await house.http.get(PATH + "/validate", params=query(token))
    assert answer.status == 200


@pytest.mark.parametrize("kind", ["ping", "ping_req"])
async def test_pings_are_answered_in_milliseconds(house: House, mint: MintToken, kind: str) -> None:
    async with await house.socket(mint("an")) as socket:
        await receive(socket)
        await receive(socket)
        ping = rtc.SignalRequest(ping=77) if kind == "ping" else rtc.SignalRequest(ping_req=rtc.Ping(timestamp=77))
        await socket.send_bytes(ping.SerializeToString())
        answer = await receive(socket)
        if kind == "ping":
            assert answer.pong == int(WALL * 1000)
        else:
            assert answer.pong_resp.last_ping_timestamp == 77
            assert answer.pong_resp.timestamp == int(WALL * 1000)
        await socket.ping(b"still there?")
        await socket.send_bytes(rtc.SignalRequest(ping=78).SerializeToString())
        assert (await receive(socket)).WhichOneof("message") == "pong"


async def test_the_old_connection_of_an_identity_is_closed_with_its_reason(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as old, await house.socket(mint("an")) as new:
        kinds = await receive_kinds(old)
        assert kinds == ["join", "answer", "leave"]
        assert (await receive(new)).WhichOneof("message") == "join"


async def test_leaving_closes_from_our_side(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as socket:
        await socket.send_bytes(rtc.SignalRequest(leave=rtc.LeaveRequest()).SerializeToString())
        assert await receive_kinds(socket) == ["join", "answer", "leave"]
        assert socket.close_code == 1000


async def test_draining_says_goodbye_to_every_connection(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as first, await house.socket(mint("binh")) as second:
        for _ in range(2):
            await receive(first)
            await receive(second)
        house.sfu.close(now=time.monotonic())
        assert "leave" in await receive_kinds(first)
        assert "leave" in await receive_kinds(second)
        await asyncio.wait_for(house.signalling.closed(), 2)


# --- refused before the upgrade --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, PATH + "/validate"])
async def test_token_errors_are_401_with_a_sentence_that_a_browser_can_read(
    house: House, mint: MintToken, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cases = {
        "": "accepted",
        "rubbish": "accepted",
        mint("an", ttl=-3600): "expired",
        mint("an", now=WALL + 7200): "not yet valid",
        mint("an")[:-3] + "AAA": "accepted",
        mint("an", video={"roomJoin": False}): "",
    }
    for token, word in cases.items():
        answer = await house.http.get(path, params=query(token), headers=upgrade(path))
        assert answer.status == 401, word
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.content_type == "text/plain"
        assert word in await answer.text()
        if token:
            assert token not in caplog.text, "a token in the log"
    assert "rule=" in caplog.text
    assert house.sfu.rooms == {}


def upgrade(path: str) -> dict[str, str]:
    if path.endswith("validate"):
        return {}
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode(),
    }


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://{host}", 200),
        ("https://{host}", 200),
        ("HTTP://{host}", 200),
        ("https://portal.example.vn", 200),
        ("https://evil.example", 403),
        ("https://portal.example.vn.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://", 403),
        ("https://{host}.evil.example", 403),
    ],
)
async def test_only_our_own_pages_and_allowed_ones_may_join(
    config: Config, mint: MintToken, origin: str | None, status: int
) -> None:
    config = config.model_copy(update={"http": Http(allowed_origins=("https://portal.example.vn",))})
    async with open_house(config) as house:
        host = f"{house.http.host}:{house.http.port}"
        headers = {} if origin is None else {"Origin": origin.format(host=host)}
        answer = await house.http.get(PATH + "/validate", params=query(mint("an")), headers=headers)
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        if status == 403:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await house.http.ws_connect(PATH, params=query(mint("an")), headers=headers)
            assert refused.value.status == 403


@pytest.mark.parametrize("path", ["/rtc/v2", "/rtc/v1/other", "/rtc/other"])
async def test_other_forms_of_joining_are_absent_and_a_browser_can_read_so(house: House, path: str) -> None:
    answer = await house.http.get(path)
    assert answer.status == 404
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "requested room does not exist" not in await answer.text()


# --- two peer connections --------------------------------------------------------------------------------------------


def attributes(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_without_a_join_request_there_are_two_connections_and_the_query_says_who_he_is(
    house: House, mint: MintToken
) -> None:
    said = {
        "protocol": "13",
        "sdk": "android",
        "version": "2.27.0",
        "client_protocol": "1",
        "capabilities": "CAP_PACKET_TRAILER,CAP_UNHEARD_OF",
        "adaptive_stream": "1",
        "attributes": attributes({"ward": "3"}),
    }
    token = mint("an", "doctor", video={"canUpdateOwnMetadata": True})
    headers = {"Authorization": f"Bearer {token}"}
    async with house.http.ws_connect("/rtc", params=said, headers=headers) as socket:
        join = (await receive(socket)).join
        assert join.subscriber_primary
        assert join.participant.client_protocol == 1
        assert join.participant.capabilities == [models.ClientInfo.Capability.CAP_PACKET_TRAILER]
        assert join.participant.attributes["ward"] == "3"
        offer = (await receive(socket)).offer
        assert (offer.type, offer.id) == ("offer", 1)
        (participant,) = house.sfu.rooms["ward"].participants.values()
        can = participant.client_can
        assert (can.protocol, can.sdk, can.auto_subscribe, can.adaptive_stream) == (13, "android", True, True)
        sid = participant.sid
    for resumes, first in (({"reconnect": "1", "sid": sid}, "leave"), ({"auto_subscribe": "0"}, "join")):
        # He was not connected, so nothing of him is left to resume.
        async with house.http.ws_connect("/rtc", params={**said, **resumes}, headers=headers) as socket:
            assert (await receive(socket)).WhichOneof("message") == first


async def test_the_older_path_takes_a_join_request_as_well_and_then_there_is_one_connection(
    house: House, mint: MintToken
) -> None:
    async with house.http.ws_connect("/rtc", params=query(mint("an"))) as socket:
        assert not (await receive(socket)).join.subscriber_primary
        assert (await receive(socket)).HasField("answer")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 200),
        ({"protocol": "x", "sdk": "?", "client_protocol": "-1", "capabilities": ",,", "auto_subscribe": "maybe"}, 200),
        ({"protocol": "9" * 4000, "sid": "x" * 9000}, 200),
        ({"attributes": attributes({"a": "b"})}, 200),
        ({"attributes": "!"}, 400),
        ({"attributes": attributes(["a"])}, 400),
        ({"attributes": attributes({"a": 1})}, 400),
        ({"attributes": base64.urlsafe_b64encode(b'{"a":"\\ud800"}').decode()}, 400),
        ({"attributes": base64.urlsafe_b64encode(b"[" * 9000).decode()}, 400),
        ({"access_token": "none"}, 401),
    ],
)
async def test_what_a_query_may_say_is_checked_and_validated_alike(
    house: House, mint: MintToken, said: dict[str, str], status: int
) -> None:
    params = {"access_token": mint("an"), **said}
    async with house.http.get("/rtc/validate", params=params) as answer:
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert status != 200 or await answer.text() == "success"
    async with house.http.get("/rtc", params=params) as answer:
        assert answer.status == 404


async def test_a_get_without_upgrade_is_404_and_options_is_answered(house: House, mint: MintToken) -> None:
    assert (await house.http.get(PATH, params=query(mint("an")))).status == 404
    preflight = await house.http.options(PATH)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert (await house.http.get(PATH, params={}, headers=upgrade(PATH))).status == 400


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("HEAD", "/"), ("GET", "/settings/regions")])
async def test_what_does_not_exist_says_so_to_pages_of_other_sites_too(house: House, method: str, path: str) -> None:
    answer = await house.http.request(method, path)
    assert answer.status in (404, 405)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    preflight = await house.http.options(path)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")


def _wrapped(data: bytes, compression: int = 1) -> str:
    message = rtc.WrappedJoinRequest(compression=compression, join_request=data)  # type: ignore[arg-type]
    return base64.urlsafe_b64encode(message.SerializeToString()).decode()


_BOMB = gzip.compress(b"\x00" * (64 << 20), compresslevel=6)
BOMBS: dict[str, tuple[str, int]] = {
    "inflates to 64 MiB": (_wrapped(_BOMB), 413),
    "a bomb in a bomb": (_wrapped(gzip.compress(_BOMB)), 400),
    "many members": (_wrapped(gzip.compress(b"x") * 1000), 400),
    "cut short": (_wrapped(gzip.compress(b"x" * 1000)[:-5]), 400),
    "not gzip": (_wrapped(b"x" * 1000), 400),
    "zlib": (_wrapped(zlib.compress(b"x" * 1000)), 400),
    "unknown compression": (_wrapped(b"", 7), 400),
    "not base64": ("%%%%", 400),
    "not ascii": ("é" * 10, 400),
    "not protobuf": (base64.urlsafe_b64encode(b"\xff" * 50).decode(), 400),
    "not a join request": (_wrapped(b"\xff" * 50, 0), 400),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("path", [PATH, PATH + "/validate"])
async def test_hostile_join_requests_end_at_once(house: House, mint: MintToken, name: str, path: str) -> None:
    text, status = BOMBS[name]
    params = {"access_token": mint("an"), "join_request": text}
    start = time.perf_counter()
    answer = await house.http.get(path, params=params, headers=upgrade(path))
    elapsed = time.perf_counter() - start
    assert answer.status == status
    assert "Traceback" not in await answer.text()
    assert elapsed < SOON * 4, f"{elapsed:.3f} s"  # client and server share this thread


def test_a_bomb_never_takes_more_memory_than_the_limit() -> None:
    limit = 1 << 20
    tracemalloc.start()
    with pytest.raises(TooLarge):
        signal._gunzip(_BOMB, limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * limit


async def test_a_request_line_without_end_is_refused(house: House, mint: MintToken) -> None:
    answer = await house.http.get(PATH + "/validate", params={"access_token": "x" * (MAX_LINE + 1)})
    assert answer.status == 400


# --- ended after the upgrade -----------------------------------------------------------------------------------------


async def ended(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[str], int | None, float]:
    start = time.perf_counter()
    kinds = await receive_kinds(socket)
    return kinds, socket.close_code, time.perf_counter() - start


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff" * 20, 1007),
        (b"\x00", 1007),
        (rtc.SignalRequest(offer=rtc.SessionDescription(type="offer", sdp="v=0\r\nrubbish")).SerializeToString(), 1007),
        (rtc.SignalRequest(offer=rtc.SessionDescription(type="offer", sdp="a" * 900_000)).SerializeToString(), 1007),
        (b"x" * (1 << 20 | 1), 1009),
    ],
    ids=["not protobuf", "field zero", "bad sdp", "huge sdp", "over a mebibyte"],
)
async def test_hostile_messages_close_that_connection_at_once(
    house: House, mint: MintToken, data: bytes, code: int
) -> None:
    async with await house.socket(mint("binh")) as bystander, await house.socket(mint("an")) as socket:
        for _ in range(2):
            await receive(socket)
            await receive(bystander)
        await socket.send_bytes(data)
        kinds, closed, elapsed = await ended(socket)
        assert closed == code
        assert code == 1009 or kinds == ["leave"]
        assert elapsed < SOON * 4, f"{elapsed:.3f} s"
        await bystander.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        while (await receive(bystander)).WhichOneof("message") != "pong":
            pass
        assert list(house.sfu.rooms["ward"].participants) == ["binh"]


async def test_text_frames_are_not_our_language(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as socket:
        await socket.send_str("{}")
        _, code, _ = await ended(socket)
        assert code == 1003
    assert house.sfu.rooms["ward"].participants == {}


async def test_a_flood_of_messages_ends_the_connection(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as socket:
        ping = rtc.SignalRequest(ping=1).SerializeToString()
        for _ in range(2000):
            try:
                await socket.send_bytes(ping)
            except ConnectionError:
                break
        kinds, code, _ = await ended(socket)
        assert code == 1009
        assert kinds.count("pong") <= signal.MESSAGE_BURST + signal.MESSAGES_PER_SECOND


async def test_a_flood_of_bytes_in_few_messages_ends_the_connection(
    house: House, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "BYTES_BURST", 1 << 20)
    monkeypatch.setattr(signal, "BYTES_PER_SECOND", 1)
    unknown = b"\x82\x7d\xc0\x9a\x0c" + bytes(200_000)  # member 2000 of this length: read, and ignored
    async with await house.socket(mint("an")) as socket:
        for _ in range(5):
            await socket.send_bytes(unknown)
        await socket.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        while (await receive(socket)).WhichOneof("message") != "pong":
            pass  # a million is taken
        await socket.send_bytes(unknown)
        kinds, code, _ = await ended(socket)
        assert (kinds, code) == (["leave"], 1009)


async def test_unknown_members_are_ignored(house: House, mint: MintToken) -> None:
    async with await house.socket(mint("an")) as socket:
        await receive(socket)
        await receive(socket)
        await socket.send_bytes(b"\xba\x3e\x02\x08\x01")  # field 999, of a protocol to come
        await socket.send_bytes(b"")
        await socket.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        assert (await receive(socket)).WhichOneof("message") == "pong"


async def test_others_have_a_turn_between_the_messages_of_one_client(
    house: House, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, seen = 0, []
    monkeypatch.setattr(house.sfu, "message", lambda *_, **__: seen.append(turns))

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with await house.socket(mint("an")) as socket:
        await receive(socket)
        await receive(socket)
        for _ in range(20):
            await socket.send_bytes(rtc.SignalRequest(mute=rtc.MuteTrackRequest()).SerializeToString())
        await asyncio.gather(asyncio.wait_for(other(), 0.2), return_exceptions=True)
    assert len(seen) == 20
    assert len(set(seen)) == 20


async def opened(house: House, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of which every byte is ours, from the request on."""
    reader, writer = await asyncio.open_connection(house.http.host, house.http.port, limit=1024)
    params = "&".join(f"{key}={value}" for key, value in query(token).items())
    headers = "".join(f"{key}: {value}\r\n" for key, value in upgrade(PATH).items())
    writer.write(f"GET {PATH}?{params} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return reader, writer


@pytest.mark.parametrize("when", ["before the answer", "after pings"])
async def test_who_goes_without_a_word_leaves_no_trace(
    house: House, mint: MintToken, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    # Which comes first, the request's turn or the news that he has gone, is up to the loop: so several times.
    for _ in range(20):
        reader, writer = await opened(house, mint("an"))
        if when == "after pings":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x89\x80\0\0\0\0" * 50)  # RFC 6455 §5.5.2: empty, masked
        writer.transport.abort()
        await asyncio.sleep(0.01)
    await asyncio.wait_for(house.signalling.closed(), 5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not house.sfu.rooms or house.sfu.rooms["ward"].participants == {}


async def test_who_goes_while_his_opening_is_answered_leaves_no_trace(
    house: House, mint: MintToken, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, times = web.WebSocketResponse.prepare, []

    async def too_late(self: web.WebSocketResponse, request: web.Request) -> object:
        times.append(request)
        assert request.transport is not None
        request.transport.abort()
        return await prepare(self, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", too_late)
    reader, writer = await opened(house, mint("an"))
    assert await reader.read() == b""
    writer.close()
    await asyncio.sleep(0.01)
    assert len(times) == 1, "what has failed must not be answered with"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_does_not_read_is_cut_off(
    house: House, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "CLOSE_SECONDS", 0.2)
    reader, writer = await opened(house, mint("an"))
    await reader.readuntil(b"\r\n\r\n")
    (participant,) = house.sfu.rooms["ward"].participants.values()
    update = rtc.SignalResponse(
        update=rtc.ParticipantUpdate(participants=[models.ParticipantInfo(metadata="x" * 8000)])
    )
    for _ in range(3000):
        if participant.client is None:
            break
        participant.send(update)
        await asyncio.sleep(0)
    await asyncio.wait_for(house.signalling.closed(), 5)
    assert house.sfu.rooms["ward"].participants == {}
    writer.close()


async def test_our_own_fault_is_a_trace_for_us_and_a_bland_sentence_for_them(
    house: House, mint: MintToken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    async with await house.socket(mint("an")) as socket:
        await receive(socket)
        await receive(socket)
        monkeypatch.setattr(house.sfu, "message", broken)
        await socket.send_bytes(rtc.SignalRequest(leave=rtc.LeaveRequest()).SerializeToString())
        frames = []
        while (frame := await socket.receive(timeout=2)).type is WSMsgType.BINARY:
            frames.append(rtc.SignalResponse.FromString(frame.data))
        last = frames[-1]  # before it there may be a fresh token
        assert (last.leave.action, len(frames) <= 2) == (rtc.LeaveRequest.Action.RECONNECT, True)
        assert socket.close_code == 1011
        assert "secret" not in str(frame)
    assert "secret detail" in caplog.text
    assert house.sfu.rooms["ward"].participants == {}
