"""What the status page shows: figures of now, of the last hour, and what needs somebody's attention.

For provinces without a Prometheus. Totals alone, as in `metrics.py`, so it names no room, person or address. The hour
is a ring of fixed size in memory, and a restart forgets it.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from d4e_sfu.drivers.metrics import Metrics, Sources

INTERVAL: Final = 10.0
"""Seconds from one sample to the next."""
SAMPLES: Final = 360

SERIES: Final = ("people", "load", "received", "sent", "asked_again", "lag", "memory")
"""people: number; load: share, 1 is full; received, sent: bits per second of media; asked_again: share of the packets
sent that subscribers asked for again; lag: seconds by which the event loop was late, at worst; memory: bytes."""

# As the alerts have them (ansible/roles/monitoring/files/d4e-sfu.rules.yml).
BUSY: Final = 0.8
LATE: Final = 0.25
EXPIRES: Final = 14 * 86_400


class Status:
    def __init__(
        self, sources: Sources, kept: Metrics, *, dead: Callable[[], int], lag: Callable[[], float], now: float
    ) -> None:
        """`dead` counts workers that do not run; `lag` is as in `Sources`, and nobody else's."""
        self._sources = sources
        self._kept = kept
        self._dead = dead
        self._lag = lag
        self._began = self._sampled = now
        self._series = {name: deque[float](maxlen=SAMPLES) for name in SERIES}
        self._before: dict[str, tuple[int, Counter[str]]] = {}

    def sample(self, now: float) -> None:
        """Due every `INTERVAL`."""
        seconds = max(now - self._sampled, 1e-3)
        self._sampled = now
        since = self._traffic()
        point = {
            "people": float(self._sources.people()),
            "load": round(self._sources.load(), 4),
            "received": round(8 * since["bytes_received"] / seconds),
            "sent": round(8 * since["bytes_sent"] / seconds),
            # Of a packet that was sent before, so a short silence may be asked for more than it brought.
            "asked_again": round(min(1.0, since["nacks_received"] / max(since["packets_sent"], 1)), 5),
            "lag": round(self._lag(), 4),
            "memory": _memory(),
        }
        for name, value in point.items():
            self._series[name].append(value)

    def _traffic(self) -> Counter[str]:
        """What workers counted since the last sample."""
        since = Counter[str]()
        for worker in self._sources.workers():
            table = worker.snapshot().get("counters")
            counts = Counter[str]()
            for name, value in table.items() if isinstance(table, Mapping) else ():
                # Packets and bytes by direction, whatever their kind.
                what = "_".join(str(name).split("_")[:2])
                if what in ("bytes_received", "bytes_sent", "packets_sent", "nacks_received") and isinstance(
                    value, int
                ):
                    counts[what] += value
            deaths, before = self._before.get(worker.name, (worker.deaths, Counter[str]()))
            # One that was replaced begins from zero.
            since.update(counts - before if deaths == worker.deaths else counts)
            self._before[worker.name] = (worker.deaths, counts)
        return since

    def view(self, *, now: float, today: float) -> Mapping[str, object]:
        """`now` is of the clock of `sample`, `today` in seconds since 1970."""
        ends = self._sources.certificate_ends()
        joins = self._kept.joins
        return {
            "version": self._sources.version,
            "seconds": round(now - self._began),
            "concerns": list(self._concerns(today)),
            "people": self._sources.people(),
            "capacity": self._sources.capacity(),
            "rooms": sum(1 for _ in self._sources.rooms()),
            "workers": sum(1 for _ in self._sources.workers()),
            "certificate_days": None if ends is None else int((ends - today) // 86_400),
            "joins": {
                "connected": joins["connected"],
                "failed": joins["failed"],
                "refused": joins.total() - joins["connected"] - joins["failed"],
            },
            "interval": INTERVAL,
            "series": {name: list(points) for name, points in self._series.items()},
        }

    def _concerns(self, today: float) -> Iterator[str]:
        """Words from a closed set, the worst first; the page has a sentence for each."""
        if self._dead():
            yield "worker_dead"
        if self._sources.draining():
            yield "draining"
        if self._sources.people() >= self._sources.capacity():
            yield "full"
        elif self._sources.load() > BUSY:
            yield "busy"
        if max(list(self._series["lag"])[-3:], default=0.0) > LATE:
            yield "late"
        ends = self._sources.certificate_ends()
        if ends is not None and ends - today < EXPIRES:
            yield "certificate"
        if not self._kept.last_reload_accepted:
            yield "reload_refused"
        audit = self._sources.audit()
        if audit is not None and audit.lost:
            yield "audit_lost"


def _memory() -> float:
    """Bytes of this process in memory (proc(5), statm)."""
    return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
