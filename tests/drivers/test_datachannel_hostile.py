"""Data channels of hostile clients: whatever they send ends their own association alone, and holds nobody.

The packets are real ones: a stock association connects, then packets made here travel under its keys and tags.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from struct import pack

import pytest
from aiortc import rtcsctptransport as sctp
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

from d4e_sfu.core.boundary import DataKind, TransportId
from d4e_sfu.drivers.datachannel import ENDS, DataLimits, inspect
from d4e_sfu.drivers.dtls import Limits
from d4e_sfu.drivers.reassembly import Violation
from tests.drivers.associations import Client, Server, connected, finish, until
from tests.drivers.turns import HOLD, Longest, turning

RELIABLE, LOSSY = DataKind.RELIABLE, DataKind.LOSSY
ONE = TransportId(1)
# The guard is tested, not the cap on datagrams in front of it.
OPEN_INBOX = Limits(datagrams=1 << 20, datagrams_per_second=1e9, data=DataLimits(chunks_per_second=1e9))


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


async def test_inits_without_end_are_the_end_before_an_association_has_begun() -> None:
    server = Server(limits=OPEN_INBOX)
    client = Client(server, 1, sctp=True)
    association, client.sctp = client.sctp, None  # DTLS alone; the stock association says nothing
    await client.connect()
    client.sctp = association
    attacker = Attacker(server, client)
    inits = list(init_flood(attacker))
    await attacker.send(inits[: DataLimits().inits])
    assert not server.heard.ended
    await attacker.send(inits[DataLimits().inits :])
    await until(lambda: server.heard.ended)
    assert server.heard.ended == [(1, "restart")]
    assert server.heard.connected == [1]
    assert not server.heard.failed
    client.sctp = None
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
