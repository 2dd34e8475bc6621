"""A server that drains sends people away in order: rooms whole, spread over time, who loses least first."""

from __future__ import annotations

import pytest
from livekit.protocol import rtc

from d4e_sfu._engine import Event, Voice
from d4e_sfu.errors import Full
from tests.core.house import House, Person
from tests.doubles import microphone

Action = rtc.LeaveRequest.Action


def fill(house: House, **sizes: int) -> dict[str, list[Person]]:
    return {room: [house.join(f"{room}{n}", room=room) for n in range(size)] for room, size in sizes.items()}


def gone(rooms: dict[str, list[Person]]) -> set[str]:
    """Rooms of which everybody has been asked to join again. No room is torn apart."""
    told = {room: {person.client.closed is not None for person in people} for room, people in rooms.items()}
    assert all(len(each) == 1 for each in told.values()), told
    return {room for room, each in told.items() if each == {True}}


def test_rooms_go_whole_the_small_before_the_large_and_no_more_than_are_due(house: House) -> None:
    rooms = fill(house, ward=5, triage=1, theatre=4)
    house.sfu.drain()
    went = []
    for tenths in range(11):
        house.sfu.send_away(tenths / 10, now=5.0)
        went.append(gone(rooms))
    assert went[0] == set()
    assert went[1] == went[4] == {"triage"}
    assert went[5] == went[9] == {"triage", "theatre"}
    assert went[10] == {"triage", "theatre", "ward"}
    for people in rooms.values():
        for person in people:
            assert person.client.last("leave").action == Action.RECONNECT


def test_where_somebody_speaks_goes_last(house: House) -> None:
    rooms = fill(house, ward=3, theatre=2)
    speaker = rooms["theatre"][0]
    speaker.publish(microphone(), now=1.0)
    publication = next(iter(speaker.participant.publications.values()))
    transport = speaker.participant.transport
    assert transport is not None
    voice = Voice(transport=transport, publication=publication.id, level=20, spoken_ms=1000)
    for moment in (2.0, 2.5):
        house.sfu.engine_event(house.engine, Event.Voices([voice]), now=moment)
    house.sfu.drain()
    house.sfu.send_away(0.6, now=3.0)
    assert gone(rooms) == {"ward"}


def test_who_is_seen_and_heard_goes_before_those_who_watch(house: House) -> None:
    order: list[str] = []
    people = [house.join(identity) for identity in ("an", "binh", "chi")]
    people[2].publish(microphone(), now=1.0)
    for person in people:
        send = person.client.send

        def noted(response: rtc.SignalResponse, send: object = send, person: Person = person) -> None:
            if response.HasField("leave"):
                order.append(person.participant.identity)
            send(response)  # type: ignore[operator]

        person.client.send = noted  # type: ignore[method-assign]
    house.sfu.drain()
    house.sfu.send_away(1.0, now=2.0)
    assert order == ["chi", "an", "binh"]


def test_a_room_that_was_sent_away_is_refused_and_the_others_go_on(house: House) -> None:
    rooms = fill(house, ward=3, triage=1)
    house.sfu.drain()
    house.sfu.send_away(0.5, now=1.0)
    assert gone(rooms) == {"triage"}
    with pytest.raises(Full, match="takes no new calls"):
        house.join("triage0", room="triage", now=2.0)
    house.join("late", room="ward", now=2.0)
    house.sfu.send_away(1.0, now=3.0)
    assert house.sfu.people == 0
