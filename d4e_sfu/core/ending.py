"""How a server comes to its end: no new rooms, calls that run may end by themselves, and by a given time they do.

Towards that time whoever is still there is asked to join again, room by room (departure.py), so that another server
does not get them all at once. That the process then ends is its owner's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from d4e_sfu.core.sfu import Sfu

# Who was alone in a call and lost it comes back within this, before an empty server is taken to be done.
QUIET: Final = 5.0


class Ending:
    def __init__(self, sfu: Sfu) -> None:
        self._sfu = sfu
        self._since = 0.0
        self._until: float | None = None
        self._quiet_since: float | None = None

    def begin(self, seconds: float, *, now: float) -> bool:
        """Over once everyone has left, or after this time, or that of an earlier call. Returns whether it is."""
        if self._until is None:
            self._since = now
        self._until = min(now + seconds, self._until or math.inf)
        self._sfu.drain()
        return seconds <= 0 or not self._sfu.people

    def left(self, *, now: float) -> float | None:
        """Seconds that there are at most; None: it has not begun."""
        return None if self._until is None else self._until - now

    def tick(self, *, spread: float, now: float) -> bool:
        """Asks those to go whose turn it is, the last `spread` seconds long. Returns whether it is over."""
        if self._until is None:
            return False
        if self._sfu.people:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        spread = min(spread, self._until - self._since)
        if now >= self._until - spread and spread > 0:
            self._sfu.send_away(min(1.0, 1 - (self._until - now) / spread), now=now)
        return now >= self._until or (self._quiet_since is not None and now - self._quiet_since >= QUIET)
