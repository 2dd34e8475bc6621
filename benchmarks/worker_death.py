"""What the death of a worker costs: the thread of one of two panics, its people are asked to join again and do; the
clock runs from the panic to the first frames of voice and picture at the other side. A call on the other worker goes on
meanwhile and must not lose a packet. The panic comes from a build for the laboratory.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from benchmarks.results import SHORT, record
from tests.lab.call import Call
from tests.lab.client import lab
from tests.lab.server import TWO_WORKERS, running

RUNS = 1 if SHORT else 5


async def main() -> None:
    took = []
    for run in range(RUNS):
        took.append(await one_run())
        print(f"run {run + 1}/{RUNS}: {took[-1]:.2f} s", flush=True)
    record("bench.json", "worker_death_call_is_back", took, "s", "<= 3")


async def one_run() -> float:
    with tempfile.TemporaryDirectory() as folder:
        broken = running(Path(folder), config={"media": TWO_WORKERS}, quiet=False, module="tests.hostile.fragile")
        async with broken as server, lab() as peers:
            struck, spared = await Call.begin(server, peers, "struck"), await Call.begin(server, peers, "spared")
            assert await server.worker_of("struck") == "worker-0"
            assert await server.worker_of("spared") == "worker-1"
            loop = asyncio.get_running_loop()
            began = loop.time()
            server.process.send_signal(signal.SIGUSR1)
            await struck.comes_back()
            took = loop.time() - began
            await spared.flawless()
            return took


if __name__ == "__main__":
    asyncio.run(main())
