"""Ten thousand joins and leaves: does anything stay behind? Peers come and go, twenty at a time, each connected over
DTLS; one in four publishes a voice, one in four goes without a word.

Resident memory is looked at after each hundred of them. The slope is Theil and Sen's (the median of the slopes between
all pairs of samples, so that one odd sample moves nothing), over what comes after the first fifth, per hour at the pace
of this run: some ten or twenty joins a second, in an hour more than a district sees in a month. At the end, when the
last have been forgotten, descriptors, tasks of the event loop and the engine's tables must be what they were.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.memory import resident
from benchmarks.results import SHORT, record
from tests.lab.churn import AT_ONCE, FORGOTTEN, churn, held, left_behind
from tests.lab.client import lab
from tests.lab.server import running

VISITS = 200 if SHORT else 10_000
SAMPLE = 10 if SHORT else 100  # visits
WARM_UP = 0.2


async def main() -> None:
    samples: list[tuple[float, float]] = []  # seconds, KiB
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as server, lab() as peers:
            # What is made once and stays: the page's first pools, the first time of everything.
            await churn(server, peers, AT_ONCE, politely=True)
            await asyncio.sleep(2.0)
            before = await held(server)

            def look(number: int) -> None:
                if number % SAMPLE == 0:
                    samples.append((time.monotonic(), resident(server.pid)))

            await churn(server, peers, VISITS, politely=False, after_each=look)
            left = await left_behind(server, before, within=2 * FORGOTTEN)
    print(f"left behind: {left or 'nothing'}", flush=True)
    settled = samples[int(WARM_UP * len(samples)) :]
    (began, least), (ended, most) = settled[0], settled[-1]
    print(f"{least / 1024:.1f} → {most / 1024:.1f} MB in {ended - began:.0f} s", flush=True)
    record("bench.json", "churn_memory_slope", [theil_sen(settled) * 3600 / 1024], "MB per hour", "<= 1")
    record("bench.json", "churn_left_behind", [float(sum(abs(each) for each in left.values()))], "things", "== 0")


def theil_sen(samples: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs."""
    pairs = itertools.combinations(samples, 2)
    return statistics.median((later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in pairs)


if __name__ == "__main__":
    asyncio.run(main())
