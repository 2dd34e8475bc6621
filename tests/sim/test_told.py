"""What people are told of each other, from real packets on a network that fails: who speaks, whose link is poor."""

from __future__ import annotations

import dataclasses

import pytest
from livekit.protocol import models

from d4e_sfu.core.quality import INTERVAL, PATIENCE, Word
from d4e_sfu.core.speakers import RELEASE
from tests.lab.virtual import TICK, Lab, Person
from tests.sim.scene import GOOD, SEEDS, VOICE

# Minutes of virtual time each.
FEW = [1, 2, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 11))]

POOR = dataclasses.replace(GOOD, loss=0.3)


def speakers(person: Person) -> list[tuple[float, str, bool]]:
    return [
        (at, info.sid, info.active)
        for at, told in person.told
        if told.WhichOneof("message") == "speakers_changed"
        for info in told.speakers_changed.speakers
    ]


def qualities(person: Person, of: Person) -> list[int]:
    """What he was told of another's link, one after the other."""
    assert of.participant is not None
    return [
        info.quality
        for _, told in person.told
        if told.WhichOneof("message") == "connection_quality"
        for info in told.connection_quality.updates
        if info.participant_sid == of.participant.sid
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_voice_is_said_to_speak_and_falls_silent_with_its_mute(seed: int) -> None:
    lab = Lab(seed)
    an, binh = lab.join("an", publish=[VOICE]), lab.join("binh")
    lab.run(4)
    assert an.participant is not None
    sid = an.participant.sid
    assert [(who, active) for _, who, active in speakers(binh)] == [(sid, True)]
    assert [(who, active) for _, who, active in speakers(an)] == [(sid, True)]
    an.mute("microphone")
    at = lab.now
    lab.until(lambda: speakers(binh)[-1][1:] == (sid, False), within=0.2)
    lab.run(5)
    assert len(speakers(binh)) == 2, "what was under way does not bring him back"
    an.mute("microphone", False)
    lab.until(lambda: speakers(binh)[-1][1:] == (sid, True), within=1.5)
    assert speakers(binh)[1][0] - at < RELEASE, "at once, and not when it is missed"


@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("leg", ["up", "down"])
def test_a_poor_link_is_told_with_the_leg_that_is_to_blame(seed: int, leg: str) -> None:
    lab = Lab(seed)
    an, binh, chi = (lab.join(name, publish=[VOICE]) for name in ("an", "binh", "chi"))
    lab.run(4 * INTERVAL)
    for person in (an, binh, chi):
        assert qualities(person, an) == [Word.EXCELLENT]
    lab.link(an, **{leg: POOR})
    lab.run(3 * INTERVAL)
    for person in (an, binh, chi):
        assert qualities(person, an)[-1] == Word.POOR
        assert qualities(person, chi) == [Word.EXCELLENT], "his part is in order"
        topics = [packet.user.payload for _, packet in person.data if packet.user.topic == "d4e.quality"]
        assert f'"leg": "{leg}"' in topics[-1].decode()
    room = lab.sfu.debug_room("ward")
    assert room is not None
    blamed = {each["identity"]: each["quality"]["leg"] for each in room["participants"]}
    assert blamed == {"an": leg, "binh": None, "chi": None}
    lab.link(an, **{leg: GOOD})
    lab.run((PATIENCE + 2) * INTERVAL)
    assert qualities(chi, an)[-1] == Word.EXCELLENT


@pytest.mark.parametrize("seed", FEW)
def test_whoever_has_vanished_is_said_to_be_lost_before_he_is_gone(seed: int) -> None:
    lab = Lab(seed)
    an, binh = lab.join("an", publish=[VOICE]), lab.join("binh")
    lab.run(3 * INTERVAL)
    an.vanish()
    lab.until(lambda: qualities(binh, an)[-1] == Word.LOST, within=10.0 + INTERVAL + 2.0 + 2 * TICK)
    assert "an" in binh.people


def test_a_calm_room_is_told_next_to_nothing() -> None:
    lab = Lab(1)
    people = [lab.join(f"person-{n}", publish=[VOICE] if n < 3 else ()) for n in range(6)]
    lab.run(15)
    before = [len(person.told) for person in people]
    lab.run(30)
    assert [len(person.told) for person in people] == before
    assert all(not person.data for person in people)
    assert models.ConnectionQuality.EXCELLENT in qualities(people[5], people[0])
