"""DTLS by hand against our associations: fragments that lie, hellos without end. How many bytes they bring back, how
much memory they take, and that each ends its own handshake and no other. `test_dtls.py` has the honest peers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from struct import pack

import pytest
from aiortc.rtcdtlstransport import SRTP_AES128_CM_SHA1_80, RTCCertificate
from OpenSSL import SSL

from d4e_sfu.core.boundary import TransportId
from d4e_sfu.drivers.dtls import Limits, reserves_too_much
from tests.drivers.associations import Client, Server, lost, until
from tests.lab.hello import client_hello

AMPLIFICATION = 3  # bytes out for each byte in (RFC 9147 §5.1, of peers that have proven nothing)
HANDSHAKE_BYTES = Limits().handshake_bytes
HELLO, CERTIFICATE, KEY_EXCHANGE = 1, 11, 16


def record(body: bytes, number: int, *, kind: int = 22, epoch: int = 0) -> bytes:
    """RFC 6347 §4.1."""
    return pack("!BHHHLH", kind, 0xFEFD, epoch, number >> 32, number & 0xFFFFFFFF, len(body)) + body


def fragment(kind: int, length: int, sequence: int, offset: int, body: bytes, *, claimed: int | None = None) -> bytes:
    """RFC 6347 §4.2.2; `claimed` is the fragment's length as it says, if not the real one."""
    size = len(body) if claimed is None else claimed
    return pack("!BBHHBHBH", kind, length >> 16, length & 0xFFFF, sequence, *_three(offset), *_three(size)) + body


def _three(number: int) -> tuple[int, int]:
    return number >> 16, number & 0xFFFF


@dataclasses.dataclass
class Attacked:
    """One association, and the bytes that went each way. `Client` stands at the other end and says nothing."""

    server: Server
    client: Client
    sent: int = 0

    @classmethod
    def open(cls, limits: Limits, number: int = 1) -> Attacked:
        server = Server(limits=limits)
        return cls(server, Client(server, number, to_client=lost(*range(100_000))))

    def send(self, datagram: bytes) -> None:
        self.sent += len(datagram)
        self.server.associations.receive(self.client.transport, datagram)

    @property
    def answered(self) -> int:
        return sum(len(datagram) for datagram in self.client.sent["down"])


# --- fragments ------------------------------------------------------------------------------------------------------


def pieces_of_one_byte() -> Iterator[bytes]:
    for n in range(4_000):
        yield record(fragment(HELLO, 16_000, 0, n, b"x"), n)


def pieces_of_one_byte_in_few_datagrams() -> Iterator[bytes]:
    for n in range(40):
        yield b"".join(record(fragment(HELLO, 16_000, 0, 80 * n + k, b"x"), 80 * n + k) for k in range(40))


def pieces_that_overlap() -> Iterator[bytes]:
    chance = random.Random(1)
    for n in range(200):
        offset = chance.randrange(1_000)
        yield record(fragment(HELLO, 1_200, 0, offset, chance.randbytes(chance.randrange(1, 200))), n)


def a_message_of_sixteen_megabytes() -> Iterator[bytes]:
    for n in range(100):
        yield record(fragment(HELLO, (1 << 24) - 1, 0, 1_000 * n, bytes(1_000)), n)


def messages_to_come_of_the_largest_size() -> Iterator[bytes]:
    """OpenSSL keeps what comes early; each of these would make it reserve a whole certificate chain."""
    for n in range(300):
        yield record(fragment(CERTIFICATE, 100_000, 1 + n % 12, 0, bytes(100)), n)


def messages_to_come() -> Iterator[bytes]:
    """As large as they may say they are."""
    for n in range(300):
        yield record(fragment(CERTIFICATE, 8 << 10, 1 + n % 7, 0, bytes(100)), n)


def pieces_past_their_message() -> Iterator[bytes]:
    for n in range(100):
        yield record(fragment(HELLO, 100, 0, 90 + n, bytes(100)), n)


def a_piece_longer_than_its_record() -> Iterator[bytes]:
    for n in range(100):
        yield record(fragment(HELLO, 1_000, 0, 0, bytes(10), claimed=1_000), n)


def pieces_of_nothing() -> Iterator[bytes]:
    for n in range(1_000):
        yield record(fragment(HELLO, 1_000, 0, 0, b""), n)


def records_of_nothing() -> Iterator[bytes]:
    for n in range(100):
        yield b"".join(record(b"", 100 * n + k) for k in range(100))


def records_longer_than_their_datagram() -> Iterator[bytes]:
    for n in range(100):
        yield record(bytes(60), n)[:-20]


def the_wrong_message_first() -> Iterator[bytes]:
    for n in range(100):
        yield record(fragment(KEY_EXCHANGE, 20, n % 3, 0, bytes(20)), n)


def hello_in_disorder_with_holes() -> Iterator[bytes]:
    hello = client_hello()[13 + 12 :]
    for n, at in enumerate(range(0, len(hello) - 20, 10)):  # its last piece never comes
        yield record(fragment(HELLO, len(hello), 0, (at * 7) % (len(hello) - 20) // 10 * 10, hello[at : at + 10]), n)


FRAGMENTS = [
    pieces_of_one_byte,
    pieces_of_one_byte_in_few_datagrams,
    pieces_that_overlap,
    a_message_of_sixteen_megabytes,
    messages_to_come_of_the_largest_size,
    messages_to_come,
    pieces_past_their_message,
    a_piece_longer_than_its_record,
    pieces_of_nothing,
    records_of_nothing,
    records_longer_than_their_datagram,
    the_wrong_message_first,
    hello_in_disorder_with_holes,
]


@pytest.mark.parametrize("attack", FRAGMENTS)
async def test_fragments_end_their_own_handshake_in_time_and_bring_little_back(
    attack: Callable[[], Iterable[bytes]],
) -> None:
    attacked = Attacked.open(Limits(handshake=0.5, datagrams_per_second=1e6))
    other = Client(attacked.server, 2)
    connecting = asyncio.create_task(other.connect())
    for n, datagram in enumerate(attack()):
        attacked.send(datagram)
        if n % 16 == 15:
            await asyncio.sleep(0)
    await connecting
    await until(lambda: attacked.server.heard.failed, within=10)
    ((transport, reason),) = attacked.server.heard.failed
    assert transport == 1
    assert reason in ("handshake", "timeout", "oversize")
    assert attacked.answered <= AMPLIFICATION * attacked.sent
    assert not attacked.server.keys.get(1)
    await until(lambda: attacked.server.heard.connected == [2])
    await other.close()


def test_a_length_that_nobody_needs_is_seen_wherever_it_is() -> None:
    large, small = (fragment(CERTIFICATE, size, 1, 0, bytes(10)) for size in ((8 << 10) + 1, 8 << 10))
    last, another = (fragment(CERTIFICATE, 100, message, 0, bytes(10)) for message in (7, 8))
    assert reserves_too_much(record(large, 0))
    assert reserves_too_much(record(small, 0) + record(large, 1))
    assert reserves_too_much(record(small + large, 0))
    assert reserves_too_much(record(small + another, 0))
    for harmless in (
        client_hello(),
        record(last, 0),
        record(small + small, 0),
        record(large, 0, epoch=1),
        record(large, 0, kind=23),
        b"",
    ):
        assert not reserves_too_much(harmless)
    chance = random.Random(3)
    for _ in range(2_000):
        reserves_too_much(b"\x16" + chance.randbytes(chance.randrange(80)))  # ends, and raises nothing


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.long
@pytest.mark.parametrize("attack", [messages_to_come_of_the_largest_size, messages_to_come, pieces_that_overlap])
async def test_a_thousand_handshakes_that_never_end_take_64_megabytes(attack: Callable[[], Iterable[bytes]]) -> None:
    server = Server(limits=Limits(handshake=60, datagrams_per_second=1e6))
    clients = [Client(server, number, to_client=lost(*range(1000))) for number in range(1_000)]
    before = resident()
    for datagram in [client_hello(), *list(attack())[:60]]:
        for client in clients:
            server.associations.receive(client.transport, datagram)
        await asyncio.sleep(0)
    await until(lambda: server.associations.debug_state(TransportId(0))["queued"] == 0, within=60)
    await asyncio.sleep(1)
    assert not server.heard.failed, "all of them are held, so this is the worst of it"
    assert resident() - before <= 64 << 20
    server.associations.stop()


# --- what comes back ------------------------------------------------------------------------------------------------


async def test_one_hello_brings_a_few_flights_and_an_end() -> None:
    attacked = Attacked.open(Limits(handshake=1.0))
    attacked.send(client_hello())
    await until(lambda: attacked.server.heard.failed, within=10)
    assert attacked.server.heard.failed == [(1, "timeout")]
    flight = attacked.client.sent["down"][0]
    assert len(flight) <= 1_200
    # The flight, its replays after 50, 150, 350 and 750 ms; OpenSSL's own after a second may just be in time.
    assert 2 <= len(attacked.client.sent["down"]) <= 6
    sent = len(attacked.client.sent["down"])
    await asyncio.sleep(0.3)
    assert len(attacked.client.sent["down"]) == sent, "and then nothing"


@pytest.mark.parametrize("fresh", [False, True], ids=["the same hello", "a new hello each time"])
async def test_hellos_without_end_bring_less_than_they_cost(fresh: bool) -> None:
    """Whoever can write the source of a datagram can write that of a proven address."""
    attacked = Attacked.open(Limits(handshake=1.0, datagrams_per_second=1e6))
    hello = client_hello()
    for n in range(400):
        attacked.send(record((client_hello() if fresh else hello)[13:], n))
        if n % 20 == 0:
            await asyncio.sleep(0.002)
    await until(lambda: attacked.server.heard.failed, within=10)
    assert attacked.sent > HANDSHAKE_BYTES
    assert attacked.answered <= AMPLIFICATION * attacked.sent
    assert attacked.answered <= 16 * 1_200


# --- downgrades -----------------------------------------------------------------------------------------------------


class WithoutSrtp(RTCCertificate):
    """A client that does not say how its media is to be encrypted (RFC 5764 §4.1)."""

    def _create_ssl_context(self, srtp_profiles):  # type: ignore[no-untyped-def]
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(self._cert)
        context.use_privatekey(self._key)
        return context


@pytest.mark.parametrize("weakness", ["no use_srtp", "a tag of 32 bits"])
async def test_a_handshake_that_leads_to_weak_media_leads_to_none(weakness: str) -> None:
    server = Server()
    if weakness == "no use_srtp":
        client = Client(server, 1, certificate=WithoutSrtp.generateCertificate())
    else:
        client = Client(server, 1)
        short = dataclasses.replace(SRTP_AES128_CM_SHA1_80, openssl_profile=b"SRTP_AES128_CM_SHA1_32")
        client.dtls._srtp_profiles = [short]
    connecting = asyncio.create_task(client.connect())
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "profile")]
    assert not server.keys
    await asyncio.gather(connecting, return_exceptions=True)
    assert client.dtls.state in ("failed", "closed")
