"""`make matrix`: what a consultation survives. Every row of tests/matrix, measured; a table, plots, and rows
`{name, value, unit, target, met}` in `results/matrix.json`.

Virtual rows run with seeds 1 to 20, two at a time, and the worst counts; those in real Chromium through the relay run
five times, one after the other, and the median counts. A figure that misses its target is written
down as missed; only a row that could not be measured ends the command with 1.

    python -m benchmarks.matrix --only narrow --seeds 3      some rows, fewer seeds (recorded with the number of runs)
    python -m benchmarks.matrix --only narrow --seed 7       one seed, told step by step
    …                                    --keep FOLDER       and with a capture and a plot of it
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import plots
from benchmarks.results import record
from tests.lab.scenario import Figure, Run
from tests.matrix import BROWSERS, ROWS

FILE = "matrix.json"
SEEDS = 20
TIMES = 5
EVERY = {**ROWS, **BROWSERS}


@dataclass(slots=True)
class Outcome:
    row: str
    seed: int
    figures: list[Figure]
    seconds: float
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    marks: list[tuple[float, str]] = field(default_factory=list)
    failure: str = ""


def main() -> int:
    options = _options()
    rows = options.only or list(EVERY)
    if options.seed is not None:
        for row in rows:
            print(f"{row}, seed {options.seed}: {EVERY[row].__doc__}", flush=True)
            outcome = one((row, options.seed, options.keep, True))
            print(outcome.failure, end="")
            if options.keep is not None:
                title, path = f"{row}, seed {options.seed}", options.keep / f"{row}-{options.seed}.svg"
                plots.run(title, outcome.series, outcome.marks, str(path.absolute()))
        return 0
    failed = False
    began, missed = time.monotonic(), []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=4) as pool:
        for number, row in enumerate(rows, 1):
            print(f"[{number}/{len(rows)}] {row}: {EVERY[row].__doc__}", flush=True)
            seeds = options.seeds if row in ROWS else min(options.seeds, TIMES)
            work = [(row, seed, options.keep, False) for seed in range(1, seeds + 1)]
            # In real time nothing else may run.
            results = pool.imap_unordered(one, work) if row in ROWS else map(one, work)
            outcomes = list(_shown(results, len(work)))
            good = sorted((outcome for outcome in outcomes if not outcome.failure), key=lambda each: each.seed)
            failed |= len(good) < len(outcomes)
            missed += _record(good, middle=row in BROWSERS)
            if good and good[0].series:
                plots.run(f"{row}, seed {good[0].seed}", good[0].series, good[0].marks, f"matrix-{row}.svg")
    seconds = time.monotonic() - began
    if rows == list(EVERY) and options.seeds == SEEDS:
        record(FILE, "matrix_time", [seconds / 60], "minutes for all of it on two cores", "<= 60")
    print(f"{seconds:.0f} s; missed: {', '.join(missed) or 'none'}", flush=True)
    return int(failed)


def one(what: tuple[str, int, Path | None, bool]) -> Outcome:
    """One row with one seed, in whatever process."""
    row, seed, captures, aloud = what
    pcap = None if captures is None else captures / f"{row}-{seed}.pcap"
    run = Run(seed, say=print if aloud else None, pcap=pcap)
    began, failure = time.monotonic(), ""
    try:
        if row in ROWS:
            ROWS[row](run)
        else:
            asyncio.run(_in_real_time(row, run))
    except Exception:  # a row that cannot be measured must not end the others
        failure = f"{row}, seed {seed}:\n{traceback.format_exc()}"
    run.close()
    return Outcome(row, seed, run.figures, time.monotonic() - began, run.series, run.marks, failure)


async def _in_real_time(row: str, run: Run) -> None:
    await BROWSERS[row](run)


def _shown(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    for number, outcome in enumerate(outcomes, 1):
        verdict = f"{sum(figure.met for figure in outcome.figures)} of {len(outcome.figures)} met"
        print(f"  {number}/{total} seed {outcome.seed}: {verdict}, {outcome.seconds:.0f} s", flush=True)
        if outcome.failure:
            print(outcome.failure, file=sys.stderr, flush=True)
        yield outcome


def _record(outcomes: list[Outcome], *, middle: bool = False) -> list[str]:
    """Writes the worst of each figure (or the one in the middle, or the mean where it asks for that).

    Names those that miss their target.
    """
    found: dict[str, list[Figure]] = {}
    for outcome in outcomes:
        for figure in outcome.figures:
            found.setdefault(figure.name, []).append(figure)
    missed = []
    for name, figures in found.items():
        first = figures[0]
        pick = (
            statistics.median
            if middle
            else statistics.mean
            if first.mean
            else min
            if first.target.startswith(">=")
            else max
        )
        row = record(FILE, name, [figure.value for figure in figures], first.unit, first.target, pick=pick)
        missed += [] if row["met"] else [name]
    return missed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description="what a consultation survives")
    parser.add_argument("--only", nargs="+", choices=list(EVERY), metavar="ROW", help=", ".join(EVERY))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument("--seed", type=int, help="this one alone, told step by step, with a plot of its own")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="captures of what was sent, and the plot of --seed")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
