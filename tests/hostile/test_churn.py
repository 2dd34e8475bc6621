"""Many joins and leaves: descriptors, tasks and the engine's tables are what they were. `benchmarks/churn.py` looks at
the memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.churn import FORGOTTEN, OPEN_DOOR, churn, held, left_behind
from tests.lab.client import BINARY, lab
from tests.lab.server import Server, running

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="make peer builds it")


async def test_forty_who_come_and_go_leave_nothing_behind(server: Server) -> None:
    async with lab() as peers:
        before = await held(server)
        assert before["participants"] == before["connections"] == before["transports"] == 0
        await churn(server, peers, 40, politely=True)
        assert await left_behind(server, before, within=30.0) == {}


@pytest.mark.long
async def test_a_thousand_who_come_and_go_also_without_a_word_leave_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path, config=OPEN_DOOR) as server, lab() as peers:
        before = await held(server)
        await churn(server, peers, 1000, politely=False)
        assert await left_behind(server, before, within=2 * FORGOTTEN) == {}
