"""The ways in which people go, in virtual time: what the others are told and when, and that nothing of them is left."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Event
from tests.lab.virtual import Lab, Person
from tests.sim.scene import CAMERA, DEAD, DELAY, GOOD, SEEDS, SMALL, VOICE

CHECK = 3.0  # s; between two checks of consent of a peer, at most


def in_a_call(seed: int) -> tuple[Lab, Person, Person]:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA, VOICE]), lab.join("bob", publish=[SMALL])
    lab.run(5 + lab.chance.random())
    assert lab.tables == (2, 3, 3)
    return lab, alice, bob


def gone(person: Person, from_: Person) -> bool:
    return person.identity not in from_.people


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_who_falls_silent_is_gone_after_thirty_seconds_without_a_check(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    alice.vanish()
    took = lab.until(lambda: gone(alice, bob), within=31, step=0.05)
    assert took >= 30 - CHECK
    assert [event.transport for _, event in lab.occurrences(Event.TransportGone)]
    assert lab.tables == (1, 1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_whose_socket_is_lost_as_well_is_gone_after_fifteen(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    alice.vanish()
    alice.lose_signalling()
    took = lab.until(lambda: gone(alice, bob), within=16, step=0.05)
    assert took >= 15 - CHECK
    assert lab.occurrences(Event.TransportGone), "the engine has noticed, before the core's own patience ended"
    assert lab.tables == (1, 1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_media_outlives_a_lost_socket_for_fifteen_seconds(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    alice.lose_signalling()
    lab.run(14.5)
    assert bob.received(alice).flawless
    assert not gone(alice, bob)
    lab.run(1)
    assert gone(alice, bob)
    assert lab.tables == (1, 1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_check_in_thirty_seconds_is_enough_to_stay(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    lab.link(alice, up=DEAD, down=DEAD)
    lab.run(26)
    lab.link(alice, up=GOOD, down=GOOD)
    lab.run(20)
    assert not gone(alice, bob)
    assert not lab.occurrences(Event.TransportGone)
    assert bob.received(alice).last_frame >= lab.now - 0.2  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_who_leaves_is_gone_at_once_from_everyone_and_from_the_engine(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    alice.leave()
    lab.until(lambda: gone(alice, bob), within=3 * DELAY)
    assert lab.tables == (1, 1, 0)
    lab.run(1)
    bob.leave()
    lab.run(1)
    assert lab.tables == (0, 0, 0)
    assert lab.counters["commands_ignored"] == 0, "nothing is ended twice"
    lab.run(301)
    assert not lab.sfu.rooms


@pytest.mark.parametrize("seed", SEEDS)
def test_unpublishing_ends_one_publication_and_no_other(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    assert len(bob.tracks_of(alice)) == 2
    alice.unpublish()
    lab.run(1)
    assert list(bob.tracks_of(alice)) == [alice.sids["microphone"]]
    assert lab.tables == (2, 2, 2)
    assert bob.received(alice, "microphone").flawless
    assert alice.received(bob).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_a_join_whose_machine_is_switched_off_ends_when_its_checks_do(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    ghost = lab.join("ghost")
    lab.until(lambda: ghost.peer is not None, within=1)
    ghost.vanish()
    lab.run(29)
    assert not gone(ghost, bob)
    lab.run(2)
    assert gone(ghost, bob)
    assert lab.tables == (2, 3, 3)
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_a_handshake_without_end_is_ended_after_a_minute(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    lab.associations.mute = True
    ghost = lab.join("ghost")
    lab.run(59)
    assert ghost.stats["selected"], "his checks are answered all the time"
    assert not gone(ghost, bob)
    lab.run(2)
    assert gone(ghost, bob)
    assert ghost.left is not None
    assert ghost.left.action == rtc.LeaveRequest.RECONNECT
    assert lab.tables == (2, 3, 3)
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_thirty_comings_and_goings_leave_nothing_behind(seed: int) -> None:
    lab = Lab(seed)
    inside: list[Person] = []
    for n in range(30):
        if inside and lab.chance.random() < 0.45:
            person = inside.pop(lab.chance.randrange(len(inside)))
            if lab.chance.random() < 0.5 or person.peer is None:
                person.leave()
            else:
                person.vanish()
                person.lose_signalling()
        else:
            inside.append(lab.join(f"person {n % 12}", publish=[SMALL, VOICE]))
            inside = [each for each in inside[:-1] if each.identity != inside[-1].identity] + inside[-1:]
        lab.run(lab.chance.random())
    lab.run(20)
    for person in inside:
        others = [other for other in inside if other is not person]
        assert {other.identity for other in others} == set(person.people) - {person.identity}
        for other in others:
            assert set(person.received(other).sources) == {other.numbers["camera"]}
            assert person.received(other).last_frame >= lab.now - 0.2  # type: ignore[operator]
    count = len(inside)
    assert lab.tables == (count, 2 * count, 2 * count * (count - 1))
    for person in inside:
        person.leave()
    lab.run(1)
    assert lab.tables == (0, 0, 0)


def test_reasons_are_told() -> None:
    lab, alice, bob = in_a_call(1)
    lab.sfu.close(now=lab.now)
    lab.run(1)
    for person in (alice, bob):
        assert person.left is not None
        assert person.left.reason == models.SERVER_SHUTDOWN
    assert lab.tables == (0, 0, 0)
