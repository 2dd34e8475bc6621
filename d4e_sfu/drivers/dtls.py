"""One DTLS association: aiortc's transport over the engine's datagrams, and keys exported to the engine.

`EngineCertificate` holds the context that all share, `EngineDtls` is one handshake and the records after it. Which
transport it belongs to and who hears of it is the table's business (`associations.Associations`). Media never passes
here; data channels do (`datachannel.GuardedSctp`).

On the path of a join: `associations` → handshake here → fingerprint → keys → `associations`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any, Final

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    X509_DIGEST_ALGORITHMS,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
    certificate_digest,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from d4e_sfu import _engine
from d4e_sfu._engine import Profile
from d4e_sfu.core.boundary import DtlsRole
from d4e_sfu.drivers.certificates import dtls_certificate
from d4e_sfu.drivers.datachannel import DataLimits
from d4e_sfu.drivers.inbox import MAX_DATAGRAM, Inbox

log = logging.getLogger(__name__)

_DTLS_1_2: Final = 0xFEFD
# Bytes of UDP payload of a handshake's datagrams; what every path on the internet carries, and what browsers use.
_MTU: Final = 1200
# The first that both sides know is used (RFC 7714 §14.2). GCM costs about a third of CM; 256 bits serve clients that
# know no other GCM, and cost more than 128, which nobody can break either.
_PROFILES: Final = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
_ENGINE_PROFILE: Final[dict[SRTPProtectionProfile, Profile]] = {
    SRTP_AEAD_AES_128_GCM: Profile.AeadAes128Gcm,
    SRTP_AEAD_AES_256_GCM: Profile.AeadAes256Gcm,
    SRTP_AES128_CM_SHA1_80: Profile.Aes128CmHmacSha1_80,
}
# RFC 8827 §6.5: P-256 with AES-128-GCM is what all have. Ours is an ECDSA certificate; the RSA suites are for
# peers that are the server and have an RSA one (GStreamer).
_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384"
)
# Bytes of one handshake message; the largest is a certificate, of 500 to 3,000.
_LONGEST_MESSAGE: Final = 8 << 10
# Messages of one side in one handshake: a server's flights with a cookie and a ticket are eight (RFC 6347 §4.2.1).
_MESSAGES: Final = 8
_LONGEST_REPLAY: Final = 1.6  # seconds between replays of a flight
_HANDSHAKE: Final = 22  # RFC 5246 §6.2.1
_FATAL, _HANDSHAKE_FAILURE, _BAD_CERTIFICATE = 2, 40, 42  # RFC 5246 §7.2

# Why a transport failed: the closed set of a metric's label, and what the core is told.
FAILURES: Final = (
    "silent",  # no datagram at all: ICE never came up, or DTLS is blocked
    "timeout",  # the handshake did not finish in time
    "handshake",  # OpenSSL refused what the peer sent, or the peer refused us
    "fingerprint",  # the peer's certificate is not the one in its session description
    "profile",  # no SRTP profile in common
    "oversize",  # more handshake than any certificate needs
    "closed",  # after it was connected: the client ended it
    "internal",  # our fault
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and times of associations; times in seconds."""

    silence: float = 30.0  # from `open` to the first datagram
    handshake: float = 10.0  # from the first datagram to connected
    first_replay: float = 0.05  # of a flight without an answer; doubles
    handshake_bytes: int = 64 << 10  # received in one handshake
    handshakes: int = 512  # at the same time, about 90 kB each; more wait their turn
    steps: int = 8  # associations that work in one turn of the event loop
    datagrams: int = 128  # waiting, for each transport
    datagrams_per_second: float = 3000.0  # for each transport
    data: DataLimits = field(default_factory=DataLimits)


class EngineCertificate(RTCCertificate):
    """Our certificate, with the one SSL context that all handshakes share."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate, *, verify: int | None = None) -> None:
        """`verify` is the address of a C function that accepts any certificate; by default the engine's."""
        super().__init__(key, cert)
        self._verify = _engine.certificate_verify_callback() if verify is None else verify
        self._context: SSL.Context | None = None

    @classmethod
    def generate(cls) -> EngineCertificate:
        """A new one, in memory only."""
        return cls(*dtls_certificate())

    @property
    def fingerprint(self) -> tuple[str, str]:
        return next((f.algorithm, f.value) for f in self.getFingerprints() if f.algorithm == "sha-256")

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            context = SSL.Context(SSL.DTLS_METHOD)
            context.set_min_proto_version(_DTLS_1_2)
            # DTLS 1.3 sends flights that aiortc's transport was not written for; browsers all speak 1.2.
            context.set_max_proto_version(_DTLS_1_2)
            context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION)
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            context.set_mode(SSL.MODE_RELEASE_BUFFERS)
            # `Context.set_verify` would make a Python callback, hence memory that is writable and executable, which
            # the service's sandbox forbids. Any certificate is accepted here; its fingerprint is what counts.
            SSL._lib.SSL_CTX_set_verify(  # type: ignore[attr-defined]
                context._context,
                SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
                SSL._ffi.cast("int (*)(int, X509_STORE_CTX *)", self._verify),  # type: ignore[attr-defined]
            )
            context.use_certificate(self._cert)
            context.use_privatekey(self._key)
            context.set_cipher_list(_CIPHERS)
            context.set_tlsext_use_srtp(b":".join(profile.openssl_profile for profile in srtp_profiles))
            self._context = context
        return self._context


class EngineDtls(RTCDtlsTransport):
    """One DTLS association: aiortc's, with whole flights, replays, several records in a datagram, and a deadline.

    It cannot be used twice: a new handshake is a new object. After `start` it is connected, or `failure` says why not.
    """

    def __init__(
        self,
        inbox: Inbox,
        certificate: EngineCertificate,
        *,
        role: DtlsRole,
        fingerprints: Sequence[tuple[str, str]],
        send: Callable[[list[bytes]], None],
        keys: Callable[[Profile, bytes, bytes], None],
        on_end: Callable[[str], None],
        turn: asyncio.Semaphore,
        limits: Limits,
    ) -> None:
        """`send(datagrams)`; `keys(profile, receive, send)` once; `on_end(reason)` once, when it fails or closes."""
        super().__init__(inbox, [certificate])  # type: ignore[arg-type]  # all that aiortc wants of it is `role`
        self._set_role(role)
        self._srtp_profiles = _PROFILES
        self._expected = RTCDtlsParameters(
            fingerprints=[RTCDtlsFingerprint(algorithm=name, value=value) for name, value in fingerprints]
        )
        self._inbox = inbox
        self._out = send
        self._keys = keys
        self._on_end = on_end
        self._turn = turn
        self._limits = limits
        self._flight: list[bytes] = []
        self._replay_after = limits.first_replay
        self._replay_at: float | None = None
        self._replays_left = 0
        self._deadline = 0.0
        self._received = 0  # bytes
        self._event_loop = asyncio.get_running_loop()
        self.failure: str | None = None
        self.on_nudge: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.replayed = 0

    async def run(self) -> None:
        """The handshake; afterwards aiortc's own task reads records until the end."""
        await self.start(self._expected)

    def send_record(self, data: bytes) -> None:
        """One application record (an SCTP packet) to the peer. Raises ConnectionError when DTLS is not up."""
        if self._state is not State.CONNECTED or self._ssl is None:
            raise ConnectionError("not connected")
        try:
            self._ssl.send(data)
        except SSL.Error as error:
            raise ConnectionError("record refused") from error
        self._flush()

    def close(self) -> None:
        """close_notify to the peer, at once; the state is then closed or failed, and nothing more is called."""
        self._on_end = _ignore
        complete(self.stop())
        self._inbox.close()
        self.on_nudge = None  # its owner; what refers to each other in a circle stays in memory until it is searched
        self._keys = _ignore

    # --- the handshake ---------------------------------------------------------------------------------------------

    async def _do_handshake(self) -> None:
        assert self._ssl is not None
        self._ssl.set_ciphertext_mtu(_MTU)
        # A server is made for a first datagram that is there; a client may have to wait for its path.
        self._deadline = self._event_loop.time() + (
            self._limits.handshake if self._role == "server" else self._limits.silence
        )
        while not self.encrypted:
            async with self._turn:
                refusal = self._step()
                # Let others run between the expensive steps of many handshakes.
                await asyncio.sleep(0)
            if refusal is None and not self.encrypted:
                refusal = await self._await_datagram()
            if refusal is not None:
                self.failure = refusal
                self._set_state(State.FAILED)
                return
        # Nobody answers the server's last flight: it is replayed a few times, until a record proves that it arrived.
        self._replays_left = 3 if self._role == "server" else 0

    def _step(self) -> str | None:
        """Let OpenSSL go on with what it has; returns why it failed. Nothing leaves before the peer is verified."""
        assert self._ssl is not None
        try:
            self._ssl.do_handshake()
            self.encrypted = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            log.debug("handshake: %s", error)
            self._flush()  # OpenSSL's own alert
            return "handshake"
        if not self._verified():
            self._refuse(_BAD_CERTIFICATE)
            return "fingerprint"
        if self.encrypted and self._profile() is None:
            self._refuse(_HANDSHAKE_FAILURE)
            return "profile"
        if self._flush():
            self._replay_after = self._limits.first_replay
            # A client's answer to the server's flight is left to OpenSSL's timer: one that comes when the handshake has
            # ended makes FFmpeg's WHIP muxer (libavformat 62, whip_write_packet, then tls_write in tls_gnutls.c) wait
            # for a datagram of ours before each packet, for good.
            answers = self._role == "client" and self._received > 0
            self._replay_at = None if answers else self._event_loop.time() + self._replay_after
        return None

    def _verified(self) -> bool:
        """False once the peer has shown a certificate that is not the expected one.

        The rule is aiortc's: at least one fingerprint of a kind that we know, and all of those match (RFC 8122 §5).
        It applies it again after the handshake; by then our last flight would have told the peer that all is well.
        """
        assert self._ssl is not None
        try:
            certificate = self._ssl.get_peer_certificate(as_cryptography=True)
            if certificate is None:
                return not self.encrypted
            known = [f for f in self._expected.fingerprints if f.algorithm.lower() in X509_DIGEST_ALGORITHMS]
            return bool(known) and all(
                f.value.upper() == certificate_digest(certificate, f.algorithm.lower()) for f in known
            )
        except ValueError:  # a certificate that OpenSSL reads and `cryptography` does not
            return False

    async def _await_datagram(self) -> str | None:
        """Feed the next datagram to OpenSSL; meanwhile our last flight is sent again and again, further and further
        apart. The peer's replay protection (RFC 6347 §4.1.2.6) drops what it had received."""
        assert self._ssl is not None
        while True:
            own = self._ssl.DTLSv1_get_timeout()
            datagram = await self._inbox.get(
                until=min(
                    self._deadline,
                    self._deadline if self._replay_at is None else self._replay_at,
                    self._deadline if own is None else self._event_loop.time() + own,
                )
            )
            now = self._event_loop.time()
            if datagram is not None:
                if not self._received:
                    self._deadline = now + self._limits.handshake
                self._received += len(datagram)
                if self._received > self._limits.handshake_bytes:
                    return "oversize"
                if reserves_too_much(datagram):
                    continue
                self._ssl.bio_write(datagram)
                return None
            if now >= self._deadline:
                return "timeout" if self._received or self._role == "server" else "silent"
            try:
                # OpenSSL's timer (1 s, doubling) sends with new record numbers, for a peer that has to see ours again.
                if self._ssl.DTLSv1_handle_timeout():
                    self._flush()
            except SSL.Error:
                return "timeout"
            self._replay(now)

    def _replay(self, now: float) -> None:
        if self._replay_at is None or now < self._replay_at:
            return
        if self.encrypted:
            self._replays_left -= 1
            if self._replays_left < 0:
                self._replay_at = None
                return
        self._out(self._flight)
        self.replayed += 1
        self._replay_after = min(2 * self._replay_after, _LONGEST_REPLAY)
        self._replay_at = now + self._replay_after

    def resend(self) -> None:
        """The path has just come up: what was sent before it did is lost."""
        if not self.encrypted and self._flight:
            self._out(self._flight)

    def _profile(self) -> SRTPProtectionProfile | None:
        assert self._ssl is not None
        name = self._ssl.get_selected_srtp_profile()
        return next((profile for profile in _PROFILES if profile.openssl_profile == name), None)

    def _setup_srtp(self) -> None:
        """Export the keys (RFC 5764 §4.2) and hand them on; aiortc would make two libsrtp sessions here."""
        assert self._ssl is not None
        profile = self._profile()
        assert profile is not None  # `_step` has refused the handshake otherwise
        material = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        client, server = profile.get_key_and_salt(material, 0), profile.get_key_and_salt(material, 1)
        receive, send = (client, server) if self._role == "server" else (server, client)
        self._keys(_ENGINE_PROFILE[profile], receive, send)

    def _refuse(self, description: int) -> None:
        """A fatal alert instead of what OpenSSL was about to send: the peer must not believe to be connected."""
        assert self._ssl is not None
        self._drain()
        if self.encrypted and self._role == "client":
            self._send_shutdown()  # the server is connected and reads encrypted records only
        else:
            # RFC 6347 §4.1, epoch 0; a sequence number above any that a handshake uses.
            self._out([pack("!BHHHLHBB", 21, _DTLS_1_2, 0, 0, 0xFFFF, 2, _FATAL, description)])

    def _send_shutdown(self) -> None:
        assert self._ssl is not None
        try:
            self._ssl.shutdown()
        except SSL.Error:
            pass
        self._flush()

    # --- records ---------------------------------------------------------------------------------------------------

    async def _recv_next(self) -> None:
        """One datagram, or one turn of sending. Raises ConnectionError at the end of the association, and only that."""
        datagram = await self._inbox.get(until=self._replay_at)
        async with self._turn:
            try:
                if datagram is not None:
                    await self._read(datagram)
                else:
                    self._replay(self._event_loop.time())
                if self.on_nudge is not None:
                    await self.on_nudge()
            except ConnectionError:
                raise
            except Exception:
                log.exception("DTLS association ended by a fault of ours")
                self.failure = "internal"
                raise ConnectionError from None
            await asyncio.sleep(0)

    async def _read(self, datagram: bytes) -> None:
        """Every record of a datagram; aiortc reads one and leaves the others until the next datagram.

        Not once more than there are records: OpenSSL keeps a buffer of 16 KiB for a reader who came in vain.
        """
        assert self._ssl is not None
        self._ssl.bio_write(datagram)
        for _ in _reads(datagram):
            try:
                data = self._ssl.recv(MAX_DATAGRAM)
            except SSL.WantReadError:
                break
            except SSL.Error:
                # close_notify (ZeroReturnError), or a fatal alert under our keys; forged records are no error.
                self._flush()
                self.failure = "closed"
                raise ConnectionError from None
            self._replay_at = None
            if self._data_receiver is not None:
                await self._data_receiver._handle_data(data)
        self._flush()

    async def _send_data(self, data: bytes) -> None:
        self.send_record(data)

    async def _write_ssl(self) -> None:
        self._flush()

    def _flush(self) -> bool:
        """Send what OpenSSL has written, whole: its records packed into datagrams. False = there was nothing."""
        written = self._drain()
        if not written:
            return False
        datagrams = packed(written)
        if self._state is State.CONNECTING:
            self._flight = datagrams
        self._out(datagrams)
        return True

    def _drain(self) -> bytes:
        assert self._ssl is not None
        try:
            return self._ssl.bio_read(1 << 16)
        except SSL.Error:
            return b""

    def _set_state(self, state: State) -> None:
        super()._set_state(state)
        if state in (State.FAILED, State.CLOSED):
            self._inbox.close()
            # Without a reason of ours, what failed is aiortc's own look at the fingerprint.
            self._on_end(self.failure or ("fingerprint" if state is State.FAILED else "closed"))


def verifiable(fingerprints: Sequence[tuple[str, str]]) -> bool:
    """At least one of them is of a kind that we can check; SHA-1 is not (RFC 8122 §5)."""
    return any(algorithm.lower() in X509_DIGEST_ALGORITHMS for algorithm, _ in fingerprints)


def reserves_too_much(datagram: bytes) -> bool:
    """Whether a piece of a handshake message is of a longer one than any of ours, or of one more than there are.

    OpenSSL reserves the whole at its first piece, and for ten messages that are not due yet (RFC 6347 §4.2.2): for a
    hundred bytes a million.
    """
    at = 0
    while at + 13 <= len(datagram):  # records: RFC 6347 §4.1
        kind, epoch, length = unpack_from("!B2xH6xH", datagram, at)
        at, piece = at + 13 + length, at + 13
        while kind == _HANDSHAKE and epoch == 0 and piece + 12 <= min(at, len(datagram)):
            if int.from_bytes(datagram[piece + 1 : piece + 4]) > _LONGEST_MESSAGE:
                return True
            if int.from_bytes(datagram[piece + 4 : piece + 6]) >= _MESSAGES:
                return True
            piece += 12 + int.from_bytes(datagram[piece + 9 : piece + 12])
    return False


def packed(records: bytes, limit: int = _MTU) -> list[bytes]:
    """DTLS records as datagrams of at most `limit` bytes, none cut; a longer record goes alone."""
    datagrams: list[bytes] = []
    start = position = 0
    while position < len(records):
        end = position + 13 + int(unpack_from("!H", records, position + 11)[0])  # RFC 6347 §4.1: header of 13 bytes
        if end - start > limit and position > start:
            datagrams.append(records[start:position])
            start = position
        position = end
    datagrams.append(records[start:])
    return datagrams


def _reads(datagram: bytes) -> Iterable[int]:
    """One for each record (RFC 6347 §4.1: the length is in the last two of 13 bytes); where it is not made of whole
    records, without end: then OpenSSL has to say when."""
    count, at = 0, 0
    while at + 13 <= len(datagram):
        at += 13 + int.from_bytes(datagram[at + 11 : at + 13])
        count += 1
    return range(count) if at == len(datagram) else itertools.count()


def complete(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine of aiortc's that, over this transport, has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("aiortc waited where it must not")


def _ignore(*_: object) -> None:
    """Nobody listens any more."""
