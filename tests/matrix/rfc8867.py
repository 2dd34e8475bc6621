"""The test cases of RFC 8867 that a forwarder can be asked: what of a varying link is used, how long its queue is, and
who gets how much of it. One viewer's link is the bottleneck (50 ms each way, 300 ms of drop-tail queue); what he could
get is four cameras in layers and their voices, which is more than it ever carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from tests.lab.client import Camera, Voice
from tests.lab.cubic import Cubic
from tests.lab.link import Link
from tests.lab.network import Conditions, Datagram
from tests.lab.scenario import Meter, Run, gather, quantile
from tests.lab.virtual import Lab

Pattern: TypeAlias = Sequence[tuple[float, float]]
"""From this second on, so many Mbit/s."""

SINGLE: Pattern = ((0, 1.0), (40, 2.5), (60, 0.6), (80, 1.0))  # §5.1
SEVERAL: Pattern = ((0, 4.0), (25, 2.0), (50, 3.5), (75, 1.0), (100, 2.0))  # §5.2
FORWARD: Pattern = ((0, 2.0), (20, 1.0), (40, 0.5), (60, 2.0))  # §5.3
BACKWARD: Pattern = ((0, 2.0), (35, 0.8), (70, 2.0))
DELAY, QUEUE = 0.05, 0.3
SETTLED = 3.0  # s after a change until its queue counts
AFTER_A_FALL, AFTER_A_RISE = 10.0, 20.0  # s until its use counts
SHORTEST = 3.0  # s; where a phase is over sooner, its end counts
# Steps of a quarter more or less: who has four of them can use four fifths of any link between 0.5 and 4 Mbit/s.
CAMERA = Camera(encodings=(100_000, 300_000, 900_000), more={"fps": 30, "temporal_layers": 3})
VOICE = Voice(bitrate=24_000)


def variable_capacity(run: Run) -> None:
    """RFC 8867 §5.1: one flow, a capacity that varies."""
    lab = run.lab(delay=0.01)
    run.step("four publish, one watches")
    people = gather(lab, *[(CAMERA, VOICE)] * 4, viewers=1, link=Conditions(delay=DELAY))
    viewer = people[-1]
    lab.link(viewer, up=Conditions(delay=DELAY))
    meter, began = Meter(lab.down(viewer)), lab.now
    run.sample(0.5, lambda: {"kbit/s": meter.rate(lab.now - 0.5, lab.now) / 1000, "queue, ms": _queue(meter, lab.now)})
    _play(run, lab, lab.down(viewer), SINGLE)
    lab.run(100)
    _judge(run, "rfc8867_5_1", meter, began, [*SINGLE, (100, 0.0)])


def several_flows(run: Run) -> None:
    """RFC 8867 §5.2: two flows over one bottleneck whose capacity varies."""
    lab = run.lab(delay=0.01)
    run.step("four publish, two watch behind the same bottleneck")
    people = gather(lab, *[(CAMERA, VOICE)] * 4, viewers=2, link=Conditions(delay=DELAY))
    link = _shared(lab, SEVERAL, [viewer.address for viewer in people[-2:]])
    for viewer in people[-2:]:
        lab.link(viewer, up=Conditions(delay=DELAY))
    meter, began = Meter(link), lab.now
    _play(run, lab, link, SEVERAL)
    lab.run(125)
    _judge(run, "rfc8867_5_2", meter, began, [*SEVERAL, (125, 0.0)])
    shares = []
    for since, until in _steady([*SEVERAL, (125, 0.0)]):
        first, second = (meter.rate(began + since, began + until, to=viewer.address) for viewer in people[-2:])
        shares.append(max(first, second) / max(1.0, min(first, second)))
    run.figure("rfc8867_5_2_shares", max(shares), "times the other's", "<= 1.67")


def congested_feedback(run: Run) -> None:
    """RFC 8867 §5.3: media both ways, and the way back, on which the feedback goes, is narrow as well."""
    lab = run.lab(delay=0.01)
    run.step("four publish, one watches and publishes himself as much as his way up carries")
    people = gather(lab, *[(CAMERA, VOICE)] * 4, [Camera(encodings=(1_700_000,), more={"fps": 30}), VOICE])
    viewer = people[-1]
    meter, began = Meter(lab.down(viewer)), lab.now
    _play(run, lab, lab.down(viewer), FORWARD)
    _play(run, lab, lab.up(viewer), BACKWARD)
    for at, capacity in BACKWARD[1:]:
        # A client controls what it sends itself; ours is told. It begins with 85 % of the first capacity.
        rate = int(capacity * 0.85e6)
        lab.later(lambda rate=rate: viewer.set_encoding(0, True, bitrate=rate), after=at)  # type: ignore[misc]
    lab.run(100)
    _judge(run, "rfc8867_5_3", meter, began, [*FORWARD, (100, 0.0)])


def against_cubic(run: Run) -> None:
    """RFC 8867 §5.6: against a long TCP flow, 2 Mbit/s."""
    lab = run.lab(delay=0.01)
    run.step("four publish, one watches, a download shares his link from second 5 on")
    people = gather(lab, *[(CAMERA, VOICE)] * 4, viewers=1, link=Conditions(delay=DELAY))
    viewer = people[-1]
    link = _shared(lab, ((0, 2.0),), [viewer.address])
    lab.link(viewer, up=Conditions(delay=DELAY))
    lab.network.share("download", "sink", link)
    meter = Meter(link)
    lab.run(5)
    began = lab.now
    flow = Cubic(lab.network, "download", "sink", now=lab.now)
    run.sample(0.5, lambda: {"kbit/s": meter.rate(lab.now - 0.5, lab.now, to=viewer.address) / 1000})
    lab.run(115)
    flow.stop()
    ours = meter.rate(began + 10, lab.now, to=viewer.address)
    run.figure("cubic_share", ours / 1e6, "of our fair share", ">= 0.4")  # fair is 1 Mbit/s
    starved = 0
    for target in (viewer.address, "sink"):
        hungry = 0
        for at in range(int(began) + 10, int(lab.now) - 1):
            hungry = hungry + 1 if meter.rate(at, at + 1, to=target) < 0.1e6 else 0  # a tenth of the fair share
            starved = max(starved, hungry)
    run.figure("cubic_starvation", starved, "s in a row, of either", "<= 5")


def _shared(lab: Lab, pattern: Pattern, viewers: list[str]) -> Link[Datagram]:
    link = lab.network.new_link(_conditions(pattern[0][1]), name="bottleneck", now=lab.now)
    for server in lab.servers:
        for viewer in viewers:
            lab.network.share(server, viewer, link)
    return link


def _conditions(mbit: float) -> Conditions:
    return Conditions(delay=DELAY, rate=mbit * 1e6, queue=QUEUE)


def _play(run: Run, lab: Lab, link: Link[Datagram], pattern: Pattern) -> None:
    for at, mbit in pattern:

        def change(mbit: float = mbit) -> None:
            run.step(f"{mbit:g} Mbit/s")
            link.change(_conditions(mbit), now=lab.now)

        lab.later(change, after=at)


def _steady(pattern: Pattern) -> list[tuple[float, float]]:
    """When its use counts, after each change; the last entry is the end. The beginning is a rise."""
    windows = []
    before = 0.0
    for (at, mbit), (until, _) in pairwise(pattern):
        since = at + (AFTER_A_FALL if mbit < before else AFTER_A_RISE)
        before = mbit
        windows.append((min(since, until - SHORTEST), until))
    return windows


def _judge(run: Run, name: str, meter: Meter, began: float, pattern: Pattern) -> None:
    used, lost, waits = [], [], []
    capacities = dict(pattern)
    for since, until in _steady(pattern):
        capacity = capacities[max(at for at, _ in pattern if at <= since)]
        used.append(meter.rate(began + since, began + until) / (capacity * 1e6))
        lost.append(meter.lost(began + since, began + until))
    for (at, _), (until, _) in pairwise(pattern):
        waits.append(quantile(meter.waits(began + at + SETTLED, began + until), 0.95))
    run.figure(f"{name}_used", 100 * min(used), "% of the capacity", ">= 80")
    run.figure(f"{name}_queue_p95", 1000 * max(waits), "ms", "<= 150")
    run.figure(f"{name}_loss", 100 * max(lost), "%", "<= 2")


def _queue(meter: Meter, now: float) -> float:
    return 1000 * max(meter.waits(now - 0.5, now), default=0.0)
