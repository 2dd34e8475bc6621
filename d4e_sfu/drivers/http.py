"""HTTP on our own sockets: how long a client may take, how much may wait, and what is repeated of what he sent.

aiohttp serves it; here are its connections as we want them. Which pages and calls there are is the application's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from d4e_sfu.drivers import control
from d4e_sfu.drivers.front import Address, Handed, Serve
from d4e_sfu.drivers.signal import MAX_LINE
from d4e_sfu.errors import NOT_ACCEPTED

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from d4e_sfu.drivers.sockets import Inherited

# From a request's first byte to its last header, and between two requests of a connection.
HTTP_PATIENCE: Final = 10.0
# An answer may take so long to be read: the largest file of the page, compressed, at 10 kbit/s.
ANSWER_SECONDS: Final = 120.0
# A body that was refused may go on coming this long, so that its sender reads why before the connection ends.
LINGER: Final = 1.0
# Bytes of TCP that may wait to be read. aiohttp spends 3 µs on a chunk of one byte, so a quarter of a megabyte of them
# (asyncio's largest read) would hold everyone for an eighth of a second.
RECEIVE_BUFFER: Final = 1 << 16
# The first bytes of a line that is too long, where it is a token's: in its header, or in the query.
_TOKEN: Final = re.compile(rb"Bearer |[^ ]*[?&]access_token=")


class HttpServer:
    """What is listened on, and the application behind each; the sockets are systemd's where it has passed some."""

    def __init__(self, inherited: Inherited | None = None) -> None:
        self.listening: list[asyncio.Server] = []
        self._inherited = inherited
        self.runners: list[web.AppRunner] = []

    async def runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(
            app,
            access_log=None,  # request lines carry tokens
            logger=http_log(),
            keepalive_timeout=HTTP_PATIENCE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            auto_decompress=False,  # nothing that we take is worth it, and every body would be a possible bomb
            shutdown_timeout=0.5,
            lingering_time=LINGER,
        )
        await runner.setup()
        self.runners.append(runner)
        return runner

    async def listen(
        self, runner: web.AppRunner, address: str, port: int, context: ssl.SSLContext | None = None
    ) -> None:
        # Not a `TCPSite`: that gives a silent TLS client a minute.
        patience = HTTP_PATIENCE if context else None
        server = _server(runner)
        loop = asyncio.get_running_loop()
        one = self.bind(address, port)
        # Connections inherit it. One read brings no more than this, twice at most, and one turn of the loop parses it.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listening = await loop.create_server(
            lambda: Discreet(server, loop=loop, **server._kwargs),
            sock=one,
            ssl=context,
            ssl_handshake_timeout=patience,
            backlog=512,
        )
        self.listening.append(listening)

    async def listen_unix(self, runner: web.AppRunner, path: Path) -> None:
        one = control.listener(path) if self._inherited is None else self._inherited.unix(str(path))
        self.listening.append(await asyncio.get_running_loop().create_unix_server(_server(runner), sock=one))

    def taking(self, runner: web.AppRunner) -> Serve:
        """Serves the connections that a front hands on."""
        server, loop = _server(runner), asyncio.get_running_loop()

        def serve(one: socket.socket, client: Address) -> Any:
            def connection() -> _Handed:
                return _Handed(server, client=client, loop=loop, **server._kwargs)

            return loop.connect_accepted_socket(connection, one)

        return serve

    def bind(self, address: str, port: int) -> socket.socket:
        if self._inherited is not None:
            return self._inherited.stream(address, port)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=512)

    def close(self) -> None:
        """Nobody new; connections live on."""
        for listening in self.listening:
            listening.close()

    async def cleanup(self) -> None:
        for runner in self.runners:
            await runner.cleanup()


def _server(runner: web.AppRunner) -> web.Server:
    assert runner.server is not None, "the runner is set up"
    return runner.server


class Discreet(web.RequestHandler):
    """aiohttp's HTTP connection, which repeats nothing of what it cannot read.

    aiohttp's own 400 shows the bytes. Behind a proxy that counts them otherwise they may be of the next request: some
    other person's, with his token.
    """

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp would wait for ever for one who does not read, and nobody needs a token to ask for the page."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, LineTooLong) and _TOKEN.match(bytes(exc.args[0])):
            return super().handle_error(request, 401, exc, NOT_ACCEPTED)
        return super().handle_error(request, status, exc, "This is not HTTP as it should be.\n" if message else None)


class _Handed(Handed, Discreet):
    """One that the front hands on."""


def http_log() -> logging.Logger:
    """What aiohttp has to say, but for what is no HTTP: for each of those it would write a trace and a piece of the
    request, which may hold a token, and anyone can send them by the thousand."""

    def ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    # A warning for each opening with a subprotocol, with the client's address and whatever he wrote there.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    http = logging.getLogger(__name__)
    http.filters[:] = [ours]
    return http
