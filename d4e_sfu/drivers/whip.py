"""WHIP (RFC 9725) and WHEP over HTTP: `POST /whip/ROOM` or `/whep/ROOM` with an offer, and the session that it made;
and the network check, which is both in a place of its own: `GET /check` for its terms, `POST /check/WAY`.

A token is bound to the resource: its room is the endpoint's, and a session answers to the person alone who made it.
What an offer means is the core's (core/whip.py). Errors are problems (RFC 9457). We are ICE-lite with every candidate
in the answer, so candidates that are trickled here are read and not needed.
"""

from __future__ import annotations

import http
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web
from livekit.protocol import models, rtc

from d4e_sfu.core import netcheck, whip
from d4e_sfu.core.netcheck import Way
from d4e_sfu.drivers import body
from d4e_sfu.drivers.entrance import Entrance, bearer_token
from d4e_sfu.errors import BadRequest, ClientError, Forbidden, NotFound, Unauthorized, WrongType

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.sfu import Sfu

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
MAX_OFFER: Final = 256 * 1024
MAX_FRAGMENT: Final = 64 * 1024


class StaleError(ClientError):
    """`If-Match` names another ICE session (RFC 9110 §13.1.1)."""

    status = 412


class UnconditionalError(ClientError):
    """`If-Match` is missing (RFC 6585 §3)."""

    status = 428


class Whip:
    """`setup` adds its routes to an application; before those of the entrance, which preflights everything else."""

    def __init__(self, sfu: Sfu, entrance: Entrance, *, wall: Callable[[], float] = time.time) -> None:
        self._sfu = sfu
        self._entrance = entrance
        self._wall = wall
        self._sessions: dict[str, _Session] = {}

    def setup(self, app: web.Application) -> None:
        endpoint = "/{slashes:/*}{kind:whip|whep|check}/{place}"
        session = endpoint + "/{session}"
        for method, path, handler in (
            ("POST", endpoint, self._make),
            ("PATCH", session, self._change),
            ("DELETE", session, self._end),
            ("GET", endpoint, self._nothing),
            ("HEAD", endpoint, self._nothing),
            ("GET", session, self._nothing),
            ("HEAD", session, self._nothing),
            ("GET", "/check", self._terms),
        ):
            app.router.add_route(method, path, self._entrance.refusing("whip", handler, _problem))
        app.router.add_route("OPTIONS", endpoint, _options)
        app.router.add_route("OPTIONS", session, _options)

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    async def _make(self, request: web.Request) -> web.StreamResponse:
        grants = self._sfu.verify(self._token(request), wall=self._wall())
        self._entrance.check_known(key=grants.key, room=grants.room, identity=grants.identity)
        way = _way(request)
        if way is None and grants.room != request.match_info["place"]:
            raise Forbidden("The token is for another room.", rule="whip_room")
        _expect(request, SDP)
        offer = _text(await body.read(request, MAX_OFFER))
        kind = request.match_info["kind"]
        session = _Session(self._sessions, kind)
        make = whip.play if kind == "whep" or way is Way.RECEIVE else whip.publish
        participant = make(self._sfu, session, grants, offer, way=way, wall=self._wall(), now=time.monotonic())
        if participant is None or session.answer is None:
            raise BadRequest(session.refusal or "The offer cannot be answered.", rule="whip_refused")
        session.begin(participant)
        response = web.Response(
            status=201,
            text=session.answer,
            content_type=SDP,
            # Relative: we need not know by which name we are called, and believe no Host. Two slashes would begin one.
            headers={"Location": f"/{request.rel_url.raw_path.strip('/')}/{session.id}", "ETag": session.etag},
        )
        for server in self._sfu.ice_servers(participant):  # RFC 9725 §4.6
            for url in server.urls:
                response.headers.add(
                    "Link",
                    f'<{url}>; rel="ice-server"; username="{server.username}"; '
                    f'credential="{server.credential}"; credential-type="password"',
                )
        return response

    async def _change(self, request: web.Request) -> web.StreamResponse:
        """Candidates, or an ICE restart."""
        session, participant = self._session(request)
        _expect(request, FRAGMENT)
        _match(request, session)
        said = whip.fragment(_text(await body.read(request, MAX_FRAGMENT)))
        if self._sessions.get(session.id) is not session:
            raise _gone()  # ended while we read
        _match(request, session)  # or was restarted
        if not whip.is_restart(participant, said):
            return web.Response(status=204)
        answer = whip.restart(participant, said, now=time.monotonic())
        return web.Response(text=answer, content_type=FRAGMENT, headers={"ETag": session.etag})

    async def _end(self, request: web.Request) -> web.StreamResponse:
        _, participant = self._session(request)
        leave = rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED)
        self._sfu.message(participant, rtc.SignalRequest(leave=leave), now=time.monotonic())
        return web.Response()

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        """RFC 9725 §4.1: 2xx without content."""
        self._entrance.check(request)
        return web.Response(status=204)

    async def _terms(self, request: web.Request) -> web.StreamResponse:
        grants = self._sfu.verify(self._token(request), wall=self._wall())
        self._entrance.check_known(key=grants.key, room=grants.room, identity=grants.identity)
        return web.json_response(self._sfu.check_terms(grants))

    def _token(self, request: web.Request) -> str:
        self._entrance.check(request)
        token = bearer_token(request)
        if token is None:
            raise Unauthorized("A token is needed.", rule="whip_no_token")
        return token

    def _session(self, request: web.Request) -> tuple[_Session, Participant]:
        grants = self._sfu.verify(self._token(request), wall=self._wall())
        self._entrance.check_known(key=grants.key, room=grants.room, identity=grants.identity)
        way = _way(request)
        here = request.match_info["place"]
        if way is not None:
            grants = netcheck.place(grants, way)
            here = grants.room
        session = self._sessions.get(request.match_info["session"])
        kind = request.match_info["kind"]
        if (
            session is None
            or session.participant is None
            or (kind, here) != (session.kind, session.participant.room.name)
        ):
            raise _gone()
        if not whip.owns(session.participant, grants):
            raise Forbidden("This session is another's.", rule="whip_owner")
        return session, session.participant


class _Session:
    """One participant's signalling, a `boundary.Client`: the answer is all that it passes on."""

    def __init__(self, sessions: dict[str, _Session], kind: str) -> None:
        self.id = ""
        self.kind = kind
        self.participant: Participant | None = None
        self.answer: str | None = None
        self.refusal = ""
        self._sessions = sessions

    def begin(self, participant: Participant) -> None:
        self.participant = participant
        self.id = participant.sid.removeprefix("PA_")
        self._sessions[self.id] = self

    @property
    def etag(self) -> str:
        """Names the ICE session (RFC 9725 §4.3.1)."""
        assert self.participant is not None
        assert self.participant.local is not None
        return f'"{self.participant.local.ufrag}"'

    def send(self, response: rtc.SignalResponse) -> None:
        if response.HasField("answer"):
            self.answer = response.answer.sdp

    def close(self, code: int, reason: str) -> None:
        self.refusal = self.refusal or reason
        self._sessions.pop(self.id, None)


def _way(request: web.Request) -> Way | None:
    """What the connection is for, in a check; None: it is for a room."""
    if request.match_info["kind"] != "check":
        return None
    try:
        return Way(request.match_info["place"])
    except ValueError:
        raise NotFound("There is no such way to check.", rule="check_way") from None


def _gone() -> NotFound:
    return NotFound("There is no such session.", rule="whip_session")


def _expect(request: web.Request, content_type: str) -> None:
    if request.content_type != content_type:
        raise WrongType(f"The body must be {content_type}.", rule="whip_type")


def _match(request: web.Request, session: _Session) -> None:
    """RFC 9725 §4.3.1: what is asked is asked of one ICE session, or of whichever there is."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        raise UnconditionalError("If-Match is missing.", rule="whip_unconditional")
    tags = [tag.strip() for tag in wanted.split(",")]
    if "*" not in tags and session.etag not in tags:
        raise StaleError("The ICE session is another one by now.", rule="whip_stale")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.", rule="whip_text") from None


def _problem(error: ClientError) -> web.StreamResponse:
    title = http.HTTPStatus(error.status).phrase
    problem = {"type": "about:blank", "title": title, "status": error.status, "detail": str(error)}
    # RFC 6750 §3
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    return web.Response(
        status=error.status, text=json.dumps(problem), content_type="application/problem+json", headers=headers
    )


async def _options(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204, headers={"Accept-Post": SDP})
