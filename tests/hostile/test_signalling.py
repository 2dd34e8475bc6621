"""Bad tokens, bad join requests and bad messages at a real server: what the client is told, what the log says, and what
it costs the one thread on which everybody's signalling runs. `tests/drivers/test_signal.py` has the same inputs without
a process around them; costs are counted here in CPU time of that thread, because the machine may be busy.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from aiohttp import WSMsgType
from livekit.protocol import models, rtc

from tests.core.test_sdp import HOSTILE, honest_megabyte
from tests.doubles import Description
from tests.drivers.test_signal import BOMBS, upgrade
from tests.hostile.caller import wrapped
from tests.lab.server import KEY_ID, Server, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOLD = 0.05  # s of CPU: for no longer may one message keep the others waiting
# A neighbour on the same core makes the same work dearer, never cheaper: the best of so many counts.
TRIES = 5
# And where even an honest megabyte is over it, the machine is at fault: then hostility must not cost much more.
HONEST = 2.0
PATHS = ["/rtc/v1", "/rtc/v1/validate"]
NOT_ACCEPTED = "The token is not accepted."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@dataclass(slots=True)
class Cost:
    seconds: float = 0.0


@asynccontextmanager
async def costing(server: Server) -> AsyncIterator[Cost]:
    """CPU seconds of the server's main thread in the block."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat")
    cost = Cost()
    before = int(path.read_text().split()[0])
    yield cost
    cost.seconds = (int(path.read_text().split()[0]) - before) / 1e9


def offer(sdp: str | None = None) -> rtc.SessionDescription:
    return rtc.SessionDescription(type="offer", sdp=Description("an").sdp() if sdp is None else sdp, id=1)


# --- tokens ----------------------------------------------------------------------------------------------------------


def signed(server: Server, *, secret: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """A token that is good but for what is given; None leaves a claim out."""
    good = {"iss": KEY_ID, "sub": "an", "exp": int(time.time()) + 60, "video": {"roomJoin": True, "room": "ward"}}
    payload = {key: value for key, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(payload, server.secret if secret is None else secret, algorithm=algorithm)


def unsigned(server: Server) -> str:
    """The same claims and signature under `{"alg": "none"}`."""
    _, payload, signature = signed(server).split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"


def bad_tokens(server: Server) -> dict[str, tuple[str, str, str]]:
    """Token, what the client reads, and the rule that the log names."""
    now = int(time.time())
    join = {"roomJoin": True, "room": "ward"}
    return {
        "empty token": ("", NOT_ACCEPTED, "token_form"),
        "no token": ("rubbish", NOT_ACCEPTED, "token_form"),
        "expired": (signed(server, exp=now - 3600), "The token has expired.", "expired"),
        "not yet valid": (signed(server, nbf=now + 3600), "The token is not yet valid.", "not_before"),
        "another's secret": (signed(server, secret="x" * 48), NOT_ACCEPTED, "signature"),
        "changed after signing": (tampered(signed(server)), NOT_ACCEPTED, "signature"),
        "unknown key": (signed(server, iss="nobody"), NOT_ACCEPTED, "unknown_key"),
        "no key": (signed(server, iss=None), NOT_ACCEPTED, "unknown_key"),
        "another algorithm": (signed(server, algorithm="HS512"), NOT_ACCEPTED, "algorithm"),
        "no algorithm": (unsigned(server), NOT_ACCEPTED, "algorithm"),
        "no grants": (signed(server, video=None), NOT_ACCEPTED, "no_video_grant"),
        "may not join": (signed(server, video={**join, "roomJoin": False}), NOT_ACCEPTED, "no_room_join"),
        "no expiry": (signed(server, exp=None), NOT_ACCEPTED, "expiry_missing"),
        "no such role": (signed(server, d4e={"role": "emperor"}), NOT_ACCEPTED, "unknown_role"),
    }


def tampered(token: str) -> str:
    """Another room under the same signature."""
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["video"]["room"] = "management"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


@pytest.mark.parametrize("path", PATHS)
async def test_a_bad_token_is_401_the_client_reads_why_and_the_log_names_the_rule(server: Server, path: str) -> None:
    join = wrapped(offer())
    async with aiohttp.ClientSession(server.url) as http:
        for name, (token, sentence, rule) in bad_tokens(server).items():
            seen = len(server.lines)
            params = {"access_token": token, "join_request": join}
            async with http.get(path, params=params, headers=upgrade(path)) as answer:
                assert (answer.status, await answer.text()) == (401, sentence), name
            await server.get("/healthz")  # by now the log has been read
            (line,) = server.lines[seen:]
            assert f"join refused status=401 rule={rule} " in line + " ", f"{name}: {line}"
            assert not any(len(part) > 20 and part in line for part in token.split(".")), (
                f"{name}: a piece of the token"
            )
        params = {"access_token": signed(server), "join_request": join}
        async with http.get(PATHS[1], params=params) as answer:
            assert answer.status == 200, "and the good one among them is good"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_a_foreign_page_is_refused_before_the_upgrade(server: Server, origin: str) -> None:
    params = {"access_token": signed(server), "join_request": wrapped(offer())}
    async with aiohttp.ClientSession(server.url) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(PATHS[0], params=params, headers={"Origin": origin})
        assert refused.value.status == 403
        async with http.ws_connect(PATHS[0], params=params, headers={"Origin": server.url}) as own:
            assert (await own.receive()).type is WSMsgType.BINARY


# --- what bad input costs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BOMBS)
async def test_a_hostile_join_request_is_a_4xx_and_costs_little(server: Server, name: str, path: str) -> None:
    text, status = BOMBS[name]
    params = {"access_token": signed(server), "join_request": text}
    async with (
        aiohttp.ClientSession(server.url) as http,
        costing(server) as cost,
        http.get(path, params=params, headers=upgrade(path)) as answer,
    ):
        assert answer.status == status
    assert cost.seconds < HOLD


@asynccontextmanager
async def joined(server: Server, sdp: str | None = None) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """In the room, with the join response, the answer and the fresh token read."""
    params = {"access_token": server.token("ward", "an"), "join_request": wrapped(offer(sdp))}
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.ws_connect(PATHS[0], params=params, max_msg_size=0) as socket,
    ):
        for _ in range(3):
            assert (await socket.receive()).type is WSMsgType.BINARY
        yield socket


async def ended(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    """The kinds of messages until the close; a fresh token may come at any time."""
    kinds = []
    while (frame := await socket.receive(timeout=10)).type is WSMsgType.BINARY:
        kinds.append(str(rtc.SignalResponse.FromString(frame.data).WhichOneof("message")))
    return [kind for kind in kinds if kind != "refresh_token"]


def megabyte(sdp: str) -> str:
    """As much of it as fits into one message."""
    return sdp[: (1 << 20) - 100]


MESSAGES = {
    "not protobuf": (b"\xff" * 20, 1007),
    "field zero": (b"\x00", 1007),
    "a length beyond the end": (b"\x0a" * 1_000_000, 1007),
    "over a mebibyte": (b"x" * (1 << 20 | 1), 1009),
    "not sdp": (rtc.SignalRequest(offer=offer("v=0\r\nrubbish")).SerializeToString(), 1007),
    **{
        f"sdp: {name}": (rtc.SignalRequest(offer=offer(megabyte(sdp))).SerializeToString(), 1007)
        for name, sdp in HOSTILE.items()
    },
}


async def cheapest(attempt: Callable[[], Awaitable[float]], bound: float = HOLD) -> float:
    """CPU seconds of the cheapest of a few tries; no more tries than are needed."""
    best = await attempt()
    for _ in range(TRIES - 1):
        if best < bound:
            break
        best = min(best, await attempt())
    return best


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_hostile_message_closes_its_connection_and_costs_little(server: Server, name: str) -> None:
    message, code = MESSAGES[name]

    async def hostile() -> float:
        async with joined(server) as socket:
            async with costing(server) as cost:
                await socket.send_bytes(message)
                kinds = await ended(socket)
            assert socket.close_code == code
            assert kinds == (["leave"] if code == 1007 else [])
            return cost.seconds

    async def honest() -> float:
        async with joined(server) as socket, costing(server) as cost:
            await socket.send_bytes(rtc.SignalRequest(offer=offer(megabyte(honest_megabyte()))).SerializeToString())
            await ended(socket)
        return cost.seconds

    cost = await cheapest(hostile)
    assert cost < HOLD or cost < HONEST * await cheapest(honest)


# What is large and no offence: taken, or refused by a word, and the connection goes on or ends by a rule.
LARGE = {
    "fields of a protocol to come": b"\xba\x3e\x02\x08\x01" * 200_000,
    "metadata": rtc.SignalRequest(
        update_metadata=rtc.UpdateParticipantMetadata(metadata="x" * 1_000_000)
    ).SerializeToString(),
    "attributes": rtc.SignalRequest(
        update_metadata=rtc.UpdateParticipantMetadata(attributes={str(n): "" for n in range(80_000)})
    ).SerializeToString(),
    "subscriptions": rtc.SignalRequest(
        subscription=rtc.UpdateSubscription(track_sids=[f"TR_{n}" for n in range(80_000)], subscribe=True)
    ).SerializeToString(),
    "layers": rtc.SignalRequest(
        add_track=rtc.AddTrackRequest(cid="x", layers=[models.VideoLayer() for _ in range(300_000)])
    ).SerializeToString(),
}


@pytest.mark.parametrize("name", LARGE)
async def test_a_large_message_costs_little(server: Server, name: str) -> None:
    ping = rtc.SignalRequest(ping=1).SerializeToString()

    async def large() -> float:
        async with joined(server) as socket:
            async with costing(server) as cost:
                await socket.send_bytes(LARGE[name])
                await socket.send_bytes(ping)
                while (frame := await socket.receive(timeout=10)).type is WSMsgType.BINARY:
                    if rtc.SignalResponse.FromString(frame.data).WhichOneof("message") == "pong":
                        break
            return cost.seconds

    async def decoding() -> float:
        before = time.thread_time()
        rtc.SignalRequest.FromString(LARGE[name])
        return time.thread_time() - before

    cost = await cheapest(large)
    # The protobuf library takes its time for a map of so many; what we add must be little.
    assert cost < HOLD or cost < HOLD + await cheapest(decoding, 0)


async def test_a_join_request_full_of_attributes_is_refused_and_costs_little(server: Server) -> None:
    request = rtc.JoinRequest(participant_attributes={str(n): "" for n in range(20_000)})
    message = rtc.WrappedJoinRequest(
        compression=rtc.WrappedJoinRequest.Compression.GZIP, join_request=gzip.compress(request.SerializeToString())
    )
    text = base64.urlsafe_b64encode(message.SerializeToString()).decode()
    token = signed(server, video={"roomJoin": True, "room": "ward", "canUpdateOwnMetadata": True})

    async def full() -> float:
        async with (
            aiohttp.ClientSession(server.url) as http,
            costing(server) as cost,
            http.get(PATHS[1], params={"access_token": token, "join_request": text}) as answer,
        ):
            assert answer.status == 413
        return cost.seconds

    assert await cheapest(full) < HOLD
