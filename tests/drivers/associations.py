"""Two real stacks over a link that tests control: our `Associations` on one side, stock aiortc on the other.

The link stands for the engine and the network: it carries whole datagrams both ways after a delay, and lets a test
drop, repeat, hold back or read any of them. Time is the loop's: OpenSSL and aiortc have clocks of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from aiortc.rtcsctptransport import RTCSctpTransport

from d4e_sfu._engine import Command
from d4e_sfu.core.boundary import DataKind, DtlsRole, Taken, TransportId
from d4e_sfu.drivers.associations import Associations
from d4e_sfu.drivers.dtls import EngineCertificate, Limits

DELAY = 0.002  # seconds, one way

# What happens to the n-th datagram (from 0) of one direction: how many times it arrives, and how much later.
Fate = Callable[[int, bytes], Sequence[float]]


def delivered(number: int, datagram: bytes) -> Sequence[float]:
    return (0.0,)


def lost(*numbers: int) -> Fate:
    return lambda number, datagram: () if number in numbers else (0.0,)


class Endpoint:
    """What stock aiortc takes for an ICE transport."""

    role = "controlling"
    state = "completed"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._out = send

    async def _recv(self) -> bytes:
        return await self.inbox.get()

    async def _send(self, datagram: bytes) -> None:
        self._out(datagram)


@dataclass
class Heard:
    """Implements `AssociationEvents`."""

    connected: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    ready: list[tuple[int, DataKind]] = field(default_factory=list)
    received: list[tuple[int, DataKind, bytes]] = field(default_factory=list)
    ended: list[tuple[int, str]] = field(default_factory=list)
    on_message: Callable[[TransportId, DataKind, bytes], None] | None = None
    deliveries: int = 1
    pause: float = 0.0

    def transport_connected(self, transport: TransportId, *, now: float) -> None:
        self.connected.append(transport)

    def transport_failed(self, transport: TransportId, reason: str, *, now: float) -> None:
        self.failed.append((transport, reason))

    def data_ready(self, transport: TransportId, kind: DataKind, *, now: float) -> None:
        self.ready.append((transport, kind))

    def data_received(self, transport: TransportId, kind: DataKind, payload: bytes, *, now: float) -> Taken:
        self.received.append((transport, kind, payload))
        if self.on_message is not None:
            self.on_message(transport, kind, payload)
        return Taken(self.deliveries, self.pause)

    def data_ended(self, transport: TransportId, reason: str, *, now: float) -> None:
        self.ended.append((transport, reason))


class Server:
    """Our side: the associations of one worker, and links to its clients."""

    def __init__(self, *, limits: Limits | None = None, certificate: EngineCertificate | None = None) -> None:
        self.heard = Heard()
        self.keys: dict[int, Command.SetKeys] = {}
        self.clients: dict[int, Client] = {}
        self.associations = Associations(self._submit, self.heard, limits=limits, certificate=certificate)

    def _submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Command.SendDtls(transport=transport, datagram=datagram):
                    self.clients[transport].from_server(bytes(datagram))
                case Command.SetKeys(transport=transport):
                    assert transport not in self.keys, "keys are given once"
                    self.keys[transport] = command
                case _:
                    raise AssertionError(command)


class Client:
    """A stock aiortc client of one transport, DTLS client unless told otherwise."""

    def __init__(
        self,
        server: Server,
        transport: int,
        *,
        role: DtlsRole = "client",
        certificate: RTCCertificate | None = None,
        fingerprints: Sequence[tuple[str, str]] | None = None,
        to_server: Fate = delivered,
        to_client: Fate = delivered,
        delay: float = DELAY,
        sctp: bool = False,
        offers_channels: bool = False,
        dtls: Callable[[Any, RTCCertificate], RTCDtlsTransport] | None = None,
    ) -> None:
        self.server = server
        self.transport = TransportId(transport)
        self.fates = {"up": to_server, "down": to_client}
        self.sent: dict[str, list[bytes]] = {"up": [], "down": []}
        self.delay = delay
        self.messages: deque[tuple[str, bytes | str]] = deque()
        server.clients[transport] = self
        certificate = certificate or RTCCertificate.generateCertificate()
        self.endpoint = Endpoint(self.to_server)
        make = dtls or (lambda ice, own: RTCDtlsTransport(ice, [own]))
        self.dtls = make(self.endpoint, certificate)
        self.dtls._set_role(role)
        self.sctp = RTCSctpTransport(self.dtls) if sctp else None
        self.told = server.associations.fingerprint
        server.associations.open(
            self.transport,
            ours=self.told,
            fingerprints=[(f.algorithm, f.value) for f in certificate.getFingerprints()]
            if fingerprints is None
            else fingerprints,
            role="server" if role == "client" else "client",
            sctp_port=5000 if sctp else None,
            max_message_size=65536,
            offers_channels=offers_channels,
        )

    def to_server(self, datagram: bytes) -> None:
        self._carry("up", datagram, lambda d: self.server.associations.receive(self.transport, d))

    def from_server(self, datagram: bytes) -> None:
        self._carry("down", datagram, self.endpoint.inbox.put_nowait)

    def _carry(self, way: str, datagram: bytes, arrive: Callable[[bytes], None]) -> None:
        number = len(self.sent[way])
        self.sent[way].append(datagram)
        for later in self.fates[way](number, datagram):
            asyncio.get_running_loop().call_later(self.delay + later, arrive, datagram)

    async def connect(self, *, within: float = 5.0) -> None:
        algorithm, value = self.told
        parameters = RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(algorithm=algorithm, value=value)])
        async with asyncio.timeout(within):
            await self.dtls.start(parameters)
            if self.sctp is not None and self.dtls.state == "connected":
                await self.sctp.start(RTCSctpTransport.getCapabilities(), 5000)

    async def close(self) -> None:
        if self.sctp is not None:
            await self.sctp.stop()
        await self.dtls.stop()


async def until(condition: Callable[[], object], *, within: float = 3.0) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


def channel(client: Client, kind: DataKind) -> RTCDataChannel:
    """As LiveKit's clients open it: in-band, binary."""
    assert client.sctp is not None
    lossy = kind is DataKind.LOSSY
    parameters = RTCDataChannelParameters(label=kind.value, ordered=not lossy, maxRetransmits=0 if lossy else None)
    return RTCDataChannel(client.sctp, parameters)


async def connected(
    server: Server,
    *,
    number: int = 1,
    role: DtlsRole = "client",
    to_server: Fate = delivered,
    to_client: Fate = delivered,
) -> tuple[Client, RTCDataChannel, RTCDataChannel]:
    client = Client(server, number, role=role, sctp=True, to_server=to_server, to_client=to_client)
    await client.connect()
    reliable, lossy = channel(client, DataKind.RELIABLE), channel(client, DataKind.LOSSY)
    await until(lambda: {(number, DataKind.RELIABLE), (number, DataKind.LOSSY)} <= set(server.heard.ready), within=20)
    await until(lambda: reliable.readyState == lossy.readyState == "open", within=20)
    return client, reliable, lossy


async def finish(server: Server, *clients: Client) -> None:
    for client in clients:
        await client.close()
    server.associations.stop()


async def both_connected(server: Server, client: Client) -> float:
    """Seconds until both sides are connected."""
    began = time.monotonic()
    await client.connect()
    await until(lambda: client.transport in server.heard.connected)
    assert client.dtls.state == "connected"
    return time.monotonic() - began
