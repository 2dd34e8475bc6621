"""How often a client is asked for another offer."""

from __future__ import annotations

import itertools

import pytest
from livekit.protocol import rtc

from d4e_sfu._engine import Estimate, Event, Voice
from d4e_sfu.config import Config, Links
from d4e_sfu.core.bandwidth import NO_ESTIMATE
from d4e_sfu.core.sections import FIRST_PICTURES, INTERVAL, PATIENCE, SILENCE, TRIES
from d4e_sfu.core.weights import USUAL_PICTURE, USUAL_VOICE
from tests.conftest import MintToken
from tests.core.house import House, Person
from tests.doubles import camera, microphone

START = 600_000

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


def test_twenty_publications_at_once_cost_two_offers(unlimited: House) -> None:
    publishers = [unlimited.join(f"publisher-{n}") for n in range(10)]
    binh = Asked(unlimited.join("binh"))
    for person in publishers:
        person.publish(camera())
        person.publish(microphone())
        binh.look(0.0)
    pass_time(unlimited, 2.0, binh)
    assert placed(binh.person) == 20
    assert len(binh.at) == 2


def test_voice_and_picture_in_one_offer_are_one_request(unlimited: House) -> None:
    an, binh = unlimited.join("an"), Asked(unlimited.join("binh"))
    for n in range(3):  # his first sections are taken
        unlimited.join(f"other-{n}").publish(camera())
        binh.person.description.sections[n].direction = "inactive"
    binh.person.offer()
    binh.person.client.take("media_sections_requirement")
    now = pass_time(unlimited, 5.0, binh, now=10.0)
    binh.at.clear()
    for request in (camera(), microphone()):
        an.ask(add_track=request, now=now)
    an.description.publish("video", "camera", simulcast=True)
    an.description.publish("audio", "microphone")
    an.offer(now=now)
    (requirement,) = binh.person.client.take("media_sections_requirement")
    assert (requirement.num_audios, requirement.num_videos) == (1, 1)


def test_people_who_arrive_one_after_the_other_cost_each_client_three_offers_a_second_at_most(unlimited: House) -> None:
    clients = [Asked(unlimited.join(f"viewer-{n}")) for n in range(3)]
    now = 0.0
    for n in range(25):
        unlimited.join(f"publisher-{n}", now=now).publish(camera(), now=now)
        now = pass_time(unlimited, 0.1, *clients, now=now)
    pass_time(unlimited, 2.0, *clients, now=now)
    for client in clients:
        assert placed(client.person) == 25
        assert all(later - earlier >= INTERVAL for earlier, later in itertools.pairwise(client.at))
        assert len(client.at) <= (now + 1) / INTERVAL


def test_what_was_asked_for_too_soon_is_asked_for_at_the_next_tick(unlimited: House) -> None:
    binh = Asked(unlimited.join("binh"))
    for n in range(4):
        unlimited.join(f"publisher-{n}").publish(camera())
    binh.look(0.0)
    binh.look(ROUND_TRIP)
    unlimited.join("late", now=0.1).publish(camera(), now=0.1)
    binh.look(0.1)
    assert len(binh.at) == 1
    pass_time(unlimited, 1.0, binh, now=0.25)
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
    apart = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert all(seconds >= PATIENCE * 2**n for n, seconds in enumerate(apart)), "his link may be a thin one"


# --- what is worth one ------------------------------------------------------------------------------------------------


@pytest.fixture
def estimating(config: Config, mint: MintToken) -> House:
    """A house in which links are estimated."""
    return House(config.model_copy(update={"links": Links(start_bitrate=START)}), mint)


def crowded(house: House, people: int = 8) -> list[Person]:
    """So many with voice and picture; the fifth speaks."""
    publishers = [house.join(f"publisher-{n}") for n in range(people)]
    for person in publishers:
        person.publish(microphone())
        person.publish(camera())
    speak(house, publishers[4], now=0.0)
    return publishers


def speak(house: House, *people: Person, now: float) -> None:
    """For a second."""
    for tenth in range(10):
        voices = [
            Voice(transport=int(each.participant.transport or 0), publication=publication.id, level=20, spoken_ms=100)
            for each in people
            for publication in each.participant.publications.values()
            if publication.is_voice
        ]
        house.sfu.engine_event(house.engine, Event.Voices(voices), now=now + tenth / 10)
    house.sfu.tick(now=now + 1.5)


def estimate(person: Person, bitrate: int, *, now: float) -> None:
    told = Estimate(transport=int(person.participant.transport or 0), bitrate=bitrate)
    person.house.sfu.engine_event(person.house.engine, Event.Estimates([told]), now=now)


def sections_of(person: Person, *publishers: Person) -> list[bool]:
    """Whether each of their pictures has one."""
    subscriptions = person.participant.subscriptions.values()
    shown = {each.publication.publisher.sid for each in subscriptions if each.publication.is_video and each.mid}
    return [each.sid in shown for each in publishers]


def requests(person: Person) -> list[tuple[int, int]]:
    """What he was asked for; he does it."""
    asked = [(each.num_audios, each.num_videos) for each in person.client.take("media_sections_requirement")]
    for audios, videos in asked:
        person.description.add_receiving("audio", audios)
        person.description.add_receiving("video", videos)
    return asked


def test_the_first_sections_are_for_who_speaks(house: House) -> None:
    publishers = crowded(house)
    binh = house.join("binh", now=2.0)
    speaker = publishers[4]
    carried = [each for each in binh.participant.subscriptions.values() if each.mid is not None]
    assert len(carried) == 6
    assert {each.publication.sid for each in carried} >= set(speaker.participant.publications)


def test_who_comes_is_told_of_all_who_speak_at_once(house: House) -> None:
    publishers = crowded(house)
    speak(house, *publishers[3:6], now=1.5)
    binh = house.join("binh", now=3.0)
    (told,) = binh.client.take("speakers_changed")
    assert {each.sid for each in told.speakers} == {each.sid for each in publishers[3:6]}


def test_voices_have_their_sections_first_and_pictures_as_far_as_the_link_is_known_to_carry_them(
    estimating: House,
) -> None:
    publishers = crowded(estimating)
    binh = estimating.join("binh", now=2.0)
    assert requests(binh) == [(5, 0)], "of pictures, what fits in the sections that he has"
    binh.offer(now=2.5)
    binh.connect(now=3.0)
    estimating.sfu.tick(now=3.0)
    assert requests(binh) == [], "nothing is known of his link"
    budget = 8 * USUAL_VOICE + 5 * USUAL_PICTURE
    estimate(binh, int(budget / 0.9) + 1000, now=3.5)
    estimating.sfu.tick(now=4.0)
    ((audios, videos),) = requests(binh)
    assert audios == 0
    assert videos == 2, "with the three that he has"
    binh.offer(now=4.5)
    estimate(binh, 20_000_000, now=5.0)
    estimating.sfu.tick(now=5.5)
    ((_, more),) = requests(binh)
    assert videos + more == 5
    binh.offer(now=6.0)
    assert all(sections_of(binh, *publishers))


def test_on_a_thin_link_only_who_leads_gets_a_further_section(estimating: House) -> None:
    publishers = crowded(estimating)
    binh = estimating.join("binh", now=2.0)
    requests(binh)
    binh.offer(now=2.5)
    binh.connect(now=3.0)
    estimate(binh, 8 * USUAL_VOICE + 500_000, now=3.5)
    for second in range(4, 20):
        estimating.sfu.tick(now=float(second))
    assert requests(binh) == []
    assert sum(sections_of(binh, *publishers)) == FIRST_PICTURES
    speak(estimating, next(each for each in publishers if not sections_of(binh, each)[0]), now=20.0)
    assert requests(binh) == [(0, 1)]


@pytest.mark.parametrize("word", [NO_ESTIMATE, None])
def test_whose_link_tells_nothing_is_not_waited_for(estimating: House, word: int | None) -> None:
    crowded(estimating)
    binh = estimating.join("binh", now=2.0)
    requests(binh)
    binh.offer(now=2.5)
    binh.connect(now=3.0)
    if word is not None:
        estimate(binh, word, now=3.5)
    estimating.sfu.tick(now=4.0)
    assert requests(binh) == ([] if word is None else [(0, 5)])
    binh.offer(now=4.5)
    estimating.sfu.tick(now=3.0 + SILENCE)
    assert requests(binh) == ([(0, 5)] if word is None else [])
