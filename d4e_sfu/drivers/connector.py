"""`d4e-sfu connector`: the one process that may go out. It sends what the server hands it, and nothing else.

It listens on a Unix socket that the server's user alone may open. `POST /deliver` names an address, a body and its
signature; the answer says what the address answered, or why there was none. Only addresses of the configuration are
asked, redirects are not followed, and nothing of an answer but its status goes back: a server that was taken over
cannot look around in the network through it. It holds no key and keeps nothing, so it may end at any time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from d4e_sfu.drivers import body, control
from d4e_sfu.drivers.sockets import Inherited
from d4e_sfu.errors import EX_OK, BadRequest, ClientError

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0  # seconds for an address, from the name's lookup to the head of its answer
# And for one of the places before that. Both together are less than the server waits: what it has given up must not go
# out any more, for it comes again.
PLACE_PATIENCE: Final = 2.0
MAX_REQUEST: Final = 4 << 20
AT_ONCE: Final = 64  # eight for each of eight addresses; for a moment more may come, after a reload that changes these


class Connector:
    """`setup` adds its route to an application; `start` first."""

    def __init__(self, urls: Collection[str]) -> None:
        self._urls = frozenset(urls)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        # No proxies, no cookies, no credentials of files: what the environment says is not asked.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=PATIENCE), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    def setup(self, app: web.Application) -> None:
        app.router.add_post("/deliver", self._deliver)

    async def _deliver(self, request: web.Request) -> web.Response:
        try:
            wanted = _wanted(await body.read(request, MAX_REQUEST))
        except ClientError as error:
            return web.Response(status=error.status, text=str(error))
        url, authorization, text = wanted
        if url not in self._urls:
            log.warning("refused: an address that the configuration does not name")
            return web.Response(status=403, text="not an address of the configuration")
        try:
            async with asyncio.timeout(PLACE_PATIENCE):
                await self._free.acquire()
        except TimeoutError:
            return web.json_response({"error": "busy"})
        try:
            return web.json_response(await self._post(url, authorization, text))
        finally:
            self._free.release()

    async def _post(self, url: str, authorization: str, text: str) -> dict[str, int | str]:
        assert self._session is not None, "start"
        headers = {"Content-Type": "application/webhook+json", "Authorization": authorization}
        try:
            async with self._session.post(url, data=text.encode(), headers=headers, allow_redirects=False) as answer:
                return {"status": answer.status}  # its body is not read: the connection ends with it
        except TimeoutError:
            return {"error": "timeout"}
        except (ssl.SSLError, aiohttp.ClientSSLError):
            return {"error": "tls"}
        except aiohttp.ClientConnectorDNSError:
            return {"error": "name"}
        except aiohttp.ClientConnectionError:
            return {"error": "connection"}
        except (aiohttp.ClientError, ValueError):
            return {"error": "http"}


def _wanted(data: bytes) -> tuple[str, str, str]:
    try:
        asked = json.loads(data)
        url, authorization, text = asked["url"], asked["authorization"], asked["body"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadRequest("expected url, authorization and body", rule="body_malformed") from None
    if not all(isinstance(each, str) for each in (url, authorization, text)):
        raise BadRequest("expected texts", rule="body_malformed")
    # RFC 9110 §5.5: nothing else may stand in the value of a header.
    if not authorization.isascii() or not authorization.isprintable():
        raise BadRequest("not a token", rule="body_malformed")
    return url, authorization, text


def run(urls: Collection[str], path: Path) -> int:
    """Until SIGTERM or SIGINT. The socket is systemd's where it passes one."""
    return asyncio.run(_serve(urls, path))


async def _serve(urls: Collection[str], path: Path) -> int:
    connector, app = Connector(urls), web.Application()
    connector.setup(app)
    await connector.start()
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.5)
    await runner.setup()
    inherited = Inherited.from_environment()
    site = web.SockSite(runner, control.listener(path) if inherited is None else inherited.only())
    await site.start()
    log.info("connector addresses=%d", len(urls))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await runner.cleanup()
    await connector.stop()
    return EX_OK
