"""People who come and go, and what a server holds on their account: one in four publishes a voice; one in four, if
wished, goes without a word (his socket is cut and his media falls silent)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from tests.lab.client import Lab, Voice
from tests.lab.server import Server

ROOMS = 5
AT_ONCE = 20
TABLES = ("transports", "publications", "subscriptions")
# Whoever goes without a word is let go when his checks have been missing for 30 s.
FORGOTTEN = 40.0
# All visitors come from one address, and a quick machine lets them in quicker than a station may come: those who went
# without a word are still there when hundreds have followed.
OPEN_DOOR = {
    "rates": {door: {"per_second": 10_000, "burst": 10_000} for door in ("address", "key")},
    "limits": {"participants": 10_000},
    "rooms": [{"name": "*", "capacity": 10_000}],
}


async def churn(server: Server, peers: Lab, visits: int, *, politely: bool) -> None:
    """So many visits, `AT_ONCE` at a time."""
    numbers = iter(range(visits))

    async def visitors() -> None:
        for number in numbers:
            await _visit(server, peers, number, politely=politely)

    await asyncio.gather(*(visitors() for _ in range(AT_ONCE)))


async def _visit(server: Server, peers: Lab, number: int, *, politely: bool) -> None:
    token = server.token(f"room-{number % ROOMS}", f"visitor-{number}", "doctor")
    member = await peers.join(server.ws, token, publish=[Voice()] if number % 4 == 0 else [])
    await (member.leave() if politely or number % 4 != 3 else member.vanish())


async def held(server: Server) -> dict[str, int]:
    """What a visit must not leave behind."""
    state = json.loads(await server.get("/debug"))
    workers = state["workers"]
    associations = [worker["associations"]["associations"] for worker in workers]
    return {
        "descriptors": sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir()),
        "tasks": state["tasks"],
        "connections": state["signalling_connections"],
        "participants": state["participants"],
        "associations": sum(sum(each.values()) for each in associations),
        **{name: sum(worker["snapshot"][name] for worker in workers) for name in TABLES},
    }


async def left_behind(server: Server, before: Mapping[str, int], *, within: float) -> dict[str, int]:
    """What is different from before, after at most so many seconds: nothing, as soon as it is."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        now = await held(server)
        left = {name: now[name] - before[name] for name in before if now[name] != before[name]}
        if not left or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(0.2)
