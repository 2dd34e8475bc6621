"""Addresses that change and addresses that are dead, in virtual time: media follows the path that was proven."""

from __future__ import annotations

import pytest

from d4e_sfu._engine import Event
from tests.lab.network import Conditions, Datagram
from tests.lab.scenario import keyframe_requests
from tests.lab.virtual import Lab
from tests.sim.scene import CAMERA, DEAD, DELAY, FPS, FRAME, GOOD, ROUND_TRIP, ROUTER_TICK, SEEDS, SMALL, VOICE


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subscriber_whose_address_changes_goes_on_where_he_was(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob", publish=[VOICE])
    lab.run(5 + lab.chance.random())
    paths, section, before = len(lab.occurrences(Event.PathChanged)), bob.section_of(alice), bob.received(alice)
    assert bob.participant is not None
    bob.move()
    moved = lab.now
    lab.until(lambda: bob.received(alice).frames > before.frames, within=0.5)
    (at, event), *more = lab.occurrences(Event.PathChanged)[paths:]
    assert not more
    assert (event.transport, event.remote) == (bob.participant.transport, bob.address)
    assert at - moved <= ROUND_TRIP + DELAY, "his check, its answer, and the voice that he sends anyway"
    lab.run(5)
    got = bob.received(alice)
    assert got.seam_total == got.undecodable == got.corrupt == got.freezes == 0
    assert got.frames >= before.frames + 5 * FPS
    assert bob.section_of(alice) == section
    assert lab.tables == (2, 2, 2)
    assert alice.received(bob, "microphone").last_frame >= lab.now - 0.1  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_whose_address_changes_is_seen_without_a_freeze(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA]), lab.join("bob")
    lab.run(5 + lab.chance.random())
    for _ in range(3):
        alice.move()
        lab.run(2)
    got = bob.received(alice)
    assert got.flawless
    moves = [event for _, event in lab.occurrences(Event.PathChanged) if event.remote == alice.address]
    assert len(moves) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_who_only_listens_behind_a_nat_that_forgot_him_is_followed_a_tenth_of_a_second_after_his_check(
    seed: int,
) -> None:
    """He checks every 2.5 s as Chromium does, and answers no check of ours: a lite agent, or one behind a filter."""
    lab = Lab(seed)
    silent = {"consent": 2.5, "answers": False}
    alice, bob = lab.join("alice", publish=[SMALL, VOICE]), lab.join("bob", peer=silent)
    lab.run(5 + 3 * lab.chance.random())
    paths = len(lab.occurrences(Event.PathChanged))
    requests, asked = keyframe_requests(alice), bob.received(alice).plis
    bob.rebind()
    moved = lab.now
    checks: list[float] = []

    def tap(datagram: Datagram, now: float) -> None:
        if datagram.source == bob.address and datagram.payload[0] < 4:
            checks.append(now + DELAY)

    lab.network.taps.append(tap)
    lab.until(lambda: checks, within=3.1)
    # A report of his may be the first that comes from there; it says nothing before the check.
    lab.until(lambda: len(lab.occurrences(Event.PathChanged)) > paths, within=0.5)
    (at, event) = lab.occurrences(Event.PathChanged)[paths]
    assert event.remote == bob.address
    assert at - checks[0] <= 0.1
    if at - moved > 0.3 + DELAY:  # what is shorter repairs fill
        lab.until(lambda: keyframe_requests(alice) > requests, within=2 * DELAY + ROUTER_TICK)
    assert bob.received(alice).plis == asked, "libwebrtc asks for it after three seconds without a picture"
    assert len(lab.occurrences(Event.PathChanged)) == paths + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_who_only_listens_behind_a_nat_that_forgot_him_is_asked_where_he_reports_from(seed: int) -> None:
    """He has no check to make for as long as this lasts: ours, which he answers, is what moves the path."""
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL, VOICE]), lab.join("bob", peer={"consent": 100.0})
    lab.run(5 + lab.chance.random())
    paths, before = len(lab.occurrences(Event.PathChanged)), bob.received(alice)
    reports: list[float] = []
    checks: list[Datagram] = []

    def tap(datagram: Datagram, now: float) -> None:
        if datagram.source == bob.address:
            reports.append(now + DELAY)
        if datagram.target == bob.address and datagram.payload[:2] == b"\x00\x01":
            checks.append(datagram)

    lab.network.taps.append(tap)
    bob.rebind()
    # Who receives nothing any more has nothing to report but each second.
    lab.until(lambda: len(lab.occurrences(Event.PathChanged)) > paths, within=1.5)
    (at, event) = lab.occurrences(Event.PathChanged)[paths]
    assert event.remote == bob.address
    # The answer is back after a round trip, and the old path has been silent for long enough.
    assert at - reports[0] <= max(ROUND_TRIP, 0.08) + 2 * ROUTER_TICK
    lab.run(5)
    assert len(checks) <= 2
    got = bob.received(alice)
    assert got.frames >= before.frames + 5 * FPS - 2
    assert got.undecodable <= FPS, "where it took a second until he reported"
    assert got.corrupt == 0
    assert len(lab.occurrences(Event.PathChanged)) == paths + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_behind_a_nat_that_forgot_him_is_seen_again_before_he_checks(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL], peer={"consent": 100.0}), lab.join("bob")
    lab.run(5 + lab.chance.random())
    alice.rebind()
    moved, before = lab.now, bob.received(alice).frames
    lab.until(lambda: bob.received(alice).frames > before + 1, within=1)
    assert lab.now - moved <= 0.08 + 2 * ROUND_TRIP + 4 * FRAME
    lab.run(3)
    got = bob.received(alice)
    assert got.undecodable == got.corrupt == 0
    assert got.frames >= before + 3 * FPS - 5


@pytest.mark.parametrize("seed", SEEDS)
def test_who_copies_reports_and_is_faster_gains_a_few_checks_and_moves_nothing(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL, VOICE]), lab.join("bob", peer={"consent": 2.5})
    lab.run(5)
    paths = len(lab.occurrences(Event.PathChanged))
    thief = "198.51.100.66:6666"
    (server,) = lab.servers
    lab.network.set(thief, server, Conditions(delay=DELAY / 2), now=lab.now)
    copied, gained = [], []

    def tap(datagram: Datagram, now: float) -> None:
        if datagram.source == bob.address and datagram.payload[0] >= 128:
            copied.append(len(datagram.payload))
            lab.network.send(datagram.payload, source=thief, target=server, now=now)
        if datagram.target == thief:
            gained.append(len(datagram.payload))

    lab.network.taps.append(tap)
    lab.run(10)
    assert len(copied) > 50
    assert 0 < len(gained) <= 105
    assert sum(gained) <= 3 * sum(copied)
    assert len(lab.occurrences(Event.PathChanged)) == paths
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_blackout_a_picture_comes_unasked(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL, VOICE]), lab.join("bob")
    lab.run(5)
    lab.link(bob, up=DEAD, down=DEAD)
    lab.run(10 + lab.chance.random())
    lab.link(bob, up=GOOD, down=GOOD)
    requests, asked = keyframe_requests(alice), bob.received(alice).plis
    # What was on its way, the first that comes, what he tells of it within a tenth of a second, and the request.
    lab.until(lambda: keyframe_requests(alice) > requests, within=0.1 + FRAME + 3 * DELAY)
    assert bob.received(alice).plis == asked, "libwebrtc asks for it after three seconds without a picture"
    lab.run(5)
    assert keyframe_requests(alice) == requests + 1
    assert bob.received(alice).last_frame >= lab.now - 0.2  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_heard_all_the_time_costs_no_keyframe(seed: int) -> None:
    """A report each second and nothing else, half a second of silence, an address that changes seamlessly."""
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob", publish=[VOICE])
    lab.run(5)
    requests = keyframe_requests(alice)
    lab.link(bob, up=DEAD)
    lab.run(0.5)
    lab.link(bob, up=GOOD)
    lab.run(5)
    bob.move()
    lab.run(5)
    assert keyframe_requests(alice) == requests


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_server_addresses_the_living_one_is_used(seed: int) -> None:
    lab = Lab(seed, addresses=2)
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob")
    dead, living = lab.servers if seed % 2 else reversed(lab.servers)
    for person in (alice, bob):
        lab.network.set(person.address, dead, DEAD, now=lab.now)
        lab.network.set(dead, person.address, DEAD, now=lab.now)
    lab.until(lambda: bob.received(alice).frames, within=1)
    lab.run(3)
    assert {event.local for _, event in lab.occurrences(Event.PathChanged)} == {living}
    assert {person.stats["selected"] for person in (alice, bob)} == {living}
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_leave_from_the_address_that_was_asked(seed: int) -> None:
    lab = Lab(seed, addresses=3, link=GOOD)
    people = [lab.join(f"person {n}", publish=[SMALL]) for n in range(3)]
    for person, own in zip(people, lab.servers, strict=True):
        for server in lab.servers:
            if server != own:
                lab.network.set(person.address, server, DEAD, now=lab.now)
    lab.run(4)
    assert [person.stats["selected"] for person in people] == lab.servers
    for person in people:
        assert all(person.received(other).flawless for other in people if other is not person)
        assert person.stats["ice_errors"] == 0
