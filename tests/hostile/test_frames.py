"""WebSocket frames that RFC 6455 forbids, or that never end, written byte by byte by someone who was let in: the close
code that they come to, what they cost, and that the one beside him notices nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from struct import pack, unpack
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from livekit.protocol import rtc

from tests.drivers.test_signal import upgrade
from tests.hostile.caller import Caller, wrapped
from tests.hostile.test_openings import resident
from tests.hostile.test_signalling import HOLD, cheapest, costing, offer
from tests.lab.server import Server, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
# aiohttp parses in one go what one read has brought: at most 256 KiB, of which forty thousand frames can be made.
FLOOD_HOLD = 5 * HOLD  # 70 ms of a slow core when nothing else runs
PROTOCOL, TOO_BIG = 1002, 1009
MASK = b"mask"
END, CONTINUATION, TEXT, BINARY, CLOSE, PING = 0x80, 0, 1, 2, 8, 9


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def frame(first: int, payload: bytes = b"", *, claimed: int | None = None, masked: bool = True) -> bytes:
    """RFC 6455 §5.2; `claimed` is the length that it says, if not the real one."""
    length = len(payload) if claimed is None else claimed
    bit = 0x80 if masked else 0
    if length < 126:
        head = pack("!BB", first, bit | length)
    elif length < 1 << 16:
        head = pack("!BBH", first, bit | 126, length)
    else:
        head = pack("!BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    mask = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + MASK + hidden.to_bytes(len(payload), "big")


def fragments(size: int, count: int) -> bytes:
    """A message that goes on and on."""
    return frame(BINARY, bytes(size)) + frame(CONTINUATION, bytes(size)) * (count - 1)


BAD: dict[str, tuple[bytes, int | None]] = {
    "compressed, though nobody agreed to that": (frame(END | 0x40 | BINARY, b"x" * 1000), PROTOCOL),
    "a reserved bit": (frame(END | 0x10 | BINARY, b"x"), PROTOCOL),
    "another reserved bit": (frame(END | 0x20 | BINARY, b"x"), PROTOCOL),
    "an unknown opcode": (frame(END | 3, b"x"), PROTOCOL),
    "an unknown control opcode": (frame(END | 11, b"x"), PROTOCOL),
    "a control frame in pieces": (frame(PING, b"x"), PROTOCOL),
    "a control frame of 126 bytes": (frame(END | PING, b"x" * 126), PROTOCOL),
    "a continuation of nothing": (frame(END | CONTINUATION, b"x"), PROTOCOL),
    "a message within a message": (frame(BINARY, b"x") + frame(END | BINARY, b"x"), PROTOCOL),
    "a length of 2^62": (frame(END | BINARY, b"x", claimed=1 << 62), TOO_BIG),
    "a length just over the cap": (frame(END | BINARY, b"x", claimed=(1 << 20) + 1), TOO_BIG),
    "fragments without end": (fragments(60_000, 40), TOO_BIG),
    "a close code that is none": (frame(END | CLOSE, pack("!H", 999)), PROTOCOL),
    "no mask": (frame(END | BINARY, b"x", masked=False), PROTOCOL),
    "text that is none": (frame(END | TEXT, b"\xff\xfe"), 1007),
}


async def told(reader: asyncio.StreamReader) -> int | None:
    """The code of the server's close frame; None where it ends the connection without one."""
    try:
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                (length,) = unpack("!H", await reader.readexactly(2))
            elif length == 127:
                (length,) = unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(length)
            if first == END | CLOSE:
                return int(unpack("!H", payload[:2])[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


@asynccontextmanager
async def upgraded(server: Server, identity: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    query = urlencode({"access_token": server.token("ward", identity), "join_request": wrapped(offer())})
    headers = "".join(f"{key}: {value}\r\n" for key, value in upgrade("/rtc/v1").items())
    writer.write(f"GET /rtc/v1?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("name", BAD)
async def test_a_forbidden_frame_is_a_close_code_and_costs_little(server: Server, name: str) -> None:
    data, code = BAD[name]
    async with Caller.join(server, "ward", "bystander") as bystander, upgraded(server, "an") as (reader, writer):
        async with costing(server) as cost, asyncio.timeout(10):
            writer.write(data)
            assert await told(reader) == code
        assert cost.seconds < HOLD
        await bystander.signalling.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        await bystander.receive("pong")


@pytest.mark.parametrize(
    ("name", "flood"),
    [
        ("pings", [frame(END | PING, b"x" * 125)] * 20_000),
        ("pieces of one byte", [frame(BINARY, b"x")] + [frame(CONTINUATION, b"x")] * 200_000),
        ("empty pieces", [frame(BINARY)] + [frame(CONTINUATION)] * 200_000),
        ("empty messages", [frame(END | BINARY)] * 200_000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_flood_of_small_frames_does_not_hold_up_the_one_beside(
    server: Server, name: str, flood: Iterable[bytes]
) -> None:
    """Whatever becomes of him: pings of another are answered all the while."""
    data = b"".join(flood)

    async def pour(writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(data), 1 << 14):
            writer.write(data[at : at + (1 << 14)])
            await writer.drain()
            await asyncio.sleep(0.001)

    async def flooded() -> float:
        """CPU seconds for which the bystander's ping waited, at worst."""
        async with Caller.join(server, "ward", "bystander") as bystander, upgraded(server, "an") as (_, writer):
            pouring = asyncio.create_task(pour(writer))
            worst = 0.0
            while not pouring.done():
                async with costing(server) as cost:
                    await bystander.signalling.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
                    await bystander.receive("pong")
                worst = max(worst, cost.seconds)
                await asyncio.sleep(0.01)  # he is no flood himself
            assert pouring.exception() is None or isinstance(pouring.exception(), ConnectionError)
        assert worst > 0
        return worst

    assert await cheapest(flooded) < FLOOD_HOLD


async def test_messages_that_are_never_finished_hold_no_more_than_their_cap(server: Server) -> None:
    """Almost a mebibyte each, in pieces of a kilobyte, so that what is kept for each piece would show."""
    people, size, count = 10, 1_000, 1_000
    async with contextlib.AsyncExitStack() as stack:
        writers = [(await stack.enter_async_context(upgraded(server, f"p{n}")))[1] for n in range(people)]
        before = resident(server)
        for writer in writers:
            writer.write(fragments(size, count))
            await writer.drain()
        async with Caller.join(server, "ward", "bystander") as bystander:
            for _ in range(3):
                await bystander.signalling.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
                await bystander.receive("pong")
                await asyncio.sleep(0.1)
        assert resident(server) - before < people * 2 * size * count
