"""When to ask a client for more media sections (it alone makes offers), and when to stop asking.

An offer costs the client and us milliseconds, and everyone who comes would cause one: so we ask at most once in
`INTERVAL`, for all that is missing by then. At most one request is outstanding. It is repeated after `PATIENCE` without
an offer that helped, `TRIES` times; then only the next placement or a new want starts it again. Without this bound, a
client that ignores us would be asked for ever.
"""

from __future__ import annotations

from typing import Final

INTERVAL: Final = 0.3  # s
PATIENCE: Final = 2.0  # s; a client answers within two round trips and some tens of ms
TRIES: Final = 5


class SectionsRequirement:
    """Towards one client."""

    __slots__ = ("_asked_at", "_outstanding", "_tries", "deferred")

    def __init__(self) -> None:
        self.deferred = False  # wanted too soon after the last one: at a later tick
        self._asked_at = float("-inf")
        self._outstanding = False
        self._tries = 0

    def may_ask(self, *, now: float) -> bool:
        return self._tries < TRIES and (not self._outstanding or now - self._asked_at >= PATIENCE)

    def ask(self, *, now: float) -> bool:
        """The request goes out; or, if False, it waits."""
        self.deferred = now - self._asked_at < INTERVAL
        if self.deferred:
            return False
        self._asked_at = now
        self._outstanding = True
        self._tries += 1
        return True

    def helped(self) -> None:
        """An offer placed something, or nothing is missing."""
        self._outstanding = False
        self._tries = 0

    def wanted_anew(self) -> None:
        """Something else is wanted than when we gave up."""
        self._tries = min(self._tries, TRIES - 1)
