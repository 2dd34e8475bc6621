"""Data channels against stock aiortc: what honest clients do works, what hostile ones do ends their association alone.

Hostile packets are real ones: a stock association connects, then packets made here travel under its keys and tags.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from struct import pack

import pytest
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    AbortChunk,
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
)
from google_crc32c import value as crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d4e_sfu.core.boundary import DataKind, DtlsRole, TransportId
from d4e_sfu.drivers.datachannel import ENDS, DataLimits, inspect
from d4e_sfu.drivers.dtls import Limits
from d4e_sfu.drivers.reassembly import Reassembly, Violation
from tests.drivers.associations import Client, Fate, Server, delivered, until

RELIABLE, LOSSY = DataKind.RELIABLE, DataKind.LOSSY
ONE = TransportId(1)
# The guard is tested, not the cap on datagrams in front of it.
OPEN_INBOX = Limits(datagrams=1 << 20, datagrams_per_second=1e9, data=DataLimits(chunks_per_second=1e9))
HOLD = 0.05  # seconds of CPU for which nothing may hold the event loop


def channel(client: Client, kind: DataKind) -> RTCDataChannel:
    """As LiveKit's clients open it: in-band, binary."""
    assert client.sctp is not None
    lossy = kind is LOSSY
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
    reliable, lossy = channel(client, RELIABLE), channel(client, LOSSY)
    await until(lambda: {(number, RELIABLE), (number, LOSSY)} <= set(server.heard.ready), within=20)
    await until(lambda: reliable.readyState == lossy.readyState == "open", within=20)
    return client, reliable, lossy


async def finish(server: Server, *clients: Client) -> None:
    for client in clients:
        await client.close()
    server.associations.stop()


# --- honest clients --------------------------------------------------------------------------------------------------


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
        await until(lambda: len(got) == 2000)
    assert got == [b"%d" % number for number in range(2000)]
    assert longest.cpu < HOLD
    await finish(server, client)


# --- hostile clients -------------------------------------------------------------------------------------------------


@dataclass
class Longest:
    cpu: float = 0.0


class turning:  # noqa: N801
    """Measures the longest turn of the event loop, in CPU seconds of this thread (the machine may be busy)."""

    async def __aenter__(self) -> Longest:
        # As the server does at its start: an attack does not make it look through what a whole run of tests has left.
        gc.collect()
        gc.freeze()
        self._longest = Longest()
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self._longest

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        gc.unfreeze()

    async def _watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._longest.cpu = max(self._longest.cpu, now - before)
            before = now


class Attacker:
    """A connected client that makes its own SCTP packets."""

    def __init__(self, server: Server, client: Client) -> None:
        assert client.sctp is not None
        self.server, self.client = server, client
        self.tag = client.sctp._remote_verification_tag
        self.tsn = client.sctp._local_tsn
        self.heard: list[Chunk] = []
        # The stock association would fall over the answers to what it never sent. It must not send anything more
        # either: a record after those made in advance would make them too old for DTLS' replay window.
        client.dtls._data_receiver = self
        client.sctp._t3_cancel()
        # What the server answers is read afterwards: stock aiortc would hold this loop, and it is not on trial.
        client.fates["down"] = lambda number, datagram: ()

    async def _handle_data(self, data: bytes) -> None:
        self.heard += sctp.parse_packet(data)[3]

    def packet(self, *chunks: Chunk | bytes, tag: int | None = None) -> bytes:
        head = pack("!HHL", 5000, 5000, self.tag if tag is None else tag)
        body = b"".join(bytes(chunk) for chunk in chunks)
        return head + pack("<L", crc32c(head + bytes(4) + body)) + body

    def data(
        self, payload: bytes, *, flags: int = 3, stream: int = 1, seq: int = 0, protocol: int = 53, skip: int = 0
    ) -> DataChunk:
        chunk = DataChunk(flags=flags)
        chunk.tsn = (self.tsn + skip) % 2**32
        chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = stream, seq, protocol, payload
        self.tsn = (chunk.tsn + 1) % 2**32
        return chunk

    async def send(self, packets: Iterable[bytes]) -> Longest:
        """All of them, as fast as the server takes them; returns the longest turn of the loop meanwhile."""
        ssl = self.client.dtls._ssl
        assert ssl is not None
        datagrams = []
        for packet in packets:
            ssl.send(packet)
            datagrams.append(ssl.bio_read(1 << 16))
        async with turning() as longest:
            for index, datagram in enumerate(datagrams):
                self.server.associations.receive(ONE, datagram)
                if index % 16 == 15:
                    await asyncio.sleep(0)
            await until(lambda: self.server.associations.debug_state(ONE)["queued"] == 0, within=60)
            await asyncio.sleep(0.01)
        return longest


@pytest.fixture
async def attacker() -> AsyncIterator[Attacker]:
    server = Server(limits=OPEN_INBOX)
    client, _, _ = await connected(server)
    yield Attacker(server, client)
    # Whatever happened to the data channels: DTLS, and with it the media's keys, is untouched.
    assert not server.heard.failed
    assert client.dtls.state == "connected"
    assert server.associations.counters.faults == 0
    assert {reason for _, reason in server.heard.ended} <= set(ENDS)
    assert len(server.heard.ended) <= 1
    await finish(server, client)


def _dcep(label: bytes, *, claimed: int | None = None) -> bytes:
    return pack("!BBHLHH", 3, 0, 0, 0, len(label) if claimed is None else claimed, 0) + label


def fragments_without_end(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(bytes(1000), flags=2 if n == 0 else 0)) for n in range(20_000)]


def fragments_without_end_on_many_streams(a: Attacker) -> Iterable[bytes]:
    # Fragments have consecutive TSNs, so each message is left open behind a hole.
    for n in range(3000):
        yield a.packet(a.data(bytes(1100), flags=2 if n % 50 == 0 else 0, stream=n // 50, skip=n % 50 == 0))


def fragments_of_one_byte(a: Attacker) -> Iterable[bytes]:
    for n in range(400):
        yield a.packet(*[a.data(b"x", flags=2 if n == k == 0 else 0) for k in range(50)])


def gaps(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(b"x", flags=7, skip=1)) for _ in range(8000)]


def distant_gaps(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(b"x", flags=7, skip=70_000)) for _ in range(8000)]


def channels(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(_dcep(b"spam"), stream=n, protocol=50)) for n in range(101, 3101)]


def streams(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(b"x", stream=n)) for n in range(3000)]


def forward_tsn_jumps(a: Attacker) -> Iterable[bytes]:
    for n in range(5000):
        chunk = ForwardTsnChunk()
        chunk.cumulative_tsn = (a.tsn + n * 100_000) % 2**32
        yield a.packet(chunk)


def forward_tsn_of_all_streams(a: Attacker) -> Iterable[bytes]:
    for n in range(250):
        chunk = ForwardTsnChunk()
        chunk.cumulative_tsn = (a.tsn + n) % 2**32
        chunk.streams = [(n * 250 + k, 9) for k in range(250)]
        yield a.packet(chunk)


def reconfig_flood(a: Attacker) -> Iterable[bytes]:
    for n in range(3000):
        chunk = ReconfigChunk()
        chunk.params = [(13, pack("!LLL", 1000 + n, 0, a.tsn) + pack("!500H", *range(500)))]
        yield a.packet(chunk)


def reconfig_of_many_parameters(a: Attacker) -> Iterable[bytes]:
    chunk = ReconfigChunk()
    chunk.params = [(17, pack("!LHH", 1, 65535, 0))] * 20
    return [a.packet(chunk)]


def init_flood(a: Attacker) -> Iterable[bytes]:
    for n in range(3000):
        chunk = InitChunk()
        chunk.initiate_tag, chunk.outbound_streams, chunk.inbound_streams = n + 1, 10, 10
        yield a.packet(chunk, tag=0)


def init_with_company(a: Attacker) -> Iterable[bytes]:
    chunk = InitChunk()
    chunk.initiate_tag = chunk.outbound_streams = chunk.inbound_streams = 1
    return [a.packet(chunk, HeartbeatChunk(), tag=0)]


def parameter_of_no_length(a: Attacker) -> Iterable[bytes]:
    return [a.packet(Chunk.__bytes__(_raw(4, pack("!HH", 1, 0) + bytes(40))))]


def sack_of_wide_gaps(a: Attacker) -> Iterable[bytes]:
    chunk = SackChunk()
    assert a.client.sctp is not None
    chunk.cumulative_tsn = a.client.sctp._last_received_tsn or 0
    chunk.gaps = [(1, 65535)] * 280
    return [a.packet(chunk)] * 10


def sack_of_what_was_never_sent(a: Attacker) -> Iterable[bytes]:
    chunk = SackChunk()
    assert a.client.sctp is not None
    chunk.cumulative_tsn = ((a.client.sctp._last_received_tsn or 0) + 1000) % 2**32
    return [a.packet(chunk)]


def heartbeats(a: Attacker) -> Iterable[bytes]:
    return [a.packet(*[_raw(4, b"")] * 60)] * 500


def many_chunks(a: Attacker) -> Iterable[bytes]:
    return [a.packet(*[_raw(7, bytes(4))] * 150)]


def duplicate_open(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(_dcep(b"x"), stream=201, protocol=50, seq=n)) for n in range(2)]


def open_with_a_long_label(a: Attacker) -> Iterable[bytes]:
    label = b"l" * 60_000
    body = _dcep(label)
    parts = [body[n : n + 1000] for n in range(0, len(body), 1000)]
    for n, part in enumerate(parts):
        flags = (2 if n == 0 else 0) | (1 if n == len(parts) - 1 else 0)
        yield a.packet(a.data(part, flags=flags, stream=301, protocol=50))


def open_with_a_false_length(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(_dcep(b"abc", claimed=200), stream=301, protocol=50))]


def open_that_is_cut(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(b"\x03\x00\x00", stream=301, protocol=50))]


def open_that_is_not_utf8(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(_dcep(b"\xff\xfe"), stream=301, protocol=50))]


def acknowledgement_of_nothing(a: Attacker) -> Iterable[bytes]:
    return [a.packet(a.data(b"\x02", stream=301, protocol=50))]


def text_that_is_not_utf8(a: Attacker) -> Iterable[bytes]:
    assert a.client.sctp is not None
    stream = next(iter(a.client.sctp._data_channels))
    return [a.packet(a.data(b"\xff\xfe", flags=7, stream=stream, protocol=51))]


def short_data(a: Attacker) -> Iterable[bytes]:
    return [a.packet(_raw(0, bytes(4), flags=3))]


def shutdown(a: Attacker) -> Iterable[bytes]:
    return [a.packet(_raw(7, bytes(4)))]


def abort(a: Attacker) -> Iterable[bytes]:
    return [a.packet(_raw(6, b""))]


def wrong_checksum(a: Attacker) -> Iterable[bytes]:
    packet = a.packet(HeartbeatChunk())
    return [packet[:8] + bytes(4) + packet[12:]] * 100


def _raw(kind: int, body: bytes, *, flags: int = 0) -> Chunk:
    chunk = Chunk(flags=flags, body=body)
    chunk.type = kind
    return chunk


@pytest.mark.parametrize(
    ("attack", "end"),
    [
        (fragments_without_end, "message_size"),
        (fragments_without_end_on_many_streams, "undelivered"),
        (fragments_of_one_byte, "undelivered"),
        (gaps, "gaps"),
        (distant_gaps, None),  # out of what a SACK can tell: as if lost
        (channels, "channels"),
        (streams, "streams"),
        (forward_tsn_jumps, None),  # a peer may give up what it likes
        (forward_tsn_of_all_streams, "streams"),
        (reconfig_flood, None),  # answered, each once
        (reconfig_of_many_parameters, "malformed"),
        (init_flood, "restart"),
        (init_with_company, "malformed"),
        (parameter_of_no_length, "malformed"),
        (sack_of_wide_gaps, "malformed"),
        (sack_of_what_was_never_sent, "malformed"),
        (heartbeats, None),
        (many_chunks, "malformed"),
        (duplicate_open, "malformed"),
        (open_with_a_long_label, "malformed"),
        (open_with_a_false_length, "malformed"),
        (open_that_is_cut, "malformed"),
        (open_that_is_not_utf8, "malformed"),
        (acknowledgement_of_nothing, "malformed"),
        (text_that_is_not_utf8, "malformed"),
        (short_data, "malformed"),
        (shutdown, "peer"),
        (abort, "peer"),
        (wrong_checksum, None),  # RFC 9260 §6.8: discarded
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_an_attack_ends_its_own_association_and_holds_nobody(
    attacker: Attacker, attack: Callable[[Attacker], Iterable[bytes]], end: str | None
) -> None:
    longest = await attacker.send(attack(attacker))
    if end is None:
        assert not attacker.server.heard.ended
    else:
        await until(lambda: attacker.server.heard.ended)
        assert attacker.server.heard.ended == [(1, end)]
        assert attacker.server.associations.counters.data_ends == {end: 1}
        assert not attacker.server.associations.send(ONE, RELIABLE, b"x")
        attacker.client.endpoint.inbox.put_nowait(attacker.client.sent["down"][-1])
        await until(lambda: [type(chunk) for chunk in attacker.heard] == [AbortChunk])
    assert longest.cpu < HOLD


async def test_every_record_of_a_datagram_is_read_at_once(attacker: Attacker) -> None:
    """aiortc reads one, and leaves the others until the next datagram comes."""
    assert attacker.client.sctp is not None
    ssl = attacker.client.dtls._ssl
    assert ssl is not None
    stream = next(iter(attacker.client.sctp._data_channels))
    for text in (b"one", b"two", b"three"):
        ssl.send(attacker.packet(attacker.data(text, flags=7, stream=stream)))
    attacker.server.associations.receive(ONE, ssl.bio_read(1 << 16))
    await until(lambda: attacker.server.heard.received)
    assert [payload for _, _, payload in attacker.server.heard.received] == [b"one", b"two", b"three"]


async def test_a_late_copy_of_the_init_does_not_set_the_counters_back(attacker: Attacker) -> None:
    """RFC 9260 §5.2.2; aiortc would take every message a second time."""
    assert attacker.client.sctp is not None
    stream = next(iter(attacker.client.sctp._data_channels))
    message = attacker.packet(attacker.data(b"once", flags=7, stream=stream))
    init = InitChunk()
    init.initiate_tag = attacker.client.sctp._local_verification_tag
    init.outbound_streams = init.inbound_streams = 10
    init.initial_tsn = (attacker.tsn - 3) % 2**32
    await attacker.send([message, attacker.packet(init, tag=0), message])
    assert [payload for _, _, payload in attacker.server.heard.received] == [b"once"]
    assert not attacker.server.heard.ended


async def test_behind_one_hole_only_so_much_is_kept_and_the_rest_counts_as_lost(attacker: Attacker) -> None:
    assert attacker.client.sctp is not None
    stream = next(iter(attacker.client.sctp._data_channels))
    hole = attacker.packet(attacker.data(b"late", stream=stream, flags=7))
    later = [attacker.packet(attacker.data(b"%d" % n, stream=stream, flags=7)) for n in range(3000)]
    longest = await attacker.send(later)
    state = attacker.server.associations.debug_state(ONE)["data"]
    assert isinstance(state, dict)
    assert state["misordered"] == DataLimits().misordered
    assert len(attacker.server.heard.received) == DataLimits().misordered
    await attacker.send([hole, *later])
    assert len(attacker.server.heard.received) == 3001
    assert not attacker.server.heard.ended
    assert longest.cpu < HOLD


async def test_a_bystander_keeps_his_channels_during_an_attack(attacker: Attacker) -> None:
    other, reliable, _ = await connected(attacker.server, number=2)
    attack = asyncio.create_task(attacker.send(fragments_without_end(attacker)))
    for number in range(20):
        reliable.send(b"%d" % number)
        await asyncio.sleep(0.001)
    await until(lambda: sum(transport == 2 for transport, _, _ in attacker.server.heard.received) == 20)
    await attack
    assert attacker.server.heard.ended == [(1, "message_size")]
    await other.close()


async def test_packets_over_the_rate_are_dropped_and_the_association_lives() -> None:
    server = Server(limits=Limits(datagrams=1 << 20, datagrams_per_second=1e9, data=DataLimits(chunks_per_second=200)))
    client, reliable, _ = await connected(server)
    attacker = Attacker(server, client)
    await attacker.send([attacker.packet(HeartbeatChunk())] * 5000)
    state = server.associations.debug_state(ONE)["data"]
    assert isinstance(state, dict)
    assert state["packets_dropped"] > 4000, state
    assert not server.heard.ended
    await asyncio.sleep(0.2)  # for the bucket
    await attacker.send([attacker.packet(attacker.data(b"still here", flags=7, stream=reliable.id or 0))])
    assert [payload for _, _, payload in server.heard.received] == [b"still here"]
    await finish(server, client)


async def test_after_the_end_a_new_association_on_the_same_transport_is_ignored(attacker: Attacker) -> None:
    await attacker.send(shutdown(attacker))
    await until(lambda: attacker.server.heard.ended)
    sent = len(attacker.client.sent["down"])
    await attacker.send(list(init_flood(attacker))[:10])
    assert len(attacker.client.sent["down"]) == sent


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=200), st.integers(-3, 3))
def test_any_chunk_is_refused_or_harmless(kind: int, flags: int, body: bytes, lie: int) -> None:
    """Lengths that lie and bodies that mean nothing: refused by `inspect`, or parsed by aiortc without a fault."""
    length = max(0, len(body) + 4 + lie)
    chunk = pack("!BBH", kind, flags, length) + body + bytes(-len(body) % 4)
    head = pack("!HHL", 5000, 5000, 1)
    packet = head + pack("<L", crc32c(head + bytes(4) + chunk)) + chunk
    try:
        inspect(packet, DataLimits(), next_tsn=1)
    except Violation:
        return
    try:
        sctp.parse_packet(packet)
    except ValueError:
        pass  # "invalid length" of aiortc's own


# --- reassembly ------------------------------------------------------------------------------------------------------


def _chunk(tsn: int, flags: int, payload: bytes, seq: int = 0) -> DataChunk:
    chunk = DataChunk(flags=flags)
    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = tsn % 2**32, 1, seq, 53, payload
    return chunk


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.booleans()), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 2**32 - 5, 2**31 - 3]),
)
def test_messages_come_back_whole_in_any_order_of_their_fragments(
    messages: list[tuple[bytes, bool]], chance: random.Random, start: int
) -> None:
    chunks, tsn, seq = [], start, 0
    for payload, unordered in messages:
        for position in range(len(payload)):
            flags = (2 if position == 0 else 0) | (1 if position == len(payload) - 1 else 0) | (4 if unordered else 0)
            chunks.append(_chunk(tsn, flags, payload[position : position + 1], seq))
            tsn += 1
        seq += not unordered
    chance.shuffle(chunks)
    stream = Reassembly(100)
    delivered_messages = []
    for chunk in chunks:
        stream.add_chunk(chunk)
        delivered_messages += [data for _, _, data in stream.pop_messages()]
    ordered = [payload for payload, unordered in messages if not unordered]
    assert sorted(delivered_messages) == sorted(payload for payload, _ in messages)
    rest = list(delivered_messages)
    for payload, unordered in messages:
        if unordered:
            rest.remove(payload)
    assert sorted(rest) == sorted(ordered)
    if not any(unordered for _, unordered in messages):
        assert delivered_messages == ordered
    assert (stream.size, stream.chunks) == (0, 0)
    assert not stream._by_first
    assert not stream._by_last


def test_forward_tsn_drops_the_unfinished_and_delivers_what_waited_for_it() -> None:
    stream = Reassembly(100)
    stream.add_chunk(_chunk(10, 2, b"a", seq=0))  # never finished
    stream.add_chunk(_chunk(12, 3, b"second", seq=1))
    assert not list(stream.pop_messages())
    stream.sequence_number = 2  # what aiortc does on FORWARD TSN up to 12 with (stream 1, sequence 1)
    assert [data for _, _, data in stream.pop_messages()] == [b"second"]
    assert stream.prune_chunks(12) == 1
    assert stream.size == 0


def test_a_message_over_the_limit_is_a_violation() -> None:
    stream = Reassembly(10)
    stream.add_chunk(_chunk(1, 2, bytes(6)))
    with pytest.raises(Violation, match="message_size"):
        stream.add_chunk(_chunk(2, 0, bytes(6)))
