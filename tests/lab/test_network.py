"""The laboratory's network against its own arithmetic: what it says it does to packets, it does, and by how much."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
from pathlib import Path

import pytest

from tests.lab.cubic import SEGMENT, Cubic, Window
from tests.lab.link import Agenda, Conditions, Link, Trace, blackout
from tests.lab.network import HEADERS, Network

SEEDS = range(1, 6)


class Bench:
    """One link, and what has come out of it: packets are numbers."""

    def __init__(self, conditions: Conditions, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.arrived: list[tuple[int, float]] = []
        self.link: Link[int] = Link(
            conditions,
            agenda=self.agenda,
            chance=random.Random(seed),
            arrive=lambda packet, at: self.arrived.append((packet, at)),
            now=0.0,
        )

    def send(self, count: int, *, size: int = 1000, every: float = 0.0, since: float = 0.0, first: int = 0) -> None:
        for n in range(count):
            at = since + n * every
            self.agenda.run(now=at)
            self.link.send(first + n, size, now=at)

    def run(self, now: float) -> list[int]:
        self.agenda.run(now=now)
        return [packet for packet, _ in self.arrived]

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.arrived]


def test_a_packet_takes_its_bytes_at_the_rate_and_then_the_delay() -> None:
    bench = Bench(Conditions(delay=0.05, rate=80_000, queue=10))
    bench.send(3, size=1000)  # a tenth of a second each
    assert bench.run(1) == [0, 1, 2]
    assert bench.times == pytest.approx([0.15, 0.25, 0.35])


def test_what_would_wait_longer_than_the_queue_is_dropped_at_its_tail() -> None:
    bench = Bench(Conditions(delay=0, rate=80_000, queue=0.3))
    passages = bench.link.watch()
    bench.send(10, size=1000)
    # One on the line, and behind it those whose wait is 0.1, 0.2 and 0.3 s.
    assert bench.run(5) == [0, 1, 2, 3]
    assert bench.link.counts.dropped == 6
    assert [round(passage.wait, 6) for passage in passages if not passage.dropped] == [0.0, 0.1, 0.2, 0.3]


def test_a_queue_in_bytes_holds_so_many() -> None:
    bench = Bench(Conditions(delay=0, rate=80_000, queue_bytes=2500))
    bench.send(10, size=500)
    assert bench.run(5) == [0, 1, 2, 3, 4]


def test_a_flow_above_the_rate_gets_the_rate() -> None:
    bench = Bench(Conditions(delay=0, rate=1_000_000, queue=0.1))
    bench.send(2000, size=1000, every=0.005)  # 1.6 Mbit/s for ten seconds
    bench.run(10)
    assert len(bench.arrived) * 8000 == pytest.approx(10 * 1_000_000, rel=0.002)


def test_a_change_of_rate_counts_from_that_moment_also_for_the_packet_on_the_line() -> None:
    bench = Bench(Conditions(delay=0, rate=80_000, queue=10))
    bench.send(2, size=1000)
    bench.run(0.05)
    bench.link.change(Conditions(delay=0, rate=8_000, queue=10), now=0.05)
    bench.run(5)
    assert bench.times == pytest.approx([0.55, 1.55])
    bench.send(2, size=1000, since=5, first=2)
    bench.run(5.5)
    bench.link.change(Conditions(delay=0, rate=None), now=5.5)
    assert bench.run(5.5) == [0, 1, 2, 3], "without a bottleneck nothing waits"


def test_a_queue_that_became_too_long_loses_its_tail() -> None:
    bench = Bench(Conditions(delay=0, rate=800_000, queue=0.3))
    bench.send(20, size=1000)
    bench.link.change(Conditions(delay=0, rate=80_000, queue=0.3), now=0.0)
    assert bench.run(9) == [0, 1, 2, 3]


def test_jitter_delays_and_keeps_the_order() -> None:
    bench = Bench(Conditions(delay=0.1, jitter=0.05))
    bench.send(2000, every=0.01)
    assert bench.run(30) == list(range(2000))
    late = [at - 0.01 * n - 0.1 for n, at in bench.arrived]
    assert min(late) >= -1e-9
    assert max(late) <= 0.05 + 1e-9
    assert statistics.mean(late) > 0.025, "half of it, and what who is behind a late one waits"


def test_a_shorter_delay_lets_nobody_overtake() -> None:
    bench = Bench(Conditions(delay=0.2))
    bench.send(5)
    bench.link.change(Conditions(delay=0.01), now=0.05)
    bench.send(5, since=0.05, first=5)
    assert bench.run(1) == list(range(10))


def test_a_share_of_packets_is_overtaken_by_those_of_the_next_milliseconds() -> None:
    bench = Bench(Conditions(delay=0.02, reorder=0.05, reorder_delay=0.025))
    bench.send(20_000, every=0.01)
    order = bench.run(999)
    assert sorted(order) == list(range(20_000))
    held = [(n, at) for n, at in bench.arrived if at - 0.01 * n > 0.02 + 1e-6]
    assert len(held) / 20_000 == pytest.approx(0.05, rel=0.1)
    assert all(at - 0.01 * n == pytest.approx(0.045) for n, at in held)
    place = {packet: at for at, packet in enumerate(order)}
    alone = [n for n, _ in held if not {n + 1, n + 2, n - 1, n - 2} & {other for other, _ in held}][:-1]
    assert all(place[n] == n + 2 for n in alone), "two packets of 10 ms pass in 25 ms"


def test_a_share_of_packets_comes_twice() -> None:
    bench = Bench(Conditions(duplicate=0.02))
    bench.send(20_000, every=0.01)
    copies = bench.run(999)
    assert set(copies) == set(range(20_000))
    assert (len(copies) - 20_000) / 20_000 == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, None), (0.15, 3.0), (0.02, 8.0), (0.4, 2.0), (0.1, 1.0)])
def test_losses_are_as_many_and_as_long_as_asked(loss: float, burst: float | None) -> None:
    bench = Bench(Conditions(loss=loss, burst=burst))
    sent = 60_000
    bench.send(sent, every=0.001)
    came = set(bench.run(999))
    gone = [n not in came for n in range(sent)]
    assert sum(gone) / sent == pytest.approx(loss, rel=0.2)
    assert bench.link.counts.lost == sum(gone)
    lengths = [len(list(run)) for lost, run in itertools.groupby(gone) if lost]
    # One by one, a run of losses still ends with probability 1 - loss at each packet.
    assert statistics.mean(lengths) == pytest.approx(burst or 1 / (1 - loss), rel=0.15)


def test_in_a_blackout_nothing_comes_and_after_it_everything() -> None:
    good = Conditions(delay=0.02, loss=0.1, burst=2)
    bench = Bench(good)
    bench.send(10, since=0)
    before = len(bench.run(1))
    bench.link.change(blackout(good), now=1)
    bench.send(100, every=0.01, since=1, first=10)
    assert len(bench.run(3)) == before
    bench.link.change(dataclasses.replace(good, loss=0, burst=None), now=3)
    bench.send(10, since=3, first=110)
    assert bench.run(4)[before:] == list(range(110, 120))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_is_the_same_fate_whatever_happens_on_other_links(seed: int) -> None:
    def fates(others: int) -> list[tuple[str, str, bytes]]:
        network = Network(random.Random(seed), default=Conditions(loss=0.3, burst=2, jitter=0.01))
        for n in range(200):
            network.send(bytes([n]), source="a", target="b", now=n / 100)
            for other in range(others):
                network.send(b"x", source=f"c{other}", target="d", now=n / 100)
        return [arrival for arrival in network.arrivals(now=9) if arrival[0] == "a"]

    assert fates(0) == fates(3)
    assert 100 < len(fates(0)) < 180


def test_several_ways_share_one_link() -> None:
    network = Network(random.Random(1))
    link = network.new_link(Conditions(delay=0, rate=80_000, queue=1), name="shared", now=0)
    for source in ("a", "b"):
        network.share(source, "c", link)
        network.send(bytes(1000 - HEADERS), source=source, target="c", now=0)
    assert [source for source, _, _ in network.arrivals(now=0.1001)] == ["a"]
    assert [source for source, _, _ in network.arrivals(now=0.2001)] == ["b"]


# --- traces -----------------------------------------------------------------------------------------------------------


def test_a_trace_gives_each_line_1504_bytes_at_its_millisecond_and_begins_again(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("10\n10\n25\n40\n")
    trace = Trace.read(tmp_path / "link")
    assert trace.duration == 0.04
    assert trace.rate == pytest.approx(4 * 1504 * 8 / 0.04)
    bench = Bench(Conditions(delay=0, trace=trace, queue=10))
    bench.send(6, size=1504)
    assert bench.run(1) == list(range(6))
    assert bench.times == pytest.approx([0.01, 0.01, 0.025, 0.04, 0.05, 0.05])


def test_small_packets_share_an_opportunity_and_large_ones_take_several() -> None:
    bench = Bench(Conditions(delay=0, trace=Trace([10, 20, 30, 40]), queue=10))
    bench.send(3, size=500)
    bench.send(1, size=1008, first=3)  # 4 bytes of the first opportunity are left to it, and 1,004 of the second
    bench.send(1, size=2004, first=4)  # 500 of the second, and the whole third
    bench.run(1)
    assert bench.times == pytest.approx([0.01, 0.01, 0.01, 0.02, 0.03])


def test_an_opportunity_that_nobody_takes_is_gone() -> None:
    bench = Bench(Conditions(delay=0.005, trace=Trace([10, 20, 100]), queue=10))
    bench.send(2, size=1504, since=0.015)
    bench.run(9)
    assert bench.times == pytest.approx([0.025, 0.105])
    bench.send(1, size=1504, since=1.0705)
    bench.run(9)
    assert bench.times[2:] == pytest.approx([1.105]), "rounds of a tenth of a second: at 1.01, 1.02 and 1.1"


def test_a_trace_has_its_rate_over_time() -> None:
    chance = random.Random(7)
    trace = Trace([*sorted(chance.randrange(1, 5000) for _ in range(400)), 5000])
    bench = Bench(Conditions(delay=0, trace=trace, queue=0.5))
    bench.send(12_000, size=1504, every=0.001)
    bench.run(12)
    bits = sum(1504 * 8 for at in bench.times if at <= 10)
    assert bits / 10 == pytest.approx(trace.rate, rel=0.03)


@pytest.mark.parametrize("lines", [[], [3, 2], [0], [-1, 4]])
def test_what_is_no_trace_is_refused(lines: list[int]) -> None:
    with pytest.raises(ValueError, match="a trace is"):
        Trace(lines)


# --- a Cubic flow -----------------------------------------------------------------------------------------------------


def download(conditions: Conditions, seconds: float, seed: int = 1) -> tuple[Cubic, Network]:
    network = Network(random.Random(seed))
    network.set("source", "sink", conditions, now=0.0)
    flow = Cubic(network, "source", "sink", now=0.0)
    list(network.arrivals(now=seconds))
    return flow, network


@pytest.mark.parametrize("rate", [1_000_000, 5_000_000])
def test_alone_it_fills_the_link_and_its_queue(rate: int) -> None:
    flow, network = download(Conditions(delay=0.05, rate=rate, queue=0.3), 60)
    assert flow.bytes_between(5, 60) * 8 / 55 == pytest.approx(rate, rel=0.03)
    assert network.link("source", "sink", now=60).counts.dropped > 3


def test_two_share_what_there_is() -> None:
    network = Network(random.Random(3))
    link = network.new_link(Conditions(delay=0.04, rate=4_000_000, queue=0.1), name="shared", now=0)
    for number in (1, 2):
        network.share(f"source {number}", f"sink {number}", link)
    first = Cubic(network, "source 1", "sink 1", now=0.0)
    list(network.arrivals(now=10))
    second = Cubic(network, "source 2", "sink 2", now=10.0)
    list(network.arrivals(now=120))
    ours, theirs = first.bytes_between(40, 120), second.bytes_between(40, 120)
    assert 0.5 <= ours / theirs <= 2
    assert (ours + theirs) * 8 / 80 == pytest.approx(4_000_000, rel=0.05)


def test_its_window_is_back_where_it_was_after_k_seconds_and_flat_there() -> None:
    window = Window()
    window.size = window.threshold = 100.0
    window.lost()
    assert window.size == pytest.approx(70)
    now, round_trip = 10.0, 0.2  # long enough a way that Reno's line is the lower one
    k = (100 * 0.3 / 0.4) ** (1 / 3)
    sizes = {}
    for step in range(60):
        for _ in range(int(window.size)):
            window.acknowledged(now=now, round_trip=round_trip)
        now += round_trip
        sizes[step] = window.size
    assert window.plateau == pytest.approx(k)
    for step in (5, 15, 20, 25, 35):
        since = (step + 1) * round_trip
        assert sizes[step] == pytest.approx(0.4 * (since - k) ** 3 + 100, rel=0.03)


def test_a_second_loss_on_the_way_up_gives_way() -> None:
    window = Window()
    window.size = window.threshold = 100.0
    window.lost()
    window.acknowledged(now=0.0, round_trip=0.1)
    window.lost()
    assert window.size == pytest.approx(0.7 * 70, rel=0.01)
    window.acknowledged(now=1.0, round_trip=0.1)
    assert window.cubic(window.plateau) == pytest.approx(70 * (1 + 0.7) / 2, rel=0.01)


def test_after_a_blackout_it_begins_again() -> None:
    good = Conditions(delay=0.02, rate=2_000_000, queue=0.2)
    network = Network(random.Random(5))
    network.set("source", "sink", good, now=0.0)
    flow = Cubic(network, "source", "sink", now=0.0)
    list(network.arrivals(now=5))
    network.set("source", "sink", blackout(good), now=5)
    list(network.arrivals(now=10))
    assert flow.bytes_between(5.5, 10) == 0
    assert flow.window.size <= 2
    network.set("source", "sink", good, now=10)
    list(network.arrivals(now=20))
    assert flow.bytes_between(13, 20) >= 0.9 * 7 * 2_000_000 / 8
    flow.stop()
    list(network.arrivals(now=22))
    assert flow.delivered[-1][0] < 21
    assert flow.delivered[0][1] == SEGMENT
