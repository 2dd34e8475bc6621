"""What waits to be told to servers outside: in order per room and address, again where it failed, and never too much.

A lane is one room's events for one address. Of each lane one delivery is under way; where it fails the lane waits,
longer each time, and the events behind wait with it, so that order holds. Lanes do not wait for each other. An event
that is older than `give_up` is dropped where it fails once more; one that comes when the box is full is dropped at
once, and the next one tells of it. Each drop has its name. No socket and no clock: `drivers/webhooks.py` sends.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DROPS: Final = ("queue_full", "gave_up", "address_removed")
MAX_BYTES: Final = 32 << 20
"""Of all bodies together."""
UNDER_WAY: Final = 8
"""Deliveries to one address at the same time: one that does not answer holds up nobody else's."""
FIRST_PAUSE: Final = 1.0  # seconds; doubled with each failure
LONGEST_PAUSE: Final = 300.0


class Event(NamedTuple):
    id: str
    room: str
    """Sid: whoever was in a room of the same name before is another lane."""
    body: str
    at: float
    """Seconds on the clock of `now`."""


class Delivery(NamedTuple):
    """One event on its way to one address; `settle` it, whatever became of it."""

    url: str
    event: Event


@dataclass(slots=True)
class _Lane:
    events: deque[Event] = field(default_factory=deque)
    failures: int = 0
    due: float = 0.0
    under_way: bool = False


class Outbox:
    def __init__(self, *, chance: random.Random) -> None:
        self.drops: Counter[str] = Counter()
        self.delivered = 0
        self.failures = 0
        self.untold = 0
        """Dropped since the last event that was taken in."""
        self._chance = chance
        self._lanes: OrderedDict[tuple[str, str], _Lane] = OrderedDict()  # by address and room; served last
        self._left: dict[str, int] = {}  # by id of the event: addresses that have not got it
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._left)

    def put(self, event: Event, urls: Sequence[str], *, at_most: int) -> bool:
        """False: dropped, the box is full."""
        if len(self._left) >= at_most or self._bytes + len(event.body) > MAX_BYTES:
            self.drops["queue_full"] += 1
            self.untold += 1
            return False
        self.untold = 0
        if urls:
            self._left[event.id] = len(urls)
            self._bytes += len(event.body)
        for url in urls:
            self._lanes.setdefault((url, event.room), _Lane()).events.append(event)
        return True

    def take(self, *, now: float) -> list[Delivery]:
        """All that is to be sent now."""
        under_way = self._under_way()
        taken = []
        for (url, _), lane in self._lanes.items():
            if not lane.under_way and lane.due <= now and under_way[url] < UNDER_WAY:
                lane.under_way = True
                under_way[url] += 1
                taken.append(Delivery(url, lane.events[0]))
        return taken

    def settle(self, delivery: Delivery, *, arrived: bool, give_up: float, now: float) -> None:
        key = delivery.url, delivery.event.room
        lane = self._lanes.get(key)
        if lane is None or lane.events[0] is not delivery.event:
            return  # its address was removed meanwhile
        lane.under_way = False
        self._lanes.move_to_end(key)
        if arrived:
            self.delivered += 1
        else:
            self.failures += 1
            lane.failures += 1
            if now - delivery.event.at < give_up:
                pause = min(FIRST_PAUSE * 2 ** min(lane.failures - 1, 16), LONGEST_PAUSE)
                lane.due = now + pause * self._chance.uniform(0.5, 1.0)  # or all that failed at once come at once
                return
            self.drops["gave_up"] += 1
        if arrived:
            lane.failures, lane.due = 0, now
        self._pop(key, lane)

    def next_due(self) -> float | None:
        """When `take` will give something; None: not before `settle` or `put`."""
        under_way = self._under_way()
        free = (lane for (url, _), lane in self._lanes.items() if not lane.under_way and under_way[url] < UNDER_WAY)
        return min((lane.due for lane in free), default=None)

    def _under_way(self) -> Counter[str]:
        return Counter(url for (url, _), lane in self._lanes.items() if lane.under_way)

    def retain(self, urls: Iterable[str]) -> None:
        """A reload: what waits for other addresses is dropped."""
        stay = frozenset(urls)
        for key, lane in list(self._lanes.items()):
            if key[0] not in stay:
                self.drops["address_removed"] += len(lane.events)
                while key in self._lanes:
                    self._pop(key, lane)

    def waiting(self) -> Iterator[tuple[Event, list[str]]]:
        """Each event that somebody has not got, in the order in which they came, and who: to be kept over a restart."""
        of: dict[str, tuple[Event, list[str]]] = {}
        for (url, _), lane in self._lanes.items():
            for event in lane.events:
                of.setdefault(event.id, (event, []))[1].append(url)
        for id in self._left:
            yield of[id]

    def _pop(self, key: tuple[str, str], lane: _Lane) -> None:
        event = lane.events.popleft()
        if not lane.events:
            del self._lanes[key]
        self._left[event.id] -= 1
        if self._left[event.id] == 0:
            del self._left[event.id]
            self._bytes -= len(event.body)
