"""`simulateScenario` of the stock client library, against a server that allows it and one that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.test_media import RED, css, sees
from tests.lab.browser import Client, until
from tests.lab.server import Server, running

pytestmark = pytest.mark.browser
ROOM = "ward"


@pytest_asyncio.fixture
async def testing(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, config={"testing": {"simulate": True}}) as server:
        yield server


async def happened(client: Client, event: str, so: str = "", *, times: int = 1) -> None:
    async def found() -> list[str]:
        return [detail for detail in await client.events(event) if so in detail]

    await until(f"{client.identity}: {event} {so}", found, seconds=30, so=lambda seen: len(seen) >= times)


async def test_the_scenarios_of_the_client_library_end_as_it_expects(browser: Browser, testing: Server) -> None:
    assert "testing.simulate is on" in testing.log, "nobody leaves it on without knowing"
    sender = await Client.join(browser, testing, ROOM, "sender")
    await sender.publish(colour=css(RED))
    viewer = await Client.join(browser, testing, ROOM, "viewer", role="observer")
    await sees(viewer, "sender", RED)
    sids = [await viewer.page.evaluate("lab.room.localParticipant.sid")]
    for times, (scenario, anew) in enumerate(
        [
            ("signal-reconnect", False),
            ("resume-reconnect", True),
            ("disconnect-signal-on-resume", False),
            ("disconnect-signal-on-resume-no-messages", False),
            ("full-reconnect", True),
            ("leave-full-reconnect", True),
            ("node-failure", True),
            ("force-tcp", True),
        ],
        1,
    ):
        await viewer.call("simulate", scenario)
        await happened(viewer, "reconnected", times=times)
        sids.append(await viewer.page.evaluate("lab.room.localParticipant.sid"))
        assert (sids[-1] != sids[-2]) == anew, scenario
        await sees(viewer, "sender", RED)
    await viewer.call("simulate", "migration")
    await sender.call("simulate", "speaker")
    await happened(viewer, "speakers", "sender")
    await viewer.call("simulate", "subscriber-bandwidth", 1_000)
    await happened(viewer, "stream", "sender paused")
    await viewer.call("simulate", "subscriber-bandwidth", 0)
    await happened(viewer, "stream", "sender active")
    await sees(viewer, "sender", RED)
    await viewer.call("simulate", "server-leave")
    await happened(viewer, "left", "3")  # SERVER_SHUTDOWN
    assert await viewer.events("refused") == []


async def test_a_server_for_patients_simulates_nothing(browser: Browser, server: Server) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    await sender.publish(colour=css(RED))
    viewer = await Client.join(browser, server, ROOM, "viewer", role="observer")
    await sees(viewer, "sender", RED)
    for scenario in ("node-failure", "server-leave", "leave-full-reconnect"):
        await viewer.call("simulate", scenario)

    async def log() -> str:
        return server.log

    await until("it is said in the log", log, so=lambda log: log.count("simulate_refused") == 3)
    await sees(viewer, "sender", RED)
    assert [await viewer.events(event) for event in ("left", "reconnecting", "signal reconnecting")] == [[], [], []]
