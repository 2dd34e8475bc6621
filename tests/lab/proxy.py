"""An HTTP proxy that tunnels (RFC 9110 §9.3.6, CONNECT), as hospitals have between their network and the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[list[str]]:
    """Listens there until the end of the block; yields the targets that it was asked for, as they come."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            method, target, _ = (await reader.readuntil(b"\r\n")).decode().split(" ", 2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            if method != "CONNECT":
                writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                return
            asked.append(target)
            there, _, number = target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(there.strip("[]"), int(number))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, host, port)
    try:
        yield asked
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()
