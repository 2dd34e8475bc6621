"""A token bucket: how often someone may do something. It is not bandwidth; that is the engine's."""

from __future__ import annotations


class Allowance:
    """`burst` at once, `rate` per second after that."""

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._then = now

    def take(self, *, now: float, amount: float = 1.0) -> bool:
        """Use some of it; False = too much, and nothing is used."""
        self._level = min(self._burst, self._level + max(0.0, now - self._then) * self._rate)
        self._then = now
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def wait(self, *, now: float, amount: float = 1.0) -> float:
        """Seconds until so much may be used."""
        level = min(self._burst, self._level + max(0.0, now - self._then) * self._rate)
        return max(0.0, amount - level) / self._rate

    def charge(self, *, now: float, amount: float = 1.0) -> float:
        """Use so much, on credit if need be. Returns the seconds by which that made the debt longer."""
        before = self.wait(now=now, amount=0.0)
        self.take(now=now, amount=0.0)
        self._level -= amount
        return self.wait(now=now, amount=0.0) - before
