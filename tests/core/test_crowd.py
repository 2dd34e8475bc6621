"""Rooms with many who only watch: they come and go in company, and nobody is told less than in a small room."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from d4e_sfu.config import Config, RoomRule
from d4e_sfu.core import crowd as crowds
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.crowd import CROWD_SECONDS
from tests.conftest import MintToken
from tests.core.house import House, Person
from tests.doubles import microphone

States = models.ParticipantInfo.State
CROWD = 5  # instead of the real number: every join costs milliseconds


@pytest.fixture
def crowd(config: Config, mint: MintToken, monkeypatch: pytest.MonkeyPatch) -> tuple[House, list[Person]]:
    """A room that is full enough to be one, and quiet for a while."""
    monkeypatch.setattr(crowds, "CROWD", CROWD)
    roles = {**config.roles, "ghost": config.roles["observer"].model_copy(update={"hidden": True})}
    house = House(config.model_copy(update={"rooms": (RoomRule(name="*", capacity=200),), "roles": roles}), mint)
    people = [house.join(f"person-{number}", "observer") for number in range(CROWD + 2)]
    for person in people:
        person.connect()
    house.sfu.tick(now=10.0)
    for person in people:
        person.client.responses.clear()
    return house, people


def told(person: Person) -> list[tuple[str, str]]:
    """Who has come, become active or gone, message by message."""
    return [
        (info.identity, States.Name(info.state))
        for update in person.client.take("update")
        for info in update.participants
    ]


def leave(person: Person, *, now: float) -> None:
    person.ask(leave=rtc.LeaveRequest(), now=now)


def test_who_comes_to_watch_is_told_of_together_and_once(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    late = [house.join(f"late-{number}", "observer", now=11.0) for number in range(5)]
    for person in late[:3]:
        person.connect(now=11.5)
    house.sfu.tick(now=10.0 + CROWD_SECONDS - 0.1)
    assert "update" not in people[0].client.kinds()
    house.sfu.tick(now=10.0 + CROWD_SECONDS)
    expected = [(f"late-{number}", "ACTIVE" if number < 3 else "JOINED") for number in range(5)]
    for person in (*people, *late):
        assert person.client.kinds().count("update") == 1
        assert told(person) == expected
    late[3].connect(now=14.0)
    house.sfu.tick(now=20.0)
    assert told(people[0]) == [("late-3", "ACTIVE")]
    house.sfu.tick(now=30.0)
    assert told(people[0]) == []


def test_who_joins_meanwhile_finds_them_in_his_join_response(crowd: tuple[House, list[Person]]) -> None:
    house, _ = crowd
    house.join("an", "observer", now=11.0)
    binh = house.join("binh", "observer", now=11.0)
    assert "an" in {info.identity for info in binh.client.last("join").other_participants}


def test_whoever_publishes_is_told_of_at_once(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    an = house.join("an", now=11.0)
    assert told(people[0]) == []
    an.publish(microphone(), now=11.0)
    assert told(people[0]) == [("an", "JOINED")]
    an.connect(now=11.1)
    assert told(people[0]) == [("an", "ACTIVE")]
    leave(an, now=11.2)
    assert told(people[0]) == [("an", "DISCONNECTED")]
    house.sfu.tick(now=20.0)
    assert told(people[0]) == [], "and not again with the crowd"


def test_whoever_goes_is_told_of_though_he_was_never_told_to_be_here(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    leave(people[1], now=11.0)
    an = house.join("an", "observer", now=11.0)
    chi = house.join("chi", "observer", now=11.0)  # to whom his join response has told of the other
    leave(an, now=11.5)
    house.sfu.tick(now=20.0)
    expected = {("person-1", "DISCONNECTED"), ("an", "DISCONNECTED"), ("chi", "JOINED")}
    for person in (people[0], chi):
        assert set(told(person)) == expected


def test_the_end_of_a_visit_is_never_told_after_the_next_has_begun(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    for now in (11.0, 11.1, 11.2):
        leave(people[1], now=now)
        people[1] = house.join("person-1", now=now)
        people[1].publish(microphone(), now=now)
    people[1].connect(now=11.3)
    house.sfu.tick(now=20.0)
    infos = [info for update in people[0].client.take("update") for info in update.participants]
    assert [info.identity for info in infos] == ["person-1"] * len(infos)
    sids = [info.sid for info in infos]
    assert sids == sorted(sids, key=sids.index), "all of one visit, then all of the next"
    assert (infos[-1].sid, infos[-1].state) == (people[1].sid, States.ACTIVE)


def test_who_replaces_himself_is_told_of_at_once(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    again = house.join("person-1", "observer", now=11.0)
    (info,) = people[0].client.last("update").participants
    assert info.sid == again.sid


def test_nobody_hears_data_of_someone_he_has_not_heard_of(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    an = house.join("an", now=11.0)
    an.connect(now=11.0)
    assert told(people[0]) == []
    packet = models.DataPacket(user=models.UserPacket(payload=b"hello"))
    transport = an.participant.transport
    assert transport is not None
    house.sfu.data_received(transport, DataKind.RELIABLE, packet.SerializeToString(), now=11.1)
    assert told(people[0]) == [("an", "ACTIVE")]


def test_who_is_hidden_stays_so_in_a_crowd(crowd: tuple[House, list[Person]]) -> None:
    house, people = crowd
    ghost = house.join("ghost", "ghost", video={"hidden": True}, now=11.0)
    ghost.connect(now=11.0)
    house.sfu.tick(now=20.0)
    leave(ghost, now=21.0)
    house.sfu.tick(now=30.0)
    assert told(people[0]) == []


def test_in_a_small_room_everyone_is_told_of_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "CROWD", CROWD)
    people = [house.join(f"person-{number}", "observer") for number in range(CROWD)]
    first = people[0]
    assert told(first) == [(f"person-{number}", "JOINED") for number in range(1, CROWD)]
    for _ in range(CROWD - 1):
        leave(people.pop(), now=1.0)
        people[0].client.take("room_update")
    house.sfu.tick(now=10.0)
    gone = told(first)
    assert len(gone) == CROWD - 1
    assert {state for _, state in gone} == {"DISCONNECTED"}
