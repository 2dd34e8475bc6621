"""Every bad token of the core's table at every door that takes one: 401 and one of three sentences, in bounded time."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web

from d4e_sfu.core import tokens
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.http import Discreet, http_log
from d4e_sfu.drivers.roomservice import ServerApi
from d4e_sfu.drivers.signal import MAX_LINE, Signalling
from d4e_sfu.drivers.whip import Whip
from tests.core.test_tokens import CONFIG, NOW, REFUSED, claims, sign
from tests.doubles import EngineDouble, sfu_on

SENTENCES = {"expired": tokens.EXPIRED, "not_before": tokens.NOT_YET_VALID}
SECONDS = 0.5  # for one, on a machine that is busy; the median is a hundredth of it
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: a2tra2tra2tra2tra2traw==\r\n"
)
DOORS = {
    "upgrade, query": ("GET", "/rtc/v1?access_token={}&join_request=CgA", UPGRADE),
    "validate, query": ("GET", "/rtc/v1/validate?access_token={}", ""),
    "upgrade, header": ("GET", "/rtc/v1?join_request=CgA", UPGRADE + "Authorization: Bearer {}\r\n"),
    "validate, header": ("GET", "/rtc/v1/validate", "Authorization: Bearer {}\r\n"),
    "server API": ("POST", "/twirp/livekit.RoomService/ListRooms", "Authorization: Bearer {}\r\n"),
    "WHIP": ("POST", "/whip/clinic", "Content-Type: application/sdp\r\nAuthorization: Bearer {}\r\n"),
    "WHEP": ("POST", "/whep/clinic", "Content-Type: application/sdp\r\nAuthorization: Bearer {}\r\n"),
    "WHIP session": ("DELETE", "/whip/clinic/session", "Authorization: Bearer {}\r\n"),
}


@pytest_asyncio.fixture
async def house() -> AsyncIterator[tuple[int, Sfu]]:
    """All doors behind our HTTP, at the table's time of day."""
    sfu = sfu_on(EngineDouble(), CONFIG)
    entrance, app = Entrance(CONFIG, clock=lambda: 0.0), web.Application()
    for door in (Whip, Signalling, ServerApi):
        door(sfu, entrance, wall=lambda: NOW).setup(app)
    runner = web.AppRunner(
        app, max_line_size=MAX_LINE, max_field_size=MAX_LINE, access_log=None, logger=http_log(), shutdown_timeout=0.1
    )
    await runner.setup()
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None
    listening = await loop.create_server(lambda: Discreet(server, loop=loop, **server._kwargs), "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1], sfu
    listening.close()
    await runner.cleanup()


async def ask(port: int, door: str, token: str) -> tuple[int, str, float]:
    """Status, what it says, and how long it took."""
    method, target, headers = DOORS[door]
    written = quote(token.encode("utf-8", "surrogatepass"), safe="") if "{}" in target else token
    request = f"{method} {target.format(written)} HTTP/1.1\r\nHost: x\r\n{headers.format(written)}"
    request += "Content-Length: 0\r\n\r\n" if method == "POST" else "\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(request.encode("utf-8", "surrogatepass"))
    try:
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", answer)
            answer += await reader.readexactly(int(length[1])) if length else b""
    except ConnectionResetError:
        # A megabyte is not read to its end: TCP tells the writer so, and may drop the answer over it (RFC 9112 §9.6).
        assert len(token) > MAX_LINE
        answer = f"HTTP/1.0 401 \r\n\r\n{tokens.NOT_ACCEPTED}".encode()
    took = time.perf_counter() - began
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    text = body
    if "application/json" in head:
        text = json.loads(body)["msg"]
    elif "application/problem+json" in head:
        text = json.loads(body)["detail"]
    return int(head.split(" ")[1]), text, took


@pytest.mark.parametrize("door", DOORS)
async def test_a_bad_token_gets_401_and_one_of_three_sentences_at_every_door(house: tuple[int, Sfu], door: str) -> None:
    port, sfu = house
    times = []
    for name, token, rule in REFUSED:
        in_header = "{}" in DOORS[door][2]
        if in_header and not (token.isascii() and token.isprintable() and token):
            continue  # no header can carry it
        status, text, took = await ask(port, door, token)
        assert status == 401, (name, status, text)
        assert text == SENTENCES.get(rule, tokens.NOT_ACCEPTED), name
        times.append(took)
    assert len(times) >= 40
    assert sfu.rooms == {}
    assert max(times) < SECONDS, times
    middle, worst = statistics.median(times) * 1000, max(times) * 1000
    print(f"{door}: {len(times)} cases, median {middle:.1f} ms, at most {worst:.0f} ms")


async def test_a_megabyte_for_a_token_is_answered_before_it_is_read(house: tuple[int, Sfu]) -> None:
    """As above, for a client that reads while it writes."""
    port, _ = house
    for line in (b"GET /rtc/v1/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ", b"GET /rtc/v1?access_token="):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line + b"x" * (MAX_LINE + 1))
        answer = await asyncio.wait_for(reader.read(4096), 10)
        assert answer.startswith(b"HTTP/1.0 401 "), answer
        assert answer.endswith(tokens.NOT_ACCEPTED.encode()), answer
        writer.close()


@pytest.mark.parametrize("door", DOORS)
async def test_a_good_token_is_no_matter_of_the_token(house: tuple[int, Sfu], door: str) -> None:
    """So that the table above is of what it says: a token that is right is not answered by 401."""
    status, _, _ = await ask(house[0], door, sign(claims(d4e={"role": "doctor"})))
    assert status != 401
