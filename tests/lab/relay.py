"""The laboratory's links in real time: a UDP relay on loopback between a browser and the server, where a kernel need
not have such a thing of its own. The arithmetic is link.py's, `now` is the event loop's clock.

A browser learns the server's address from the answer: `Relay.script`, run in its page before anything else, puts the
relay's port in its place. Nothing else is changed, and ICE, DTLS and media all go this way. Each address that sends to
the relay gets a socket of its own towards the server, so that the server tells clients apart as behind a NAT; `rebind`
is that NAT forgetting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tests.lab.link import HEADERS, Agenda, Conditions, Link

HOST: Final = "127.0.0.1"
Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Packet:
    client: Address
    payload: bytes


class Relay:
    """`up` is towards the server. Both links are shared by all clients of the relay."""

    def __init__(self, server_port: int, *, seed: int, conditions: Conditions) -> None:
        self._server = (HOST, server_port)
        self._loop = asyncio.get_running_loop()
        self._agenda = Agenda()
        self._front: asyncio.DatagramTransport | None = None
        self._behind: dict[Address, asyncio.DatagramTransport] = {}
        self._opening: dict[Address, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._left: set[Address] = set()
        self.port = 0
        self.up = self._link(conditions, f"{seed} up", self._to_server)
        self.down = self._link(conditions, f"{seed} down", self._to_client)

    def _link(self, conditions: Conditions, chance: str, arrive: Any) -> Link[_Packet]:
        now, generator = self._loop.time(), random.Random(chance)
        return Link(conditions, agenda=self._agenda, chance=generator, arrive=arrive, now=now)

    @property
    def script(self) -> str:
        """For the page of whoever goes through the relay."""
        return _SCRIPT % (self._server[1], self.port)

    def change(self, *, up: Conditions | None = None, down: Conditions | None = None) -> None:
        for link, conditions in ((self.up, up), (self.down, down)):
            if conditions is not None:
                link.change(conditions, now=self._loop.time())
        self._pump()

    async def rebind(self) -> None:
        """From now on the server sees everybody at another address, and what it sends to the old one is lost."""
        for client, transport in list(self._behind.items()):
            transport.close()
            await self._open(client)

    def leave(self) -> None:
        """Everybody has left his address: nothing goes through any more, either way, but for who comes at a new one."""
        self._left |= {*self._behind, *self._opening}

    async def start(self) -> None:
        self._front, _ = await self._loop.create_datagram_endpoint(
            lambda: _Socket(self._from_client), local_addr=(HOST, 0)
        )
        self.port = self._front.get_extra_info("sockname")[1]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for transport in (self._front, *self._behind.values()):
            if transport is not None:
                transport.close()

    async def _open(self, client: Address) -> None:
        self._behind[client], _ = await self._loop.create_datagram_endpoint(
            lambda: _Socket(lambda payload, _: self._send(self.down, client, payload)),
            local_addr=(HOST, 0),
            remote_addr=self._server,
        )
        self._opening.pop(client, None)

    def _from_client(self, payload: bytes, client: Address) -> None:
        if client in self._left:
            return
        if client not in self._behind and client not in self._opening:
            self._opening[client] = self._loop.create_task(self._open(client))
        self._send(self.up, client, payload)

    def _send(self, link: Link[_Packet], client: Address, payload: bytes) -> None:
        now = self._loop.time()
        self._agenda.run(now=now)
        link.send(_Packet(client, payload), len(payload) + HEADERS, now=now)
        self._pump()

    def _to_server(self, packet: _Packet, _at: float) -> None:
        transport = self._behind.get(packet.client)  # what comes before its socket is open, ICE sends again
        if transport is not None and not transport.is_closing():
            transport.sendto(packet.payload)

    def _to_client(self, packet: _Packet, _at: float) -> None:
        if self._front is not None and not self._front.is_closing() and packet.client not in self._left:
            self._front.sendto(packet.payload, packet.client)

    def _pump(self) -> None:
        """Everything that is due, and a timer for what comes next."""
        self._agenda.run(now=self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
        due = self._agenda.next()
        self._timer = None if due is None else self._loop.call_at(due, self._pump)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, received: Any) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._received(data, addr)


@asynccontextmanager
async def relay(server_port: int, *, seed: int = 1, conditions: Conditions) -> AsyncIterator[Relay]:
    made = Relay(server_port, seed=seed, conditions=conditions)
    await made.start()
    try:
        yield made
    finally:
        made.close()


_SCRIPT: Final = """
{
  const before = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    const sdp = description.sdp.replace(/(a=candidate:\\S+ \\d+ udp \\d+ 127\\.0\\.0\\.1 )%d /gi, "$1%d ");
    return before.call(this, { type: description.type, sdp });
  };
}
"""
