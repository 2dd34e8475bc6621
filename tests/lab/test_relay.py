"""The relay in front of a socket that sends back what it gets. Real time: what is held for a while is held at least so
long, and nothing is said of how much longer on a busy machine."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from tests.lab.network import Conditions
from tests.lab.relay import HOST, Relay, relay


class Echo(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.sources: list[tuple[str, int]] = []
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sources.append(addr)
        self.transport.sendto(data, addr)


async def echo() -> Echo:
    _, made = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=(HOST, 0))
    return made


def port(of: Echo) -> int:
    return int(of.transport.get_extra_info("sockname")[1])


async def client(through: Relay) -> socket.socket:
    """Its first datagram opens the way behind the relay and may not arrive, as an ICE check's."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.connect((HOST, through.port))
    loop = asyncio.get_running_loop()
    while True:
        made.send(b"hello")
        try:
            await asyncio.wait_for(loop.sock_recv(made, 2000), 1)
            return made
        except TimeoutError:
            continue


async def test_a_datagram_takes_the_delay_both_ways_and_comes_as_it_was() -> None:
    server = await echo()
    async with relay(port(server), conditions=Conditions(delay=0.03)) as through:
        loop, mine = asyncio.get_running_loop(), await client(through)
        began = loop.time()
        mine.send(bytes(range(256)))
        while (got := await loop.sock_recv(mine, 2000)) == b"hello":
            pass
        assert got == bytes(range(256))
        assert loop.time() - began >= 0.06
        mine.close()
    server.transport.close()


async def test_what_does_not_fit_the_queue_is_dropped_and_counted() -> None:
    server = await echo()
    async with relay(port(server), conditions=Conditions(delay=0)) as through:
        mine = await client(through)
        through.change(up=Conditions(delay=0, rate=80_000, queue=0.1))
        passages = through.up.watch()
        for _ in range(50):
            mine.send(bytes(972))
        while len(passages) < 50:
            await asyncio.sleep(0.01)
        dropped = [passage for passage in passages if passage.dropped]
        assert through.up.counts.dropped == len(dropped) >= 1
        assert all(passage.wait <= 0.1 + 1e-6 for passage in passages if not passage.dropped)
        mine.close()
    server.transport.close()


async def test_after_a_rebind_the_server_sees_another_address_and_answers_come() -> None:
    server = await echo()
    async with relay(port(server), conditions=Conditions(delay=0)) as through:
        first, second = await client(through), await client(through)
        assert len(set(server.sources)) == 2, "two clients are two addresses"
        before = set(server.sources)
        await through.rebind()
        first.send(b"again")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(first, 2000), 30) in (b"again", b"hello")
        assert server.sources[-1] not in before
        first.close()
        second.close()
    server.transport.close()
