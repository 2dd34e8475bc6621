"""Our HTTP connections beneath what is served on them: how long an answer may take to be read."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from d4e_sfu.drivers import http
from d4e_sfu.drivers.http import Discreet, http_log


async def test_an_answer_that_nobody_reads_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs a token to ask for the page, and who does not read it holds a connection, and what he is owed."""
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.2)
    ended = asyncio.Event()

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=bytes(8 << 20))

    class Watched(Discreet):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            ended.set()

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app, access_log=None, logger=http_log())
    await runner.setup()
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None
    listening = await loop.create_server(lambda: Watched(server, loop=loop, **server._kwargs), "127.0.0.1", 0)
    with socket.create_connection(listening.sockets[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await ended.wait()
    listening.close()
    await runner.cleanup()
