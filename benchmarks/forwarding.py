"""Worker CPU, system time included, per forwarded packet, beside the limit: `benchmarks/limit`, the smallest loop that
does the same work. Both are taken in turn, so that the machine's mood cancels out of the ratio limit / engine.

First the engine's worker by itself: subscribers x sizes x ciphers, both always busy, one pair of slices after the
other. Then a whole server with one publisher and 50 subscribers, its worker more than half busy. Targets are bound
sockets that nobody reads.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.load import Counted, loaded, relentless, watchers
from benchmarks.results import SHORT, record

PROFILES, SIZES, SUBSCRIBERS = ("gcm", "cm"), (1_100, 120), (10, 100, 500)
PAIRS, SLICE = (2, 0.05) if SHORT else (9, 0.25)
# For the plot only.
MORE_SUBSCRIBERS = () if SHORT else (1, 3, 30, 50, 200)
TARGET = ">= 0.8"
RUNS = 1 if SHORT else 5
SERVED = 50
PACKETS, BURST = 10_500, 21  # per second; per frame
SECONDS = 5.0
ENGINE = Path(__file__).parent.parent / "d4e_sfu/engine"
LIMIT = ENGINE / "target/release/examples/limit"


def main() -> None:
    build()
    for profile in PROFILES:
        for size in SIZES:
            for subscribers in SUBSCRIBERS:
                pairs(profile, size, subscribers, TARGET)
    for subscribers in MORE_SUBSCRIBERS:
        pairs("gcm", 1_100, subscribers, "")
    if not SHORT:
        plots.cost_by_subscribers()
    asyncio.run(served())


def build() -> None:
    """The limit, or the process ends."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--example", "limit"]
    # The features of the peer's build, so that nothing is compiled twice.
    subprocess.run([*command, "--features", "peer", "--manifest-path", str(ENGINE / "Cargo.toml")], check=True)


def pairs(profile: str, size: int, subscribers: int, target: str) -> None:
    """One row: limit / engine, the median over pairs."""
    found = limit("--profile", profile, "--size", size, "--subscribers", subscribers)
    below, above = found["limit"], found["engine"]
    record(
        "bench.json",
        f"limit_by_engine_{profile}_{subscribers}_{size}",
        [a / b for a, b in zip(below, above, strict=True)],
        "ratio",
        target,
        limit_ns=statistics.median(below),
        engine_ns=statistics.median(above),
        # Pairs during which something else ran on the core.
        disturbed=found["disturbed"],
    )
    print(f"  ns per packet: limit {statistics.median(below):.0f}, engine {statistics.median(above):.0f}", flush=True)


def limit(*arguments: str | int, pairs: int = PAIRS) -> dict[str, Any]:
    """What one run of `limit` prints."""
    command = [str(LIMIT), "--pairs", str(pairs), "--seconds", str(SLICE)]
    done = subprocess.run([*command, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def served() -> None:
    """The rows of a whole server."""
    costs, busy, ratios = [], [], []
    for run in range(RUNS):
        cost, load, size = await server()
        found = await asyncio.to_thread(limit, "--subscribers", SERVED, "--alone", pairs=PAIRS)
        below = statistics.median(found["limit"]) / 1e3
        costs.append(cost)
        busy.append(load)
        ratios.append(below / cost)
        print(
            f"run {run + 1}/{RUNS}: {cost:.2f} µs, {load:.0%} busy, {size:.0f} bytes; limit {below:.2f} µs", flush=True
        )
    record("bench.json", "worker_cpu_per_packet", costs, "µs", "<= 2.5")
    record("bench.json", "worker_busy_while_measured", busy, "share", ">= 0.5")
    record("bench.json", "limit_by_server_gcm_50_1100", ratios, "ratio", ">= 0.6")


async def server() -> tuple[float, float, float]:
    """Microseconds per packet, share of the core used, bytes per packet."""
    async with loaded() as (server, peers):
        await watchers(server, peers, "load", SERVED, sink=True)
        token = server.token("load", "publisher", "doctor")
        await peers.join(server.ws, token, publish=[relentless(PACKETS, BURST)])
        await asyncio.sleep(2.0)
        before = await Counted.now(server)
        await asyncio.sleep(SECONDS)
        after = await Counted.now(server)
    done = after - before
    return 1e6 * done.each, done.cpu / done.at, done.bytes / done.packets


if __name__ == "__main__":
    main()
