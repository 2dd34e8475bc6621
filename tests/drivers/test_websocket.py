"""permessage-deflate: what is agreed, what goes over the wire, what a hostile client gets; and what this leans on.

A client made of bytes says what no library would. That Chromium and the native client work is tests/e2e's.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
import inspect
import os
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web, web_ws
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.test_utils import TestServer

from d4e_sfu.drivers import websocket
from d4e_sfu.drivers.websocket import WORTH, DeflatingWebSocket, inflate, negotiate

MESSAGE, COMPRESSED = 1 << 20, 256 << 10
NO_TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
# An offer's text is like this: much of it again and again, some KiB apart.
TEXT = b"".join(b"a=rtpmap:%d VP8/90000\r\na=fmtp:%d apt=%d\r\n" % (n % 60, n % 60, n) for n in range(4000))


# --- what is agreed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", f"{NO_TAKEOVER}; server_max_window_bits=13"),
        (  # Chromium
            "permessage-deflate; client_max_window_bits",
            f"{NO_TAKEOVER}; server_max_window_bits=13; client_max_window_bits=13",
        ),
        (
            "permessage-deflate;server_max_window_bits=10 ; client_max_window_bits=9",
            f"{NO_TAKEOVER}; server_max_window_bits=10; client_max_window_bits=9",
        ),
        ('permessage-deflate; server_max_window_bits="15"', f"{NO_TAKEOVER}; server_max_window_bits=13"),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            f"{NO_TAKEOVER}; server_max_window_bits=13",
        ),
        ("x-webkit-deflate-frame, permessage-deflate", f"{NO_TAKEOVER}; server_max_window_bits=13"),
        (  # the first cannot be taken, the second can
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            f"{NO_TAKEOVER}; server_max_window_bits=13",
        ),
        ("", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; mux", None),
        ("permessage-deflate; =", None),
        ("permessage-deflate2", None),
        ("x, " * 100 + "permessage-deflate", None),
        ("permessage-deflate; " + "a" * 100_000, None),
        ("permessage-deflate; client_max_window_bits=" + "9" * 100_000, None),
    ],
)
def test_an_offer_is_answered_with_small_windows_and_nothing_kept(offer: str, answer: str | None) -> None:
    agreed = negotiate(offer)
    assert (agreed and agreed[1]) == answer
    if agreed is not None:
        assert f"server_max_window_bits={agreed[0]}" in agreed[1]


# --- inflating -------------------------------------------------------------------------------------------------------


def deflated(message: bytes, *, bits: int = 15, finish: bool = False) -> bytes:
    """As RFC 7692 §7.2.1 has it: without the empty block at its end."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -bits)
    if finish:  # §7.2.3.4: an ended stream, and a byte for the block that is left out
        return compressor.compress(message) + compressor.flush(zlib.Z_FINISH) + b"\0"
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


BOMB = deflated(bytes(64 << 20))


@pytest.mark.parametrize("message", [b"", b"x", TEXT, os.urandom(100_000)], ids=["empty", "one", "text", "noise"])
@pytest.mark.parametrize("bits", [9, 13, 15])
@pytest.mark.parametrize("finish", [False, True])
def test_what_was_deflated_comes_back(message: bytes, bits: int, finish: bool) -> None:
    assert inflate(deflated(message, bits=bits, finish=finish), MESSAGE) == message


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (deflated(b"\0" * (MESSAGE + 1)), 1009),
        (BOMB, 1009),
        (b"\xff" * 100, 1007),
        (deflated(b"x" * 100, finish=True) + b"more than that", 1007),
        (deflated(b"x", finish=True) * 1000, 1007),
    ],
    ids=["one byte more", "64 MiB", "garbage", "what follows", "many streams"],
)
def test_what_cannot_be_inflated_or_is_too_large_is_refused(message: bytes, code: int) -> None:
    with pytest.raises(aiohttp.WebSocketError) as refused:
        inflate(message, MESSAGE)
    assert refused.value.code == code


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    assert len(BOMB) < COMPRESSED
    tracemalloc.start()
    with pytest.raises(aiohttp.WebSocketError):
        inflate(BOMB, MESSAGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MESSAGE


# --- over the wire ---------------------------------------------------------------------------------------------------


@dataclass
class Echo:
    """A server that says everything again, and remembers what came."""

    port: int = 0
    sockets: list[DeflatingWebSocket] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        socket = DeflatingWebSocket(max_message=MESSAGE, max_compressed=COMPRESSED, heartbeat=10, timeout=1)
        await socket.prepare(request)
        assert request.transport is not None
        self.transports.append(request.transport)
        self.sockets.append(socket)
        async for frame in socket:
            if frame.type is WSMsgType.BINARY:
                self.heard.append(frame.data)
                await socket.send(frame.data)
            elif frame.type is WSMsgType.PING:
                await socket.pong(frame.data)
            elif frame.type is WSMsgType.TEXT:
                self.heard.append(frame.data.encode())
        return socket


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    echo, app = Echo(), web.Application()
    app.router.add_get("/", echo.serve)
    async with TestServer(app) as server:
        assert server.port is not None
        echo.port = server.port
        yield echo
        for transport in echo.transports:
            transport.abort()


@dataclass
class Raw:
    """A client of which every bit is ours."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: str = ""

    @classmethod
    async def open(cls, port: int, *, offer: str | None = "permessage-deflate", early: bytes = b"") -> Raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        extension = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
        key = base64.b64encode(b"k" * 16).decode()
        writer.write(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extension}"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            + early
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return cls(reader, writer, head)

    def send(self, payload: bytes, *, opcode: int = 2, rsv1: bool = True, fin: bool = True) -> None:
        self.writer.write(frame(payload, opcode=opcode, rsv1=rsv1, fin=fin))

    async def receive(self) -> tuple[int, bool, bytes]:
        """Opcode, whether it is compressed, and the payload."""
        first, second = await asyncio.wait_for(self.reader.readexactly(2), 5)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        assert first & 0x80, "we do not fragment"
        return first & 15, bool(first & 0x40), await self.reader.readexactly(length)

    async def closed(self) -> int:
        """The code, of the next frame that closes."""
        while True:
            opcode, _, payload = await self.receive()
            if opcode == 8:
                self.writer.close()
                return int.from_bytes(payload[:2], "big")


def frame(payload: bytes, *, opcode: int = 2, rsv1: bool = True, fin: bool = True) -> bytes:
    """RFC 6455 §5.2, masked with zeros."""
    first = fin << 7 | rsv1 << 6 | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


async def test_a_client_that_offers_nothing_gets_nothing() -> None:
    async with echo() as server:
        client = await Raw.open(server.port, offer=None)
        assert "Extensions" not in client.answer
        client.send(TEXT, rsv1=False)
        assert await client.receive() == (2, False, TEXT)
        client.send(deflated(TEXT))
        assert await client.closed() == 1002
    assert server.heard == [TEXT]


async def test_messages_are_compressed_both_ways_and_each_stands_alone() -> None:
    async with echo() as server:
        client = await Raw.open(server.port, offer="permessage-deflate; client_max_window_bits")
        assert "server_no_context_takeover; client_no_context_takeover" in client.answer
        for _ in range(3):
            client.send(deflated(TEXT, bits=13))
            opcode, compressed, payload = await client.receive()
            assert (opcode, compressed) == (2, True)
            assert len(payload) < len(TEXT) / 4
            # A new inflater with the small window reads each of them.
            assert zlib.decompressobj(-13).decompress(payload + b"\0\0\xff\xff") == TEXT
        client.send(b"not every message is compressed", rsv1=False)
        assert await client.receive() == (2, False, b"not every message is compressed")
        client.send(deflated(b"x" * (WORTH - 1)))
        assert await client.receive() == (2, False, b"x" * (WORTH - 1)), "not worth it"
        client.send(deflated(b"x" * WORTH))
        assert (await client.receive())[1]


async def test_between_two_messages_nothing_is_kept() -> None:
    async with echo() as server:
        client = await Raw.open(server.port)
        client.send(deflated(TEXT))
        await client.receive()
        (socket,) = server.sockets
        assert socket._writer is not None
        assert socket._writer._compressobj is None
        assert isinstance(socket._parser, websocket._Reading)
        assert socket._parser._pieces == b""
        assert not any(isinstance(value, type(zlib.decompressobj())) for value in vars(socket._parser).values())


async def test_a_message_may_come_in_pieces_with_pings_between_them_and_with_the_opening() -> None:
    whole = deflated(TEXT)
    pieces = [whole[at : at + 1000] for at in range(0, len(whole), 1000)]
    early = frame(pieces[0], fin=False)
    async with echo() as server:
        client = await Raw.open(server.port, early=early)
        for piece in pieces[1:-1]:
            client.send(b"still there?", opcode=9, rsv1=False)
            client.send(piece, opcode=0, rsv1=False, fin=False)
        client.send(pieces[-1], opcode=0, rsv1=False)
        for _ in pieces[1:-1]:
            assert await client.receive() == (10, False, b"still there?")
        assert (await client.receive())[1]
        client.send(b"plain, in ", rsv1=False, fin=False)
        client.send(b"pieces", opcode=0, rsv1=False)
        assert await client.receive() == (2, False, b"plain, in pieces")
    assert server.heard == [TEXT, b"plain, in pieces"]


NOISE = os.urandom(COMPRESSED + 1)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(deflated(b"\0" * (MESSAGE + 1))), 1009),
        (frame(BOMB), 1009),
        (frame(NOISE), 1009),
        (frame(NOISE[:200_000], fin=False) + frame(NOISE[:100_000], opcode=0, rsv1=False), 1009),
        (b"".join(frame(NOISE[:1000], opcode=2 * (not n), rsv1=not n, fin=False) for n in range(300)), 1009),
        (frame(bytes(MESSAGE + 1), rsv1=False)[:14], 1009),  # to say so is enough
        (frame(b"\xff" * 50), 1007),
        (frame(b"\xff" * 50, opcode=1), 1007),
        (frame(deflated(b"\xff"), opcode=1), 1007),
        (frame(b"a", fin=False) + frame(b"b"), 1002),
        (frame(b"a", fin=False) + frame(b"b", rsv1=False), 1002),
        (frame(b"a", opcode=0), 1002),
        (frame(b"a", fin=False) + frame(b"b", opcode=0), 1002),
    ],
    ids=[
        "a byte too many", "a bomb", "long as it comes", "long in two pieces", "long in many pieces", "long and plain",
        "garbage", "garbage as text", "text that is none", "two at once", "a plain one within",
        "an end without a beginning", "a piece that says it again",
    ],
)  # fmt: skip
async def test_what_is_too_large_or_wrong_closes_with_its_code(frames: bytes, code: int) -> None:
    async with echo() as server:
        client = await Raw.open(server.port)
        client.writer.write(frames)
        assert await client.closed() == code
    assert server.heard == []


async def test_who_keeps_his_window_all_the_same_is_not_understood() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, second = (compressor.compress(TEXT) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    async with echo() as server:
        client = await Raw.open(server.port)
        client.send(first.removesuffix(b"\0\0\xff\xff"))
        await client.receive()
        client.send(second.removesuffix(b"\0\0\xff\xff"))
        assert await client.closed() == 1007


async def test_a_read_full_of_bombs_that_just_fit_is_taken_one_by_one() -> None:
    """64 KiB hold sixty of them: what waits is bounded, whatever it inflates to."""
    bomb = frame(deflated(bytes(MESSAGE)))
    assert len(bomb) < 1100
    silent = Echo()
    done = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        socket = DeflatingWebSocket(max_message=MESSAGE, max_compressed=COMPRESSED, heartbeat=10, timeout=1)
        await socket.prepare(request)
        silent.sockets.append(socket)
        await done.wait()
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server:
        client = await Raw.open(server.port or 0)
        client.writer.write(bomb * 60)
        await asyncio.sleep(0.2)
        (socket,) = silent.sockets
        assert socket._reader is not None
        assert socket._reader._size < 2 * MESSAGE
        done.set()
        client.writer.close()


async def test_the_clients_of_aiohttp_understand_it() -> None:
    async with echo() as server, aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"http://127.0.0.1:{server.port}/", compress=15)
        for _ in range(3):
            await socket.send_bytes(TEXT)
            assert (await socket.receive(timeout=5)).data == TEXT
        assert socket.compress
        await socket.close()


# --- what it leans on ------------------------------------------------------------------------------------------------


def test_only_these_private_names_of_aiohttps_are_used() -> None:
    tree = ast.parse(Path(inspect.getfile(websocket)).read_text())
    ours = {name for each in (DeflatingWebSocket, websocket._Reading) for name in vars(each)}
    ours |= {"_max_compressed", "_limit", "_limit_compressed", "_pieces", "_open", "_head"}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    assert used - ours - {"__init__"} == {
        "_ws_protocol", "_writer", "_reset_heartbeat", "_loop", "_reader", "_parser", "_protocol",
        "_max_msg_size", "_on_data_received",
    }  # fmt: skip


def test_what_is_overridden_is_what_it_was() -> None:
    """`_post_start` is written anew here: read aiohttp's when it changes, and change ours with it."""
    source = inspect.getsource(web_ws.WebSocketResponse._post_start)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == "5537cb3f2ecae6ed"
    assert list(inspect.signature(web_ws.WebSocketResponse._handshake).parameters) == ["self", "request"]
    for statement in (
        "headers, protocol, compress, notakeover = self._handshake(request)",
        "self.headers.update(headers)",
    ):
        assert statement in inspect.getsource(web_ws.WebSocketResponse._pre_start)
    assert "self._post_start(request, protocol, writer)" in inspect.getsource(web_ws.WebSocketResponse.prepare)


def test_the_compiled_reader_asks_its_subclass_what_to_do_with_a_frame() -> None:
    """It is compiled, or a flood of small frames would cost ten times as much; and it still looks for an override."""
    assert WebSocketReader.__module__ == WebSocketDataQueue.__module__ == "aiohttp._websocket.reader_c"
    seen = []

    class Reader(WebSocketReader):  # type: ignore[misc, unused-ignore]
        def _handle_frame(self, fin: bool, opcode: int, payload: bytes | bytearray, compressed: int) -> None:
            seen.append((fin, opcode, bytes(payload), compressed))
            raise aiohttp.WebSocketError(1009, "")

    class Protocol:
        _reading_paused = False

    loop = asyncio.new_event_loop()
    queue = WebSocketDataQueue(Protocol(), 1000, loop=loop)  # type: ignore[arg-type]
    reader = Reader(queue, 1000, True, False)
    reader.feed_data(frame(b"x", fin=False) + frame(b"y", opcode=0, rsv1=False))
    assert seen == [(False, 2, b"x", True)], "and an error that it raises ends the reading"
    assert isinstance(queue.exception(), aiohttp.WebSocketError)
    loop.close()
