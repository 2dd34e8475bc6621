"""Several workers: rooms apart, and the death of one of them, with calls of peers on real sockets."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.call import Call
from tests.lab.client import BINARY, lab
from tests.lab.server import TWO_WORKERS, Server, running

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="make peer builds it")
DEATHS = 2


@pytest_asyncio.fixture
async def two_workers(tmp_path: Path) -> AsyncIterator[Server]:
    """Their deaths are on purpose here, and in the log."""
    broken = running(tmp_path, config={"media": TWO_WORKERS}, quiet=False, module="tests.hostile.fragile")
    async with broken as server:
        yield server
    assert "Traceback" not in server.log


async def test_a_worker_that_dies_costs_its_own_rooms_a_reconnect_and_the_others_nothing(two_workers: Server) -> None:
    server = two_workers
    async with lab() as peers:
        struck, spared = await Call.begin(server, peers, "struck"), await Call.begin(server, peers, "spared")
        assert await server.worker_of("struck") == "worker-0"
        assert await server.worker_of("spared") == "worker-1"
        for death in range(1, DEATHS + 1):
            server.process.send_signal(signal.SIGUSR1)
            await struck.comes_back()
            assert await server.worker_of("struck") == "worker-0", "it is idle, and the other is not"
            assert await server.metric("d4e_sfu_worker_deaths_total", worker="worker-0") == death
        assert await spared.flawless() > 0
        assert spared.watcher.left is spared.publisher.left is None
        assert await server.metric("d4e_sfu_worker_deaths_total", worker="worker-1") == 0
