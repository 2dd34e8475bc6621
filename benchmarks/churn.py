"""Ten thousand joins and leaves: does anything stay behind? Peers come and go, twenty at a time, each connected over
DTLS; one in four publishes a voice, one in four goes without a word.

They come in blocks of a thousand. After each, when the last have been forgotten, descriptors, tasks of the event loop
and the engine's tables must be what they were, and the resident memory is looked at: while people are there, their
number moves it more than any leak. The slope is Theil and Sen's (the median of the slopes between all pairs of samples,
so that one odd sample moves nothing) after the first fifth, per hour of this run, waits included: at its pace an hour
is some fifty thousand joins, more than a district sees in a year.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.memory import resident
from benchmarks.results import SHORT, record
from tests.lab.churn import FORGOTTEN, OPEN_DOOR, churn, held, left_behind
from tests.lab.client import lab
from tests.lab.server import running

BLOCKS, BLOCK = (3, 40) if SHORT else (10, 1000)
WARM_UP = 2  # blocks


async def main() -> None:
    samples: list[tuple[float, float]] = []  # seconds, KiB
    left: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), config=OPEN_DOOR) as server, lab() as peers:
            before = await held(server)
            for block in range(BLOCKS):
                await churn(server, peers, BLOCK, politely=SHORT)
                left.update(await left_behind(server, before, within=2 * FORGOTTEN))
                samples.append((time.monotonic(), resident(server.pid)))
                print(f"block {block + 1}/{BLOCKS}: {samples[-1][1] / 1024:.1f} MB", flush=True)
    print(f"left behind: {dict(left) or 'nothing'}", flush=True)
    slope = theil_sen(samples[WARM_UP if len(samples) > WARM_UP + 1 else 0 :])
    record("bench.json", "churn_memory_slope", [slope * 3600 / 1024], "MB per hour", "<= 1")
    record("bench.json", "churn_left_behind", [float(sum(map(abs, left.values())))], "things", "== 0")


def theil_sen(samples: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs."""
    pairs = itertools.combinations(samples, 2)
    return statistics.median((later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in pairs)


if __name__ == "__main__":
    asyncio.run(main())
