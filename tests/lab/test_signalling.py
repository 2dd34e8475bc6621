"""The laboratory's TCP: what it weighs, and that a message comes whole, in order, and in spite of what is lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.lab.network import Conditions, Network
from tests.lab.signalling import CLIENT_HELLO, HTTP_REQUEST, SEGMENT, SERVER_HELLO, TCP_IP, Sender, Wire, deflated
from tests.lab.virtual import Camera, Lab, Voice


class Line:
    """Two ends, and when what was written had come."""

    def __init__(self, conditions: Conditions) -> None:
        self.network = Network(random.Random(7), default=conditions)
        self.near, self.far = Sender(self.network, "near", "far"), Sender(self.network, "far", "near")
        self.near.peer, self.far.peer = self.far, self.near
        self.came: list[tuple[str, float]] = []
        self.now = 0.0

    def write(self, name: str, size: int) -> None:
        self.near.write(size, self._arrives(name), now=self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.network.next_arrival()) is not None and at <= end:
            self.now = at
            for _ in self.network.arrivals(now=at):
                raise AssertionError("everything is for one of the ends")
        self.now = end

    def _arrives(self, name: str) -> Callable[[], None]:
        return lambda: self.came.append((name, self.now))


def test_a_message_takes_its_packets_at_the_rate_and_then_the_delay() -> None:
    line = Line(Conditions(delay=0.1, rate=80_000, queue=10))
    line.write("two segments and a half", 5 * SEGMENT // 2)
    line.run(5)
    size = 5 * SEGMENT // 2 + 3 * TCP_IP
    assert line.near.sent == size
    assert line.far.sent == 3 * TCP_IP, "acknowledgements"
    ((name, at),) = line.came
    assert name == "two segments and a half"
    assert at == pytest.approx(size * 8 / 80_000 + 0.1)


def test_what_has_to_wait_shares_a_segment() -> None:
    line = Line(Conditions(delay=0.1, rate=80_000, queue=10))
    line.write("first", 10 * SEGMENT)
    for n in range(14):
        line.write(f"small {n}", 100)
    line.run(10)
    assert line.near.sent == 10 * (SEGMENT + TCP_IP) + 1400 + TCP_IP
    assert [name for name, _ in line.came[1:]] == [f"small {n}" for n in range(14)]


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_everything_comes_in_order_whatever_is_lost(loss: float) -> None:
    line = Line(Conditions(delay=0.05, loss=loss))
    for n in range(100):
        line.write(f"{n}", 1 + 37 * n)
        line.run(0.05)
    line.run(600)
    assert [name for name, _ in line.came] == [f"{n}" for n in range(100)]
    assert line.near.sent > sum(1 + 37 * n for n in range(100)) * (1 + loss / 2)


def test_a_queue_that_is_full_slows_it_down_and_stops_nothing() -> None:
    line = Line(Conditions(delay=0.2, rate=64_000, queue=0.3))
    line.write("large", 40_000)
    line.run(60)
    ((_, at),) = line.came
    assert 40_000 * 8 / 64_000 < at < 20


def test_a_browsers_join_weighs_what_a_browser_was_seen_to_send() -> None:
    """Chromium 156 with livekit-client 2.23 in a room with one other, as payloads: up a URL of 2.9 kB, the second offer
    in 1.9 kB, four candidates of 0.15 kB; down 0.6 kB of join, twice 1 kB of answer, 0.4 kB of token."""
    lab = Lab(1)
    lab.join("other", publish=[Camera(), Voice()])
    lab.run(1)
    station = lab.join("station", wire=True, browser=True)
    lab.run(2)
    wire = station.signalling
    assert isinstance(wire, Wire)
    assert station.connected_at is not None
    around = 40 * TCP_IP + CLIENT_HELLO + HTTP_REQUEST
    assert 5_400 <= wire.bytes_up <= 5_400 + around
    assert 3_000 + SERVER_HELLO <= wire.bytes_down <= 3_000 + SERVER_HELLO + around


def test_what_repeats_within_the_window_costs_little() -> None:
    text = random.Random(1).randbytes(6_000)
    assert deflated(text * 20) < 1.2 * len(text)
    assert deflated(text + random.Random(2).randbytes(3_000) + text) > 14_900, "further apart than the window"
