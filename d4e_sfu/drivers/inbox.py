"""Datagrams of one transport, waiting for their association: bounded in number and in rate, and bounded in work.

It stands where aiortc expects an ICE transport; the engine has already checked that the address is the client's.
Not on the media path: DTLS and SCTP only.
"""

from __future__ import annotations

import asyncio

# A datagram of a handshake or of a data channel is far smaller; the engine passes no longer ones either.
MAX_DATAGRAM = 2048


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def take(self, cost: float, *, now: float) -> bool:
        """Take `cost` tokens if there are as many."""
        if self._at is not None:
            self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        if cost > self._level:
            return False
        self._level -= cost
        return True

    def charge(self, cost: float) -> None:
        """Take them though they are not there: nothing more until the debt is paid."""
        self._level -= cost


class Inbox:
    """Queue of datagrams for one reader. Full, or faster than its rate: the datagram is dropped, as a network would."""

    __slots__ = ("_bucket", "_closed", "_datagrams", "_limit", "_loop", "_nudged", "_reader", "dropped", "role")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit: int, rate: float) -> None:
        self._loop = loop
        self._limit = limit
        self._datagrams: list[bytes] = []  # few; an empty deque is 600 bytes, and most are empty
        self._bucket = TokenBucket(rate, rate)
        self._reader: asyncio.Future[None] | None = None
        self._nudged = False
        self._closed = False
        self.dropped = 0
        self.role = "controlled"  # ours, as an ICE-lite agent; aiortc reads it for statistics

    def __len__(self) -> int:
        return len(self._datagrams)

    def put(self, datagram: bytes, *, now: float) -> bool:
        """Queue one datagram from the network; False = dropped. Only DTLS passes (RFC 7983 §7: first byte 20–63)."""
        if (
            self._closed
            or not 0 < len(datagram) <= MAX_DATAGRAM
            or not 19 < datagram[0] < 64
            or len(self._datagrams) >= self._limit
            or not self._bucket.take(1, now=now)
        ):
            self.dropped += 1
            return False
        self._datagrams.append(datagram)
        self._wake()
        return True

    def nudge(self) -> None:
        """Let `get` return without a datagram: there is something to send."""
        self._nudged = True
        self._wake()

    def close(self) -> None:
        """Drop what waits and take no more."""
        self._closed = True
        self._datagrams.clear()
        self._wake()

    async def get(self, *, until: float | None = None) -> bytes | None:
        """The next datagram; None at loop time `until`, after a nudge, or when closed."""
        if not self._datagrams and not self._nudged and not self._closed:
            self._reader = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, self._wake)
            try:
                await self._reader
            finally:
                self._reader = None
                if timer is not None:
                    timer.cancel()
        self._nudged = False
        return self._datagrams.pop(0) if self._datagrams else None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
