"""HTTP that two parsers may read differently, paths that lead out of the page, bodies without end: written byte by byte
at a real server. The second request of each is what must not be answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from livekit.protocol import rtc

from d4e_sfu.drivers.http import HTTP_PATIENCE
from d4e_sfu.drivers.pages import Pages
from tests.hostile.caller import Caller
from tests.hostile.test_openings import PATIENCE
from tests.hostile.test_signalling import cheapest, costing
from tests.lab.server import Server, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOP = Path(__file__).parents[2]
HOST = b"Host: localhost\r\n"
POST = b"POST /twirp/livekit.RoomService/ListRooms HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CANARY = b"s3cret-of-another"
SECOND = b"GET /?access_token=" + CANARY + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
# s of CPU until another is answered. The event loop reads up to 256 KiB at once, and the parser takes a whole read in
# one turn: 43,000 chunks of one byte are 80 ms of a slow core. What is quadratic in it takes seconds.
HOLD = 0.25


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("server")) as server:
        yield server


async def answers(server: Server, data: bytes, *, patience: float = 5.0) -> tuple[list[int], bytes]:
    """The status of every response until the connection ends, and all that came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    came = b""
    try:
        async with asyncio.timeout(patience):
            while more := await reader.read(1 << 16):
                came += more
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", came)], came


# --- smuggling (RFC 9112 §11.2) -------------------------------------------------------------------------------------

SMUGGLED = {
    "a length and chunks": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nabcde",
    "a length below nought": POST + b"Content-Length: -5\r\n\r\nabcde",
    "a length in hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "a length as Python writes it": POST + b"Content-Length: 1_0\r\n\r\nabcde12345",
    "a length beyond all": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabcde",
    "a length before a space": POST + b"Content-Length : 5\r\n\r\nabcde",
    "chunks before a space": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a vertical tab before it": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"/1.1", b"/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an extension with a bare LF": CHUNKED + b"5;a\nabcde\r\n0\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"+5\r\nabcde\r\n0\r\n\r\n",
    "a chunk's size with 0x": CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n",
    "a chunk's size as Python writes it": CHUNKED + b"1_0\r\nabcde\r\n0\r\n\r\n",
    "a chunk's size over 64 bits": CHUNKED + b"1" + b"0" * 15 + b"5\r\nabcde\r\n0\r\n\r\n",
    "chunks that end in LF": CHUNKED + b"5\nabcde\n0\n\n",
    "a chunk longer than it says": CHUNKED + b"5\r\nabcdeXX0\r\n\r\n",
    "lines that end in LF": b"POST /x HTTP/1.1\nHost: localhost\n\n",
    "one line that ends in LF": b"POST /x HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
    "a bare CR": b"GET /x HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n",
    "a folded line": b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a first line that is folded": b"GET /x HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "a space in the target": b"GET /x /y HTTP/1.1\r\n" + HOST + b"\r\n",
    "tabs for spaces": b"GET\t/x\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a version in small letters": b"GET /x http/1.1\r\n" + HOST + b"\r\n",
    "trailers without end": CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_could_be_read_in_two_ways_is_400_and_the_end(server: Server, name: str) -> None:
    before = len(server.lines)
    statuses, came = await answers(server, SMUGGLED[name] + SECOND)
    assert statuses == [400], "the second request is not one"
    assert CANARY not in came, "nor is it shown to the sender of the first"
    assert b"abcde" not in came
    assert len(server.lines) == before


async def test_a_second_request_that_is_one_is_answered(server: Server) -> None:
    """Without this the silence above would prove nothing."""
    first = POST + b"Content-Length: 5\r\n\r\nabcde"
    last = SECOND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    statuses, _ = await answers(server, first + last)
    assert len(statuses) == 2
    assert statuses[1] == 200


# --- ways out -------------------------------------------------------------------------------------------------------

OUTSIDE = [
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/assets/..;/secret.txt",
    "/assets/../../secret.txt",
    "/%252e%252e%252fsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%uff0e%uff0e/secret.txt",
    "/....//secret.txt",
    "/.%00./secret.txt",
    "/linked.txt",
    "/linked/secret.txt",
    "//etc/passwd",
    "/etc/passwd",
    "/file:///etc/passwd",
    "/assets/%00.js",
    "/index.html%00.txt",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_no_path_leads_out_of_the_page(tmp_path: Path, path: str) -> None:
    """Bytes on a socket, because client libraries tidy a path up before they send it."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (tmp_path / "secret.txt").write_text("s3cret")
    (folder / "linked.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path)
    app = aiohttp.web.Application()
    Pages(folder).setup(app)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for each, status in ((path, b"404"), ("/", b"200")):
            close = b"Connection: close\r\n" if each == "/" else b""
            writer.write(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (each.encode(), HOST, close))
            assert (await reader.readline()).split()[1] == status, each
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length
            assert b"s3cret" not in await reader.readexactly(int(length[1]))
        writer.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", ["/metrics", "/debug", "/debug/rooms", "/debug/rooms/ward", "/healthz", "/readyz"])
async def test_what_is_the_operators_is_not_on_the_public_listener(server: Server, path: str) -> None:
    request = b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (path.encode(), HOST)
    statuses, came = await answers(server, request)
    assert statuses == [404]
    assert b"d4e_sfu" not in came
    await server.get(path if path != "/debug/rooms/ward" else "/debug/rooms")  # there it is


# --- bodies ---------------------------------------------------------------------------------------------------------

FLOODS = {
    "chunks of one byte": CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    "extensions without end": CHUNKED + b"1;" + b"x" * 600_000,
    "many parts": POST
    + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 600000\r\n\r\n"
    + (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' * 12_000)[:600_000],
    "half a million spaces": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b" " * 500_000,
    "many small headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"a%d:\r\n" % n for n in range(60_000)) + b"\r\n",
    "one cookie after the other": b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a=b;" * 30_000 + b"\r\n\r\n",
    "pipelined without waiting": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n") * 400,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_in_one_request_holds_up_nobody(server: Server, name: str) -> None:
    """The faults of HTTP parsers that were found one by one (CVE-2025-69228, -69229, CVE-2026-22815), as one measure:
    how much CPU goes by until another's ping is answered."""

    async def flooded() -> float:
        async with Caller.join(server, "ward", "bystander") as bystander:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

            async def pour() -> None:
                for at in range(0, len(FLOODS[name]), 1 << 14):
                    writer.write(FLOODS[name][at : at + (1 << 14)])
                    await writer.drain()

            pouring = asyncio.gather(pour(), return_exceptions=True)
            reading = asyncio.ensure_future(reader.read())
            worst = 0.0
            for _ in range(10):
                async with costing(server) as cost:
                    await bystander.signalling.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
                    await bystander.receive("pong")
                worst = max(worst, cost.seconds)
                await asyncio.sleep(0.01)
            pouring.cancel()
            reading.cancel()
            writer.close()
        return worst

    assert await cheapest(flooded, HOLD) < HOLD


@pytest.mark.long
async def test_a_body_that_drips_is_not_waited_for_for_ever(server: Server) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(POST + b"Content-Length: 1000\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.5)

    dripping = asyncio.ensure_future(drip())
    try:
        async with asyncio.timeout(PATIENCE + HTTP_PATIENCE):
            while await reader.read(1024):
                pass
    except ConnectionError:
        pass
    finally:
        dripping.cancel()
        writer.close()
    assert loop.time() - began < PATIENCE + HTTP_PATIENCE


async def test_the_pinned_parser_is_younger_than_its_known_faults() -> None:
    """3.13.4 has mended all of them."""
    pinned = re.search(r"^aiohttp==(\d+)\.(\d+)\.(\d+)", (TOP / "requirements/runtime.txt").read_text(), re.MULTILINE)
    assert pinned
    assert tuple(map(int, pinned.groups())) >= (3, 13, 4)
