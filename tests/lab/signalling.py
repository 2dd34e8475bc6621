"""A person's signalling connection in the laboratory, instead of a WebSocket: a delay; or, where its weight matters,
TCP with TLS on his own link, beside his media, and compressed as his client would.

A message is what a frame would hold. `Delay` carries it, `Wire` counts it as IP packets: WebSocket, TLS and TCP around
it, acknowledgements, and what had to be sent twice.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from d4e_sfu.drivers.websocket import WINDOW_BITS, WORTH
from tests.lab.cubic import MIN_TIMEOUT, OVERTAKEN, Window
from tests.lab.network import HEADERS, Address, Datagram, Network

if TYPE_CHECKING:
    from tests.lab.virtual import Lab

Way: TypeAlias = Literal["up", "down"]

TLS_RECORD: Final = 22  # bytes around a record of TLS 1.3 (RFC 8446 §5.2)
TCP_IP: Final = 52  # IPv4 and TCP with timestamps (RFC 7323)
SEGMENT: Final = 1448  # bytes of a full one
# TLS 1.3 with a chain of two certificates; what is in a GET, beside what its URL holds (token and join request), and in
# the answer to it.
CLIENT_HELLO: Final = 600
SERVER_HELLO: Final = 3000
HTTP_REQUEST: Final = 500
HTTP_RESPONSE: Final = 350


class Signalling(Protocol):
    def join(self, request: int, arrives: Callable[[], None]) -> None:
        """The opening of the connection and everything that has to be said to come in, with a URL of that size."""

    def carry(self, way: Way, message: bytes, arrives: Callable[[], None]) -> None:
        """One message; they keep their order."""


class Delay:
    """`seconds` one way, whatever it is."""

    def __init__(self, lab: Lab, seconds: float) -> None:
        self._lab = lab
        self._seconds = seconds

    def join(self, request: int, arrives: Callable[[], None]) -> None:
        self._lab.later(arrives, after=self._seconds)

    def carry(self, way: Way, message: bytes, arrives: Callable[[], None]) -> None:
        self._lab.later(arrives, after=self._seconds)


class Wire:
    """Over the links between one person and the server, which carry his media as well. Without `compress` he is a
    client that does not inflate."""

    def __init__(self, lab: Lab, address: Address, *, compress: bool) -> None:
        self._lab = lab
        self._compress = compress
        near, far = f"{address} signalling", f"{lab.servers[0]} signalling {address}"
        lab.network.share(near, far, lab.network.link(address, lab.servers[0], now=lab.now))
        lab.network.share(far, near, lab.network.link(lab.servers[0], address, now=lab.now))
        self._ends = {"up": Sender(lab.network, near, far), "down": Sender(lab.network, far, near)}
        for end in self._ends.values():
            end.peer = self._ends["down" if end is self._ends["up"] else "up"]
        self._opened = False

    @property
    def bytes_up(self) -> int:
        """Of IP packets, from the first one on."""
        return self._ends["up"].sent

    @property
    def bytes_down(self) -> int:
        return self._ends["down"].sent

    def join(self, request: int, arrives: Callable[[], None]) -> None:
        def asks() -> None:
            self._write("up", HTTP_REQUEST + request + TLS_RECORD, arrives)
            self._opened = True

        def greets() -> None:
            self._write("up", CLIENT_HELLO, lambda: self._write("down", SERVER_HELLO, asks))

        self._write("up", 0, lambda: self._write("down", 0, greets))  # RFC 9293 §3.5

    def carry(self, way: Way, message: bytes, arrives: Callable[[], None]) -> None:
        size = len(message)
        if self._compress and (way == "up" or size >= WORTH):  # a browser compresses everything
            size = deflated(message)
        size += (2 if size < 126 else 4 if size < 65_536 else 10) + (4 if way == "up" else 0)  # RFC 6455 §5.2
        if way == "down" and self._opened:
            self._opened, size = False, size + HTTP_RESPONSE
        self._write(way, size + TLS_RECORD, arrives)

    def _write(self, way: Way, size: int, arrives: Callable[[], None]) -> None:
        self._ends[way].write(size, lambda: self._lab.later(arrives, after=0.0), now=self._lab.now)


def deflated(message: bytes) -> int:
    """Bytes of it as permessage-deflate sends it, with the window that we agree to and nothing kept (RFC 7692)."""
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS)
    return len(compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)) - 4


class Sender:
    """One direction of a TCP connection (RFC 9293, RFC 6298, RFC 9438): a stream of bytes that come in order, each
    segment acknowledged. Left out: delayed acknowledgements, slow start after idleness."""

    def __init__(self, network: Network, source: Address, target: Address) -> None:
        self.peer: Sender
        self.sent = 0
        """Bytes of IP packets that have left here: segments, and acknowledgements of the peer's."""
        self._network = network
        self._source, self._target = source, target
        self._window = Window()
        self._sizes: list[int] = []  # of each segment
        self._ends: list[tuple[int, Callable[[], None]]] = []  # in front of which segment a message has come, in order
        self._unsent: list[int] = []  # segments to send, or to send again, in order
        self._underway: dict[int, float] = {}
        self._twice: set[int] = set()  # sent again
        self._recovery = -1  # losses up to this segment belong to a reaction that has been
        self._round_trip: float | None = None  # smoothed
        self._variation = 0.0
        self._heard = 0.0
        self._watching = False
        self._came: set[int] = set()  # at the other end
        self._next = 0  # the first that has not come there
        network.attach(source, self)

    def write(self, size: int, arrives: Callable[[], None], *, now: float) -> None:
        if self._unsent and self._unsent[-1] == len(self._sizes) - 1 and size:  # what waits shares a segment
            more = min(SEGMENT - self._sizes[-1], size)
            self._sizes[-1] += more
            size -= more
        elif not size:
            self._sizes.append(0)
            self._unsent.append(len(self._sizes) - 1)
        while size:
            self._sizes.append(min(size, SEGMENT))
            self._unsent.append(len(self._sizes) - 1)
            size -= self._sizes[-1]
        self._ends.append((len(self._sizes), arrives))
        self._fill(now)

    def receive(self, datagram: Datagram, *, now: float) -> None:
        kind, number = struct.unpack_from("!BI", datagram.payload)
        if kind:
            self._acknowledged(number, now)
        else:
            self._send(1, number, 0, now)
            self.peer.arrived(number)

    def arrived(self, number: int) -> None:
        """One of our segments is at the other end."""
        self._came.add(number)
        while self._next in self._came:
            self._came.discard(self._next)
            self._next += 1
        while self._ends and self._ends[0][0] <= self._next:
            self._ends.pop(0)[1]()

    def _send(self, kind: int, number: int, size: int, now: float) -> None:
        payload = struct.pack("!BI", kind, number).ljust(TCP_IP - HEADERS + size, b"\0")
        self.sent += len(payload) + HEADERS
        self._network.send(payload, source=self._source, target=self._target, now=now)

    def _fill(self, now: float) -> None:
        while self._unsent and len(self._underway) < self._window.size:
            number = self._unsent.pop(0)
            if not self._underway:
                self._heard = now
            self._underway[number] = now
            self._send(0, number, self._sizes[number], now)
        if self._underway and not self._watching:
            self._watching = True
            self._network.agenda.put(now + self._timeout, self._watch)

    @property
    def _timeout(self) -> float:
        return MIN_TIMEOUT if self._round_trip is None else max(MIN_TIMEOUT, self._round_trip + 4 * self._variation)

    def _measure(self, took: float) -> None:
        """RFC 6298 §2."""
        if self._round_trip is None:
            self._round_trip, self._variation = took, took / 2
            return
        self._variation += (abs(self._round_trip - took) - self._variation) / 4
        self._round_trip += (took - self._round_trip) / 8

    def _acknowledged(self, number: int, now: float) -> None:
        sent = self._underway.pop(number, None)
        if sent is None:
            return
        self._heard = now
        if number not in self._twice:  # Karn's rule
            self._measure(now - sent)
        late = [each for each, at in self._underway.items() if at < sent and each <= number - OVERTAKEN]
        self._again(late)
        if late and max(late) > self._recovery:
            self._recovery = len(self._sizes) - 1
            self._window.lost()
        elif number > self._recovery:
            self._window.acknowledged(now=now, round_trip=self._round_trip or 0.0)
        self._fill(now)

    def _again(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._underway[number]
            self._twice.add(number)
        self._unsent = sorted(numbers) + self._unsent

    def _watch(self, now: float) -> None:
        """Nothing comes back: everything underway counts as lost (RFC 6298)."""
        self._watching = False
        if self._underway and now - self._heard >= self._timeout - 1e-9:
            self._again(list(self._underway))
            self._recovery = len(self._sizes) - 1
            self._heard = now
            self._window.timed_out()
            self._fill(now)
        elif self._underway:
            self._watching = True
            self._network.agenda.put(self._heard + self._timeout, self._watch)
