"""The seeded network: datagrams go in with a time, come out later, out of order, twice, or never.

It is the only network of `tests/sim/`. It has no sockets and no clock: `now` is an argument, chance is the generator
it was given, so a run with the same seed is the same run. It knows addresses, not what is in the datagrams.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Address: TypeAlias = str
"""`ip:port`"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """One direction of one link. Times in seconds, shares in 0..1."""

    delay: float = 0.02
    jitter: float = 0.0
    """Added uniformly from 0 to this; packets may overtake each other."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share of packets that are held back by `reorder_delay` more."""
    reorder_delay: float = 0.025


@dataclass(order=True, slots=True)
class _InFlight:
    arrival: float
    order: int
    source: Address = field(compare=False)
    target: Address = field(compare=False)
    datagram: bytes = field(compare=False)


@dataclass(slots=True)
class Counts:
    sent: int = 0
    lost: int = 0
    delivered: int = 0


class Network:
    """All links of a run. A link is named by the client's address; `up` is towards the server."""

    def __init__(self, rng: random.Random, *, default: Conditions = Conditions()) -> None:
        self._rng = rng
        self._default = default
        self._links: dict[tuple[Address, Address], Conditions] = {}
        self._queue: list[_InFlight] = []
        self._order = 0
        self.counts = Counts()

    def set(self, source: Address, target: Address, conditions: Conditions) -> None:
        """Conditions from `source` to `target` from now on; what is already in flight arrives as it would have."""
        self._links[source, target] = conditions

    def send(self, datagram: bytes, *, source: Address, target: Address, now: float) -> None:
        link = self._links.get((source, target), self._default)
        self.counts.sent += 1
        if self._rng.random() < link.loss:
            self.counts.lost += 1
            return
        for _ in range(2 if self._rng.random() < link.duplicate else 1):
            arrival = now + link.delay + self._rng.uniform(0.0, link.jitter)
            if self._rng.random() < link.reorder:
                arrival += link.reorder_delay
            self._order += 1
            heapq.heappush(self._queue, _InFlight(arrival, self._order, source, target, datagram))

    def next_arrival(self) -> float | None:
        return self._queue[0].arrival if self._queue else None

    def arrivals(self, *, now: float) -> Iterator[tuple[Address, Address, bytes]]:
        """`(source, target, datagram)` of everything that has arrived by `now`, in order of arrival."""
        while self._queue and self._queue[0].arrival <= now:
            packet = heapq.heappop(self._queue)
            self.counts.delivered += 1
            yield packet.source, packet.target, packet.datagram
