"""Handshakes between our associations and stock aiortc, over a link that loses, repeats and forges datagrams."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import pytest
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport, SRTPProtectionProfile
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from d4e_sfu._engine import Profile
from d4e_sfu.core.boundary import DtlsRole, TransportId
from d4e_sfu.drivers.certificates import dtls_certificate
from d4e_sfu.drivers.dtls import _PROFILES, EngineCertificate, Limits, _reads, packed
from d4e_sfu.drivers.inbox import Inbox, TokenBucket
from tests.drivers.associations import Client, Server, both_connected, lost, until

ROLES: list[DtlsRole] = ["client", "server"]
TOP = Path(__file__).parents[2]


async def test_a_new_certificate_is_for_who_joins_then_and_running_associations_keep_theirs() -> None:
    server = Server()
    before = server.associations.fingerprint
    running, told = Client(server, 1), Client(server, 2)
    await both_connected(server, running)
    server.associations.renew(EngineCertificate.generate())
    assert server.associations.fingerprint != before
    await both_connected(server, told)  # he was told of the old one, and comes only now
    new = Client(server, 3)
    await both_connected(server, new)
    assert (told.told, new.told) == (before, server.associations.fingerprint)
    assert running.dtls.state == "connected"
    server.associations.renew(EngineCertificate.generate())
    late = Client(server, 4)
    await both_connected(server, late)
    assert server.heard.failed == []
    for client in (running, told, new, late):
        await client.close()


def _certificate(size: int) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate of about `size` bytes."""
    key = ec.generate_private_key(ec.SECP256R1())
    _, small = dtls_certificate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "large")])
    filling = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(size))
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(small.not_valid_before_utc)
        .not_valid_after(small.not_valid_after_utc)
        .add_extension(filling, critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("role", ROLES)
async def test_both_sides_derive_the_same_keys_and_the_engine_gets_them_once(role: DtlsRole) -> None:
    server = Server()
    client = Client(server, 7, role=role)
    exported: list[bytes] = []
    await both_connected(server, client)
    # The DTLS server chooses (RFC 5764 §4.1.1), and aiortc would rather have 256 bits.
    size, profile = (16, Profile.AeadAes128Gcm) if role == "client" else (32, Profile.AeadAes256Gcm)
    material = client.dtls._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (size + 12))  # type: ignore[union-attr]
    first, second, salts = material[:size], material[size : 2 * size], material[2 * size :]
    exported = [first + salts[:12], second + salts[12:]]  # client's, server's
    keys = server.keys[7]
    ours, theirs = (exported[1], exported[0]) if role == "client" else (exported[0], exported[1])
    assert keys.profile == profile
    assert bytes(keys.receive) == theirs
    assert bytes(keys.send) == ours
    association = server.associations._table[TransportId(7)]
    kept = [value for value in vars(association.dtls).values() if isinstance(value, bytes)]
    assert not any(key in value for value in kept for key in exported)
    assert association.dtls is not None
    assert association.dtls._rx_srtp is None
    await client.close()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("known", "used", "length"),
    [
        (b"SHA1_80", Profile.Aes128CmHmacSha1_80, 30),
        (b"256", Profile.AeadAes256Gcm, 44),
        (b"GCM", Profile.AeadAes128Gcm, 28),  # whatever the client would rather have
    ],
)
async def test_the_first_of_our_profiles_that_the_client_knows_is_used(
    role: DtlsRole, known: bytes, used: Profile, length: int
) -> None:
    server = Server()
    client = Client(server, 1, role=role)
    # Where aiortc is the DTLS server, its order counts.
    profiles = [p for p in client.dtls._srtp_profiles if known in p.openssl_profile]
    client.dtls._srtp_profiles = profiles if role == "client" else sorted(profiles, key=lambda p: p.key_length)
    await both_connected(server, client)
    assert server.keys[1].profile == used
    assert len(server.keys[1].send) == len(server.keys[1].receive) == length
    await client.close()


@pytest.mark.parametrize("role", ROLES)
async def test_without_a_common_profile_there_are_no_keys(role: DtlsRole) -> None:
    server = Server()
    client = Client(server, 1, role=role)
    client.dtls._srtp_profiles = [SRTPProtectionProfile(2, b"SRTP_AES128_CM_SHA1_32", 16, 14)]
    began = time.monotonic()
    await client.connect()
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "profile")]
    assert not server.keys
    await until(lambda: client.dtls.state in ("failed", "closed"), within=1 - (time.monotonic() - began))


# --- certificates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_a_peer_with_an_rsa_certificate_connects(role: DtlsRole) -> None:
    """GStreamer's is one. Stock aiortc has no RSA suites: it is given ours."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _, like = dtls_certificate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rsa")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )

    class RsaCertificate(RTCCertificate):
        def _create_ssl_context(self, srtp_profiles):  # type: ignore[no-untyped-def]
            context = super()._create_ssl_context(srtp_profiles)
            context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
            return context

    class WholeFlights(RTCDtlsTransport):
        """An RSA flight is longer than the 1,500 bytes that stock aiortc reads."""

        async def _write_ssl(self) -> None:
            for _ in range(4):
                await super()._write_ssl()

    server = Server()
    own = RsaCertificate(key, certificate)  # type: ignore[arg-type]
    client = Client(server, 1, role=role, certificate=own, dtls=lambda ice, cert: WholeFlights(ice, [cert]))
    await both_connected(server, client)
    await client.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_flight_with_a_large_certificate_leaves_whole(role: DtlsRole) -> None:
    """aiortc sends the first 1,500 bytes of a flight, cut through a record, and the rest never."""
    server = Server(certificate=EngineCertificate(*_certificate(3000)))
    client = Client(server, 1, role=role)
    assert await both_connected(server, client) < 0.5
    down = client.sent["down"]
    assert max(len(datagram) for datagram in down) <= 1200
    assert sum(len(datagram) for datagram in down) > 3000
    await client.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_peer_with_a_large_certificate_connects(role: DtlsRole) -> None:
    class WholeFlights(RTCDtlsTransport):
        async def _do_handshake(self) -> None:
            self._ssl.set_ciphertext_mtu(1200)  # type: ignore[union-attr]
            await super()._do_handshake()

        async def _write_ssl(self) -> None:
            try:
                written = self._ssl.bio_read(1 << 16)  # type: ignore[union-attr]
            except SSL.WantReadError:
                return
            for datagram in packed(written):
                await self.transport._send(datagram)

    class Sized(RTCCertificate):
        def _create_ssl_context(self, srtp_profiles):  # type: ignore[no-untyped-def]
            context = super()._create_ssl_context(srtp_profiles)
            context.set_options(SSL.OP_NO_QUERY_MTU)
            return context

    server = Server()
    client = Client(
        server, 1, role=role, certificate=Sized(*_certificate(3000)), dtls=lambda ice, own: WholeFlights(ice, [own])
    )
    await both_connected(server, client)
    assert sum(len(datagram) for datagram in client.sent["up"]) > 3000
    await client.close()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "fingerprints",
    [
        [("sha-256", ":".join(["AA"] * 32))],
        [("sha-1", ":".join(["AA"] * 20))],
        [("md5", "AA")],
        [],
    ],
    ids=["mismatch", "sha-1 only", "md5 only", "none"],
)
async def test_a_wrong_fingerprint_gives_no_keys(role: DtlsRole, fingerprints: list[tuple[str, str]]) -> None:
    server = Server()
    client = Client(server, 1, role=role, fingerprints=fingerprints)
    began = time.monotonic()
    start = asyncio.create_task(client.connect(within=1))
    await until(lambda: server.heard.failed, within=1)
    assert server.heard.failed == [(1, "fingerprint")]
    assert not server.keys
    assert not server.heard.connected
    if fingerprints and fingerprints[0][0] == "sha-256":
        # Told by a fatal alert, and never led to believe that it is connected.
        await start
        assert client.dtls.state == "failed"
        assert time.monotonic() - began < 1
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)


async def test_one_wrong_fingerprint_among_right_ones_is_enough_to_refuse() -> None:
    server = Server()
    certificate = RTCCertificate.generateCertificate()
    right = [(f.algorithm, f.value) for f in certificate.getFingerprints()]
    client = Client(server, 1, certificate=certificate, fingerprints=[*right[:2], ("sha-512", ":".join(["00"] * 64))])
    await client.connect()
    assert server.heard.failed == [(1, "fingerprint")]
    assert not server.keys
    assert client.dtls.state == "failed", "never led to believe that it is connected"


async def test_fingerprints_in_lower_case_match() -> None:
    server = Server()
    certificate = RTCCertificate.generateCertificate()
    given = [(f.algorithm.upper(), f.value.lower()) for f in certificate.getFingerprints()]
    client = Client(server, 1, certificate=certificate, fingerprints=given)
    await both_connected(server, client)
    await client.close()


# --- hostile datagrams ------------------------------------------------------------------------------------------


def _alert(description: int = 40) -> bytes:
    return bytes([21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, description])


async def test_garbage_before_and_during_the_handshake_is_harmless() -> None:
    chance = random.Random(1)
    server = Server()

    def with_garbage(number: int, datagram: bytes) -> tuple[float, ...]:
        for _ in range(5):
            size = chance.choice([0, 1, 12, 13, 14, 60, 1500, 2048, 2049, 9000])
            junk = bytes([chance.randrange(256)] * min(size, 1)) + chance.randbytes(max(0, size - 1))
            server.associations.receive(TransportId(1), junk)
        return (0.0,)

    client = Client(server, 1, to_server=with_garbage)
    await both_connected(server, client)
    await client.close()


@pytest.mark.parametrize("first", range(0, 256, 5))
async def test_every_first_byte_and_length_after_the_handshake_is_harmless(first: int) -> None:
    server = Server(limits=Limits(datagrams=4096, datagrams_per_second=1e6))
    client = Client(server, 1)
    await both_connected(server, client)
    for size in range(65):
        server.associations.receive(TransportId(1), (bytes([first]) + bytes(range(64)))[:size])
    server.associations.receive(TransportId(1), _alert())
    server.associations.receive(TransportId(1), client.sent["up"][0])  # a ClientHello again
    await until(lambda: server.associations.debug_state(TransportId(1))["queued"] == 0)
    await asyncio.sleep(0.01)
    assert not server.heard.failed
    assert client.dtls.state == "connected"
    await client.close()


async def test_an_alert_in_the_handshake_ends_that_association_alone() -> None:
    server = Server()
    client, other = Client(server, 1, to_client=lost(*range(100))), Client(server, 2)
    start = asyncio.create_task(client.connect())
    await until(lambda: client.sent["down"])
    server.associations.receive(TransportId(1), _alert())
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "handshake")]
    await both_connected(server, other)
    start.cancel()
    await other.close()


async def test_datagrams_without_end_are_dropped_at_the_inbox() -> None:
    server = Server(limits=Limits(datagrams=16, datagrams_per_second=100))
    Client(server, 1)
    for _ in range(10_000):
        server.associations.receive(TransportId(1), b"\x16" + bytes(1000))
    assert server.associations.counters.datagrams_dropped == 10_000 - 16
    assert server.associations.debug_state(TransportId(1))["queued"] == 16


async def test_datagrams_over_the_rate_are_dropped_though_they_are_read_at_once() -> None:
    inbox = Inbox(asyncio.get_running_loop(), limit=16, rate=100)

    async def passed(*, now: float) -> int:
        taken = [inbox.put(b"\x16", now=now) and await inbox.get() == b"\x16" for _ in range(1000)]
        return taken.count(True)

    assert await passed(now=0.0) == 100
    assert await passed(now=0.5) == 50
    assert await passed(now=60.0) == 100
    assert inbox.dropped == 3000 - 250


async def test_a_handshake_that_never_ends_in_its_bytes_is_cut() -> None:
    server = Server(limits=Limits(datagrams_per_second=1e6))
    client = Client(server, 1, to_client=lost(*range(1000)))
    start = asyncio.create_task(client.connect())
    await until(lambda: client.sent["down"])
    for _ in range(60):
        server.associations.receive(TransportId(1), b"\x16\xfe\xfd" + bytes(1500))
        await asyncio.sleep(0)
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "oversize")]
    start.cancel()


async def test_a_client_that_falls_silent_fails_at_the_deadline() -> None:
    server = Server(limits=Limits(handshake=0.3))
    client = Client(server, 1, to_client=lost(*range(1000)))
    start = asyncio.create_task(client.connect())
    began = time.monotonic()
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "timeout")]
    assert 0.25 < time.monotonic() - began < 0.8
    assert len(client.sent["down"]) <= 4  # the flight, and replays after 50, 150, (350) ms
    start.cancel()


@pytest.mark.parametrize("role", ROLES)
async def test_a_transport_without_a_single_datagram_fails_as_silent(role: DtlsRole) -> None:
    server = Server(limits=Limits(silence=0.1))
    Client(server, 1, role=role)
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "silent")]
    assert server.associations.counters.handshakes == {"silent": 1}


async def test_a_path_that_comes_late_costs_our_client_no_time() -> None:
    server = Server()
    client = Client(server, 1, role="server", to_client=lost(*range(3)))  # 0, 50 and 150 ms
    start = asyncio.create_task(client.connect())
    await until(lambda: len(client.sent["down"]) == 3)
    server.associations.path_changed(TransportId(1))
    await until(lambda: server.heard.connected, within=0.15)
    await start
    await client.close()


# --- ends ------------------------------------------------------------------------------------------


async def test_close_says_goodbye_before_it_returns() -> None:
    server = Server()
    client = Client(server, 1)
    await both_connected(server, client)
    before = len(client.sent["down"])
    server.associations.close(TransportId(1))
    assert len(client.sent["down"]) == before + 1
    await until(lambda: client.dtls.state == "closed")
    server.associations.close(TransportId(1))  # twice is harmless
    server.associations.receive(TransportId(1), client.sent["up"][0])
    await asyncio.sleep(0.01)
    assert not server.heard.failed


async def test_the_clients_goodbye_is_heard() -> None:
    server = Server()
    client = Client(server, 1)
    await both_connected(server, client)
    await client.close()
    await until(lambda: server.heard.failed)
    assert server.heard.failed == [(1, "closed")]
    assert server.associations.counters.ends == {"closed": 1}


async def test_closing_in_the_middle_of_a_handshake_leaves_nothing_behind() -> None:
    server = Server()
    client = Client(server, 1, to_client=lost(*range(100)))
    start = asyncio.create_task(client.connect())
    await until(lambda: client.sent["down"])
    tasks = len(asyncio.all_tasks())
    server.associations.close(TransportId(1))
    sent = len(client.sent["down"])
    await asyncio.sleep(0.2)
    assert len(client.sent["down"]) == sent
    assert len(asyncio.all_tasks()) == tasks - 1
    start.cancel()


@pytest.mark.parametrize("who", ["server", "client"])
async def test_what_ended_is_freed_at_once(who: str) -> None:
    """About 90 kB each, mostly OpenSSL's, which Python's collector does not count."""
    server = Server()
    client = Client(server, 1, sctp=True)
    await both_connected(server, client)
    association = server.associations._table[TransportId(1)]
    assert association.dtls is not None
    assert association.data is not None
    held = (association.dtls, association.data, association.dtls._ssl)
    left: list[weakref.ref[object]] = [weakref.ref(each) for each in held]
    del association, held
    gc.disable()
    try:
        if who == "server":
            server.associations.close(TransportId(1))
        else:
            await client.close()
            await until(lambda: server.heard.failed)
        await asyncio.sleep(0.05)
        assert [reference() for reference in left] == [None] * 3
    finally:
        gc.enable()


async def test_closing_from_within_the_answer_to_an_event_is_allowed() -> None:
    server = Server()
    client = Client(server, 1)
    server.heard.transport_connected = lambda transport, *, now: server.associations.close(transport)  # type: ignore[method-assign]
    await client.connect()
    await until(lambda: client.dtls.state == "closed")
    assert not server.heard.failed
    assert server.associations.counters.faults == 0


async def test_a_fault_of_the_core_does_not_cost_the_association(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    client = Client(server, 1)

    def broken(transport: TransportId, *, now: float) -> None:
        raise RuntimeError("bug")

    server.heard.transport_connected = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        await client.connect()
        await until(lambda: server.associations.counters.faults == 1)
    assert client.dtls.state == "connected"
    assert "the core failed" in caplog.text
    await client.close()


async def test_a_hundred_handshakes_at_once_and_one_task_each() -> None:
    server = Server()
    clients = [Client(server, number) for number in range(100)]
    await asyncio.gather(*(client.connect(within=20) for client in clients))
    await until(lambda: len(server.heard.connected) == 100)
    ours = [
        task for task in asyncio.all_tasks() if "rtcdtlstransport" in str(task.get_coro()) or "dtls " in task.get_name()
    ]
    assert len(ours) <= 200  # a hundred of them are the clients'
    assert server.associations.counters.handshakes == {"connected": 100}
    assert sum(server.associations.counters.durations.counts) == 100
    server.associations.stop()
    await until(lambda: all(client.dtls.state == "closed" for client in clients))


async def test_more_handshakes_than_allowed_wait_for_their_turn() -> None:
    server = Server(limits=Limits(handshakes=2))
    clients = [Client(server, number) for number in range(20)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            states = [server.associations.debug_state(TransportId(n))["dtls"] for n in range(20)]
            most = max(most, states.count("connecting"))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client.connect() for client in clients))
    await until(lambda: len(server.heard.connected) == 20)
    watching.cancel()
    assert 1 <= most <= 2
    server.associations.stop()


# --- versions and callbacks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "outcome"), [(0xFEFF, "failed"), (0xFEFD, "connected")])
async def test_only_dtls_1_2_is_spoken(version: int, outcome: str) -> None:
    class Fixed(RTCCertificate):
        def _create_ssl_context(self, srtp_profiles):  # type: ignore[no-untyped-def]
            context = super()._create_ssl_context(srtp_profiles)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
            return context

    server = Server()
    client = Client(server, 1, certificate=Fixed.generateCertificate())
    await client.connect()
    assert client.dtls.state == outcome
    assert bool(server.keys) == (outcome == "connected")


_UNDER_MDWE = """
    import asyncio, ctypes, sys
    from tests.drivers.associations import Client, Server, until
    from d4e_sfu.drivers import dtls
    from aiortc.rtcdtlstransport import RTCDtlsTransport
    from OpenSSL import SSL

    if sys.argv[1] == "python":
        create = dtls.EngineCertificate._create_ssl_context
        def with_python_callback(self, srtp_profiles):
            context = create(self, srtp_profiles)
            context.set_verify(SSL.VERIFY_PEER, lambda *arguments: True)
            return context
        dtls.EngineCertificate._create_ssl_context = with_python_callback

    libc = ctypes.CDLL(None, use_errno=True)
    PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
    if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        print("no MDWE in this kernel")
        sys.exit(77)

    class WithMtu(RTCDtlsTransport):
        async def _do_handshake(self):
            self._ssl.set_ciphertext_mtu(1200)
            await super()._do_handshake()

    async def main():
        server = Server()
        # The client's certificate is ours too: stock aiortc's would make a Python callback.
        own = dtls.EngineCertificate.generate()
        client = Client(server, 1, certificate=own, dtls=lambda ice, own: WithMtu(ice, [own]))
        await client.connect()
        await until(lambda: server.heard.connected)
        print("connected")

    asyncio.run(main())
"""


@pytest.mark.parametrize(("callback", "works"), [("engine", True), ("python", False)])
def test_a_handshake_needs_no_memory_that_is_writable_and_executable(callback: str, works: bool) -> None:
    """Under PR_SET_MDWE, as under systemd's MemoryDenyWriteExecute=. A Python callback fails there: the guard."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_UNDER_MDWE), callback],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("the kernel has no PR_SET_MDWE (Linux 6.3)")
    if works:
        assert "connected" in done.stdout, done.stderr
    else:
        assert "Cannot allocate write+execute memory" in done.stderr


# --- parts ------------------------------------------------------------------------------------------


def test_records_are_packed_into_datagrams_and_never_cut() -> None:
    def record(size: int) -> bytes:
        return bytes(11) + (size - 13).to_bytes(2, "big") + bytes(size - 13)

    sizes = [600, 500, 100, 1, 1200, 1300, 13]
    records = [record(max(13, size)) for size in sizes]
    datagrams = packed(b"".join(records))
    assert [len(datagram) for datagram in datagrams] == [1200, 13, 1200, 1300, 13]
    assert b"".join(datagrams) == b"".join(records)


def test_nobody_reads_in_vain_unless_a_datagram_is_not_made_of_whole_records() -> None:
    record = bytes(11) + (20).to_bytes(2, "big") + bytes(20)
    assert list(_reads(record)) == [0]
    assert list(_reads(3 * record)) == [0, 1, 2]
    for broken in (b"", record[:-1], record + b"x", record + record[:13], bytes(5), b"\xff" * 40):
        many = list(itertools.islice(_reads(broken), 100))
        assert len(many) == (100 if broken else 0), broken


def test_a_token_bucket_saves_up_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    assert [bucket.take(1, now=0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(1, now=0.1)
    assert not bucket.take(1, now=0.1)
    assert [bucket.take(1, now=1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_all_handshakes_share_one_context() -> None:
    certificate = EngineCertificate.generate()
    assert certificate._create_ssl_context(_PROFILES) is certificate._create_ssl_context(_PROFILES)


async def test_an_inbox_takes_dtls_only() -> None:
    inbox = Inbox(asyncio.get_running_loop(), limit=8, rate=1000)
    assert not inbox.put(b"", now=0)
    assert not inbox.put(b"\x16" * 2049, now=0)
    taken = [first for first in range(256) if first % 40 == 20 and inbox.put(bytes([first]), now=0)]
    assert taken == [20, 60]
    assert not inbox.put(b"\x13", now=0)
    assert not inbox.put(b"\x40", now=0)
    assert await inbox.get() == b"\x14"
    inbox.close()
    assert await inbox.get() is None
