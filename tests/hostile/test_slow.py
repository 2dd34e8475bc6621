"""Everything slow and everything in floods at once over HTTP, beside a call of two people who are not concerned."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import models, rtc

from tests.doubles import Description
from tests.hostile.bystanders import bystanders
from tests.hostile.caller import Caller
from tests.lab.server import Server

EACH = 20  # of every kind
HEADERS, BODIES = 10.0, 5.0  # s; what a head and a body are given
LATE = 5.0  # the machine may be busy
# A call of two is in it, and 8 MiB of burst that one reader may owe; 160 connections of 64 KiB are 10 MiB.
MEMORY = 96 << 20
FLOOD = 300

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def lifetime(server: Server, write: Write) -> tuple[float, bytes]:
    """How long the server took part in it, and what it answered first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writing = asyncio.ensure_future(write(writer))
    began, answer = time.monotonic(), b""
    try:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(4096):
                answer = answer or piece
        return time.monotonic() - began, answer
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await writing
        writer.close()


async def slow_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /whip/ward HTTP/1.1\r\nHost: x\r\nX-Patience: ")
    await drip(writer)


def slow_body(target: str, token: str, content_type: str) -> Write:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: 5000\r\n\r\nv=0".encode()
        )
        await drip(writer)

    return write


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.5)


def smuggle(token: str) -> Write:
    """Two lengths, and behind the shorter one a request of somebody else's (RFC 9112 §11.2)."""

    async def write(writer: asyncio.StreamWriter) -> None:
        hidden = f"DELETE /whip/ward/session HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(
            f"POST /whip/ward HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}".encode()
        )

    return write


async def floods(server: Server) -> None:
    """Rooms that are opened and left, tracks without end, and candidates by the thousand."""
    async with Caller.join(server, "ward", "flood") as caller:
        for number in range(FLOOD):
            track = rtc.AddTrackRequest(
                cid=f"{number}", type=models.TrackType.AUDIO, source=models.TrackSource.MICROPHONE
            )
            candidate = rtc.TrickleRequest(candidateInit='{"candidate":"","sdpMid":"0","sdpMLineIndex":0}' * 10)
            for request in (rtc.SignalRequest(add_track=track), rtc.SignalRequest(trickle=candidate)):
                with contextlib.suppress(ConnectionError):
                    await caller.signalling.send_bytes(request.SerializeToString())
    async with aiohttp.ClientSession() as http:
        for number in range(FLOOD // 3):
            token = server.token(f"room-{number}", "flood", "doctor")
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
            offer = _offer()
            async with http.post(f"{server.url}/whip/room-{number}", data=offer, headers=headers) as made:
                if made.status == 201 and number % 2:
                    url, headers = server.url + made.headers["Location"], {"Authorization": headers["Authorization"]}
                    async with http.delete(url, headers=headers) as ended:
                        assert ended.status == 200


def _offer() -> str:
    description = Description("flood", audios=0, videos=0)
    description.sections.clear()
    description.publish("audio", "microphone")
    return description.sdp()


def resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.long
async def test_all_that_is_slow_and_all_that_comes_in_floods_costs_a_bystanders_call_nothing(server: Server) -> None:
    token = server.token("ward", "eve", "doctor")
    sdp, json = "application/sdp", "application/json"
    kinds: dict[str, tuple[Write, float]] = {
        "head": (slow_head, HEADERS),
        "WHIP": (slow_body("/whip/ward", token, sdp), BODIES),
        "WHEP": (slow_body("/whep/ward", token, sdp), BODIES),
        "server API": (slow_body("/twirp/livekit.RoomService/RemoveParticipant", token, json), BODIES),
        "smuggled": (smuggle(token), HEADERS),
    }
    async with bystanders(server):
        before = resident(server)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(EACH):  # of whom nobody reads
                await stack.enter_async_context(Caller.join(server, "ward", f"deaf-{number}"))
            running = {
                name: [asyncio.create_task(lifetime(server, write)) for _ in range(EACH)]
                for name, (write, _) in kinds.items()
            }
            await floods(server)
            async with asyncio.timeout(HEADERS + 2 * LATE):
                ended = {name: await asyncio.gather(*tasks) for name, tasks in running.items()}
            grown = resident(server) - before
        for name, (_, patience) in kinds.items():
            assert max(seconds for seconds, _ in ended[name]) < patience + LATE, name
        answers = {name: {answer[:12] for _, answer in ended[name]} for name in kinds}
        assert answers["WHIP"] == answers["WHEP"] == answers["server API"] == {b"HTTP/1.1 400"}, answers
        assert answers["smuggled"] == {b"HTTP/1.0 400"}, answers
        assert grown < MEMORY, f"{grown >> 20} MiB"
        print(
            {name: f"{max(seconds for seconds, _ in each):.1f} s" for name, each in ended.items()}, f"{grown >> 20} MiB"
        )
