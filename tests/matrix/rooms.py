"""Large rooms and thin joins: everybody is heard, nobody is told more than his link carries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from d4e_sfu.config import Config, Links, RoomRule
from d4e_sfu.core import bandwidth
from tests.conftest import KEY
from tests.lab.client import Camera, Voice
from tests.lab.network import Conditions
from tests.lab.scenario import Run, gather, wait
from tests.lab.signalling import Wire

PEOPLE, PICTURES, TALKERS = 200, 25, 3
THUMBNAIL = Camera(encodings=(20_000, 60_000), more={"fps": 5})
# A packet for each picture: what 200 allocations cost does not hang on it, how long they take to simulate does.
STAMP = Camera(encodings=(12_000, 36_000), more={"fps": 4})
HEARERS = 3  # of the room that is joined over a thin link: the others only send
SPURT = 0.1  # s without a frame make the next one the first of a spurt


def meeting(run: Run) -> None:
    """200 participants, 3 talk, 25 pictures; links estimated."""
    rule = RoomRule(name="*", capacity=PEOPLE)
    lab = run.lab(config=Config(keys=(KEY,), rooms=(rule,), links=Links(start_bitrate=600_000)))
    run.step("25 join with a picture and a muted or talking microphone, 175 only watch")
    turns = [Voice(bitrate=24_000, dtx=True, turns=(2.0, 2.0, n * 1.3)) for n in range(TALKERS)]
    silent = Voice(bitrate=24_000)
    on_screen = gather(lab, *((STAMP, turns[n] if n < TALKERS else silent) for n in range(PICTURES)))
    talkers = on_screen[:TALKERS]
    lab.run(1)
    for person in on_screen[TALKERS:]:
        person.mute("microphone")
    watchers = []
    for n in range(PEOPLE - PICTURES):
        watchers.append(lab.join(f"watcher {n}"))
        lab.run(0.025)
    lab.run(2)
    everyone = [*on_screen, *watchers]
    for listener in everyone:
        for talker in talkers:
            listener.arrivals(talker)
    run.step("they talk for six seconds")
    seconds = 6.0
    with allocating() as spent:
        lab.run(seconds)
    reached, onsets = [], []
    for talker in talkers:
        heard = {listener.identity: listener.arrivals(talker) for listener in everyone if listener is not talker}
        reached.append(sum(len(frames) >= 50 for frames in heard.values()))
        onsets += _onsets(list(heard.values()), path=2 * lab.delay)
    run.figure("meeting_reached", min(reached), f"of {PEOPLE - 1} who hear a talker", f">= {PEOPLE - 1}")
    run.figure("meeting_onset", 1000 * max(onsets, default=9.0), "ms until the first word is there", "<= 20")
    run.figure("meeting_allocator", 100 * sum(spent) / seconds, "% of one core", "<= 10")


@contextmanager
def allocating() -> Iterator[list[float]]:
    """Meanwhile: the CPU seconds of each call into `core/bandwidth`. All that it takes is in them: to see whether
    anything has changed, to gather what is wanted, to allocate, to tell the engine and the client."""
    spent: list[float] = []
    within = False

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            nonlocal within
            if within:
                return function(*positional, **named)
            within, began = True, time.thread_time()
            try:
                return function(*positional, **named)
            finally:
                within = False
                spent.append(time.thread_time() - began)

        return call

    doors = {name: getattr(bandwidth, name) for name in ("measure", "share", "share_all", "touch")}
    try:
        for name, function in doors.items():
            setattr(bandwidth, name, timed(function))
        yield spent
    finally:
        for name, function in doors.items():
            setattr(bandwidth, name, function)


def _onsets(heard: list[list[tuple[int, float, float, bool]]], *, path: float) -> list[float]:
    """For each listener and spurt, how long after it was said (and had travelled) the first frame was there."""
    made = {number: at for frames in heard for number, at, _, _ in frames}
    numbers = sorted(made)
    firsts = [number for before, number in pairwise(numbers) if made[number] - made[before] > SPURT]
    onsets = []
    for frames in heard:
        came = {number: at for number, _, at, _ in frames}
        for first in firsts:
            behind = min((at for number, at in came.items() if number >= first), default=made[first] + 9.0)
            onsets.append(behind - made[first] - path)
    return onsets


def narrow_join(run: Run, *, seconds: float = 60.0) -> None:
    """Joining a room of 25 over 64 kbit/s, 400 ms RTT, a queue of a second; links estimated."""
    lab = run.lab(config=Config(keys=(KEY,), links=Links(start_bitrate=600_000)))
    run.step("25 in a room, with picture and voice")
    turns = [Voice(bitrate=24_000, dtx=True, turns=(3.0, 22 * 3.0, n * 3.0)) for n in range(25)]
    people = []
    for n, voice in enumerate(turns):
        people.append(lab.join(f"person {n}", publish=[THUMBNAIL, voice], auto_subscribe=n < HEARERS))
        lab.run(0.01 + lab.chance.random() * 0.05)
    lab.run(3)
    run.step("a station joins with a browser and a voice, over 64 kbit/s and 400 ms, its signalling beside its media")
    thin = Conditions(delay=0.2, rate=64_000, queue=1.0)
    station = lab.join("station", publish=[Voice(bitrate=16_000)], link=thin, wire=True, browser=True)

    def hears() -> bool:
        return any(station.received(other, "microphone").frames >= 10 for other in people)

    def is_heard() -> bool:
        return any(other.received(station, "microphone").frames >= 10 for other in people[:HEARERS])

    began = lab.now
    took = wait(lab, lambda: hears() and is_heard(), within=30)
    run.figure("narrow_join_voice", took, "s from the first packet until voice goes both ways", "<= 8")
    lab.run(max(0.0, seconds - (lab.now - began)))
    wire = station.signalling
    assert isinstance(wire, Wire)
    run.figure("narrow_join_signalling_down", wire.bytes_down / 1000, "kB of IP in the first minute", "<= 40")
    run.figure("narrow_join_signalling_up", wire.bytes_up / 1000, "kB of IP in the first minute", "<= 40")
