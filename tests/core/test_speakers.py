"""Who is said to speak: quickly, calmly, and only to those who hear him."""

from __future__ import annotations

import itertools
import random

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Event, Voice
from d4e_sfu.core.speakers import ATTACK, INTERVAL, RELEASE, STEPS, TAKEOVER, Speakers
from tests.core.house import House, Person, join_request
from tests.doubles import camera, microphone

STEP = 0.2  # s, as the engine tells it
LOUD, USUAL, SOFT = 15, 28, 38


class Clock:
    """Steps of the engine; whoever speaks is heard for the whole of a step."""

    def __init__(self, speakers: Speakers, *, now: float = 0.0) -> None:
        self.speakers = speakers
        self.now = now
        self.said: list[tuple[float, str, bool, float]] = []

    def run(self, seconds: float, **levels: int) -> None:
        for _ in range(round(seconds / STEP)):
            self.now = round(self.now + STEP, 6)
            for sid, level in levels.items():
                self.speakers.hear(sid, level, STEP, now=self.now)
            for info in self.speakers.changes(now=self.now):
                self.said.append((self.now, info.sid, info.active, info.level))

    def active(self) -> dict[str, float]:
        return {sid: level for _, sid, active, level in self.said if active}


def test_who_speaks_is_said_soon_and_who_stops_is_said_once() -> None:
    clock = Clock(Speakers())
    clock.run(2.0, an=USUAL)
    (began, sid, active, level) = clock.said[0]
    assert (sid, active) == ("an", True)
    assert began <= ATTACK + INTERVAL + STEP
    assert level > 0
    clock.said.clear()
    clock.run(10.0)
    assert [(sid, active, level) for _, sid, active, level in clock.said] == [("an", False, 0.0)]
    assert clock.said[0][0] - 2.0 <= RELEASE + INTERVAL + STEP
    assert clock.speakers.ranking == []


@pytest.mark.parametrize("offset", [0.0, 0.05, 0.1, 0.15])
def test_a_cough_is_not_a_speaker(offset: float) -> None:
    speakers, now = Speakers(), 0.0
    for cough in range(20):  # a third of a second, every two
        begins = 2.0 * cough + offset
        for step in range(10):
            now = 2.0 * cough + STEP * (step + 1)
            spoken = min(now, begins + 0.35) - max(now - STEP, begins)
            if spoken > 0:
                speakers.hear("an", LOUD, spoken, now=now)
            assert speakers.changes(now=now) == []


def test_breath_between_sentences_does_not_flicker() -> None:
    clock = Clock(Speakers())
    for _ in range(30):
        clock.run(1.2, an=USUAL)
        clock.run(0.6)
    assert [active for _, _, active, _ in clock.said].count(False) == 0


def test_the_level_is_in_eighths_and_moves_with_the_voice_but_not_with_every_syllable() -> None:
    clock, chance = Clock(Speakers()), random.Random(4)
    clock.run(2.0, an=USUAL)
    clock.said.clear()
    for _ in range(150):
        clock.run(STEP, an=USUAL + chance.randint(-4, 4))
    assert len(clock.said) <= 15, "half a minute of one voice"
    clock.run(2.0, an=LOUD)
    louder = clock.active()["an"]
    clock.run(3.0, an=SOFT)
    softer = clock.active()["an"]
    assert louder > softer
    assert {level * STEPS % 1 for *_, level in clock.said} == {0.0}


def test_clients_are_told_no_oftener_than_they_can_use() -> None:
    clock = Clock(Speakers())
    for turn in range(100):
        clock.run(STEP, an=LOUD if turn % 2 else SOFT, binh=SOFT if turn % 2 else LOUD)
    times = sorted({at for at, *_ in clock.said})
    assert all(later - earlier >= INTERVAL - 1e-6 for earlier, later in itertools.pairwise(times))


def test_nothing_is_said_while_nothing_changes() -> None:
    clock = Clock(Speakers())
    clock.run(5.0, an=USUAL)
    clock.said.clear()
    clock.run(60.0, an=USUAL)
    assert clock.said == []


def test_the_dominant_speaker_stays_so_through_interjections() -> None:
    clock = Clock(Speakers())
    clock.run(3.0, an=USUAL)
    clock.run(1.0, an=USUAL, binh=LOUD)
    assert clock.speakers.dominant == "an"
    assert clock.speakers.ranking == ["an", "binh"]
    clock.run(TAKEOVER + 2 * INTERVAL, an=USUAL, binh=LOUD)
    assert clock.speakers.dominant == "binh"
    clock.run(RELEASE + INTERVAL + STEP, an=USUAL)
    assert clock.speakers.dominant == "an"
    clock.run(RELEASE + INTERVAL + STEP)
    assert clock.speakers.dominant is None


def test_clients_that_sort_by_level_show_the_dominant_speaker_first() -> None:
    clock, chance = Clock(Speakers()), random.Random(7)
    known: dict[str, float] = {}
    for _ in range(500):
        levels = {sid: chance.choice([LOUD, USUAL, SOFT]) for sid in "abcd" if chance.random() < 0.7}
        before = len(clock.said)
        clock.run(STEP, **levels)
        for _, sid, active, level in clock.said[before:]:
            known.pop(sid, None)
            if active:
                known[sid] = level
        ranking = clock.speakers.ranking
        if before < len(clock.said) and known:
            assert max(known, key=lambda sid: known[sid]) == clock.speakers.dominant == ranking[0]
            assert sorted(known.values())[-2:-1] < [known[ranking[0]]]


def test_whoever_falls_silent_for_good_is_forgotten() -> None:
    clock = Clock(Speakers())
    clock.run(0.2, an=USUAL)
    clock.run(2.0, binh=USUAL)
    clock.run(5.0)
    assert clock.speakers._voices == {}
    assert clock.speakers._told == {}


# --- in a room -------------------------------------------------------------------------------------------------------


def speak(person: Person, seconds: float = 1.0, *, now: float, level: int = USUAL, cid: str = "microphone") -> float:
    """Returns when he stopped."""
    house, transport = person.house, person.participant.transport
    publication = next(each for each in person.participant.publications.values() if each.cid == cid)
    assert transport is not None
    for _ in range(round(seconds / STEP)):
        now += STEP
        voice = Voice(transport=transport, publication=publication.id, level=level, spoken_ms=200)
        house.sfu.engine_event(house.engine, Event.Voices([voice]), now=now)
    return now


def heard(person: Person) -> list[tuple[str, bool]]:
    return [(info.sid, info.active) for each in person.client.take("speakers_changed") for info in each.speakers]


def test_he_himself_and_those_who_receive_him_are_told_and_nobody_else(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    chi = house.join("chi", request=join_request(auto_subscribe=False))
    an.publish(microphone())
    now = speak(an, now=1.0)
    assert (an.sid, True) in heard(an)
    assert (an.sid, True) in heard(binh)
    assert heard(chi) == []
    house.sfu.tick(now=now + RELEASE + 0.1)
    assert heard(an) == heard(binh) == [(an.sid, False)]
    assert heard(chi) == []


def test_whoever_comes_later_is_told_who_speaks_and_whoever_stops_listening_that_he_does_not(house: House) -> None:
    an = house.join("an")
    sids = [an.publish(microphone()), an.publish(camera())]
    now = speak(an, now=1.0)
    binh = house.join("binh", now=now)
    assert heard(binh) == [(an.sid, True)], "once, though he receives two publications"
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=sids[:1], subscribe=False), now=now)
    assert heard(binh) == [], "he still sees him"
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=sids[1:], subscribe=False), now=now)
    assert heard(binh) == [(an.sid, False)]
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=sids, subscribe=True), now=now)
    assert heard(binh) == [(an.sid, True)]
    an.ask(subscription_permission=rtc.SubscriptionPermission(), now=now)
    assert heard(binh) == [(an.sid, False)]


@pytest.mark.parametrize("how", ["mute", "unpublish", "leave"])
def test_whoever_cannot_be_heard_any_more_is_silent_at_once(house: House, how: str) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    now = speak(an, now=1.0)
    assert (an.sid, True) in heard(binh)
    if how == "mute":
        an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=True), now=now)
        speak(an, now=now)  # what was on its way, and what a client sends that lies
    elif how == "unpublish":
        an.description.unpublish(7)
        an.offer(now=now)
    else:
        an.ask(leave=rtc.LeaveRequest(), now=now)
    kinds = [kind for kind in binh.client.kinds() if kind in ("speakers_changed", "update")]
    assert heard(binh) == [(an.sid, False)]
    if how == "leave":
        assert kinds[-2:] == ["speakers_changed", "update"], "while they still know him"
    house.sfu.tick(now=now + 5.0)
    assert heard(binh) == []


def test_the_sound_of_a_screen_is_nobodys_voice(house: House) -> None:
    an, binh = house.join("an", "doctor"), house.join("binh")
    film = rtc.AddTrackRequest(cid="film", type=models.TrackType.AUDIO, source=models.TrackSource.SCREEN_SHARE_AUDIO)
    an.publish(film)
    speak(an, 3.0, now=1.0, cid="film")
    assert heard(binh) == []


def test_speech_of_a_transport_that_is_gone_is_nothing(house: House) -> None:
    an = house.join("an")
    voice = Voice(transport=999, publication=1, level=30, spoken_ms=200)
    house.sfu.engine_event(house.engine, Event.Voices([voice]), now=1.0)
    assert heard(an) == []
