"""Blame: a fault is put on one of four legs; who is told what, and how soon?

Two talk to each other with voice and picture, so there are four legs: up and down of each. Every run makes ten
rooms of it, each with another leg and fault; with seeds 1 to 20 these are the 200.
"""

from __future__ import annotations

import dataclasses
import random

from tests.lab.client import Camera, Voice
from tests.lab.network import Conditions
from tests.lab.person import Person
from tests.lab.scenario import Run
from tests.lab.virtual import Lab

ROOMS = 10
WITHIN = 5.0  # s
GOOD = Conditions(delay=0.03, jitter=0.005)
FAULTS = {
    "loss": (
        dataclasses.replace(GOOD, loss=0.12),
        dataclasses.replace(GOOD, loss=0.25),
        dataclasses.replace(GOOD, loss=0.2, burst=4),
    ),
    # Less than a voice and a picture need: they wait, and what finds no room is dropped.
    "queue": (
        dataclasses.replace(GOOD, rate=160_000, queue=0.4),
        dataclasses.replace(GOOD, rate=120_000, queue=0.8),
        dataclasses.replace(GOOD, rate=100_000, queue=0.3),
    ),
}
SOURCES = (Camera(encodings=(180_000,), more={"fps": 15}), Voice(bitrate=24_000))


def blame(run: Run) -> None:
    """A fault put on 1 of 4 legs, ten times a seed."""
    right = causes = 0
    wrong = []
    for room in range(ROOMS):
        lab = Lab(run.seed * 1000 + room, link=GOOD)
        people = lab.join("an", publish=SOURCES), lab.join("binh", publish=SOURCES)
        lab.run(8 + 2 * lab.chance.random())
        victim = lab.chance.choice(people)
        leg, cause, fault = _choose(lab.chance)
        if any(_blamed(person) for person in people):
            wrong.append(f"{[_blamed(person) for person in people]} before the fault")
        lab.link(victim, **{leg: fault})
        began = lab.now
        while lab.now - began < WITHIN and not any(_blamed(person) for person in people):
            lab.run(0.05)
        found = [(person.identity, *(_blamed(person) or ())) for person in people if _blamed(person)]
        right += [each[:2] for each in found] == [(victim.identity, leg)]
        # A cause may take another look: a queue that fills loses nothing at first.
        lab.run(max(0.0, WITHIN - (lab.now - began)))
        causes += _blamed(victim) == (leg, cause)
        if [each[:2] for each in found] != [(victim.identity, leg)] or _blamed(victim) != (leg, cause):
            wrong.append(f"{victim.identity} {leg} {cause}: {found}, {_blamed(victim)}")
    run.step(f"of {ROOMS} rooms: {wrong or 'all right'}")
    run.figure(
        "blame_leg", 100 * right / ROOMS, "% of the faults, right leg and direction within 5 s", ">= 95", mean=True
    )
    run.figure("blame_cause", 100 * causes / ROOMS, "% of the faults, right cause as well", ">= 95", mean=True)


def _choose(chance: random.Random) -> tuple[str, str, Conditions]:
    cause = chance.choice(list(FAULTS))
    return chance.choice(["up", "down"]), cause, chance.choice(FAULTS[cause])


def _blamed(person: Person) -> tuple[str, str] | None:
    """Leg and cause, as the core judges them now."""
    assert person.participant is not None
    judgement = person.participant.quality.judgement
    return (judgement.leg, judgement.cause.value) if judgement is not None and judgement.leg else None
