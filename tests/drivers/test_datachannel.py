"""Data channels against stock aiortc: what honest clients do works, on good links and bad ones."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

import pytest
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters

from d4e_sfu.core.boundary import DataKind, DtlsRole, TransportId
from tests.drivers.associations import Client, Server, channel, connected, finish, until
from tests.drivers.turns import HOLD, turning

RELIABLE, LOSSY = DataKind.RELIABLE, DataKind.LOSSY
ONE = TransportId(1)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_messages_pass_both_ways_on_both_kinds(role: DtlsRole) -> None:
    server = Server()
    client, reliable, lossy = await connected(server, role=role)
    got: list[bytes] = []
    reliable.on("message", got.append)
    lossy.on("message", got.append)
    server.heard.on_message = lambda transport, kind, payload: _echo(server, transport, kind, payload)
    sizes = [0, 1, 1160, 1161, 65536]
    for size in sizes:
        reliable.send(bytes(size))
    await until(lambda: len(got) == len(sizes))
    lossy.send(b"position")
    await until(lambda: len(got) == len(sizes) + 1)
    assert [len(message) for message in got[:-1]] == sizes
    assert got[-1] == b"position"
    assert [kind for _, kind, _ in server.heard.received] == [RELIABLE] * 5 + [LOSSY]
    await finish(server, client)


async def test_whoever_speaks_to_many_pays_for_each() -> None:
    server = Server()
    server.heard.deliveries = 500  # a thousand chunks' worth, four such messages a second
    client, reliable, lossy = await connected(server)
    began = time.monotonic()
    for _ in range(200):
        lossy.send(b"flood")
        await asyncio.sleep(0.002)
    count = len(server.heard.received)
    assert 4 <= count <= 8 + 5 * (time.monotonic() - began)
    # A debt is paid by waiting: what must not be lost arrives.
    sent = [bytes([number]) for number in range(3)]
    for message in sent:
        reliable.send(message)
    await until(lambda: [what for _, kind, what in server.heard.received if kind is RELIABLE] == sent, within=20)
    assert not server.heard.ended
    await finish(server, client)


async def test_whoever_is_to_pause_is_slowed_down_and_loses_nothing_that_is_reliable() -> None:
    server = Server()
    server.heard.pause = 0.5  # seconds for each message; a second is saved up
    client, reliable, lossy = await connected(server)
    began = time.monotonic()
    for _ in range(200):
        lossy.send(b"flood")
        await asyncio.sleep(0.002)
    count = len(server.heard.received)
    assert 2 <= count <= 4 + 2 * (time.monotonic() - began)
    sent = [bytes([number]) for number in range(4)]
    for message in sent:
        reliable.send(message)
    await until(lambda: [what for _, kind, what in server.heard.received if kind is RELIABLE] == sent, within=20)
    assert not server.heard.ended
    await finish(server, client)


def _echo(server: Server, transport: TransportId, kind: DataKind, payload: bytes) -> None:
    assert server.associations.send(transport, kind, payload)


async def test_twenty_percent_loss_delays_reliable_messages_and_loses_none() -> None:
    chance = random.Random(20)

    def fate(number: int, datagram: bytes) -> Iterable[float]:
        # The handshake has its own tests.
        return (0.0,) if datagram[0] != 23 or chance.random() > 0.2 else ()

    server = Server()
    client, reliable, _ = await connected(server, to_server=fate, to_client=fate)  # type: ignore[arg-type]
    got: list[bytes] = []
    reliable.on("message", got.append)
    server.heard.on_message = lambda transport, kind, payload: _echo(server, transport, kind, payload)
    sent = [bytes([number]) * chance.choice([10, 1000, 8000]) for number in range(20)]
    for message in sent:
        reliable.send(message)
    await until(lambda: len(got) == len(sent), within=60)
    assert got == sent
    assert not server.heard.ended
    await finish(server, client)


async def test_reordered_and_repeated_packets_arrive_once_and_in_order() -> None:
    chance = random.Random(3)

    def fate(number: int, datagram: bytes) -> Iterable[float]:
        if datagram[0] != 23:
            return (0.0,)
        return [chance.uniform(0, 0.01) for _ in range(chance.choice([1, 1, 2]))]

    server = Server()
    client, reliable, _ = await connected(server, to_server=fate, to_client=fate)  # type: ignore[arg-type]
    sent = [bytes([number]) * chance.choice([1, 3000, 60_000]) for number in range(15)]
    for message in sent:
        reliable.send(message)
    await until(lambda: len(server.heard.received) == len(sent), within=20)
    assert [payload for _, _, payload in server.heard.received] == sent
    await finish(server, client)


async def test_an_unknown_channel_is_accepted_and_ignored() -> None:
    server = Server()
    client, _, _ = await connected(server)
    other = RTCDataChannel(client.sctp, RTCDataChannelParameters(label="_data_track"))  # type: ignore[arg-type]
    await until(lambda: other.readyState == "open")
    other.send(b"unheard")
    other.send("unheard as well")
    await asyncio.sleep(0.05)
    assert not server.heard.received
    assert not server.heard.ended
    await finish(server, client)


async def test_a_closed_channel_takes_no_more_and_can_be_opened_again() -> None:
    server = Server()
    client, reliable, _ = await connected(server)
    reliable.close()
    await until(lambda: reliable.readyState == "closed")
    assert not server.associations.send(ONE, RELIABLE, b"nobody")
    again = channel(client, RELIABLE)
    await until(lambda: again.readyState == "open")
    got: list[bytes] = []
    again.on("message", got.append)
    assert server.associations.send(ONE, RELIABLE, b"back")
    await until(lambda: got == [b"back"])
    await finish(server, client)


async def test_nothing_can_be_sent_before_the_channel_is_open_or_over_the_clients_limit() -> None:
    server = Server()
    assert not server.associations.send(ONE, RELIABLE, b"x")
    client = Client(server, 1, sctp=True)
    await client.connect()
    assert not server.associations.send(ONE, RELIABLE, b"x")
    channel(client, RELIABLE)
    await until(lambda: server.heard.ready)
    assert server.associations.send(ONE, RELIABLE, bytes(65536))
    assert not server.associations.send(ONE, RELIABLE, bytes(65537))
    await finish(server, client)


async def test_an_application_section_can_come_later() -> None:
    server = Server()
    client = Client(server, 1)
    await client.connect()
    await until(lambda: server.heard.connected)
    client.sctp = sctp.RTCSctpTransport(client.dtls)
    await client.sctp.start(client.sctp.getCapabilities(), 5000)
    server.associations.open_data(ONE, sctp_port=5000, max_message_size=65536)
    channel(client, RELIABLE)
    await until(lambda: server.heard.ready)
    await finish(server, client)


async def test_channels_that_we_offer_open_when_the_client_acknowledges_them() -> None:
    """For clients with two connections: what we send goes on our channels, and they may be used both ways."""
    server = Server()
    client = Client(server, 1, sctp=True, offers_channels=True)
    assert client.sctp is not None
    offered: dict[str, RTCDataChannel] = {}
    got: list[bytes] = []

    def on_channel(made: RTCDataChannel) -> None:
        offered[made.label] = made
        made.on("message", got.append)

    client.sctp.on("datachannel", on_channel)
    await client.connect()
    await until(lambda: {(1, RELIABLE), (1, LOSSY)} == set(server.heard.ready))
    assert len(server.heard.ready) == 2
    assert {name: (made.ordered, made.maxRetransmits) for name, made in offered.items()} == {
        "_reliable": (True, None),
        "_lossy": (False, 0),
    }
    assert server.associations.send(ONE, RELIABLE, b"to him")
    await until(lambda: got == [b"to him"])
    offered["_reliable"].send(b"from him")
    await until(lambda: server.heard.received == [(1, RELIABLE, b"from him")])
    # Acknowledged once more, it is as open as before; by pion with three bytes that RFC 8832 §5.2 does not have.
    for after in (b"", bytes(3)):
        acknowledged = bytes([sctp.DATA_CHANNEL_ACK]) + after
        client.sctp._data_channel_queue.append((offered["_reliable"], sctp.WEBRTC_DCEP, acknowledged))
        await client.sctp._data_channel_flush()
    offered["_reliable"].send(b"later")
    await until(lambda: len(server.heard.received) == 2)
    assert len(server.heard.ready) == 2
    await finish(server, client)


async def test_a_reader_that_falls_silent_loses_lossy_messages_and_then_its_channels() -> None:
    deaf = False

    def fate(number: int, datagram: bytes) -> Iterable[float]:
        return () if deaf else (0.0,)

    server = Server()
    client, _, _ = await connected(server, to_server=fate)  # type: ignore[arg-type]
    deaf = True
    assert server.associations.send(ONE, LOSSY, bytes(1000))
    accepted = sum(server.associations.send(ONE, LOSSY, bytes(1000)) for _ in range(1000))
    assert accepted <= 66, "64 KiB wait, the others are dropped"
    assert not server.heard.ended
    reliable = 0
    while server.associations.send(ONE, RELIABLE, bytes(10_000)):
        reliable += 1
        assert reliable < 1000
    assert 90 <= reliable <= 106, "1 MiB waits"
    assert not server.heard.ended, "never from inside send"
    await until(lambda: server.heard.ended)
    assert server.heard.ended == [(1, "slow")]
    assert not server.heard.failed, "media goes on"
    await finish(server, client)


async def test_two_thousand_messages_at_once_do_not_hold_the_loop() -> None:
    """`send` queues, and SCTP gets a few in each turn of the loop."""
    server = Server()
    client, reliable, _ = await connected(server)
    got: list[bytes] = []
    reliable.on("message", got.append)
    async with turning() as longest:
        for number in range(2000):
            assert server.associations.send(ONE, RELIABLE, b"%d" % number)
        await until(lambda: len(got) == 2000, within=30)
    assert got == [b"%d" % number for number in range(2000)]
    assert longest.cpu < HOLD
    await finish(server, client)
