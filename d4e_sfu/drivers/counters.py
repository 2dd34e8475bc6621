"""What the DTLS and SCTP associations of a worker count: plain values, added to where things happen.

`metrics.py` reads them at scrape time. No clock, no labels beyond a closed set of words, nothing per association.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Counters:
    """Of the associations of one worker."""

    handshakes: Counter[str] = field(default_factory=Counter)  # "connected" or one of FAILURES
    durations: Histogram = field(default_factory=Histogram)  # first datagram → connected
    ends: Counter[str] = field(default_factory=Counter)  # of connected associations, other than by `close`
    data_ends: Counter[str] = field(default_factory=Counter)  # one of datachannel.ENDS
    replays: int = 0  # flights sent again
    datagrams_dropped: int = 0  # unknown transport, full queue, over the rate, no DTLS
    faults: int = 0  # exceptions in the core's answer to an event

    def debug_state(self) -> dict[str, object]:
        return {
            "handshakes": dict(self.handshakes),
            "ends": dict(self.ends),
            "data_ends": dict(self.data_ends),
            "replays": self.replays,
            "datagrams_dropped": self.datagrams_dropped,
            "faults": self.faults,
        }
