"""The admin listener: is the server alive, is it ready, how much does it do, and what is in a room. For people there is
the status page (`web/src/status`), which draws what `/status` tells.

Read-only, for an operator and his Prometheus. It has no passwords (the configuration keeps it on loopback) and shows no
secret and no token; what it shows comes through plain callables, so it knows nothing of the server. Off every path of
media and signalling.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MAX_NAME: Final = 256
# RFC 3986 §3.2.2: [IPv6] or a name or an IPv4 address, and perhaps a port.
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?", re.IGNORECASE)


class Scraped(Protocol):
    def render(self, accept: str) -> tuple[bytes, str]:
        """The answer to a scrape, and its content type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """`setup` adds its routes to an application."""

    not_ready: Callable[[], Sequence[str]]
    """Why nobody should be sent here now, a short sentence each; empty when ready."""
    metrics: Scraped
    status: Callable[[], Mapping[str, object]]
    """Figures of now and of the last hour."""
    state: Callable[[], Mapping[str, object]]
    """The server as a whole."""
    rooms: Callable[[], Mapping[str, object]]
    """A line for each room, by name."""
    room: Callable[[str], Awaitable[Mapping[str, object] | None]]
    """Everything about one room. It may ask the engine, hence it may be waited for."""
    loopback: bool
    """Whether the listener is on loopback; see `_refuse_rebinding`."""

    def setup(self, app: web.Application) -> None:
        if self.loopback:
            app.middlewares.append(_refuse_rebinding)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status)
        app.router.add_get("/debug", self._debug)
        app.router.add_get("/debug/rooms", self._debug_rooms)
        app.router.add_get("/debug/rooms/{name:.+}", self._debug_room)

    async def _healthz(self, _request: web.Request) -> web.Response:
        """That this is answered is the answer: the process runs and its event loop turns."""
        return _text("ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = self.not_ready()
        return _text("".join(f"{reason}\n" for reason in reasons), status=503) if reasons else _text("ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self.metrics.render(request.headers.get("Accept", ""))
        # Content-Type as a header: it has parameters that aiohttp's argument does not take.
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(self.status(), indent=None)

    async def _debug(self, _request: web.Request) -> web.Response:
        return _json(self.state())

    async def _debug_rooms(self, _request: web.Request) -> web.Response:
        return _json(self.rooms())

    async def _debug_room(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        state = await self.room(name) if len(name) <= MAX_NAME else None
        return _text("no such room\n", status=404) if state is None else _json(state)


@web.middleware
async def _refuse_rebinding(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Loopback is no wall against a browser on this machine: any page can point a name of its own at 127.0.0.1.

    Such a request carries that name as its host; whoever means this machine says `localhost` or an address.
    """
    host = _HOST.fullmatch(request.host)  # not request.url, which raises for a host that is none
    try:
        ipaddress.ip_address(host["six"] or host["name"] if host else "")
    except ValueError:
        if host is None or (host["name"] or "").lower() != "localhost":
            return _text("this listener is for this machine\n", status=421)
    return await handler(request)


def _text(text: str, *, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers=_HEADERS)


def _json(value: Mapping[str, object], *, indent: int | None = 2) -> web.Response:
    """Indented where a person reads it. What JSON does not know (enums, ids, sets) is shown as Python shows it."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return web.Response(text=text + "\n", content_type="application/json", headers=_HEADERS)
