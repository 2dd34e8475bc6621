"""Several behind one link: they come to share it evenly, and what one tells of it counts for the others only where they
see it too."""

from __future__ import annotations

import struct

import pytest

from d4e_sfu.config import Config, Links
from tests.conftest import KEY
from tests.lab.link import Link
from tests.lab.network import Conditions, Datagram
from tests.lab.scenario import Meter, gather, payload_type
from tests.lab.virtual import Camera, Lab, Person, Voice
from tests.matrix.liar import transport_number

ESTIMATED = Config(keys=(KEY,), links=Links(start_bitrate=600_000))
CAMERA = Camera(encodings=(100_000, 300_000, 900_000), more={"fps": 30, "temporal_layers": 3})
NARROW = Conditions(delay=0.02, rate=1_500_000, queue=0.3)
SENDER = 0x42454E43
# Each of these is half a minute and more of a full link.
SEEDS = [1, 2, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 21))]
TICK = 0.00025  # s of transport-wide feedback
EVERY = 0.1  # s between two feedbacks of his own making


def shared(lab: Lab, viewers: list[Person]) -> Link[Datagram]:
    link = lab.network.new_link(NARROW, name="bottleneck", now=lab.now)
    for server in lab.servers:
        for viewer in viewers:
            lab.network.share(server, viewer.address, link)
    return link


def estimates(viewers: list[Person]) -> list[int]:
    participants = [viewer.participant for viewer in viewers]
    told = [participant.bandwidth.estimate for participant in participants if participant is not None]
    return [estimate.bitrate for estimate in told if estimate is not None]


def are_one(viewers: list[Person]) -> bool:
    """One estimate, divided."""
    return len(set(estimates(viewers))) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_two_of_whom_one_came_later_share_a_link_evenly_and_leave_little_of_it(seed: int) -> None:
    lab = Lab(seed, config=ESTIMATED, delay=0.01)
    first = gather(lab, *[(CAMERA, Voice(bitrate=24_000))] * 3, viewers=1, link=NARROW)[-1]
    link = shared(lab, [first])
    lab.run(20)
    second = lab.join("who comes later", link=NARROW)
    for server in lab.servers:
        lab.network.share(server, second.address, link)
    lab.run(20)
    meter, began = Meter(link), lab.now
    lab.run(10)
    rates = [meter.rate(began, lab.now, to=viewer.address) for viewer in (first, second)]
    assert max(rates) <= 1.4 * min(rates)
    assert sum(rates) >= 0.5 * 1_500_000
    lab.until(lambda: are_one([first, second]), within=10)


@pytest.mark.parametrize("seed", SEEDS)
def test_whose_links_only_look_alike_are_apart_when_one_of_them_falls(seed: int) -> None:
    lab = Lab(seed, config=ESTIMATED, delay=0.01)
    people = gather(lab, *[(CAMERA, Voice(bitrate=24_000))] * 3, viewers=2, link=NARROW)
    one, other = people[-2:]
    lab.run(25)
    meter, began = Meter(lab.down(other)), lab.now
    lab.run(10)
    before = meter.rate(began, lab.now)
    lab.link(one, down=Conditions(delay=0.02, rate=300_000, queue=0.3))
    began = lab.now
    lab.run(15)
    # He may have had as long a queue by chance when the other gave way: once.
    assert meter.rate(began, lab.now) >= 0.7 * before
    lower, upper = sorted(estimates([one, other]))
    assert lower < 400_000
    assert upper > 900_000


class Crook:
    """He gives the feedback himself: of each packet when it came, and at some time of a queue that is not there."""

    def __init__(self, lab: Lab, person: Person, link: Link[Datagram]) -> None:
        self._lab, self._person, self._meter = lab, person, Meter(link)
        self._told = lab.now
        self.lies = False
        self._again()

    def _again(self) -> None:
        self._tell()
        self._lab.later(self._again, after=EVERY)

    def _tell(self) -> None:
        since, self._told = self._told, self._lab.now - 0.02
        arrivals = []
        for passage in self._meter.between(since, self._told):
            if passage.packet.target != self._person.address or payload_type(passage.packet) is None:
                continue
            if (number := transport_number(passage.packet.payload)) is not None and not passage.dropped:
                arrivals.append((number, passage.at + 0.02 + (self._lab.now % 2.0 / 5.0 if self.lies else 0.0)))
        if len(arrivals) < 2:
            return
        base, count = arrivals[0][0], (arrivals[-1][0] - arrivals[0][0]) % 65_536 + 1
        if count > 500:
            return
        came = {(number - base) % 65_536: at for number, at in arrivals}
        reference = int(arrivals[0][1] / 0.064)
        at, deltas, symbols = round(reference * 0.064 / TICK), b"", []
        for n in range(count):
            if n not in came:
                symbols.append(0)
                continue
            ticks = round(came[n] / TICK)
            deltas += struct.pack("!h", max(-32_768, min(32_767, ticks - at)))
            symbols.append(2)
            at = ticks
        chunks = b"".join(
            struct.pack(
                "!H", 0xC000 | sum(symbol << (12 - 2 * at) for at, symbol in enumerate(symbols[first : first + 7]))
            )
            for first in range(0, count, 7)
        )
        body = struct.pack("!IIHHI", SENDER, 0, base, count, (reference & 0xFFFFFF) << 8) + chunks + deltas
        body += bytes(-len(body) % 4)
        self._person.peer.send_rtcp(struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body)
        self._lab.flush(self._person)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_queue_that_one_of_them_invents_is_his_alone(seed: int) -> None:
    lab = Lab(seed, config=ESTIMATED, delay=0.01)
    people = gather(lab, *[(CAMERA, Voice(bitrate=24_000))] * 3, viewers=1, link=NARROW)
    honest, person = people[-1], lab.join("crook", peer={"feedback": 0}, link=NARROW)
    link = shared(lab, [honest, person])
    crook = Crook(lab, person, link)
    lab.run(30)
    lab.until(lambda: are_one([honest, person]), within=20)  # he has told the truth so far
    meter = Meter(link)
    began = lab.now
    lab.run(10)
    before = meter.rate(began, lab.now, to=honest.address)
    crook.lies, began = True, lab.now
    lab.run(15)
    assert meter.rate(began, lab.now, to=honest.address) >= 0.97 * before
    lies, truth = estimates([person, honest])
    assert lies < 0.5 * truth
