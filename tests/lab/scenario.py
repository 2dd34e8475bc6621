"""An experiment as a lab writes it down: conditions, media, run, check.

A scenario is a function of a `Run`: it says what it does in sentences (`step`), lets virtual time pass, reads the
instruments below, and writes down figures with their targets (`figure`). The same seed gives the same figures. A figure
that misses its target is a figure; only a laboratory that does not work raises.
"""

from __future__ import annotations

import math
import operator
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.lab.client import Camera, Voice
from tests.lab.link import Link, Passage
from tests.lab.network import Conditions, Datagram
from tests.lab.pcap import Pcap
from tests.lab.person import Person
from tests.lab.virtual import Lab

_COMPARE: Final = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}
STRAGGLERS: Final = 1.0  # s; nothing is waited for longer
Source: TypeAlias = Camera | Voice
VIDEO_TYPES: Final = frozenset({96, 102, 98, 45})  # as offer.py numbers the codecs; RTX has other numbers


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    target: str
    """Such as `<= 2.5`."""
    mean: bool = False
    """Over all seeds; else the worst of them counts."""

    @property
    def met(self) -> bool:
        sign, bound = self.target.split()
        return bool(_COMPARE[sign](self.value, float(bound)))


class Run:
    """One run of one scenario."""

    def __init__(self, seed: int, *, say: Callable[[str], None] | None = None, pcap: Path | None = None) -> None:
        self.seed = seed
        self.figures: list[Figure] = []
        self.series: dict[str, list[tuple[float, float]]] = {}
        """What a plot shows: by name, seconds since the run began and value."""
        self.marks: list[tuple[float, str]] = []
        """The steps, and when they were taken."""
        self._say = say
        self._pcap = None if pcap is None else Pcap(pcap)
        self._lab: Lab | None = None
        self._began = 0.0
        self._wall = time.monotonic()  # of rows in real time

    def lab(self, **how: Any) -> Lab:
        """The server and its network, once for each run; `how` goes to `Lab`."""
        assert self._lab is None
        lab = self._lab = Lab(self.seed, **how)
        lab.log_voices = True
        self._began = lab.now
        if self._pcap is not None:
            lab.network.taps.append(self._pcap)
        return lab

    def step(self, sentence: str) -> None:
        at = self._lab.now - self._began if self._lab is not None else time.monotonic() - self._wall
        self.marks.append((at, sentence))
        if self._say is not None:
            self._say(f"  {at:6.1f} s  {sentence}")

    def figure(self, name: str, value: float, unit: str, target: str, *, mean: bool = False) -> None:
        self.figures.append(Figure(name, value, unit, target, mean))
        if self._say is not None:
            figure = self.figures[-1]
            self._say(f"            {name}: {value:.4g} {unit}, target {target}: {'met' if figure.met else 'MISSED'}")

    def sample(self, every: float, look: Callable[[], dict[str, float | None]]) -> None:
        """From now on writes down what `look` sees."""
        lab = self._lab
        assert lab is not None

        def again() -> None:
            for name, value in look().items():
                if value is not None:
                    self.series.setdefault(name, []).append((lab.now - self._began, value))
            lab.later(again, after=every)

        again()

    def close(self) -> None:
        if self._pcap is not None:
            self._pcap.close()


# --- instruments ------------------------------------------------------------------------------------------------------


class Ear:
    """What one person hears of another's voice, frame by frame, from now on."""

    def __init__(self, listener: Person, speaker: Person, name: str = "microphone") -> None:
        self._listener, self._speaker, self._name = listener, speaker, name
        self._came: dict[int, tuple[float, float, bool]] = {}
        listener.arrivals(speaker, name)
        self._first = self._made()

    def close(self) -> Heard:
        """Of the frames made until now; runs on for a second, in which the last of them may come."""
        end = self._made()
        self._listener.lab.run(STRAGGLERS)
        for number, made, came, repaired in self._listener.arrivals(self._speaker, self._name):
            if number >= self._first and number not in self._came:
                self._came[number] = (made, came, repaired)
        return Heard(
            expected=max(0, end - self._first) or 1,
            delays=[came - made for number, (made, came, _) in self._came.items() if number < end],
            unrepaired=[came - made for number, (made, came, late) in self._came.items() if number < end and not late],
        )

    def _made(self) -> int:
        return int(self._speaker.sent(self._name)[0]["frames"])


@dataclass(frozen=True, slots=True)
class Heard:
    expected: int
    delays: list[float]
    """Of every frame that came, by whatever way it came first: seconds since it was made."""
    unrepaired: list[float]
    """Of those that came at the first try."""

    def in_time(self, playout: float) -> float:
        """Share of all frames made."""
        return sum(delay <= playout for delay in self.delays) / self.expected


def together(heard: Iterable[Heard]) -> Heard:
    every = list(heard)
    return Heard(
        sum(each.expected for each in every),
        [delay for each in every for delay in each.delays],
        [delay for each in every for delay in each.unrepaired],
    )


class Meter:
    """What goes through one direction of a link, from now on."""

    def __init__(self, link: Link[Datagram]) -> None:
        self._passages = link.watch()

    def between(self, begin: float, end: float) -> list[Passage[Datagram]]:
        first = bisect_left(self._passages, begin, key=_at)
        return self._passages[first : bisect_left(self._passages, end, lo=first, key=_at)]

    def rate(self, begin: float, end: float, to: str | None = None) -> float:
        """bits per second that left the bottleneck, lost behind it or not."""
        bits = sum(
            passage.size * 8
            for passage in self.between(begin, end)
            if not passage.dropped and (to is None or passage.packet.target == to)
        )
        return bits / (end - begin)

    def waits(self, begin: float, end: float) -> list[float]:
        return [passage.wait for passage in self.between(begin, end) if not passage.dropped]

    def lost(self, begin: float, end: float) -> float:
        """Share."""
        passed = self.between(begin, end)
        return sum(passage.dropped or passage.lost for passage in passed) / max(1, len(passed))

    def video_bytes(self, begin: float, end: float) -> int:
        """Of packets with a picture in them, dropped or not: what was sent of it. Retransmissions and probes aside."""
        return sum(passage.size for passage in self.between(begin, end) if payload_type(passage.packet) in VIDEO_TYPES)


_at: Final = operator.attrgetter("at")


def payload_type(datagram: Datagram) -> int | None:
    """Of RTP; None for everything else (RFC 7983, RFC 5761)."""
    first, second = datagram.payload[:2]
    return second & 0x7F if 128 <= first <= 191 and not 192 <= second <= 223 else None


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that so many do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def top_layer(viewer: Person, publisher: Person, name: str = "camera") -> float | None:
    """Which encoding the last picture was of."""
    layer = viewer.received(publisher, name).encoding
    return None if layer is None else float(layer)


def keyframe_requests(publisher: Person, name: str = "camera") -> int:
    """On the worst of its encodings."""
    return max(int(encoding["plis"] + encoding["firs"]) for encoding in publisher.sent(name))


# --- what several scenarios do ----------------------------------------------------------------------------------------


def gather(lab: Lab, *publish: Sequence[Source], viewers: int = 0, link: Conditions | None = None) -> list[Person]:
    """They join one after the other, so that no two cameras take their pictures at the same time. `link`: of those who
    publish nothing and come last.
    """
    people = []
    for n, sources in enumerate([*publish, *[()] * viewers]):
        people.append(lab.join(f"person {n}", publish=sources, link=None if n < len(publish) else link))
        lab.run(0.01 + lab.chance.random() * 0.05)
    return people


def wait(lab: Lab, so: Callable[[], bool], *, within: float) -> float:
    """Seconds until it is so; twice as long as was waited where it never was."""
    began = lab.now
    while lab.now - began < within:
        if so():
            return lab.now - began
        lab.run(0.1)
    return 2 * within
