"""A signalling socket is cut in the middle of a call: how long until the other side decodes this person again?

A TCP relay stands between the client and the server's HTTP listener; the cut resets its connections and lets new ones
through at once. The client joins anew under the same identity and publishes again. The time ends with the first frames
of the new publication on the other side (a Chromium page that was not cut). Both clients, five runs each.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from benchmarks.results import record
from tests.lab.browser import Client, chromium, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import Server, running

RUNS = 5
# As a native application would: a client that lost its session completely joins and publishes again.
WATCH = "lab.eyes.get('cut')?.dataset.sid ?? null"


class Relay:
    """TCP to the server, until `cut`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, without a word of WebSocket or TLS."""
        for writer in self._writers:
            if writer.is_closing():
                continue
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def relayed(server: Server) -> AsyncIterator[tuple[Relay, Server]]:
    """The server as seen through a relay."""
    relay = Relay(server.port)
    await relay.start()
    try:
        yield relay, dataclasses.replace(server, port=relay.port)
    finally:
        await relay.stop()


async def main() -> None:
    javascript, python = [], []
    for run in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            async with running(Path(folder)) as server, chromium() as browser, chromium() as other:
                javascript.append(await cut_browser(server, browser, other))
                python.append(await cut_python(server, other))
        print(f"run {run + 1}/{RUNS}: JavaScript {javascript[-1]:.2f} s, Python {python[-1]:.2f} s", flush=True)
    record("bench.json", "socket_cut_javascript", javascript, "s", "<= 3")
    record("bench.json", "socket_cut_python", python, "s", "<= 3")


async def cut_browser(server: Server, browser: Browser, other: Browser) -> float:
    watcher = await Client.join(other, server, "javascript", "watcher")
    async with relayed(server) as (relay, through):
        client = await Client.join(browser, through, "javascript", "cut")
        await client.publish(colour="#208040", hertz=500)
        seconds = await _until_decoded_again(watcher, relay)
        await client.close()
    await watcher.close()
    return seconds


async def cut_python(server: Server, other: Browser) -> float:
    watcher = await Client.join(other, server, "python", "watcher")
    async with relayed(server) as (relay, through):
        client = LivekitClient()
        await client.join(through.ws, through.token("python", "cut", "doctor"))
        await client.publish(colour=(20, 90, 160), hertz=600)
        seconds = await _until_decoded_again(watcher, relay)
        await client.leave()
    await watcher.close()
    return seconds


async def _until_decoded_again(watcher: Client, relay: Relay) -> float:
    def moving(seen: dict[str, Any] | None) -> bool:
        return seen is not None and seen["frames"] > 10

    await until("the watcher decodes the client", lambda: watcher.seen("cut"), so=moving)
    before = await watcher.page.evaluate(WATCH)
    began = time.monotonic()
    relay.cut()
    while True:
        await asyncio.sleep(0.02)
        seen = await watcher.seen("cut")
        if await watcher.page.evaluate(WATCH) not in (None, before) and seen is not None and seen["frames"] >= 2:
            return time.monotonic() - began
        if time.monotonic() - began > 30:
            raise AssertionError("the client was not decoded again within 30 s")


if __name__ == "__main__":
    asyncio.run(main())
