"""The media port under fire, with a call of others going on: short datagrams of every kind, hellos from nowhere, checks
with something wrong. Real sockets and a real server; the same tables in virtual time are the engine's own tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from struct import pack

import pytest
import pytest_asyncio
from aioice import stun
from livekit.protocol import rtc

from tests.hostile.bystanders import bystanders
from tests.hostile.caller import Caller, Credentials, Socket
from tests.lab.hello import client_hello
from tests.lab.server import Server, running
from tests.lab.stream import Way

# One server for all of them: what it went through in the test before is one hardship more.
pytestmark = pytest.mark.asyncio(loop_scope="module")
ELSEWHERE = "127.0.0.2"
HELLOS_PER_SECOND = 500
HELLOS_IN_BETWEEN = 25
JOINS = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("server")) as server:
        yield server


async def pour(udp: Way, datagrams: Iterable[bytes]) -> int:
    """All of them at about ten thousand a second: what overflows the kernel's buffer would prove nothing."""
    count = 0
    for count, datagram in enumerate(datagrams, start=1):
        udp.send(datagram)
        if count % 16 == 0:
            await asyncio.sleep(0.001)
    return count


def short_datagrams() -> Iterable[bytes]:
    """Every first byte with every length from 0 to 64."""
    for first in range(256):
        yield b""
        for length in range(1, 65):
            yield bytes((first, *((first * 7 + length * at) % 256 for at in range(1, length))))


# --- short datagrams -------------------------------------------------------------------------------------------------


async def test_every_first_byte_and_length_from_anyone_disturbs_nobody(server: Server) -> None:
    stranger, neighbour = Socket(server, ELSEWHERE), Socket(server)
    lines = len(server.lines)
    async with (
        bystanders(server),
        Caller.join(server, "before", "before") as unkeyed,
        Caller.join(server, "after", "after") as keyed,
    ):
        await unkeyed.check()
        await keyed.connect()
        poured = 0
        async with keyed.staying(), unkeyed.staying() as heard:
            for udp in (stranger, neighbour, unkeyed.udp, keyed.udp):
                poured += await pour(udp, short_datagrams())
            dropped = await server.metric("d4e_sfu_drops_total")

            assert stranger.bytes_received == neighbour.bytes_received == 0
            # What was sent arrived, and was dropped for its reason; DTLS from validated addresses is another's to drop.
            assert poured == 4 * 256 * 65
            assert dropped > 0.8 * poured
            # The one with keys still has them. The other one's handshake has seen much: it ends in keys, or he is told.
            await keyed.check()
            assert keyed.dtls.state == "connected"
            (transport,) = (await server.room("after"))["engine"]["transports"]
            assert transport["keys"]
            try:
                await unkeyed.connect()
            except Exception:
                leaves = [each.leave for each in heard if each.WhichOneof("message") == "leave"]
                assert [leave.action for leave in leaves] == [rtc.LeaveRequest.Action.RECONNECT]
    stranger.close()
    neighbour.close()
    # Nobody may write into our log at the speed of a network.
    assert len(server.lines) - lines < 40, "\n".join(server.lines[lines:])
    assert not [line for line in server.lines if "worker died" in line]


# --- media that is none, and other people's protocols -----------------------------------------------------------------

FORGERIES = 20_000
SCANNERS = 200
FOREIGN = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "SSH": b"SSH-2.0-x\r\n",
    "SIP": b"OPTIONS sip:x SIP/2.0\r\n\r\n",
    "DNS": b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\xff\x00\x01",
    "NTP monlist": b"\x17\x00\x03\x2a" + bytes(4),
    "SSDP": b'M-SEARCH * HTTP/1.1\r\nMAN: "ssdp:discover"\r\n\r\n',
    "memcached": b"\x00\x00\x00\x00\x00\x01\x00\x00stats\r\n",
    "SNMP": b"\x30\x26\x02\x01\x01\x04\x06public",
    "QUIC": b"\xc3\x00\x00\x00\x01\x08" + bytes(1_200),
    "RADIUS": b"\x01\x01\x00\x14" + bytes(16),
    "TURN channel": b"\x40\x00\x00\x04abcd",
    "TURN allocation": b"\x00\x03\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x19\x00\x04\x11\x00\x00\x00",
    "WireGuard": b"\x01\x00\x00\x00" + bytes(144),
    "an empty datagram": b"",
}


def forgeries(count: int) -> Iterable[bytes]:
    """Media and reports as someone would write them who has the address and no key."""
    for n in range(count):
        if n % 4:
            yield (
                pack("!BBHII", 0x90, 96 + n % 16, n & 0xFFFF, 90 * n, n // 64)
                + b"\xbe\xde\x00\x01\x10p\x00\x00"
                + bytes(60)
            )
        else:
            yield pack("!BBHI", 0x81, 200 + n % 8, 6, n) + bytes(24) + pack("!L", 1 << 31 | n) + bytes(16)


async def test_media_of_nobody_and_foreign_protocols_from_everywhere_disturb_nobody(server: Server) -> None:
    lines = len(server.lines)
    before = await server.metric("d4e_sfu_drops_total")
    scanners = [Socket(server, ELSEWHERE) for _ in range(SCANNERS)]
    async with (
        bystanders(server),
        Caller.join(server, "before", "before") as unkeyed,
        Caller.join(server, "after", "after") as keyed,
    ):
        await unkeyed.check()
        await keyed.connect()
        poured = 0
        async with keyed.staying():
            for udp in (unkeyed.udp, keyed.udp):
                poured += await pour(udp, forgeries(FORGERIES))
            for udp in scanners:
                poured += await pour(udp, FOREIGN.values())
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.5)
        # The call that it came to has not ended: ten thousand a second are no reason to hang up (CVE-2021-41105).
        await keyed.check()
        assert keyed.dtls.state == "connected"
        (transport,) = (await server.room("after"))["engine"]["transports"]
        assert transport["keys"]
    assert [udp.bytes_received for udp in scanners] == [0] * SCANNERS
    for udp in scanners:
        udp.close()
    assert await server.metric("d4e_sfu_drops_total") - before > 0.8 * poured
    assert await server.metric("d4e_sfu_drops_total", reason="bad_authentication") > 0.5 * FORGERIES
    assert len(server.lines) - lines < 40, "\n".join(server.lines[lines:])


# --- hellos from nowhere ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def spraying(sockets: Iterable[Socket], datagrams: list[bytes]) -> AsyncIterator[Callable[[], int]]:
    """Five hundred datagrams a second from each socket, as long as the block lasts; yields how many it were."""
    loop = asyncio.get_running_loop()
    sent = 0

    async def spray() -> None:
        nonlocal sent
        began = loop.time()
        while True:
            due = int((loop.time() - began) * HELLOS_PER_SECOND)
            for number in range(sent, due):
                for udp in sockets:
                    udp.send(datagrams[number % len(datagrams)])
            sent = max(sent, due)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(spray())
    try:
        yield lambda: sent
    finally:
        task.cancel()


async def test_twenty_join_while_hellos_of_strangers_pour_in(server: Server) -> None:
    hello = client_hello()
    alert = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"  # fatal handshake_failure, in the clear
    goodbye = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00"
    strangers = [Socket(server, ELSEWHERE), Socket(server)]  # another host, and another port of the callers' own
    async with bystanders(server), spraying(strangers, [hello, hello, alert, goodbye]) as sent:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(JOINS):
                caller = await stack.enter_async_context(Caller.join(server, "ward", f"caller {number}"))
                await caller.check()
                # Between the check and the client's own hello is where a hello from nowhere could take its place.
                before = sent()
                while sent() < before + HELLOS_IN_BETWEEN:
                    await asyncio.sleep(0.001)
                await caller.connect()
            people = (await server.room("ward"))["participants"]
            assert [person["state"] for person in people] == ["active"] * JOINS
        assert sent() >= JOINS * HELLOS_IN_BETWEEN
    assert [udp.bytes_received for udp in strangers] == [0, 0]
    for udp in strangers:
        udp.close()
    assert await server.metric("d4e_sfu_drops_total", reason="unknown_address") > sent()


async def test_the_same_hello_is_answered_where_the_address_is_validated(server: Server) -> None:
    """Without this the silence above would prove nothing."""
    async with Caller.join(server, "ward", "hello") as caller:
        caller.udp.send(client_hello())
        await asyncio.sleep(0.2)
        assert caller.udp.bytes_received == 0
        await caller.check()
        caller.udp.send(client_hello())
        flight = await asyncio.wait_for(caller.udp.dtls.get(), 5)
        assert flight[0] == 22, "a handshake record"


# --- connectivity checks ---------------------------------------------------------------------------------------------


def request(
    mine: Credentials,
    *,
    username: str | None = None,
    password: str | None = None,
    kind: stun.Class = stun.Class.REQUEST,
) -> bytes:
    """A check, right but for what is given; its last eight bytes are the FINGERPRINT, and before it the integrity."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=kind)
    message.attributes["USERNAME"] = f"{mine.remote_ufrag}:{mine.local_ufrag}" if username is None else username
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 1
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity((mine.remote_pwd if password is None else password).encode())
    return bytes(message)


def fingerprinted(message: bytes) -> bytes:
    """With a right FINGERPRINT (RFC 8489 §14.7), so that what is wrong before it is looked at."""
    message = stun.set_body_length(message, len(message) - 20 + 8)
    return message + pack("!HHL", 0x8028, 4, stun.message_fingerprint(message))


def wrong_checks(mine: Credentials, other: Credentials) -> dict[str, bytes]:
    """One thing wrong with each."""
    good = request(mine)
    body = good[:-8]
    bare = bytes(stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST))
    unsigned = body[:-24]
    checks = {
        "header only": bare,
        "fingerprint only": fingerprinted(bare),
        "no integrity": fingerprinted(unsigned),
        "no fingerprint": stun.set_body_length(body, len(body) - 20),
        "neither": stun.set_body_length(unsigned, len(unsigned) - 20),
        "another's password": request(mine, password=other.remote_pwd),
        "the client's own password": request(mine, password=mine.local_pwd),
        "empty password": request(mine, password=""),
        "unknown fragment": request(mine, username=f"nobody:{mine.local_ufrag}"),
        "halves swapped": request(mine, username=f"{mine.local_ufrag}:{mine.remote_ufrag}"),
        "first half only": request(mine, username=mine.remote_ufrag),
        "another's second half": request(mine, username=f"{mine.remote_ufrag}:{other.local_ufrag}"),
        "empty name": request(mine, username=""),
        "an indication": request(mine, kind=stun.Class.INDICATION),
        "a response": request(mine, kind=stun.Class.RESPONSE),
        "another method": fingerprinted(b"\x00\x03" + body[2:]),
        "no cookie": fingerprinted(body[:4] + bytes(4) + body[8:]),
        "something after it": good + bytes(4),
    }
    checks |= {f"cut by {cut}": good[:-cut] for cut in (1, 4, 8, 28, 32)}
    # Whatever is changed after signing, with a FINGERPRINT that fits and with one that does not.
    for at in range(len(good)):
        flipped = bytes((*good[:at], good[at] ^ 1, *good[at + 1 :]))
        checks[f"a bit of byte {at}"] = flipped
        if at not in (2, 3) and at < len(body):  # the length is written anew
            checks[f"a bit of byte {at}, fingerprint right"] = fingerprinted(flipped[:-8])
    return checks


async def test_a_check_with_anything_wrong_gets_not_one_byte(server: Server) -> None:
    stranger = Socket(server, ELSEWHERE)
    async with Caller.join(server, "ward", "one") as caller, Caller.join(server, "ward", "other") as other:
        mine = caller.credentials
        checks = wrong_checks(mine, other.credentials)
        assert len(checks) > 150
        for name, check in checks.items():
            caller.udp.send(check)
            stranger.send(check)
            await asyncio.sleep(0.001)
            assert caller.udp.bytes_received == stranger.bytes_received == 0, name
        await asyncio.sleep(0.2)
        assert caller.udp.bytes_received == stranger.bytes_received == 0
        transports = (await server.room("ward"))["engine"]["transports"]
        assert [each["pairs"] for each in transports] == [0, 0], "and nothing was learnt from them"

        good = request(mine)
        caller.udp.send(good)
        answer = await asyncio.wait_for(caller.udp.answers.get(), 5)
        assert len(answer) <= len(good)
        assert answer[8:20] == good[8:20]
    stranger.close()
