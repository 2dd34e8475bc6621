"""What comes before every request of the outside: how often, whose page asks, which token, and how it is refused.

Shared by all that is served to the world (signalling, server API). It knows nobody: who a token stands for, and what he
may do, is the core's.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from aiohttp import web

from d4e_sfu.core.rates import Rates
from d4e_sfu.errors import OUR_FAULT, ClientError, Forbidden, Full, NothingYet, TooMany, Unauthorized

if TYPE_CHECKING:
    from d4e_sfu.config import Config

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[ClientError], web.StreamResponse]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_FORWARDED: Final = 1024  # characters of X-Forwarded-For, its end; some twenty proxies

_CORS: Final = {
    # Without these an app of another site cannot even read why it was refused, nor whether `HEAD /` says that we are
    # back. There are no cookies to protect here.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "OPTIONS, HEAD, GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "*, Authorization",  # which is never meant by the star
    "Access-Control-Expose-Headers": "Location, ETag, Link, Retry-After, Accept-Post",
    "Access-Control-Max-Age": "86400",
}


# Whom a genuine token of this request names: identity and room.
_known: ContextVar[tuple[str, str]] = ContextVar("known", default=("", ""))


class Entrance:
    """One for all listeners. `setup` makes an application's answers readable for pages of other sites."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.refusals: Counter[str] = Counter()
        """By rule."""
        self.on_refused: Callable[[str, ClientError, str, str], None] = lambda *_: None
        """Hears what was asked, the error, and the identity and room of a genuine token; empty without one."""
        self._clock = clock
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """A reload. Whoever has asked too often begins anew."""
        self.config = config
        rates = config.rates
        self._addresses, self._keys, self._people = Rates(rates.address), Rates(rates.key), Rates(rates.identity)
        self._proxies = tuple(map(ipaddress.ip_network, config.http.trusted_proxies))

    def setup(self, app: web.Application) -> None:
        app.router.add_route("OPTIONS", "/{path:[^:]*}", _preflight)
        app.on_response_prepare.append(_add_cors)  # the page, refusals and what does not exist included

    def check(self, request: web.Request) -> None:
        """Whatever can be refused before the token is looked at. Raises ClientError."""
        self._take(self._addresses, client_address(request, self._proxies), rule="address_rate")
        # RFC 6455 §10.2: a browser tells which site's page is asking; native clients and servers send nothing.
        origin = request.headers.get("Origin")
        if origin is None:
            return
        origin = origin.lower()
        if origin in self.config.http.allowed_origins:
            return
        if not origin or origin.partition("://")[2] != request.host.lower():
            raise Forbidden("Pages of this site may not join here.", rule="origin")

    def check_known(self, *, key: str, room: str, identity: str) -> None:
        """Once the token is known to be genuine: before that, anyone could use up what is another's."""
        _known.set((identity or f"key:{key}", room))
        self._take(self._keys, key, rule="key_rate")
        if identity:  # a server's token names nobody
            self._take(self._people, f"{room}\0{identity}", rule="identity_rate")

    def refusing(self, what: str, handler: Handler, refusal: Refusal | None = None) -> Handler:
        """A refusal is a status and a sentence, never a trace. `what` was asked, for our log."""

        async def answer(request: web.Request) -> web.StreamResponse:
            _known.set(("", ""))  # one task serves all requests of a connection
            try:
                return await handler(request)
            except ClientError as error:
                self.refusals[error.rule] += 1
                self.on_refused(what, error, *_known.get())
                detail = f" detail={error.detail!r}" if error.detail else ""
                # A flood is counted; to log each of it would be another flood.
                level = logging.DEBUG if isinstance(error, TooMany) else logging.INFO
                log.log(level, "%s refused status=%d rule=%s%s", what, error.status, error.rule, detail)
                response = _in_words(error) if refusal is None else refusal(error)
                if isinstance(error, Full | TooMany | NothingYet):
                    response.headers["Retry-After"] = str(math.ceil(error.retry_after))
                return response
            except web.HTTPException:
                raise
            except Exception:
                log.exception("%s failed", what)
                return web.Response(status=500, text=OUR_FAULT)

        return answer

    def _take(self, rates: Rates, name: str, *, rule: str) -> None:
        wait = rates.take(name, now=self._clock())
        if wait:
            raise TooMany("Too many requests. Please try again in a moment.", rule=rule, retry_after=wait)


def client_address(request: web.Request, proxies: Sequence[Network]) -> str:
    """Who is asking: the last address that no trusted proxy stands for. Of IPv6 its network, which is one subscriber's.

    Each proxy appends whom it was asked by, so what is left of the first one that we do not trust may be anything.
    """
    address = _address(request.remote or "")
    if address is not None and proxies:
        said = ",".join(request.headers.getall("X-Forwarded-For", ()))[-MAX_FORWARDED:]
        for hop in reversed(said.split(",")):
            before = _address(hop.strip())
            if before is None or not any(address in proxy for proxy in proxies):
                break
            address = before
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def bearer_token(request: web.Request) -> str | None:
    """RFC 6750 §2.1; None without the header."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("The token was not accepted.", rule="authorization_scheme")
    return token.strip()


def _in_words(error: ClientError) -> web.StreamResponse:
    return web.Response(status=error.status, text=str(error))


async def _add_cors(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_CORS)


async def _preflight(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)
