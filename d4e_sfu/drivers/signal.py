"""One signalling connection: WebSocket frames of protobuf ↔ core messages, on `/rtc/v1` and `/rtc`.

It checks what can be checked without knowing anyone (sizes, encoding, rates), answers pings, and bounds what waits for
a slow reader. What comes before (origin, token) is entrance.py; who may join and what a message means is the core's.
Everything that can be refused is refused before the upgrade, with a plain HTTP status and a sentence; after it, with
`leave` and a close code.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, WSMsgType, web
from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc

from d4e_sfu.core.allowance import Allowance
from d4e_sfu.drivers.entrance import Entrance, bearer_token
from d4e_sfu.drivers.websocket import DeflatingWebSocket
from d4e_sfu.errors import OUR_FAULT, BadRequest, TooLarge

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.sfu import Admission, Sfu

log = logging.getLogger(__name__)

# A client sends a ping every 5 s, and 30 candidates in its first second; a publish is three messages.
MESSAGES_PER_SECOND: Final = 100
MESSAGE_BURST: Final = 500
BYTES_PER_SECOND: Final = 1 << 20
BYTES_BURST: Final = 8 << 20
# What may wait for a slow reader. One message more is always taken, so that the largest answer fits.
MAX_WAITING: Final = 512 * 1024
# WebSocket pings; without any sign of life for one and a half times this, the connection is lost.
HEARTBEAT: Final = 10.0
# How long a client may take to read our last words before the connection is cut.
CLOSE_SECONDS: Final = 2.0
# An HTTP request line with a token and an offer for dozens of sections; the usual 8 KiB refuses real joins.
MAX_LINE: Final = 128 * 1024


class Signalling:
    """The HTTP face of joining. `setup` adds its routes to an application."""

    def __init__(
        self,
        sfu: Sfu,
        entrance: Entrance,
        *,
        on_refused: Callable[[Exception], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`on_refused` hears of every join that ends before the upgrade."""
        self._sfu = sfu
        self._entrance = entrance
        self._on_refused = on_refused
        self._wall = wall
        self._connections: set[_Connection] = set()

    def setup(self, app: web.Application) -> None:
        # Clients append to a base URL, and not all of them mind its last slash.
        for path, handler in (
            ("rtc/v1", self._single),
            ("rtc/v1/validate", self._validate),
            ("rtc", self._rtc),
            ("rtc/validate", self._validate),
            ("rtc{rest:.*}", _absent),
        ):
            app.router.add_route("GET", "/{slashes:/*}" + path, self._entrance.refusing("join", handler))

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def closed(self) -> None:
        """Wait until every connection has said its last words."""
        while self._connections:
            await asyncio.wait([connection.task for connection in self._connections])

    async def _validate(self, request: web.Request) -> web.StreamResponse:
        """The same checks without a session: a client asks here to learn why its upgrade failed."""
        self._admit(request, request.query.get("join_request") or "")
        return web.Response(text="success")

    async def _single(self, request: web.Request) -> web.StreamResponse:
        """The path is for one peer connection, and so for an offer in the request."""
        return await self._rtc(request, single=True)

    async def _rtc(self, request: web.Request, *, single: bool = False) -> web.StreamResponse:
        """One peer connection where the request brings a `join_request`; else two, and the older query."""
        limits = self._entrance.config.limits
        socket = DeflatingWebSocket(
            max_message=limits.message,
            max_compressed=limits.message_compressed,
            heartbeat=HEARTBEAT,
            timeout=CLOSE_SECONDS,
        )
        if not socket.can_prepare(request):
            raise web.HTTPNotFound(text="this is a WebSocket endpoint")
        try:
            wrapped = request.query.get("join_request") or ""
            if single and not wrapped:
                raise BadRequest("join_request is required", rule="join_request_missing")
            admission = self._admit(request, wrapped)
        except Exception as error:
            self._on_refused(error)
            raise
        try:
            await socket.prepare(request)
        except ConnectionError:
            return web.Response()  # he has gone without waiting for our answer, and this one gets nowhere
        connection = _Connection(socket, request, self._wall)
        self._connections.add(connection)
        try:
            participant = connection.join(self._sfu, admission, dual=not wrapped)
            # The offer in it weighs as much as all the rest that he costs, and he may stay all day.
            del admission, wrapped
            await connection.serve(self._sfu, participant)
        finally:
            self._connections.discard(connection)
        return socket

    def _admit(self, request: web.Request, wrapped: str) -> Admission:
        self._entrance.check(request)
        token = bearer_token(request)
        if token is None:  # browsers cannot set headers on a WebSocket
            token = request.query.get("access_token") or ""
        grants = self._sfu.verify(token, wall=self._wall())
        self._entrance.check_known(key=grants.key, room=grants.room, identity=grants.identity)
        limit = self._entrance.config.limits.join_request
        join_request = _join_request(wrapped, limit) if wrapped else _queried(request.query)
        return self._sfu.admit(grants, join_request, wall=self._wall())


class _Connection:
    """One upgraded connection; a `boundary.Client`."""

    def __init__(self, socket: DeflatingWebSocket, request: web.Request, wall: Callable[[], float]) -> None:
        now = time.monotonic()
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._socket = socket
        self._transport = request.transport
        self._wall = wall
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._idle: asyncio.Future[None] | None = None  # of the writer, while nothing waits
        self._ending: tuple[int, str] | None = None
        self._cutting: asyncio.TimerHandle | None = None
        self._messages = Allowance(rate=MESSAGES_PER_SECOND, burst=MESSAGE_BURST, now=now)
        self._bytes = Allowance(rate=BYTES_PER_SECOND, burst=BYTES_BURST, now=now)

    # --- boundary.Client ---------------------------------------------------------------------------------------------

    def send(self, response: rtc.SignalResponse) -> None:
        if self._ending is not None:
            return
        if self._waiting_bytes > MAX_WAITING:
            self._waiting.clear()
            self.close(WSCloseCode.TRY_AGAIN_LATER, "reads too slowly")
            return
        message = response.SerializeToString()
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._wake()

    def close(self, code: int, reason: str) -> None:
        if self._ending is None:
            self._ending = (code, reason)
            self._wake()
            # Whoever does not read our last words in time does not get them.
            self._cutting = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._cut)

    # --- the connection's life ---------------------------------------------------------------------------------------

    def join(self, sfu: Sfu, admission: Admission, *, dual: bool) -> Participant | None:
        """None: refused, and all that is left are last words."""
        try:
            return sfu.join(self, admission, dual=dual, now=time.monotonic())
        except Exception:
            self._failed()
            return None

    async def serve(self, sfu: Sfu, participant: Participant | None) -> None:
        writing = asyncio.create_task(self._write())
        try:
            if participant is not None:
                await self._read(sfu, participant)
        except Exception:
            if participant is not None:
                sfu.client_failed(participant, now=time.monotonic())
            self._failed()
        finally:
            if participant is not None:  # if the core has closed us, it knows and this changes nothing
                sfu.client_lost(participant, self, now=time.monotonic())
            self.close(WSCloseCode.OK, "")
            await writing

    def _failed(self) -> None:
        """Ours, not theirs: a trace for us, a bland sentence for the client, and he may come again."""
        log.exception("signalling failed")
        self.close(WSCloseCode.INTERNAL_ERROR, OUR_FAULT)

    async def _read(self, sfu: Sfu, participant: Participant) -> None:
        """Frames until the connection ends, on either side."""
        async for frame in self._socket:
            if self._ending is not None:
                return
            now = time.monotonic()
            size = len(frame.data) if frame.type is WSMsgType.BINARY else 0
            if not (self._messages.take(now=now) and self._bytes.take(now=now, amount=size)):
                sfu.client_error(participant, TooLarge("Too many messages.", rule="message_rate"), now=now)
                return
            if frame.type is WSMsgType.BINARY:
                try:
                    request = rtc.SignalRequest.FromString(frame.data)
                except DecodeError:
                    error = BadRequest("This is not a message of the room protocol.", rule="protobuf")
                    sfu.client_error(participant, error, now=now)
                    return
                if not self._answer_ping(request):
                    sfu.message(participant, request, now=now)
                # A frame that is here already is read without a turn for anyone else, and there may be hundreds.
                await asyncio.sleep(0)
            elif frame.type is WSMsgType.PING:
                try:
                    await self._socket.pong(frame.data)
                except ConnectionError:
                    return  # he asked, and has gone
            elif frame.type is WSMsgType.TEXT:
                # The protocol's JSON form; no client that is in use sends it.
                self.close(WSCloseCode.UNSUPPORTED_DATA, "binary messages only")
                return

    def _answer_ping(self, request: rtc.SignalRequest) -> bool:
        """The client's own keep-alive; both forms count in milliseconds."""
        kind = request.WhichOneof("message")
        milliseconds = int(self._wall() * 1000)
        if kind == "ping_req":
            pong = rtc.Pong(last_ping_timestamp=request.ping_req.timestamp, timestamp=milliseconds)
            self.send(rtc.SignalResponse(pong_resp=pong))
        elif kind == "ping":
            self.send(rtc.SignalResponse(pong=milliseconds))
        else:
            return False
        return True

    async def _write(self) -> None:
        """What waits, in order; then the close frame."""
        while True:
            while self._waiting:
                message = self._waiting.pop(0)
                try:
                    await self._socket.send(message)
                except ConnectionError:
                    self._waiting.clear()
                self._waiting_bytes = max(0, self._waiting_bytes - len(message))
            if self._ending is not None:
                break
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        code, reason = self._ending
        with contextlib.suppress(ConnectionError):
            # RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code.
            await self._socket.close(code=code, message=reason.encode()[:123])
        if self._cutting is not None:
            self._cutting.cancel()
        self._cut()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _join_request(text: str, limit: int) -> rtc.JoinRequest:
    """base64url of `WrappedJoinRequest`, padded or not; inside it the `JoinRequest`, plain or gzip."""
    malformed = BadRequest("The join request is malformed.", rule="join_request_malformed")
    try:
        text = text.translate(_URL_SAFE).rstrip("=")
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        wrapped = rtc.WrappedJoinRequest.FromString(data)
        payload = wrapped.join_request
        if wrapped.compression == rtc.WrappedJoinRequest.Compression.GZIP:
            payload = _gunzip(payload, limit)
        elif wrapped.compression != rtc.WrappedJoinRequest.Compression.NONE:
            raise malformed
        if len(payload) > limit:
            raise TooLarge("The join request is too large.", rule="join_request_size")
        return rtc.JoinRequest.FromString(payload)
    except (binascii.Error, ValueError, DecodeError, zlib.error):
        raise malformed from None


def _queried(query: Mapping[str, str]) -> rtc.JoinRequest:
    """What clients with two peer connections say of themselves, each thing by its name."""
    sdk = _SDKS.get(query.get("sdk", ""), query.get("sdk", "").upper())
    named = query.get("capabilities", "").split(",")[:MAX_CAPABILITIES]
    info = models.ClientInfo(
        sdk=sdk if sdk in _SDK_NAMES else None,
        version=query.get("version", "")[:MAX_WORD],
        protocol=_number(query.get("protocol", "")),
        client_protocol=_number(query.get("client_protocol", "")),
        capabilities=[name for name in named if name in _CAPABILITIES],
    )
    settings = rtc.ConnectionSettings(
        auto_subscribe=query.get("auto_subscribe", "1") in _YES,
        adaptive_stream=query.get("adaptive_stream", "") in _YES,
    )
    request = rtc.JoinRequest(client_info=info, connection_settings=settings)
    request.reconnect = query.get("reconnect", "") in _YES
    request.participant_sid = query.get("sid", "")[:MAX_WORD]
    request.participant_attributes.update(_attributes(query.get("attributes", "")))
    return request


def _attributes(text: str) -> dict[str, str]:
    if not text:
        return {}
    malformed = BadRequest("The attributes are malformed.", rule="attributes_malformed")
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise malformed from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise malformed
    try:
        "".join((*found, *found.values())).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no message can carry
        raise malformed from None
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _gunzip(data: bytes, limit: int) -> bytes:
    """RFC 1952, never more than the limit in memory, however small the data."""
    inflater = zlib.decompressobj(wbits=31)
    inflated = inflater.decompress(data, limit + 1)
    if len(inflated) > limit:
        raise TooLarge("The join request is too large.", rule="join_request_inflated")
    if not inflater.eof:
        raise zlib.error("truncated")
    return inflated


_YES: Final = ("1", "true")
_SDK_NAMES: Final = frozenset(models.ClientInfo.SDK.keys())
_CAPABILITIES: Final = frozenset(models.ClientInfo.Capability.keys())
_SDKS: Final = {"reactnative": "REACT_NATIVE", "unityweb": "UNITY_WEB", "ios": "SWIFT"}
MAX_WORD: Final = 256  # characters of one value in a query
MAX_CAPABILITIES: Final = 32
_URL_SAFE: Final = str.maketrans("-_ ", "+/+")  # a plus sign in a query may arrive as a space


async def _absent(request: web.Request) -> web.StreamResponse:
    """A version of the protocol that is not ours; clients that know several try another after a 404."""
    return web.Response(status=404, text="not found: this server speaks /rtc and /rtc/v1")
