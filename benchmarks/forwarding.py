"""Worker CPU, system time included, per forwarded packet of 1,100 bytes: one publisher, 50 subscribers whose sockets
are never read, the worker more than half busy. Each run is taken in turn with `benchmarks/limit`, the smallest loop
that does the same work, so that the machine's mood cancels out of the ratio.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
from pathlib import Path

from benchmarks.load import SERVER_CORE, Counted, loaded, relentless, watchers
from benchmarks.results import record

RUNS = 5
SUBSCRIBERS = 50
PACKETS, BURST = 10_500, 21  # per second; per frame
SECONDS = 5.0
LIMIT = Path(__file__).parent / "limit"


async def main() -> None:
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", str(LIMIT / "Cargo.toml")]
    subprocess.run(build, check=True)
    costs, busy, ratios = [], [], []
    for run in range(RUNS):
        cost, load, size = await engine()
        limit = await asyncio.to_thread(smallest_loop)
        costs.append(cost)
        busy.append(load)
        ratios.append(limit / cost)
        print(
            f"run {run + 1}/{RUNS}: {cost:.2f} µs, {load:.0%} busy, {size:.0f} bytes; limit {limit:.2f} µs", flush=True
        )
    record("bench.json", "worker_cpu_per_packet", costs, "µs", "<= 2.5")
    record("bench.json", "worker_busy_while_measured", busy, "share", ">= 0.5")
    record("bench.json", "limit_by_engine_50_gcm", ratios, "ratio", ">= 0.6")


async def engine() -> tuple[float, float, float]:
    """Microseconds per packet, share of the core used, bytes per packet."""
    async with loaded() as (server, peers):
        await watchers(server, peers, "load", SUBSCRIBERS, sink=True)
        token = server.token("load", "publisher", "doctor")
        await peers.join(server.ws, token, publish=[relentless(PACKETS, BURST)])
        await asyncio.sleep(2.0)
        before = await Counted.now(server)
        await asyncio.sleep(SECONDS)
        after = await Counted.now(server)
    done = after - before
    return 1e6 * done.each, done.cpu / done.at, done.bytes / done.packets


def smallest_loop() -> float:
    """Microseconds per packet of the limit, on the server's core."""
    command = ["taskset", "-c", str(SERVER_CORE), str(LIMIT / "target/release/limit")]
    arguments = ["--subscribers", str(SUBSCRIBERS), "--size", "1084", "--repeat", "3"]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    nanoseconds: list[float] = json.loads(done.stdout)["ns_per_packet"]
    return statistics.median(nanoseconds) / 1e3


if __name__ == "__main__":
    asyncio.run(main())
