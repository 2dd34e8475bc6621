"""Guards taken away, one at a time: the attack that each is there for must then succeed. Where it does not, something
else holds it and the guard is not what its test believes; where it does, the test that finds it refused is worth
something.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from d4e_sfu.config import Admin, Config, Http, Listener, Media, MediaAddress
from d4e_sfu.core import sdp
from d4e_sfu.drivers import dtls, entrance, http, pages, signal
from d4e_sfu.errors import TooLarge
from d4e_sfu.server import Server
from tests.core.test_sdp import AUDIO, HEAD
from tests.drivers.test_dtls_hostile import CERTIFICATE, fragment, record
from tests.drivers.test_signal import PATH

CANARY = b"s3cret-of-another"


async def answer(config: Config, data: bytes) -> bytes:
    """What a real server in this process says to these bytes."""
    update = {
        "http": Http(listeners=(Listener(port=0),)),
        "admin": Admin(port=0),
        "media": Media(port=0, addresses=(MediaAddress(listen="127.0.0.1"),)),
    }
    server = await Server.start(config.model_copy(update=update))
    try:
        host, port = server.http.listening[0].sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(data)
        async with asyncio.timeout(5):
            came = await reader.read(1 << 16)
        writer.close()
        return came
    finally:
        await server.stop()


async def shows_the_next_request(config: Config, _folder: Path) -> bool:
    """Of what it cannot read, the 400 repeats the bytes."""
    data = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nabc GET /?access_token=" + CANARY
    came = await answer(config, data + b" HTTP/1.1\r\n\r\n")
    assert b" 400 " in came
    return CANARY in came


async def lets_a_foreign_page_ask(config: Config, _folder: Path) -> bool:
    request = f"GET {PATH}/validate HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n"
    came = await answer(config, request.encode())
    return b" 403 " not in came.split(b"\r\n")[0]


async def follows_a_link(_config: Config, folder: Path) -> bool:
    (folder / "secret.txt").write_text("s3cret")
    dist = folder / "dist"
    dist.mkdir()
    (dist / "linked.txt").symlink_to(folder / "secret.txt")
    return "linked.txt" in pages.Pages(dist)._files


async def reads_too_many_groups(_config: Config, _folder: Path) -> bool:
    text = HEAD + (AUDIO + "a=ssrc-group:FID 1 2\r\n" * 40) * 300
    try:
        return len(sdp.parse(text).sections) == 300
    except sdp.SdpError:
        return False


async def inflates_without_end(_config: Config, _folder: Path) -> bool:
    try:
        return len(signal._gunzip(gzip.compress(bytes(8 << 20)), 1 << 16)) > 1 << 16
    except TooLarge:
        return False


async def reserves_for_a_lie(_config: Config, _folder: Path) -> bool:
    return not dtls.reserves_too_much(record(fragment(CERTIFICATE, 100_000, 1, 0, bytes(100)), 0))


Attack = Callable[[Config, Path], Awaitable[bool]]


def without_limit(data: bytes, limit: int) -> bytes:
    return gzip.decompress(data)


MUTANTS: list[tuple[Attack, object, str, object]] = [
    (shows_the_next_request, http, "Discreet", web.RequestHandler),
    (lets_a_foreign_page_ask, entrance.Entrance, "check", lambda *_: None),
    (follows_a_link, Path, "is_symlink", lambda _: False),
    (reads_too_many_groups, sdp, "MAX_IN_ALL", {}),
    (inflates_without_end, signal, "_gunzip", without_limit),
    (reserves_for_a_lie, dtls, "_LONGEST_MESSAGE", 1 << 24),
]


@pytest.mark.parametrize(("attack", "owner", "guard", "nothing"), MUTANTS, ids=[mutant[2] for mutant in MUTANTS])
async def test_an_attack_succeeds_where_its_guard_is_taken_away_and_only_there(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
    owner: object,
    guard: str,
    nothing: object,
) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert not await attack(config, tmp_path / "with")
    monkeypatch.setattr(owner, guard, nothing)
    assert await attack(config, tmp_path / "without")
