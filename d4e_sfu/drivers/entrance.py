"""What comes before every request of the outside: whose page asks, which token it brings, and how it is refused.

Shared by all that is served to the world (signalling, server API). It knows nobody: who a token stands for, and what he
may do, is the core's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from d4e_sfu.errors import OUR_FAULT, ClientError, Forbidden, Full, Unauthorized

if TYPE_CHECKING:
    from d4e_sfu.config import Config

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[ClientError], web.StreamResponse]

_CORS: Final = {
    # Without these an app of another site cannot even read why it was refused, nor whether `HEAD /` says that we are
    # back. There are no cookies to protect here.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "OPTIONS, HEAD, GET, POST",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


class Entrance:
    """One for all listeners. `setup` makes an application's answers readable for pages of other sites."""

    def __init__(self, config: Config) -> None:
        self.config = config  # replaced as a whole by a reload

    def setup(self, app: web.Application) -> None:
        app.router.add_route("OPTIONS", "/{path:[^:]*}", _preflight)
        app.on_response_prepare.append(_add_cors)  # the page, refusals and what does not exist included

    def check(self, request: web.Request) -> None:
        """Whatever can be refused before the token is looked at. Raises ClientError."""
        # RFC 6455 §10.2: a browser tells which site's page is asking; native clients and servers send nothing.
        origin = request.headers.get("Origin")
        if origin is None:
            return
        origin = origin.lower()
        if origin in self.config.http.allowed_origins:
            return
        if not origin or origin.partition("://")[2] != request.host.lower():
            raise Forbidden("Pages of this site may not join here.", rule="origin")


def bearer_token(request: web.Request) -> str | None:
    """RFC 6750 §2.1; None without the header."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("The token was not accepted.", rule="authorization_scheme")
    return token.strip()


def refusing(what: str, handler: Handler, refusal: Refusal | None = None) -> Handler:
    """A refusal is a status and a sentence, never a trace. `what` was asked, for our log."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ClientError as error:
            detail = f" detail={error.detail!r}" if error.detail else ""
            log.info("%s refused status=%d rule=%s%s", what, error.status, error.rule, detail)
            response = _in_words(error) if refusal is None else refusal(error)
            if isinstance(error, Full):
                response.headers["Retry-After"] = "5"
            return response
        except web.HTTPException:
            raise
        except Exception:
            log.exception("%s failed", what)
            return web.Response(status=500, text=OUR_FAULT)

    return answer


def _in_words(error: ClientError) -> web.StreamResponse:
    return web.Response(status=error.status, text=str(error))


async def _add_cors(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_CORS)


async def _preflight(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)
