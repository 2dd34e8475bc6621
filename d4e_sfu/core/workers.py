"""The workers of this process: which of them a new room goes to, and which rooms are kept out as workers die of them.

A room lives on one worker, and workers share nothing, so this choice is the only one there is: a room never moves. What
a worker does at the moment comes in as values (`Load`); forwarding itself is the engine's, restarting is its driver's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import Associations, Engine

# Share of a core that a consultation of two takes, each with voice and picture: some 500 packets a second at 2 µs, and
# as much again for waking up for so few.
ORDINARY_ROOM: Final = 0.002
# What is measured is noise below this.
RESOLUTION: Final = 0.001

# A room of which so many workers have died within the window is refused, until it has been kept out for as long again.
DEATHS: Final = 3
WINDOW: Final = 60.0  # s


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """Where a room lives: a packet engine and the associations of its transports."""

    engine: Engine
    associations: Associations


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What a worker has to do, and will have to as far as one can tell.

    `busy`: share of a core that its thread has used lately, 0 to 1. `quiet`: rooms with people in which nothing is
    forwarded yet. They cost nothing so far and will soon; without them everyone who comes at eight o'clock would land
    on the worker that was idle at a quarter to. `rooms`: all of them.
    """

    busy: float
    quiet: int
    rooms: int

    def expected(self) -> tuple[int, int]:
        return round((self.busy + self.quiet * ORDINARY_ROOM) / RESOLUTION), self.rooms


def least_loaded(loads: Sequence[Load | None]) -> int:
    """Which worker takes the next room; the first among equals. None stands for a worker that is dead; not all are."""
    return min((load.expected(), at) for at, load in enumerate(loads) if load is not None)[1]


class Suspects:
    """Rooms that were to blame for the death of a worker. Names only, and only for as long as it matters."""

    def __init__(self) -> None:
        self._deaths: dict[str, list[tuple[float, Worker]]] = {}
        self._refused: dict[str, float] = {}  # until when

    def blame(self, room: str, worker: Worker, *, now: float) -> bool:
        """`worker` has died of this room. True: it has happened too often, and the room is refused from now on."""
        deaths = self._deaths.setdefault(room, [])
        deaths.append((now, worker))
        self.forget(now=now)
        if len(deaths) < DEATHS:
            return False
        del self._deaths[room]
        self._refused[room] = now + WINDOW
        return True

    def refuses(self, room: str) -> bool:
        return room in self._refused

    def keeper(self, room: str) -> Worker | None:
        """A suspect goes back to the worker that died of it, so that no other has to."""
        deaths = self._deaths.get(room)
        return deaths[-1][1] if deaths else None

    def forget(self, *, now: float) -> None:
        """What has become old; called a few times a second."""
        for room, deaths in list(self._deaths.items()):
            deaths[:] = [death for death in deaths if now - death[0] < WINDOW]
            if not deaths:
                del self._deaths[room]
        for room, until in list(self._refused.items()):
            if now >= until:
                del self._refused[room]
