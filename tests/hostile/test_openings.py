"""Connections that are opened and come to nothing: silent ones, headers that never end, openings of WebSockets without
a token. They are ended in time, cost little, and nobody who joins meanwhile waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from d4e_sfu.drivers import certificates
from d4e_sfu.drivers.http import HTTP_PATIENCE
from tests.hostile.caller import Caller
from tests.lab.server import Server, free_ports, running

EACH = 50  # of four kinds: two hundred
PATIENCE = HTTP_PATIENCE + 5.0  # the machine may be busy
OPENING = b"GET /rtc/v1?access_token=x HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: a2tra2tra2tra2tra2traw==\r\n"
MEMORY = 64 * 1024  # bytes for each

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connects, and says nothing."""


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half of an opening, and nothing more."""
    writer.write(OPENING + UPGRADE)


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header that grows by a byte a second and never ends."""
    writer.write(OPENING + b"X-Patience: ")
    while True:
        writer.write(b"x")
        await asyncio.sleep(1)


async def unauthenticated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A whole opening without a right to it; the refusal is read, and the connection kept."""
    writer.write(OPENING + UPGRADE + KEY + b"\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 40"), answer


async def lifetime(port: int, act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> float:
    """Seconds until the server ended it."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    acting = asyncio.ensure_future(act(reader, writer))
    try:
        if act is unauthenticated:
            await acting
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        return time.monotonic() - began
    finally:
        acting.cancel()
        writer.close()


def resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


NO_HTTP = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "a method that is none": b"GE\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "a header without a name": OPENING + b": x\r\n\r\n",
    "a NUL in a header": OPENING + b"X: a\x00b\r\n\r\n",
    "a header without end": OPENING + b"X: " + b"x" * (1 << 18) + b"\r\n\r\n",
    "headers without end": OPENING + b"".join(b"X%d: x\r\n" % n for n in range(20_000)) + b"\r\n",
    "a line without end": b"GET /rtc/v1?join_request=" + b"s3cret" * (1 << 16) + b" HTTP/1.1\r\n\r\n",
    "two lengths": OPENING + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length and chunks": OPENING + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


async def test_what_is_no_http_is_refused_and_leaves_nothing_in_the_log(server: Server) -> None:
    """Of a token least of all; that there is no trace is the fixture's to see."""
    await server.get("/healthz")
    lines = len(server.lines)
    for name, data in NO_HTTP.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        async with asyncio.timeout(5):
            status = await reader.readline()
        assert status.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), (name, status)
        writer.close()
    await server.get("/healthz")
    assert len(server.lines) == lines, server.lines[lines:]


async def test_two_hundred_openings_that_come_to_nothing_hold_up_nobody(server: Server) -> None:
    async with Caller.join(server, "ward", "first") as caller:
        await caller.connect()
    before = resident(server)
    kinds = (silent, half, dripping, unauthenticated)
    opened = [asyncio.create_task(lifetime(server.port, kind)) for _ in range(EACH) for kind in kinds]
    try:
        await asyncio.sleep(1)
        assert not any(each.done() for each in opened), "all of them are held, so this is the worst of it"
        assert resident(server) - before < len(opened) * MEMORY
        async with asyncio.timeout(2), Caller.join(server, "ward", "someone") as caller:
            await caller.connect()
        async with asyncio.timeout(PATIENCE):
            lifetimes = await asyncio.gather(*opened)
    finally:
        for each in opened:
            each.cancel()
    assert min(lifetimes) > HTTP_PATIENCE - 1, "a slow link is given its time"


@pytest.mark.long
async def test_a_client_that_is_silent_in_its_tls_handshake_is_gone_as_soon(tmp_path: Path) -> None:
    certificates.development(tmp_path, ["127.0.0.1"])
    (tls_port,) = free_ports(socket.SOCK_STREAM, 1)
    http = {
        "listeners": [{"address": "127.0.0.1", "port": tls_port, "tls": True}],
        "tls": {"certificate": "development.crt", "key": "development.key"},
    }
    async with running(tmp_path, config={"http": http}) as server:
        async with asyncio.timeout(PATIENCE):
            assert await lifetime(tls_port, silent) > HTTP_PATIENCE - 1
        await server.get("/readyz")
