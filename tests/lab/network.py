"""The seeded network: datagrams go in with a time, come out later, out of order, twice, or never.

It is the only network of `tests/sim/` and of the virtual rows of the matrix. It has no sockets and no clock: `now` is
an argument, chance comes from the generator it was given, so a run with the same seed is the same run. It knows
addresses, not what is in the datagrams. What happens on the way is link.py's; here is which link a datagram takes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from tests.lab.link import HEADERS, Agenda, Conditions, Link, Passage, Trace, blackout

__all__ = ["HEADERS", "Address", "Conditions", "Datagram", "Network", "Passage", "Trace", "blackout"]

Address: TypeAlias = str
"""`ip:port`"""

GOOD: Final = Conditions()


@dataclass(frozen=True, slots=True)
class Datagram:
    source: Address
    target: Address
    payload: bytes

    @property
    def size(self) -> int:
        """Of the IP packet."""
        return len(self.payload) + HEADERS


class Host(Protocol):
    """Somebody on the network who is neither the server nor a participant; see cubic.py."""

    def receive(self, datagram: Datagram, *, now: float) -> None: ...


@dataclass(slots=True)
class Counts:
    sent: int = 0
    lost: int = 0
    """On the way or before a full queue, those still in it aside."""
    delivered: int = 0


class Network:
    """All links of a run, one for each direction between two addresses, unless several share one (`share`)."""

    def __init__(self, rng: random.Random, *, default: Conditions = GOOD) -> None:
        self.agenda = Agenda()
        self.taps: list[Callable[[Datagram, float], None]] = []
        """Told of everything that is sent, and when."""
        self._seed = rng.getrandbits(64)
        self._default = default
        self._links: dict[tuple[Address, Address], Link[Datagram]] = {}
        self._hosts: dict[Address, Host] = {}
        self._arrived: deque[Datagram] = deque()
        self._sent = self._delivered = 0

    @property
    def counts(self) -> Counts:
        links = {id(link): link.counts for link in self._links.values()}.values()
        return Counts(self._sent, sum(each.lost + each.dropped for each in links), self._delivered)

    def set(self, source: Address, target: Address, conditions: Conditions, *, now: float) -> None:
        """Conditions from `source` to `target` from now on; what is behind the bottleneck arrives as it would have."""
        self.link(source, target, now=now).change(conditions, now=now)

    def link(self, source: Address, target: Address, *, now: float) -> Link[Datagram]:
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = self.new_link(self._default, name=f"{source} {target}", now=now)
        return link

    def new_link(self, conditions: Conditions, *, name: str, now: float) -> Link[Datagram]:
        """A link with a chance of its own, so that what happens on one changes nothing on another."""
        chance = random.Random(f"{self._seed} {name}")
        return Link(conditions, agenda=self.agenda, chance=chance, arrive=self._arrive, now=now)

    def share(self, source: Address, target: Address, link: Link[Datagram]) -> None:
        """From `source` to `target` goes over this link from now on, whatever else does."""
        self._links[source, target] = link

    def attach(self, address: Address, host: Host) -> None:
        self._hosts[address] = host

    def send(self, datagram: bytes, *, source: Address, target: Address, now: float) -> None:
        packet = Datagram(source, target, datagram)
        self._sent += 1
        for tap in self.taps:
            tap(packet, now)
        self.link(source, target, now=now).send(packet, packet.size, now=now)

    def next_arrival(self) -> float | None:
        """When to look again; something arrives then, or moves on."""
        return self.agenda.next()

    def arrivals(self, *, now: float) -> Iterator[tuple[Address, Address, bytes]]:
        """`(source, target, datagram)` of everything that has arrived by `now`, in order of arrival."""
        self.agenda.run(now=now)
        while self._arrived:
            datagram = self._arrived.popleft()
            yield datagram.source, datagram.target, datagram.payload

    def _arrive(self, datagram: Datagram, at: float) -> None:
        self._delivered += 1
        host = self._hosts.get(datagram.target)
        if host is not None:
            host.receive(datagram, now=at)
        else:
            self._arrived.append(datagram)
