"""The server ends, or a part of it does: everyone is told to join again, and whoever does has his call back."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import models, rtc

from tests.hostile.bystanders import COLOUR, HERTZ
from tests.hostile.caller import Caller
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.server import Server, running

STOP = 5.0  # s from SIGTERM to the end of the process
NOTICE = 0.1  # s from a worker's death to our knowing of it
PANICS = 3
AGAIN = 30.0


async def leave_of(caller: Caller) -> rtc.LeaveRequest:
    leave: rtc.LeaveRequest = (await caller.receive("leave")).leave
    assert leave.action == rtc.LeaveRequest.Action.RECONNECT
    return leave


async def test_sigterm_tells_everyone_to_join_again_and_ends_within_five_seconds(server: Server) -> None:
    native = LivekitClient()
    await native.join(server.ws, server.token("ward", "native"))
    try:
        # Of the callers one is connected, one has only signalling, and one never reads, not even the close.
        async with (
            Caller.join(server, "ward", "connected") as connected,
            Caller.join(server, "other", "signalling") as signalling,
            Caller.join(server, "other", "deaf"),
        ):
            await connected.connect()
            _, halfway = await asyncio.open_connection("127.0.0.1", server.port)
            halfway.write(b"GET /rtc/v1 HTTP/1.1\r\n")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for caller in (connected, signalling):
                assert (await leave_of(caller)).reason == models.DisconnectReason.SERVER_SHUTDOWN
                assert (await caller.signalling.receive()).type is aiohttp.WSMsgType.CLOSE
            assert await asyncio.wait_for(server.process.wait(), 2 * STOP) == 0
            assert time.monotonic() - began < STOP
            async with asyncio.timeout(STOP):
                while ("reconnecting", "") not in native.events:
                    await asyncio.sleep(0.05)
            halfway.close()
    finally:
        await native.leave()


# The native client drops its handle of a track twice when it joins anew.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function FfiHandle:pytest.PytestUnraisableExceptionWarning")
async def test_a_worker_that_panics_costs_a_reconnect_and_no_more(tmp_path: Path) -> None:
    """Three times: what is noticed late once may be a busy machine's doing, what comes back thrice comes back."""
    async with running(tmp_path, quiet=False, module="tests.hostile.fragile") as server:
        sender, watcher = LivekitClient(), LivekitClient()
        try:
            await sender.join(server.ws, server.token("native", "sender"))
            await watcher.join(server.ws, server.token("native", "watcher"))
            await sender.publish(colour=COLOUR, hertz=HERTZ, simulcast=False)
            decoded = watcher.decoded.setdefault("sender", Decoded())
            for panics in range(1, PANICS + 1):
                await further_frames(decoded)
                async with Caller.join(server, "ward", "connected") as connected:
                    await connected.connect()
                    server.process.send_signal(signal.SIGUSR1)
                    assert (await leave_of(connected)).reason == models.DisconnectReason.MEDIA_FAILURE
                async with Caller.join(server, "ward", "connected") as again:
                    await again.connect()
                await server.get("/readyz")
                assert server.log.count("worker died") == panics
            await further_frames(decoded)
        finally:
            await sender.leave()
            await watcher.leave()
    noticed = [float(seconds) for seconds in re.findall(r"noticed after=(\S+)", server.log)]
    assert len(noticed) == PANICS
    assert min(noticed) < NOTICE, noticed
    assert "Traceback" not in server.log


async def further_frames(decoded: Decoded) -> None:
    before = decoded.frames
    async with asyncio.timeout(AGAIN):
        while decoded.frames < before + 10:
            await asyncio.sleep(0.05)
