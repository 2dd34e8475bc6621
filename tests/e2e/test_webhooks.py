"""A call as a portal is told of it: a real server, `d4e-sfu connector` beside it, stock client, stock receiver."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from livekit import api

from tests.drivers.test_webhooks import Receiver, receiver
from tests.lab.browser import until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import KEY_ID, TOP, Server, running


@asynccontextmanager
async def connector(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "d4e_sfu", "connector", "--config", str(config)),
        cwd=TOP,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"connector addresses=" not in (line := await process.stderr.readline()):
        assert line, "it has ended"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


def names(portal: Receiver, server: Server) -> list[str]:
    verifier = api.WebhookReceiver(api.TokenVerifier(KEY_ID, server.secret))
    return [verifier.receive(body, token).event for body, token in portal.asked]


async def told_all(server: Server) -> None:
    """Else what was under way when one of them ended would, rightly, come twice."""

    async def waiting() -> float:
        return await server.metric("d4e_sfu_webhooks_waiting")

    await until("all is told", waiting, so=lambda waiting: waiting == 0)


async def test_a_portal_hears_of_a_call_in_order_whoever_restarts(tmp_path: Path) -> None:
    async with receiver() as portal:
        told = {"urls": [portal.url], "socket": str(tmp_path / "connector"), "folder": str(tmp_path / "state")}
        async with running(tmp_path, config={"webhooks": told}) as server:
            lan = LivekitClient()
            async with connector(server.config) as first:
                await lan.join(server.ws, server.token("ward", "lan", "doctor"))
                await portal.until(2)
                await told_all(server)
                first.kill()
            await lan.publish(colour=(200, 30, 30), hertz=440)  # nobody is there to tell it
            async with connector(server.config) as second:
                await portal.until(4)
                await told_all(server)
                assert second.returncode is None
            await lan.leave()
            assert await server.stop() == 0
        assert names(portal, server)[:2] == ["room_started", "participant_joined"]
        assert sorted(names(portal, server)[2:]) == ["track_published", "track_published"]
        portal.asked.clear()
        async with running(tmp_path / "next", config={"webhooks": told}) as server, connector(server.config):
            await portal.until(4)
            await told_all(server)
        assert names(portal, server)[-1] == "room_finished"
        assert sorted(names(portal, server)[:3]) == ["participant_left", "track_unpublished", "track_unpublished"]
