"""A caller of whom every byte is ours: signalling through aiohttp, connectivity checks through aioice, DTLS and data
channels through stock aiortc, all over one plain UDP socket. So a test can be a correct client up to any point, and
then send what it likes from an address that the server has validated. None of this code is the server's.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp
from aioice import stun
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from livekit.protocol import models, rtc

from tests.doubles import Description
from tests.lab.server import Server
from tests.lab.stream import Way

CHECK_SECONDS = 0.25  # between two tries of a connectivity check; loopback loses nothing, a full buffer may
CONNECT_SECONDS = 15.0
CONSENT_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Credentials:
    """ICE user fragments and passwords of both sides."""

    local_ufrag: str
    local_pwd: str
    remote_ufrag: str
    remote_pwd: str

    def check(self) -> bytes:
        """The Binding request with which a controlling agent checks and nominates at once (RFC 8445 §7.2.2)."""
        message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{self.remote_ufrag}:{self.local_ufrag}"
        message.attributes["PRIORITY"] = 0x7E7F_1EFF
        message.attributes["ICE-CONTROLLING"] = secrets.randbits(63)
        message.attributes["USE-CANDIDATE"] = None
        message.add_message_integrity(self.remote_pwd.encode())
        message.add_fingerprint()
        return bytes(message)


class Socket(Way):
    """One UDP socket to the media port."""

    def __init__(self, server: Server, address: str = "127.0.0.1") -> None:
        super().__init__()
        self._media = ("127.0.0.1", server.media_port)
        # Not connected: an ICMP error is no news, and an answer from a wrong address would be.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((address, 0))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._receive)

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self._media)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        datagram, source = self._socket.recvfrom(1 << 16)
        assert source == self._media
        self.received(datagram)


class Caller:
    """`Caller.join` is in the room; after `check` his address is validated; after `connect` he has keys."""

    def __init__(self, signalling: aiohttp.ClientWebSocketResponse, udp: Way) -> None:
        self.signalling = signalling
        self.udp = udp
        self.certificate = RTCCertificate.generateCertificate()
        self.dtls = RTCDtlsTransport(udp, [self.certificate])  # type: ignore[arg-type]
        self.dtls._set_role("client")
        self.credentials = Credentials("", "", "", "")
        self.fingerprint = ("", "")

    @classmethod
    @asynccontextmanager
    async def join(cls, server: Server, room: str, identity: str, way: Way | None = None) -> AsyncIterator[Self]:
        """By UDP, or another way."""
        udp = Socket(server) if way is None else way
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
            # The offer needs the certificate, the answer comes on the socket that the offer opened.
            caller = cls(None, udp)  # type: ignore[arg-type]
            offer = caller._offer()
            params = {"access_token": server.token(room, identity, "doctor"), "join_request": wrapped(offer)}
            async with http.ws_connect(f"{server.ws}/rtc/v1", params=params, max_msg_size=0) as signalling:
                caller.signalling = signalling
                try:
                    joined = await caller.receive("join")
                    answer = (await caller.receive("answer")).answer.sdp
                    caller._answered(answer)
                    if way is not None:
                        await way.open(server, joined.join, answer)
                    yield caller
                finally:
                    await caller.dtls.stop()
                    udp.close()

    async def receive(self, kind: str) -> rtc.SignalResponse:
        """The next message of this kind; others are passed over."""
        while True:
            frame = await self.signalling.receive(timeout=CONNECT_SECONDS)
            assert frame.type is aiohttp.WSMsgType.BINARY, f"waiting for {kind}: {frame}"
            response = rtc.SignalResponse.FromString(frame.data)
            if response.WhichOneof("message") == kind:
                return response

    async def check(self) -> bytes:
        """A connectivity check until it is answered; returns the answer."""
        async with asyncio.timeout(CONNECT_SECONDS):
            while True:
                self.udp.send(self.credentials.check())
                try:
                    answer = await asyncio.wait_for(self.udp.answers.get(), CHECK_SECONDS)
                except TimeoutError:
                    continue
                message = stun.parse_message(answer)
                assert message.check_message_integrity(self.credentials.remote_pwd.encode())
                assert message.message_class is stun.Class.RESPONSE
                return answer

    @asynccontextmanager
    async def staying(self) -> AsyncIterator[list[rtc.SignalResponse]]:
        """Checks of consent (RFC 7675 §5.1) and answers to the signalling's pings all the while, as clients make them.
        What a test does may take a minute on a busy machine, and he would be forgotten. Yields what he is told.
        """
        heard: list[rtc.SignalResponse] = []

        async def consent() -> None:
            while True:
                await asyncio.sleep(CONSENT_SECONDS)
                self.udp.send(self.credentials.check())

        async def read() -> None:
            while (frame := await self.signalling.receive()).type is aiohttp.WSMsgType.BINARY:
                heard.append(rtc.SignalResponse.FromString(frame.data))

        tasks = [asyncio.create_task(each) for each in (consent(), read())]
        try:
            yield heard
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def connect(self) -> None:
        """Checks and the handshake; raises where there are no keys in the end."""
        await self.check()
        algorithm, value = self.fingerprint
        theirs = RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(algorithm=algorithm, value=value)])
        async with asyncio.timeout(CONNECT_SECONDS):
            await self.dtls.start(theirs)
        assert self.dtls.state == "connected"

    def description(self) -> str:
        """An offer; who makes it, and with which certificate, is written into it."""
        return Description("anyone").sdp()

    def _offer(self) -> rtc.SessionDescription:
        ufrag, password = secrets.token_hex(4), secrets.token_hex(12)
        self.credentials = Credentials(ufrag, password, "", "")
        mine = next(each for each in self.certificate.getFingerprints() if each.algorithm == "sha-256")
        sdp = self.description()
        for key, value in (("ice-ufrag", ufrag), ("ice-pwd", password), ("fingerprint", f"sha-256 {mine.value}")):
            sdp = re.sub(rf"(?m)^a={key}:[^\r\n]*", f"a={key}:{value}", sdp)
        return rtc.SessionDescription(type="offer", sdp=sdp, id=1)

    def _answered(self, sdp: str) -> None:
        values: dict[str, str] = {}
        for line in sdp.splitlines():
            key, _, value = line.partition(":")
            values.setdefault(key, value)
        mine = self.credentials
        self.credentials = Credentials(mine.local_ufrag, mine.local_pwd, values["a=ice-ufrag"], values["a=ice-pwd"])
        algorithm, _, value = values["a=fingerprint"].partition(" ")
        self.fingerprint = (algorithm, value)
        assert values["a=setup"] == "passive", "the server waits for the client's hello"


def wrapped(offer: rtc.SessionDescription | None) -> str:
    """A join request as the query carries it, compressed as browsers do."""
    request = rtc.JoinRequest(
        client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.PYTHON, protocol=16),
        connection_settings=rtc.ConnectionSettings(auto_subscribe=True),
        publisher_offer=offer,
    )
    message = rtc.WrappedJoinRequest(
        compression=rtc.WrappedJoinRequest.GZIP, join_request=gzip.compress(request.SerializeToString())
    )
    return base64.urlsafe_b64encode(message.SerializeToString()).decode()
