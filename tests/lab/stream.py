"""Ways to the media port for who can reach nothing but one TCP port: ICE-TCP (RFC 6544, RFC 4571) spoken here, and TURN
over TLS by aioice's client. By UDP a caller comes otherwise (`tests.hostile.caller.Socket`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import struct
from typing import TYPE_CHECKING

from aioice.turn import create_turn_endpoint

if TYPE_CHECKING:
    from aioice.turn import TurnTransport
    from livekit.protocol import rtc

    from tests.lab.server import Server

HOST = "127.0.0.1"


def anyone() -> ssl.SSLContext:
    """A client of TLS that asks nobody who the server is: its certificate was made for the test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Way:
    """What comes in, sorted by its first byte (RFC 7983) and counted."""

    role, state = "controlling", "completed"  # what stock aiortc asks of an ICE transport

    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.dtls: asyncio.Queue[bytes] = asyncio.Queue()
        self.bytes_received = 0

    async def open(self, server: Server, join: rtc.JoinResponse, answer: str) -> None:
        raise NotImplementedError

    def send(self, datagram: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def received(self, datagram: bytes) -> None:
        self.bytes_received += len(datagram)
        if datagram[0] < 4:
            self.answers.put_nowait(datagram)
        elif 20 <= datagram[0] < 64:
            self.dtls.put_nowait(datagram)

    async def _recv(self) -> bytes:
        return await self.dtls.get()

    async def _send(self, datagram: bytes) -> None:
        self.send(datagram)


class Framed(Way):
    """Frames of RFC 4571 on a connection to the passive candidate of the answer."""

    writer: asyncio.StreamWriter
    reading: asyncio.Task[None]

    async def open(self, server: Server, join: rtc.JoinResponse, answer: str) -> None:
        candidate = re.search(r"a=candidate:\S+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive", answer)
        assert candidate, answer
        reader, self.writer = await asyncio.open_connection(candidate[1], int(candidate[2]))
        self.reading = asyncio.create_task(self._read(reader))

    def send(self, datagram: bytes) -> None:
        self.writer.write(struct.pack(">H", len(datagram)) + datagram)

    def close(self) -> None:
        self.reading.cancel()
        self.writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                self.received(await reader.readexactly(length))


class Relayed(Way):
    """TURN over TLS, as the join response says."""

    transport: TurnTransport

    async def open(self, server: Server, join: rtc.JoinResponse, answer: str) -> None:
        (offered,) = join.ice_servers
        (url,) = offered.urls
        found = re.fullmatch(r"turns:([^:]+):(\d+)\?transport=tcp", url)
        assert found, url
        self._media = (HOST, server.media_port)
        self.transport, _ = await create_turn_endpoint(
            lambda: _Relay(self),
            (HOST, int(found[2])),
            username=offered.username,
            password=offered.credential,
            ssl=anyone(),
            transport="tcp",
        )

    def send(self, datagram: bytes) -> None:
        self.transport.sendto(datagram, self._media)

    def close(self) -> None:
        self.transport.close()


class _Relay(asyncio.DatagramProtocol):
    def __init__(self, way: Way) -> None:
        self._way = way

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._way.received(data)
