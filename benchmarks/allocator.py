"""What it costs to decide what one viewer's link is used for, with few publications and with many.

Half of them voices, half pictures of three sizes with three frame rates each, everyone measured; the link goes from
carrying nothing to carrying all and back, so that everything is shed and restored. Rows in `results/allocator.json`.

`python -m benchmarks.allocator`.
"""

from __future__ import annotations

import random
import statistics
import time

from benchmarks.results import record
from d4e_sfu._engine import Rate
from d4e_sfu.core.allocator import Allocation, Picture, Place, Voice, allocate
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.weights import Weights

RUNS = 5
STEPS = 200
TARGETS = {10: "<= 0.5", 50: "<= 1", 200: "<= 5"}


def main() -> None:
    for count, target in TARGETS.items():
        runs = [run(count, random.Random(seed)) for seed in range(RUNS)]
        record("allocator.json", f"allocation_{count}_publications", runs, "ms", target)


def run(count: int, chance: random.Random) -> float:
    """Milliseconds of CPU for each allocation."""
    voices = [Voice(SubscriptionId(n), 50_000, 50_000, 17_000) for n in range(count // 2)]
    pictures = [picture(n, chance) for n in range(count // 2, count)]
    whole = allocate(None, voices, pictures, previous=Allocation(), now=0.0).demand
    given, took = Allocation(), []
    for step in range(STEPS):
        budget = int(whole * 1.2 * abs(1 - 2 * step / STEPS)) + 1
        began = time.process_time()
        given = allocate(budget, voices, pictures, previous=given, now=step * 3.0)
        took.append(1000 * (time.process_time() - began))
    return statistics.mean(took)


def picture(n: int, chance: random.Random) -> Picture:
    weights = Weights()
    for encoding, bitrate in enumerate((150_000, 500_000, 1_700_000)):
        layers = [(0, temporal, int(bitrate / 3 * chance.uniform(0.8, 1.2))) for temporal in range(3)]
        weights.measure(Rate(publication=n, encoding=encoding, layers=layers), now=1.0)
    place = Place.FAR if n % 10 else Place.SPEAKER
    ladder = weights.ladder(2, (180, 360, 720), encodings=3, cap=3_000_000, now=1.0)
    return Picture(SubscriptionId(n), place, chance.choice((180, 360)), ladder)


if __name__ == "__main__":
    main()
