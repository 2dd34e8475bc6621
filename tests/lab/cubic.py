"""A download that competes: a greedy TCP flow with CUBIC's window (RFC 9438), for the rows where ours meet one.

It is a host of the seeded network at both ends: data goes over the link that it is given, acknowledgements come back
over one without conditions of its own. What is lost is not sent again, for nobody reads it; the window answers to it as
if. Left out: ECN, HyStart++ (RFC 9406), delayed acknowledgements.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from tests.lab.network import HEADERS, Address, Conditions, Datagram, Network

SEGMENT: Final = 1500  # bytes, of the IP packet
C: Final = 0.4  # RFC 9438 §4.1, segments per s³
BETA: Final = 0.7  # §4.6
ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)  # §4.3
INITIAL_WINDOW: Final = 10  # segments (RFC 6928)
OVERTAKEN: Final = 3  # later ones that arrived before one counts as lost (RFC 5681 §3.2)
MIN_TIMEOUT: Final = 1.0  # s (RFC 6298 §2.4)


class Window:
    """The congestion window in segments, from acknowledgements and losses alone."""

    def __init__(self) -> None:
        self.size: float = INITIAL_WINDOW
        self.threshold = float("inf")
        self._epoch: float | None = None
        self._before = 0.0  # W_max
        self._began_at = 0.0  # cwnd_epoch
        self._estimate = 0.0  # W_est: what Reno would have

    def acknowledged(self, *, now: float, round_trip: float) -> None:
        """One segment."""
        if self.size < self.threshold:
            self.size += 1
            return
        if self._epoch is None:
            self._epoch, self._began_at, self._estimate = now, self.size, self.size
            self._before = max(self._before, self.size)
        self._estimate += (ALPHA if self._estimate < self._before else 1.0) / self.size
        target = self.cubic(now + round_trip - self._epoch)
        if self.cubic(now - self._epoch) < self._estimate:
            self.size = max(self.size, self._estimate)
        else:
            # §4.4: at most half as much again in one round trip.
            self.size += (min(max(target, self.size), 1.5 * self.size) - self.size) / self.size

    def cubic(self, since: float) -> float:
        """W_cubic(t), §4.2."""
        return C * (since - self.plateau) ** 3 + self._before

    @property
    def plateau(self) -> float:
        """K: seconds from the beginning of the epoch until the window is again as before the loss."""
        return float(((self._before - self._began_at) / C) ** (1 / 3))

    def lost(self) -> None:
        """Once in a round trip, whatever it lost."""
        # §4.7, fast convergence: who is losing ground gives way.
        self._before = self.size * (1 + BETA) / 2 if self.size < self._before else self.size
        self.size = self.threshold = max(2.0, self.size * BETA)
        self._epoch = None

    def timed_out(self) -> None:
        self.lost()
        self.size = 1.0


class Cubic:
    """Begins at once and sends as much as it may until `stop`."""

    def __init__(self, network: Network, source: Address, sink: Address, *, now: float) -> None:
        self.window = Window()
        self.delivered: list[tuple[float, int]] = []
        """When how many bytes had come (IP)."""
        self.lost = 0
        self._network = network
        self._source, self._sink = source, sink
        self._next = 0
        self._underway: dict[int, float] = {}  # number → when it was sent
        self._recovery = -1  # losses up to this number belong to a reaction that has been
        self._round_trip: float | None = None
        self._heard = now
        self._running = True
        network.attach(source, _End(self._acknowledge))
        network.attach(sink, _End(self._deliver))
        network.set(sink, source, Conditions(delay=0.0), now=now)
        self._watch(now)
        self._fill(now)

    def stop(self) -> None:
        self._running = False

    def bytes_between(self, begin: float, end: float) -> int:
        return sum(size for at, size in self.delivered if begin <= at < end)

    def _fill(self, now: float) -> None:
        while self._running and len(self._underway) < self.window.size:
            payload = struct.pack("!Q", self._next).ljust(SEGMENT - HEADERS, b"\0")
            self._underway[self._next] = now
            self._next += 1
            self._network.send(payload, source=self._source, target=self._sink, now=now)

    def _deliver(self, datagram: Datagram, now: float) -> None:
        self.delivered.append((now, datagram.size))
        self._network.send(datagram.payload[:8], source=self._sink, target=self._source, now=now)

    def _acknowledge(self, datagram: Datagram, now: float) -> None:
        (number,) = struct.unpack("!Q", datagram.payload)
        sent = self._underway.pop(number, None)
        if sent is None:
            return
        self._heard = now
        self._round_trip = now - sent
        late = [each for each in self._underway if each <= number - OVERTAKEN]
        for each in late:
            del self._underway[each]
        self.lost += len(late)
        if late and max(late) > self._recovery:
            self._recovery = self._next - 1
            self.window.lost()
        elif number > self._recovery:
            self.window.acknowledged(now=now, round_trip=self._round_trip)
        self._fill(now)

    def _watch(self, now: float) -> None:
        """Nothing comes back: everything underway counts as lost (RFC 6298)."""
        timeout = max(MIN_TIMEOUT, 2 * (self._round_trip or 0.0))
        if self._underway and now - self._heard >= timeout:
            self.lost += len(self._underway)
            self._underway.clear()
            self._recovery = self._next - 1
            self._heard = now
            self.window.timed_out()
            self._fill(now)
        if self._running:
            self._network.agenda.put(now + timeout / 4, self._watch)


class _End:
    def __init__(self, receive: Callable[[Datagram, float], None]) -> None:
        self._receive = receive

    def receive(self, datagram: Datagram, *, now: float) -> None:
        self._receive(datagram, now)
