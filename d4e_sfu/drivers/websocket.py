"""A WebSocket that compresses (permessage-deflate, RFC 7692): small windows, nothing kept between messages, and bounds
on what comes in, both as it comes and inflated.

A client repeats its whole description for each change, with hundreds of lines that are alike: fifty-fold smaller. Kept
between two messages, the state of both directions would cost some 100 KiB for each connection; aiohttp negotiates no
other, and has one bound for both sizes. Hence this subclass, below aiohttp's public surface in the few places that
`tests/drivers/test_websocket.py` holds it to. What the messages mean is signal.py's.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, hdrs, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

EXTENSION: Final = "permessage-deflate"
# The base-2 logarithm of each window. What repeats in an offer of pairs of voices and pictures is 6 KiB apart: 13
# shrinks it by 50, and 12 by 4.
WINDOW_BITS: Final = 13
LEAST_BITS: Final = 9  # zlib has no raw deflate with 8
WORTH: Final = 1024  # bytes of a message, below which compressing it costs more than it saves
MAX_OFFERS: Final = 8  # of one header
# What may wait to be read, before the socket is not read any more; one message more always fits.
MAX_QUEUED: Final = 64 * 1024

_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1, §7.2.2: left out at the end of every message
_PARAMETER: Final = re.compile(r'\s*([a-z_]{1,40})\s*(?:=\s*"?([0-9]{1,2})"?\s*)?', re.ASCII)


class DeflatingWebSocket(web.WebSocketResponse):
    """aiohttp's, with compression for clients that offer it."""

    def __init__(self, *, max_message: int, max_compressed: int, heartbeat: float, timeout: float) -> None:
        """`max_message`: bytes of a message, inflated; `max_compressed`: of one that is compressed, as it comes."""
        super().__init__(compress=False, autoping=False, heartbeat=heartbeat, max_msg_size=max_message, timeout=timeout)
        self._max_compressed = max_compressed
        self.window_bits = 0
        """Of what we send; 0: nothing is compressed, in either direction."""

    async def send(self, message: bytes) -> None:
        """One binary message, compressed where that was agreed and is worth it."""
        compress = self.window_bits if len(message) >= WORTH else 0
        # A compressor of its own for each message: nothing of one helps with the next, and nothing is kept.
        await self.send_bytes(message, compress=compress or None)

    def _handshake(self, request: web.BaseRequest) -> tuple[Any, str | None, int, bool]:
        headers, protocol, compress, notakeover = super()._handshake(request)
        assert not compress
        agreed = negotiate(request.headers.get(hdrs.SEC_WEBSOCKET_EXTENSIONS, ""))
        if agreed is not None:
            self.window_bits, headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = agreed
        return headers, protocol, 0, notakeover

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        """As aiohttp's own, but for who reads."""
        self._ws_protocol, self._writer = protocol, writer
        self._reset_heartbeat()
        assert self._loop is not None
        self._reader = WebSocketDataQueue(request._protocol, MAX_QUEUED, loop=self._loop)
        compressed = self._max_compressed if self.window_bits else 0
        self._parser = _Reading(self._reader, self._max_msg_size, compressed)
        request.protocol.set_parser(self._parser, data_received_cb=self._on_data_received)
        request.protocol.keep_alive(False)


class _Reading(WebSocketReader):  # type: ignore[misc, unused-ignore]
    """Takes compressed messages apart before aiohttp would, which then sees them as if they had come plain; and wants
    from a client what aiohttp does not ask for: masks. A client that knows of them masks its first frame, and nothing
    but that client is deceived by a later one without."""

    def __init__(self, queue: WebSocketDataQueue, max_message: int, max_compressed: int) -> None:
        """`max_compressed` 0: no message may be compressed."""
        super().__init__(queue, max_message, max_compressed > 0, True)
        self._limit = max_message
        self._limit_compressed = max_compressed
        self._head: bytes | None = b""  # of the first frame, until it has been looked at
        self._pieces = bytearray()  # of a compressed message whose end has not come
        self._open = False

    def _feed_data(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data[:2]
            if len(self._head) >= 2:
                if not self._head[1] & 0x80:  # RFC 6455 §5.1
                    raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "A frame of a client without a mask.")
                self._head = None
        super()._feed_data(data)

    def _handle_frame(self, fin: bool, opcode: int, payload: bytes | bytearray, compressed: int) -> None:
        if not compressed or opcode > WSMsgType.BINARY:
            super()._handle_frame(fin, opcode, payload, False)
            return
        # RFC 7692 §6.1: of a fragmented message, the first frame alone says that it is compressed.
        if self._open and opcode != WSMsgType.CONTINUATION:
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "A message begins within another.")
        self._open = not fin
        self._pieces += payload
        if len(self._pieces) > self._limit_compressed:
            raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "The message is too large.")
        inflated = b""
        if fin:
            inflated = inflate(self._pieces, self._limit)
            self._pieces = bytearray()
        super()._handle_frame(fin, opcode, inflated, False)


def negotiate(header: str) -> tuple[int, str] | None:
    """The first offer that we can take: the window of what we send, and the answer. None: there is none.

    RFC 7692 §7.1: a server may ask a client not to keep its window whether or not that was offered, and to make it
    smaller only where that was.
    """
    for offer in header.split(",", MAX_OFFERS)[:MAX_OFFERS]:
        name, *written = offer.split(";")
        parameters = dict[str, str | None]()
        for part in written:
            match = _PARAMETER.fullmatch(part)
            if match is None or match[1] in parameters:
                break
            parameters[match[1]] = match[2]
        else:
            bits = name.strip() == EXTENSION and _window(parameters)
            if bits:
                answer = [EXTENSION, "server_no_context_takeover", "client_no_context_takeover"]
                answer.append(f"server_max_window_bits={bits}")
                if "client_max_window_bits" in parameters:
                    theirs = min(int(parameters["client_max_window_bits"] or 15), WINDOW_BITS)
                    answer.append(f"client_max_window_bits={theirs}")
                return bits, "; ".join(answer)
    return None


def _window(parameters: dict[str, str | None]) -> int:
    """Of what we send, as an offer allows it; 0 where it holds what it must not, or a window that zlib cannot do."""
    least = {"server_max_window_bits": LEAST_BITS, "client_max_window_bits": 8}
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            right = value is None
        elif value is None:
            right = name == "client_max_window_bits"
        else:
            right = name in least and value[0] != "0" and least[name] <= int(value) <= 15
        if not right:
            return 0
    return min(int(parameters.get("server_max_window_bits") or 15), WINDOW_BITS)


def inflate(message: bytes | bytearray, limit: int) -> bytes:
    """One message, never more than the limit in memory, however small it came. Raises WebSocketError."""
    inflater = zlib.decompressobj(wbits=-15)  # whatever window they use, it fits into this one
    try:
        inflated = inflater.decompress(bytes(message) + _EMPTY_BLOCK, limit + 1)
    except zlib.error:
        raise WebSocketError(WSCloseCode.INVALID_TEXT, "The message cannot be inflated.") from None
    if len(inflated) > limit:
        raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "The inflated message is too large.")
    # RFC 7692 §7.2.3.4: a stream may end within the message; what is left then is an empty block.
    if len(inflater.unused_data) > len(_EMPTY_BLOCK) + 1:
        raise WebSocketError(WSCloseCode.INVALID_TEXT, "The message goes on after its end.")
    return inflated
