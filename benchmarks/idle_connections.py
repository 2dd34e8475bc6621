"""What a signalling connection over TLS costs while nothing happens: 1,000 of them at the front, each joined in a room
of ten and quiet. Resident memory of the server's process when all have been quiet for a while, less what it was before
the first of them came, by connection: rustls, the hand-over, aiohttp and the participant together. Who only holds a
connection has made no offer, so there is no transport of his; that is `memory`'s figure.

Some come and go before the first measurement: what is loaded once and for all is not theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.memory import resident
from benchmarks.results import SHORT, record
from tests.hostile.caller import wrapped
from tests.lab.server import Server, running

RUNS = 1 if SHORT else 3
PEOPLE = 50 if SHORT else 1000
WARM_UP = 50
ROOM_SIZE = 10
AT_ONCE = 20
QUIET = 2.0 if SHORT else 15.0  # s
OPEN_DOOR: dict[str, Any] = {
    "limits": {"participants": 2 * PEOPLE + WARM_UP},
    "rates": {each: {"per_second": 10_000, "burst": 10_000} for each in ("address", "key", "identity")},
}


async def main() -> None:
    sizes = []
    for run in range(RUNS):
        sizes.append(await one_run())
        print(f"run {run + 1}/{RUNS}: {sizes[-1]:.1f} KiB", flush=True)
    record("bench.json", "idle_connection_memory", sizes, "KiB", "<= 40")


async def one_run() -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        front = {"host": "localhost", "connections": 4 * PEOPLE, "connections_per_address": 4 * PEOPLE}
        async with running(folder, front=True, config={**OPEN_DOOR, "front": front}) as server:
            async with connected(server, "warm", WARM_UP):
                await asyncio.sleep(QUIET)
            await asyncio.sleep(QUIET)
            before = resident(server.pid)
            async with connected(server, "idle", PEOPLE):
                await asyncio.sleep(QUIET)
                held = await server.metric("d4e_sfu_signalling_connections")
                assert held == PEOPLE, held
                return (resident(server.pid) - before) / PEOPLE


@contextlib.asynccontextmanager
async def connected(server: Server, name: str, people: int) -> Any:
    """So many in their rooms until the end of the block. They read, for pings are answered by whoever does."""
    turns = asyncio.Semaphore(AT_ONCE)
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, contextlib.AsyncExitStack() as stack:
        reading: list[asyncio.Task[None]] = []

        async def join(number: int) -> None:
            token = server.token(f"{name}-{number // ROOM_SIZE}", f"person-{number}", "doctor")
            params = {"access_token": token, "join_request": wrapped(None)}
            async with turns:
                way = http.ws_connect(f"{server.ws}/rtc/v1", params=params, max_msg_size=0)
                reading.append(asyncio.create_task(_read(await stack.enter_async_context(way))))

        await asyncio.gather(*map(join, range(people)))
        try:
            yield
        finally:
            for task in reading:
                task.cancel()


async def _read(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


if __name__ == "__main__":
    asyncio.run(main())
