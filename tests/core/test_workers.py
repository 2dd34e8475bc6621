"""Where rooms go, and what becomes of a room of which workers die; in virtual time."""

from __future__ import annotations

import itertools

import pytest
from livekit.protocol import rtc

from d4e_sfu._engine import Event
from d4e_sfu.core.workers import DEATHS, WINDOW, Load, least_loaded
from d4e_sfu.errors import Full
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person, join_request
from tests.doubles import AssociationsDouble, ClientDouble, EngineDouble, microphone

Action = rtc.LeaveRequest.Action


def second(house: House) -> EngineDouble:
    """Another worker of the same house."""
    engine = EngineDouble()
    house.sfu.add_worker(engine, AssociationsDouble())
    return engine


def engine_of(person: Person) -> EngineDouble:
    engine = person.participant.room.worker.engine
    assert isinstance(engine, EngineDouble)
    return engine


def kill(house: House, engine: EngineDouble, transport: int | None, *, now: float) -> None:
    house.sfu.engine_event(engine, Event.WorkerDied("panicked", transport), now=now)


# --- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([Load(0.0, 0, 0), Load(0.0, 0, 0)], 0),
        ([Load(0.3, 0, 1), Load(0.1, 0, 9)], 1),
        ([Load(0.1000, 0, 5), Load(0.1003, 0, 4)], 1),  # what differs by less than can be measured is equal
        ([Load(0.10, 0, 1), Load(0.09, 20, 21)], 0),  # twenty rooms that are about to begin
        ([Load(0.5, 0, 9), Load(0.0, 100, 100)], 1),
        ([None, Load(0.9, 9, 9), None], 1),
    ],
)
def test_the_least_loaded_is_chosen(loads: list[Load | None], chosen: int) -> None:
    assert least_loaded(loads) == chosen


def test_rooms_that_open_at_once_are_spread_before_anything_can_be_measured(house: House) -> None:
    other = second(house)
    for n in range(20):
        house.join("an", room=f"room-{n}", now=float(n) / 10)
    placed = [room.worker.engine for room in house.sfu.rooms.values()]
    assert placed.count(other) == placed.count(house.engine) == 10
    assert all(first is not second for first, second in itertools.pairwise(placed))


def test_a_room_goes_where_less_is_forwarded_not_where_fewer_rooms_are(house: House) -> None:
    other = second(house)
    big = house.join("an", room="big")
    assert engine_of(big) is house.engine
    house.engine.busy = 0.6
    for n in range(5):
        assert engine_of(house.join("an", room=f"small-{n}")) is other
    other.busy = 0.7
    assert engine_of(house.join("an", room="next")) is house.engine


def test_a_room_in_which_someone_is_heard_counts_by_what_is_measured(house: House) -> None:
    other = second(house)
    speaker = house.join("an", room="one")
    house.join("binh", room="one")
    assert engine_of(house.join("chi", room="two")) is other
    speaker.publish(microphone())
    # The first room is heard, and measured as nothing; the second is still expected to begin.
    assert engine_of(house.join("duc", room="three")) is house.engine


def test_a_room_stays_where_it_is_as_long_as_it_exists(house: House) -> None:
    second(house)
    first = house.join("an", room="ward")
    house.engine.busy = 0.9
    assert engine_of(house.join("binh", room="ward")) is engine_of(first)


# --- workers that die ------------------------------------------------------------------------------------------------


def test_a_room_never_goes_to_a_dead_worker(house: House) -> None:
    other = second(house)
    other.busy = 0.9
    house.engine.busy = None
    assert engine_of(house.join("an")) is other


def test_without_any_worker_joins_are_refused_for_a_moment(house: House) -> None:
    admission = house.join("an")
    house.engine.busy = None
    kill(house, house.engine, None, now=1.0)
    assert admission.client.last("leave").action == Action.RECONNECT
    with pytest.raises(Full, match="moment") as refused:
        house.join("an", now=1.1)
    assert refused.value.rule == "no_worker"
    assert refused.value.status == 503
    house.engine.busy = 0.0
    house.join("an", now=1.3)


def test_a_room_of_which_workers_die_again_and_again_is_refused_and_only_it(house: House) -> None:
    other = second(house)
    now = 0.0
    for death in range(1, DEATHS + 1):
        bystander = house.join("chi", room="bystander", now=now)
        poison = house.join("an", room="poison", now=now)
        assert engine_of(poison) is other, "it comes back to the worker that it has killed"
        assert engine_of(bystander) is house.engine
        kill(house, other, poison.participant.transport, now=now + 5.0)
        assert poison.client.last("leave").action == Action.RECONNECT
        assert bystander.client.closed is None
        assert house.announcer.heard.count(("room_refused", {"room": poison.participant.room.sid})) == (death == DEATHS)
        now += 10.0
    with pytest.raises(Full, match="failed too often") as refused:
        house.join("an", room="poison", now=now)
    assert refused.value.rule == "room_refused"
    house.join("duc", room="another", now=now)
    until = now - 5.0 + WINDOW
    house.sfu.tick(now=until - 0.1)
    with pytest.raises(Full):
        house.join("an", room="poison", now=until - 0.1)
    house.sfu.tick(now=until)
    house.join("an", room="poison", now=until)


def test_rooms_that_only_shared_its_worker_are_not_suspected(house: House) -> None:
    now = 0.0
    for _ in range(DEATHS):
        poison, neighbour = house.join("an", room="poison", now=now), house.join("binh", room="neighbour", now=now)
        kill(house, house.engine, poison.participant.transport, now=now + 1.0)
        assert neighbour.client.last("leave").action == Action.RECONNECT
        now += 5.0
    house.join("binh", room="neighbour", now=now)
    with pytest.raises(Full):
        house.join("an", room="poison", now=now)


def test_deaths_far_apart_or_of_nobody_refuse_no_room(house: House) -> None:
    for death in range(3 * DEATHS):
        now = death * WINDOW / (DEATHS - 1)
        poison = house.join("an", room="poison", now=now)
        kill(house, house.engine, poison.participant.transport, now=now)
        house.join("an", room="other", now=now)
        kill(house, house.engine, None, now=now)
        kill(house, house.engine, 4_000_000, now=now)  # of a transport that has gone in the meantime
    house.join("an", room="poison", now=now)


def test_whoever_was_admitted_just_before_is_refused_after_the_upgrade(house: House, mint: MintToken) -> None:
    admission = house.sfu.admit(house.sfu.verify(mint("binh"), wall=WALL), join_request(), wall=WALL)
    for n in range(DEATHS):
        kill(house, house.engine, house.join("an", now=float(n)).participant.transport, now=float(n))
    client = ClientDouble()
    assert house.sfu.join(client, admission, now=5.0) is None
    assert client.kinds() == ["leave"]
    assert client.closed is not None
    assert client.closed[0] == 1013
    refused = {"rule": "room_refused", "identity": "binh", "room_name": "ward"}
    assert ("join_refused", refused) in house.announcer.heard
