"""Handshakes with the `openssl` command of the system, over UDP on the loopback: another version of the library, RSA
and large certificates, and keys exported by both sides."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from d4e_sfu._engine import Command, Profile
from d4e_sfu.core.boundary import DtlsRole, TransportId
from d4e_sfu.drivers.associations import Associations
from d4e_sfu.drivers.certificates import dtls_certificate
from tests.drivers.associations import Heard, until

ONE = TransportId(1)
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is missing")


class Bridge(asyncio.DatagramProtocol):
    """A UDP socket in place of the engine: one client, whoever speaks first."""

    def __init__(self) -> None:
        self.associations: Associations | None = None
        self.keys: list[Command.SetKeys] = []
        self.peer: tuple[str, int] | None = None
        self.longest = 0
        self.lose = 0  # that many of our next datagrams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr
        assert self.associations is not None
        self.associations.receive(ONE, data)

    def submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Command.SendDtls(datagram=datagram):
                    self.longest = max(self.longest, len(datagram))
                    self.lose -= 1
                    if self.peer is not None and self.lose < 0:
                        self.socket.sendto(bytes(datagram), self.peer)
                case Command.SetKeys():
                    self.keys.append(command)


def certificate(folder: Path, kind: str) -> tuple[list[str], tuple[str, str]]:
    """Arguments for openssl, and the fingerprint."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    _, like = dtls_certificate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, kind)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(3)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
    )
    if kind == "large":
        filling = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(3000))
        builder = builder.add_extension(filling, critical=False)
    made = builder.sign(key, hashes.SHA256())
    pem, secret = folder / "peer.pem", folder / "peer.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    digest = made.fingerprint(hashes.SHA256()).hex(":").upper()
    return ["-cert", str(pem), "-key", str(secret)], ("sha-256", digest)


# Which profiles openssl knows, the one that is agreed on, and the length of its master key and salt.
PROFILES = [
    ("SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80", Profile.AeadAes128Gcm, 16, 12),
    ("SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80", Profile.AeadAes256Gcm, 32, 12),
    ("SRTP_AES128_CM_SHA1_80", Profile.Aes128CmHmacSha1_80, 16, 14),
]


@asynccontextmanager
async def openssl(
    *arguments: str, profiles: str = PROFILES[0][0], length: int = 56
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *arguments,
        *("-mtu", "1200", "-use_srtp", profiles),
        *("-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", str(length)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def exported(process: asyncio.subprocess.Process) -> bytes:
    """What openssl derived: client's and server's key, then client's and server's salt."""
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(10):
        while True:
            line = (await process.stdout.readline()).decode(errors="replace")
            assert line, seen
            seen += line
            if found := re.search(r"Keying material: ([0-9A-F]+)\s", seen):
                return bytes.fromhex(found.group(1))


async def bridge() -> tuple[Bridge, Associations, Heard]:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(Bridge, local_addr=("127.0.0.1", 0))
    heard = Heard()
    protocol.associations = Associations(protocol.submit, heard)
    return protocol, protocol.associations, heard


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "large"])
@pytest.mark.parametrize("lose", [0, 1])
async def test_openssl_as_client(tmp_path: Path, kind: str, lose: int) -> None:
    files, fingerprint = certificate(tmp_path, kind)
    udp, associations, heard = await bridge()
    udp.lose = lose
    associations.open(
        ONE,
        ours=associations.fingerprint,
        fingerprints=[fingerprint],
        role="server",
        sctp_port=None,
        max_message_size=0,
    )
    port = udp.socket.get_extra_info("sockname")[1]
    async with openssl("s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", *files) as process:
        material = await exported(process)
        await until(lambda: heard.connected)
    assert bytes(udp.keys[0].receive) == material[0:16] + material[32:44]
    assert bytes(udp.keys[0].send) == material[16:32] + material[44:56]
    assert udp.longest <= 1200
    associations.stop()
    udp.socket.close()


@pytest.mark.parametrize(("known", "used", "key", "salt"), PROFILES)
@pytest.mark.parametrize("role", ["client", "server"])
async def test_each_protection_profile_with_openssl(
    tmp_path: Path, role: DtlsRole, known: str, used: Profile, key: int, salt: int
) -> None:
    files, fingerprint = certificate(tmp_path, "ecdsa")
    udp, associations, heard = await bridge()
    length = 2 * (key + salt)
    port = udp.socket.get_extra_info("sockname")[1]
    if role == "client":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        udp.peer = ("127.0.0.1", port)
        arguments = ["s_server", "-dtls1_2", "-accept", f"127.0.0.1:{port}", "-Verify", "1", *files]
    else:
        arguments = ["s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", *files]
    associations.open(
        ONE, ours=associations.fingerprint, fingerprints=[fingerprint], role=role, sctp_port=None, max_message_size=0
    )
    async with openssl(*arguments, profiles=known, length=length) as process:
        material = await exported(process)
        await until(lambda: heard.connected)
    client = material[:key] + material[2 * key : 2 * key + salt]
    server = material[key : 2 * key] + material[2 * key + salt :]
    keys = udp.keys[0]
    assert keys.profile == used
    assert (bytes(keys.send), bytes(keys.receive)) == ((client, server) if role == "client" else (server, client))
    associations.stop()
    udp.socket.close()


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "large"])
async def test_openssl_as_server(tmp_path: Path, kind: str) -> None:
    files, fingerprint = certificate(tmp_path, kind)
    udp, associations, heard = await bridge()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    udp.peer = ("127.0.0.1", port)
    arguments = ["s_server", "-dtls1_2", "-accept", f"127.0.0.1:{port}", "-Verify", "1", *files]
    async with openssl(*arguments) as process:
        role: DtlsRole = "client"
        # Its socket is not there at first: our ClientHello is sent again and again.
        associations.open(
            ONE,
            ours=associations.fingerprint,
            fingerprints=[fingerprint],
            role=role,
            sctp_port=None,
            max_message_size=0,
        )
        material = await exported(process)
        await until(lambda: heard.connected)
    assert bytes(udp.keys[0].send) == material[0:16] + material[32:44]
    assert bytes(udp.keys[0].receive) == material[16:32] + material[44:56]
    associations.stop()
    udp.socket.close()


@pytest.mark.parametrize(
    "arguments",
    [["-dtls1"], ["-dtls1_2", "-cipher", "NULL:@SECLEVEL=0"], ["-dtls1_2", "-cipher", "aNULL:@SECLEVEL=0"]],
    ids=["DTLS 1.0", "no encryption", "no certificate"],
)
async def test_openssl_with_something_weak_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    files, fingerprint = certificate(tmp_path, "ecdsa")
    udp, associations, heard = await bridge()
    associations.open(
        ONE,
        ours=associations.fingerprint,
        fingerprints=[fingerprint],
        role="server",
        sctp_port=None,
        max_message_size=0,
    )
    port = udp.socket.get_extra_info("sockname")[1]
    if arguments == ["-dtls1"]:
        arguments = [*arguments, "-cipher", "ALL:@SECLEVEL=0"]
    async with openssl("s_client", *arguments, "-connect", f"127.0.0.1:{port}", *files):
        await until(lambda: heard.failed)
    assert heard.failed == [(1, "handshake")]
    assert not udp.keys
    udp.socket.close()


async def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    _, fingerprint = certificate(tmp_path, "ecdsa")
    udp, associations, heard = await bridge()
    associations.open(
        ONE,
        ours=associations.fingerprint,
        fingerprints=[fingerprint],
        role="server",
        sctp_port=None,
        max_message_size=0,
    )
    port = udp.socket.get_extra_info("sockname")[1]
    async with openssl("s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}"):
        await until(lambda: heard.failed)
    assert heard.failed == [(1, "handshake")]
    assert not udp.keys
    udp.socket.close()
