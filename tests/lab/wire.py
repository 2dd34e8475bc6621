"""A TCP connection that can be cut: a relay on loopback before the server's HTTP, for signalling that is lost and
regained. Media does not go this way (relay.py is for that).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.lab.server import Server


class Wire:
    """Every connection through it is another one to the server."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cuts = 0
        self.dead = False
        """New connections are refused as well."""

    def cut(self) -> None:
        """All connections end at once, on both sides, without a word."""
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()

    @property
    def connections(self) -> int:
        """Each has two ends."""
        return len(self._open) // 2

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dead:
            writer.transport.abort()
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        ends = {writer, to_writer}
        self._open |= ends
        try:
            await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def wired(server: Server) -> AsyncIterator[tuple[Wire, Server]]:
    """The wire, and the same server as whoever is behind the wire sees it."""
    wire = Wire(server.port)
    listening = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = listening.sockets[0].getsockname()[1]
    try:
        yield wire, dataclasses.replace(server, port=wire.port)
    finally:
        listening.close()
        wire.cut()
