"""How often a client is asked for another offer."""

from __future__ import annotations

import itertools

from livekit.protocol import rtc

from d4e_sfu.core.sections import INTERVAL, PATIENCE, TRIES
from tests.core.house import House, Person
from tests.doubles import camera, microphone

TICK = 0.25  # s
ROUND_TRIP = 0.08  # s, the client's own time for an offer included


class Asked:
    """A client that answers each request a round trip later; and when he was asked."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.at: list[float] = []
        self._answers: list[tuple[float, rtc.MediaSectionsRequirement]] = []

    def look(self, now: float) -> None:
        for due, requirement in list(self._answers):
            if now >= due:
                self._answers.remove((due, requirement))
                self.person.description.add_receiving("audio", requirement.num_audios)
                self.person.description.add_receiving("video", requirement.num_videos)
                self.person.offer(now=now)
        for requirement in self.person.client.take("media_sections_requirement"):
            assert self._answers == [], "one is outstanding"
            self.at.append(now)
            self._answers.append((now + ROUND_TRIP, requirement))


def pass_time(house: House, seconds: float, *clients: Asked, now: float = 0.0) -> float:
    for hundredth in range(round(seconds * 100)):
        at = now + hundredth / 100
        if hundredth % 25 == 0:
            house.sfu.tick(now=at)
        for client in clients:
            client.look(at)
    return now + seconds


def placed(person: Person) -> int:
    return sum(each.mid is not None for each in person.participant.subscriptions.values())


def test_twenty_publications_at_once_cost_two_offers(house: House) -> None:
    publishers = [house.join(f"publisher-{n}") for n in range(10)]
    binh = Asked(house.join("binh"))
    for person in publishers:
        person.publish(camera())
        person.publish(microphone())
        binh.look(0.0)
    pass_time(house, 2.0, binh)
    assert placed(binh.person) == 20
    assert len(binh.at) == 2


def test_voice_and_picture_in_one_offer_are_one_request(house: House) -> None:
    an, binh = house.join("an"), Asked(house.join("binh"))
    for n in range(3):  # his first sections are taken
        house.join(f"other-{n}").publish(camera())
        binh.person.description.sections[n].direction = "inactive"
    binh.person.offer()
    binh.person.client.take("media_sections_requirement")
    now = pass_time(house, 5.0, binh, now=10.0)
    binh.at.clear()
    for request in (camera(), microphone()):
        an.ask(add_track=request, now=now)
    an.description.publish("video", "camera", simulcast=True)
    an.description.publish("audio", "microphone")
    an.offer(now=now)
    (requirement,) = binh.person.client.take("media_sections_requirement")
    assert (requirement.num_audios, requirement.num_videos) == (1, 1)


def test_people_who_arrive_one_after_the_other_cost_each_client_three_offers_a_second_at_most(house: House) -> None:
    clients = [Asked(house.join(f"viewer-{n}")) for n in range(3)]
    now = 0.0
    for n in range(25):
        house.join(f"publisher-{n}", now=now).publish(camera(), now=now)
        now = pass_time(house, 0.1, *clients, now=now)
    pass_time(house, 2.0, *clients, now=now)
    for client in clients:
        assert placed(client.person) == 25
        assert all(later - earlier >= INTERVAL for earlier, later in itertools.pairwise(client.at))
        assert len(client.at) <= (now + 1) / INTERVAL


def test_what_was_asked_for_too_soon_is_asked_for_at_the_next_tick(house: House) -> None:
    binh = Asked(house.join("binh"))
    for n in range(4):
        house.join(f"publisher-{n}").publish(camera())
    binh.look(0.0)
    binh.look(ROUND_TRIP)
    house.join("late", now=0.1).publish(camera(), now=0.1)
    binh.look(0.1)
    assert len(binh.at) == 1
    pass_time(house, 1.0, binh, now=0.25)
    assert 0.1 + INTERVAL - ROUND_TRIP <= binh.at[1] <= INTERVAL + TICK
    assert placed(binh.person) == 5


def test_a_client_that_does_not_answer_is_asked_again_later_and_not_for_ever(house: House) -> None:
    binh = house.join("binh")
    binh.connect()
    for n in range(4):
        house.join(f"publisher-{n}").publish(camera())
    asked = []
    for tick in range(400):
        house.sfu.tick(now=tick * TICK)
        asked += [tick * TICK] * len(binh.client.take("media_sections_requirement"))
    assert len(asked) == TRIES
    assert all(later - earlier >= PATIENCE for earlier, later in itertools.pairwise(asked))
