"""The server API: a call of the `RoomService` over HTTP ↔ a request to the core, as stock server SDKs and `lk` make it.

Twirp, version 7: `POST …/twirp/livekit.RoomService/METHOD`, protobuf or JSON in, the same out, errors always in JSON.
It bounds what it reads and translates; who may do what to whom is the core's. A page may call it from a browser with
the token that its user joined with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from d4e_sfu.core.roomcalls import CALLS
from d4e_sfu.drivers import body
from d4e_sfu.drivers.entrance import Entrance, bearer_token
from d4e_sfu.errors import (
    BadRequest,
    ClientError,
    Forbidden,
    Full,
    NotFound,
    NotHere,
    NotNow,
    TooLarge,
    TooMany,
    Unauthorized,
)

if TYPE_CHECKING:
    from d4e_sfu.core.sfu import Sfu

# The largest useful request carries a data packet of 64 KiB, in JSON as base64, and to whom it goes.
MAX_BODY: Final = 128 * 1024

_PROTOBUF: Final = "application/protobuf"
_JSON: Final = "application/json"

# Twirp's own words for what went wrong, and the status that belongs to each; the first that fits.
_CODES: Final[tuple[tuple[type[ClientError], str, int], ...]] = (
    (Unauthorized, "unauthenticated", 401),
    (Forbidden, "permission_denied", 403),
    (NotFound, "not_found", 404),
    (NotHere, "unimplemented", 501),
    (NotNow, "failed_precondition", 412),
    (TooMany, "resource_exhausted", 429),
    (Full, "unavailable", 503),
    (TooLarge, "invalid_argument", 400),
    (BadRequest, "malformed", 400),
)


class ServerApi:
    """`setup` adds its routes to an application; before those of the page, which answer to everything."""

    def __init__(
        self,
        sfu: Sfu,
        entrance: Entrance,
        *,
        require: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`require` raises ClientError where what is done cannot be recorded."""
        self._require = require
        self._sfu = sfu
        self._entrance = entrance
        self._wall = wall

    def setup(self, app: web.Application) -> None:
        handler = self._entrance.refusing("call", self._call, _refusal)
        for method in ("GET", "POST"):
            app.router.add_route(method, "/{slashes:/*}twirp/{call:.*}", handler)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        self._entrance.check(request)
        grants = self._sfu.verify(bearer_token(request) or "", wall=self._wall())
        self._entrance.check_known(key=grants.key, room=grants.room, identity=grants.identity)
        method = request.match_info["call"].removeprefix("livekit.RoomService/")
        wanted = CALLS.get(method)
        if request.method != "POST" or wanted is None or request.content_type not in (_PROTOBUF, _JSON):
            return _error("bad_route", "no such call, or not by POST with protobuf or JSON", 404)
        message = _message(wanted, request.content_type, await body.read(request, MAX_BODY))
        self._require()
        response = self._sfu.call(method, grants, message, wall=self._wall(), now=time.monotonic())
        if request.content_type == _PROTOBUF:
            return web.Response(body=response.SerializeToString(), content_type=_PROTOBUF)
        # As Twirp does: the names of the protocol's own files, and what is empty is written too.
        text = json_format.MessageToJson(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
        )
        return web.Response(text=text, content_type=_JSON)


def _message(wanted: type[Message], content_type: str, data: bytes) -> Message:
    """What is unknown in it is ignored, as everywhere in this protocol."""
    try:
        if content_type == _PROTOBUF:
            return wanted.FromString(data)
        return json_format.Parse(data.decode(), wanted(), ignore_unknown_fields=True)
    except (DecodeError, ValueError, json_format.ParseError, RecursionError):
        raise BadRequest("The request is malformed.", rule="body_malformed") from None


def _refusal(error: ClientError) -> web.StreamResponse:
    code, status = next((code, status) for kind, code, status in _CODES if isinstance(error, kind))
    return _error(code, str(error), status)


def _error(code: str, sentence: str, status: int) -> web.Response:
    return web.Response(text=json.dumps({"code": code, "msg": sentence}), status=status, content_type=_JSON)
