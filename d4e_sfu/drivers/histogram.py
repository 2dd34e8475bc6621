"""Durations counted into buckets, as Prometheus wants them.

A plain value that a noun owns and adds to; `metrics.py` reads it at scrape time.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final


class Histogram:
    """Seconds. Its bounds suit what a person waits for: from a hundredth of a second to ten."""

    BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)  # not cumulative; the last is above all bounds
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.sum += seconds
