"""Where a client says that it can be reached is taken note of by nobody (RFC 8445 §2.5: a lite agent only answers): no
datagram, no connection and no look-up of a name follows from any candidate. `tests/sim/test_bystanders.py` has the same
in virtual time; here sockets listen at the places that are named, and Python tells of every name that is asked for.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest
from livekit.protocol import rtc

from d4e_sfu.config import Admin, Config, Http, Listener, Media, MediaAddress
from d4e_sfu.server import Server
from tests.conftest import MintToken
from tests.doubles import Description
from tests.drivers.test_signal import PATH, query
from tests.hostile.caller import wrapped

ELSEWHERE = "127.0.0.4"
NAME = "canary.invalid"
ASKING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto"}
_asked: list[tuple[str, tuple[Any, ...]]] = []
_hooked = False


@pytest.fixture
def asked() -> list[tuple[str, tuple[Any, ...]]]:
    """What this process asks of names and addresses, the server in it included. A hook cannot be taken off again."""
    global _hooked
    if not _hooked:
        sys.addaudithook(lambda event, about: _asked.append((event, about)) if event in ASKING else None)
        _hooked = True
    _asked.clear()
    return _asked


@pytest.fixture
def recorders() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for kind in [socket.SOCK_DGRAM] * 3]
        made.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
        for each in made:
            each.bind((ELSEWHERE, 0))
            each.setblocking(False)
        made[-1].listen()
        yield made


@pytest.fixture
async def server(config: Config) -> AsyncIterator[Server]:
    update = {
        "http": Http(listeners=(Listener(port=0),)),
        "admin": Admin(port=0),
        "media": Media(port=0, addresses=(MediaAddress(listen="127.0.0.1"),)),
    }
    server = await Server.start(config.model_copy(update=update))
    yield server
    await server.stop()


def candidates(ports: list[int]) -> list[str]:
    places = [f"{ELSEWHERE} {port}" for port in ports]
    places += [
        "169.254.169.254 80",
        "127.0.0.1 22",
        "0.0.0.0 9",
        f"{NAME} 9",
        "6ab1c2de-0000-4000-8000-1234567890ab.local 9",
    ]
    lines = []
    for n, place in enumerate(places * 3):
        kind = ("typ host", f"typ srflx raddr {ELSEWHERE} rport {ports[0]}", "typ relay raddr 0.0.0.0 rport 0")[n % 3]
        lines.append(f"candidate:{n} 1 {('udp', 'tcp')[n % 2]} {2**31 - 1 - n} {place} {kind}")
    return lines


async def test_no_candidate_makes_us_send_or_ask_anything(
    server: Server, mint: MintToken, recorders: list[socket.socket], asked: list[tuple[str, tuple[Any, ...]]]
) -> None:
    lines = candidates([each.getsockname()[1] for each in recorders])
    description = Description("an").sdp().replace("c=IN IP4 0.0.0.0", f"c=IN IP4 {ELSEWHERE}")
    in_offer = "".join(f"a={line}\r\n" for line in lines[:20] if NAME not in line)
    sdp = description.replace("a=mid:0\r\n", f"a=mid:0\r\n{in_offer}a=rtcp:9 IN IP4 {ELSEWHERE}\r\n")
    assert sdp.count(ELSEWHERE) > 10
    offer = rtc.SessionDescription(type="offer", sdp=sdp, id=1)
    host, port = server.http.listening[0].sockets[0].getsockname()[:2]
    params = {**query(mint("an", now=time.time())), "join_request": wrapped(offer)}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://{host}:{port}{PATH}", params=params) as signalling,
    ):
        for line in lines:
            init = json.dumps({"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": NAME})
            trickle = rtc.TrickleRequest(candidateInit=init, target=rtc.SignalTarget.PUBLISHER)
            await signalling.send_bytes(rtc.SignalRequest(trickle=trickle).SerializeToString())
        await signalling.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        seen = []
        while "pong" not in seen:
            frame = await signalling.receive(timeout=10)
            assert frame.type is aiohttp.WSMsgType.BINARY, "nor is it a reason to go"
            seen.append(rtc.SignalResponse.FromString(frame.data).WhichOneof("message"))
        assert "answer" in seen
        await asyncio.sleep(0.3)
    for each in recorders:
        with pytest.raises(BlockingIOError):
            each.recvfrom(1) if each.type == socket.SOCK_DGRAM else each.accept()
    told = repr(asked)
    assert not [word for word in (NAME, ".local", ELSEWHERE, "169.254") if word in told]
    # The measure works: this is what would be seen.
    with pytest.raises(OSError, match=r".*"):
        await asyncio.get_running_loop().getaddrinfo(NAME, 9)
    assert NAME in repr(asked)
