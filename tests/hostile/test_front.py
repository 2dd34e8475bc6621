"""TCP 443: callers by ICE-TCP and by TURN over TLS, browsers' HTTPS on the same port, and what is refused there."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aioice import stun
from aioice.turn import create_turn_endpoint

from d4e_sfu.core.turn import Turn
from d4e_sfu.drivers import certificates
from tests.hostile.caller import Caller
from tests.lab.server import Server, running
from tests.lab.stream import HOST, Framed, Relayed, Way, anyone

FRONT = "d4e_sfu_front"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, front=True) as server:
        yield server


async def opened(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, server.port)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the end, which comes."""
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def until(server: Server, metric: str, **labels: str) -> float:
    """Its value, once it is not nought: the front tells twice a second."""
    async with asyncio.timeout(30):
        while not (value := await server.metric(metric, **labels)):
            await asyncio.sleep(0.1)
    return value


@pytest.mark.parametrize("way", [Framed, Relayed])
async def test_a_caller_connects_through_the_one_tcp_port(server: Server, way: type[Way]) -> None:
    async with Caller.join(server, "ward", "an", way()) as caller:
        await caller.connect()
        kind = "ice" if way is Framed else "turn"
        assert await until(server, f"{FRONT}_connections", kind=kind) == 1
        # His signalling came by the same port.
        assert await until(server, f"{FRONT}_connections", kind="http") >= 1


async def test_turn_needs_credentials_that_are_good_and_of_this_server(server: Server) -> None:
    async with Caller.join(server, "ward", "an", Relayed()) as caller:
        await caller.check()
        offered = Turn(host="localhost", ports=(443,), secret=secrets.token_bytes(32))
        name, password = offered.credentials("PA_x", expires=time.time() + 60)
        with pytest.raises(stun.TransactionFailed) as refused:
            await create_turn_endpoint(
                asyncio.DatagramProtocol, (HOST, server.port), name, password, ssl=anyone(), transport="tcp"
            )
        assert refused.value.response.attributes["ERROR-CODE"][0] == 401


async def test_turn_relays_to_our_media_address_and_to_nothing_else(server: Server) -> None:
    way = Relayed()
    async with Caller.join(server, "ward", "an", way) as caller:
        await caller.check()
        inner = way.transport._TurnTransport__inner_protocol  # type: ignore[attr-defined]
        others = ["0.0.0.0", "127.0.0.2", "192.168.1.1", "169.254.169.254"]
        ports = [server.port, server.admin_port, 22]
        for number, peer in enumerate([*((each, server.media_port) for each in others), *((HOST, p) for p in ports)]):
            with pytest.raises(stun.TransactionFailed) as refused:
                await inner.channel_bind(0x4100 + number, peer)
            assert refused.value.response.attributes["ERROR-CODE"][0] == 403, peer
        for peer in [("::1", server.media_port), ("::ffff:127.0.0.1", server.media_port)]:
            with pytest.raises(stun.TransactionFailed) as refused:
                await inner.channel_bind(0x4200, peer)
            assert refused.value.response.attributes["ERROR-CODE"][0] in (403, 443), peer
        await caller.connect()  # and he is still let through to where he may go


async def test_what_is_neither_is_refused_by_name(server: Server) -> None:
    for sent, why in [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unknown_protocol"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plain_http"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "tls_failed"),
    ]:
        reader, writer = await opened(server)
        writer.write(sent)
        await ended(reader)
        assert await until(server, f"{FRONT}_refused_total", reason=why) == 1
        writer.close()
    # Behind TLS the first bytes decide again.
    reader, writer = await asyncio.open_connection(HOST, server.port, ssl=anyone())
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await ended(reader)
    async with asyncio.timeout(30):
        while await server.metric(f"{FRONT}_refused_total", reason="unknown_protocol") < 2:
            await asyncio.sleep(0.1)
    writer.close()


async def test_the_clients_address_counts_and_no_header_of_his_does(tmp_path: Path) -> None:
    rates = {"address": {"per_second": 0.01, "burst": 2}}
    async with running(tmp_path, front=True, config={"rates": rates}) as server:
        url = f"https://{HOST}:{server.port}/rtc/validate"

        async def ask(address: str) -> int:
            connector = aiohttp.TCPConnector(ssl=False, local_addr=(address, 0), force_close=True)
            async with aiohttp.ClientSession(connector=connector) as http:
                headers = {"X-Forwarded-For": f"192.0.2.{secrets.randbelow(250)}"}
                async with http.get(url, headers=headers) as response:
                    return response.status

        # The rate of new connections is the same setting: two of each address.
        assert [await ask("127.0.0.1") for _ in range(2)] == [401, 401]
        with pytest.raises(aiohttp.ClientError):
            await ask("127.0.0.1")
        assert [await ask("127.0.0.2") for _ in range(2)] == [401, 401]
        assert await until(server, f"{FRONT}_refused_total", reason="too_often") == 1


async def test_requests_on_one_connection_are_counted_by_its_address(server: Server) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        async with http.get(f"https://{HOST}:{server.port}/") as response:
            assert response.status == 200
            assert "Strict-Transport-Security" in response.headers, "it was HTTPS"
            body = await response.read()
        assert b"<!doctype html>" in body.lower()
        async with http.post(f"https://{HOST}:{server.port}/whip/ward", data=b"x" * 300_000) as response:
            assert response.status in (401, 413, 415)


async def test_a_certificate_is_replaced_while_it_serves(server: Server, tmp_path: Path) -> None:
    def seen() -> bytes:
        context = anyone()
        with socket.create_connection((HOST, server.port)) as one, context.wrap_socket(one) as secured:
            found = secured.getpeercert(binary_form=True)
            assert found is not None
            return found

    before = await asyncio.to_thread(seen)
    reader, writer = await asyncio.open_connection(HOST, server.port, ssl=anyone())
    for name in ("development.crt", "development.key"):
        (server.folder / name).unlink()
    certificates.development(server.folder, ["other.example"])
    async with asyncio.timeout(30):
        while await asyncio.to_thread(seen) == before:
            await asyncio.sleep(0.2)
    writer.write(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1.1 200", await ended(reader)), "who was connected notices nothing"
    writer.close()


@pytest.mark.long
async def test_who_asks_for_the_page_and_does_not_read_it_is_gone_in_half_a_minute(server: Server) -> None:
    """He needs no token, and with each such connection he holds one of those that there are for everybody."""
    page = await asyncio.to_thread(_read, f"https://{HOST}:{server.port}/")
    (script,) = re.findall(r'src="\.?(/assets/[^"]+\.js)"', page)

    def ask() -> ssl.SSLSocket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((HOST, server.port))
        secured = anyone().wrap_socket(one)
        # Again and again: one of it finds room in the kernel.
        secured.sendall(f"GET {script} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 40)
        return secured

    began = time.monotonic()
    deaf = [await asyncio.to_thread(ask) for _ in range(3)]
    async with asyncio.timeout(45):
        while await server.metric(f"{FRONT}_refused_total", reason="slow") < len(deaf):
            await asyncio.sleep(0.5)
    assert time.monotonic() - began > 25, "a slow link is given its time"
    for each in deaf:
        each.close()


def _read(url: str) -> str:
    with urllib.request.urlopen(url, context=anyone()) as answer:
        return str(answer.read().decode())


async def test_half_a_handshake_and_none_end_in_time(server: Server) -> None:
    silent, _ = await opened(server)
    half, writer = await opened(server)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    began = time.monotonic()
    await asyncio.gather(ended(silent), ended(half))
    assert time.monotonic() - began < 25
    assert await until(server, f"{FRONT}_refused_total", reason="slow") == 2
