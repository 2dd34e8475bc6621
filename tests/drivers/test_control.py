"""The control socket: who may open it, what a verdict looks like at the other end, what is left of a dead server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from d4e_sfu.drivers import control
from d4e_sfu.drivers.control import Control, Verdict, ask


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    async def who(by: str) -> Verdict:
        return Verdict(True, (by,))

    async def no(by: str) -> Verdict:
        return Verdict(False, ("x.yaml:1:2: wrong", "nothing has changed"))

    app = web.Application()
    Control({"who": who, "no": no}).setup(app)
    runner = web.AppRunner(app)
    await runner.setup()
    path = tmp_path / "run" / "control"
    site = web.SockSite(runner, control.listener(path))
    await site.start()
    yield path
    await runner.cleanup()


async def test_a_verdict_is_waited_for_and_who_asked_is_known(path: Path) -> None:
    assert await asyncio.to_thread(ask, path, "who") == Verdict(True, (f"uid:{os.getuid()}",))
    refused = await asyncio.to_thread(ask, path, "no")
    assert refused == Verdict(False, ("x.yaml:1:2: wrong", "nothing has changed"))
    unknown = await asyncio.to_thread(ask, path, "shutdown")
    assert unknown == Verdict(False, ("no such command; known: who, no",))


async def test_only_its_owner_may_open_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_is_left_of_a_dead_server_is_replaced_and_a_living_one_is_not(path: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="another server answers there"):
        control.listener(path)
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(left))
    with control.listener(left) as again, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(left))
        assert again.accept()


def test_nobody_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "nothing", "reload")
