"""One direction of one link: a bottleneck with its queue, and behind it a way that loses, delays, reorders and doubles.

Packets go in with a time and a size; what comes of them is put on an agenda. No sockets, no clock, no bytes: in virtual
time the agenda is the seeded network's (network.py), for browsers it is the relay's (relay.py), and both obey the same
arithmetic.

The order of things is that of a modem: a packet is dropped where the queue is full, waits, takes its time on the line,
and is lost (or late, or twice there) behind it. So what is lost has cost the line as much as what is not.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

Packet = TypeVar("Packet")

HEADERS: Final = 28  # bytes; IPv4 without options (RFC 791) and UDP: rates here are of IP packets
OPPORTUNITY: Final = 1504  # bytes; what one line of a trace delivers (Mahimahi, `link_queue.cc`)


class Trace:
    """A recorded link in Mahimahi's format: each number is a millisecond at which 1,504 bytes could be delivered.
    Several may share one; at the end it begins again."""

    def __init__(self, milliseconds: list[int]) -> None:
        if not milliseconds or milliseconds != sorted(milliseconds) or milliseconds[0] < 0 or milliseconds[-1] <= 0:
            raise ValueError("a trace is a list of milliseconds that do not fall, and lasts longer than none")
        self._at = milliseconds
        self.duration = milliseconds[-1] / 1000
        """Seconds of one round."""
        self.rate = len(milliseconds) * OPPORTUNITY * 8 / self.duration
        """bits per second, on average."""

    @classmethod
    def read(cls, path: Path) -> Trace:
        return cls([int(line) for line in path.read_text().split()])

    def at(self, opportunity: int) -> float:
        """Seconds from the beginning to an opportunity, counted from 0 through all rounds."""
        rounds, rest = divmod(opportunity, len(self._at))
        return rounds * self.duration + self._at[rest] / 1000

    def since(self, seconds: float) -> int:
        """The first opportunity that is not before it."""
        rounds = int(seconds / self.duration)
        first = max(0, rounds - 1) * len(self._at)
        return first + bisect_left(range(first, first + 3 * len(self._at)), seconds - 1e-9, key=self.at)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of one direction. Times in seconds, shares in 0..1, rates in bits per second of IP packets."""

    delay: float = 0.02
    jitter: float = 0.0
    """Added uniformly from 0 to this; order is kept."""
    loss: float = 0.0
    """1 is a blackout."""
    burst: float | None = None
    """Mean length of a loss in packets (Gilbert–Elliott: the good state loses nothing, the bad one everything); None:
    each packet by itself."""
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share of packets that are held back by `reorder_delay` more, so that others overtake them."""
    reorder_delay: float = 0.025
    rate: float | None = None
    """None: no bottleneck."""
    trace: Trace | None = None
    """Instead of a rate."""
    queue: float = 0.3
    """What would wait longer than this is dropped at the tail; at the mean rate of a trace."""
    queue_bytes: int | None = None
    """Instead of `queue`."""

    def __post_init__(self) -> None:
        assert self.rate is None or self.trace is None, "a rate or a trace"
        assert self.burst is None or (self.burst >= 1 and self.loss < 1), "a burst is one packet long or more"


@dataclass(frozen=True, slots=True)
class Passage(Generic[Packet]):
    """One packet at the bottleneck."""

    at: float
    """When it had left, or was dropped."""
    wait: float
    """How long before its first bit was sent."""
    size: int
    packet: Packet
    dropped: bool = False
    """The queue was full."""
    lost: bool = False
    """Behind the bottleneck."""


@dataclass(slots=True)
class Counts:
    sent: int = 0
    dropped: int = 0
    lost: int = 0


class Agenda:
    """What is to happen when. Equal times keep the order in which they were put down."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0

    def put(self, at: float, action: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._entries, (at, self._order, action))

    def next(self) -> float | None:
        return self._entries[0][0] if self._entries else None

    def run(self, *, now: float) -> None:
        """Everything until `now`, each with the time at which it was to happen."""
        while self._entries and self._entries[0][0] <= now:
            at, _, action = heapq.heappop(self._entries)
            action(at)


@dataclass(slots=True)
class _Waiting(Generic[Packet]):
    packet: Packet
    size: int
    since: float
    wait: float = 0.0


class Link(Generic[Packet]):
    """`arrive` is called with each packet that gets through, at its time on the agenda."""

    def __init__(
        self,
        conditions: Conditions,
        *,
        agenda: Agenda,
        chance: random.Random,
        arrive: Callable[[Packet, float], None],
        now: float,
    ) -> None:
        self.conditions = conditions
        self.counts = Counts()
        self.passages: list[Passage[Packet]] | None = None
        """What went through the bottleneck, once somebody wants to know (`watch`)."""
        self._agenda = agenda
        self._chance = chance
        self._arrive = arrive
        self._bad = False  # the state of Gilbert and Elliott
        self._last_arrival = 0.0
        self._queue: deque[_Waiting[Packet]] = deque()
        self._waiting = 0  # bytes of it
        # The packet on the line: what was left of it at a time, and which departure on the agenda is the true one.
        self._head: _Waiting[Packet] | None = None
        self._head_left = 0.0
        self._head_since = 0.0
        self._departure = 0
        self._changed = now
        self._opportunity = 0
        self._opportunity_left = OPPORTUNITY

    def watch(self) -> list[Passage[Packet]]:
        self.passages = [] if self.passages is None else self.passages
        return self.passages

    def change(self, conditions: Conditions, *, now: float) -> None:
        """From now on. What is behind the bottleneck arrives as it would have; what waits, waits under the new ones."""
        if self._head is not None:
            self._head_left = self._left(now)
        self.conditions = conditions
        self._changed, self._opportunity, self._opportunity_left = now, 0, OPPORTUNITY
        if self._head is None:
            return
        if conditions.rate is None and conditions.trace is None:
            freed = [self._head, *self._queue]
            self._queue.clear()
            self._head, self._waiting = None, 0
            self._departure += 1
            for waiting in freed:
                waiting.wait = waiting.wait or now - waiting.since
                self._leaves(waiting, now)
            return
        while self._queue and self._wait(self._backlog(now) - self._queue[-1].size) > self._longest():
            tail = self._queue.pop()
            self._waiting -= tail.size
            self._drop(tail.packet, tail.size, now)
        self._head_since = now
        self._schedule(now)

    def send(self, packet: Packet, size: int, *, now: float) -> None:
        """`size` in bytes, IP and UDP headers included."""
        self.counts.sent += 1
        conditions = self.conditions
        if conditions.rate is None and conditions.trace is None:
            self._leaves(_Waiting(packet, size, now), now)
            return
        if self._head is None:
            self._begin(_Waiting(packet, size, now), now)
            return
        backlog = self._backlog(now)
        full = (
            self._wait(backlog) > conditions.queue
            if conditions.queue_bytes is None
            else backlog + size > conditions.queue_bytes
        )
        if full:
            self._drop(packet, size, now)
            return
        self._queue.append(_Waiting(packet, size, now))
        self._waiting += size

    # --- the bottleneck -----------------------------------------------------------------------------------------------

    def _mean_rate(self) -> float:
        conditions = self.conditions
        return conditions.trace.rate if conditions.trace is not None else conditions.rate or 0.0

    def _wait(self, backlog: float) -> float:
        return backlog * 8 / self._mean_rate()

    def _longest(self) -> float:
        limit = self.conditions.queue_bytes
        return self.conditions.queue if limit is None else self._wait(limit)

    def _left(self, now: float) -> float:
        """Bytes of the head that are still to be sent."""
        rate = self.conditions.rate
        if rate is None:
            return self._head_left  # a trace delivers at its opportunities alone
        return max(0.0, self._head_left - (now - self._head_since) * rate / 8)

    def _backlog(self, now: float) -> float:
        return self._left(now) + self._waiting

    def _begin(self, waiting: _Waiting[Packet], now: float) -> None:
        waiting.wait = now - waiting.since
        self._head, self._head_left, self._head_since = waiting, waiting.size, now
        self._schedule(now)

    def _schedule(self, now: float) -> None:
        self._departure += 1
        departure = self._departure

        def departs(at: float) -> None:
            if departure == self._departure and self._head is not None:
                head, self._head = self._head, None
                self._leaves(head, at)
                if self._queue:
                    following = self._queue.popleft()
                    self._waiting -= following.size
                    self._begin(following, at)

        self._agenda.put(self._finish(now), departs)

    def _finish(self, now: float) -> float:
        """When the head has left."""
        trace, rate = self.conditions.trace, self.conditions.rate
        if trace is None:
            assert rate is not None
            return now + self._head_left * 8 / rate
        left = self._head_left
        if trace.at(self._opportunity) + self._changed < now - 1e-9:
            self._opportunity, self._opportunity_left = trace.since(now - self._changed), OPPORTUNITY
        while left > self._opportunity_left:
            left -= self._opportunity_left
            self._opportunity, self._opportunity_left = self._opportunity + 1, OPPORTUNITY
        self._opportunity_left -= int(left)
        return max(now, self._changed + trace.at(self._opportunity))

    # --- behind it ----------------------------------------------------------------------------------------------------

    def _leaves(self, waiting: _Waiting[Packet], at: float) -> None:
        lost = self._is_lost()
        if self.passages is not None:
            self.passages.append(Passage(at, waiting.wait, waiting.size, waiting.packet, lost=lost))
        if lost:
            self.counts.lost += 1
            return
        conditions, chance = self.conditions, self._chance
        copies = 2 if conditions.duplicate and chance.random() < conditions.duplicate else 1
        for _ in range(copies):
            arrival = at + conditions.delay
            if conditions.jitter:
                arrival += chance.uniform(0.0, conditions.jitter)
            if conditions.reorder and chance.random() < conditions.reorder:
                arrival = max(arrival, self._last_arrival) + conditions.reorder_delay
            else:
                self._last_arrival = arrival = max(arrival, self._last_arrival)
            packet = waiting.packet
            self._agenda.put(arrival, lambda at, packet=packet: self._arrive(packet, at))  # type: ignore[misc]

    def _is_lost(self) -> bool:
        conditions, chance = self.conditions, self._chance
        if conditions.burst is None:
            self._bad = False
            return conditions.loss > 0 and chance.random() < conditions.loss
        # Mean stay in the bad state: 1 / leave = burst. Share of time in it: enter / (enter + leave) = loss.
        leave = 1 / conditions.burst
        enter = leave * conditions.loss / (1 - conditions.loss)
        self._bad = chance.random() >= leave if self._bad else chance.random() < enter
        return self._bad

    def _drop(self, packet: Packet, size: int, now: float) -> None:
        self.counts.dropped += 1
        if self.passages is not None:
            self.passages.append(Passage(now, 0.0, size, packet, dropped=True))


def blackout(conditions: Conditions) -> Conditions:
    """The same link while nothing gets through."""
    return dataclasses.replace(conditions, loss=1.0, burst=None)
