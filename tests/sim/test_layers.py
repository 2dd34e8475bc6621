"""Simulcast in virtual time: which size each viewer gets, and that its stream shows no seam where the size changes."""

from __future__ import annotations

from functools import partial

import pytest
from livekit.protocol import models

from tests.lab.virtual import Conditions, Lab, Person
from tests.sim.scene import CAMERA, DELAY, FPS, GOOD, LOSSY, SEEDS

HEIGHTS = {models.LOW: 0, models.MEDIUM: 1, models.HIGH: 2}


def in_a_call(seed: int) -> tuple[Lab, Person, Person]:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA]), lab.join("bob")
    lab.until(lambda: bob.received(alice).encoding == 2, within=2)
    lab.run(1)
    return lab, alice, bob


def sees(viewer: Person, of: Person, encoding: int, name: str = "camera") -> bool:
    return viewer.received(of, name).encoding == encoding


@pytest.mark.parametrize("link", [GOOD, LOSSY], ids=["good", "lossy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_three_sizes_are_reached_in_turn_and_back_without_a_seam(seed: int, link: Conditions) -> None:
    lab, alice, bob = in_a_call(seed)
    for person in (alice, bob):
        lab.link(person, up=link, down=link)
    switches = bob.received(alice).switches
    for quality in (models.LOW, models.MEDIUM, models.HIGH, models.LOW, models.HIGH, models.MEDIUM):
        bob.watch(alice, quality=quality)
        lab.until(partial(sees, bob, alice, HEIGHTS[quality]), within=2.5)
        lab.run(1 + lab.chance.random())
    got = bob.received(alice)
    assert got.undecodable == got.corrupt == 0
    # A new size whose keyframe had to be repaired is older than what was shown meanwhile: its clock gives way.
    assert got.seams["timestamp"] <= (link is LOSSY)
    assert got.max_timestamp_error < (0.3 if link is LOSSY else 0.01)
    assert {**got.seams, "timestamp": 0} == dict.fromkeys(got.seams, 0)
    if link is GOOD:
        assert got.freezes == 0, "the old size goes on until the new one's keyframe"
        assert got.switches - switches == 6


@pytest.mark.parametrize("seed", SEEDS)
def test_each_viewer_has_his_own_size(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    carol, dan = lab.join("carol"), lab.join("dan")
    lab.run(1)
    carol.watch(alice, quality=models.LOW)
    dan.watch(alice, quality=models.MEDIUM)
    lab.run(3)
    assert [viewer.received(alice).encoding for viewer in (carol, dan, bob)] == [0, 1, 2]
    assert all(viewer.received(alice).flawless for viewer in (bob, carol, dan))


@pytest.mark.parametrize("seed", SEEDS)
def test_when_the_top_encoding_stops_the_next_one_takes_over_until_it_comes_back(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    alice.set_encoding(2, False)
    # It counts as stopped after a second of silence; then a keyframe of the next one is asked for.
    took = lab.until(lambda: bob.received(alice).encoding == 1, within=1.5)
    assert took > 0.9
    lab.run(2)
    alice.set_encoding(1, False)
    lab.until(lambda: bob.received(alice).encoding == 0, within=1.5)
    lab.run(2)
    alice.set_encoding(2, True)
    lab.until(lambda: bob.received(alice).encoding == 2, within=0.5)
    lab.run(2)
    got = bob.received(alice)
    assert got.seam_total == got.undecodable == 0
    assert got.freezes == 2, "one for each time that an encoding had to be missed"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_leaves_no_trace_in_the_numbers(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    bob.watch(alice, off=True)
    lab.run(3 * DELAY)
    before = bob.received(alice)
    lab.run(2 + lab.chance.random())
    assert bob.received(alice).packets == before.packets, "nothing comes while it is off"
    bob.watch(alice)
    lab.until(lambda: bob.received(alice).frames > before.frames, within=0.5)
    lab.run(2)
    got = bob.received(alice)
    assert got.seam_total == got.undecodable == got.lost == got.nacked == 0
    assert got.frames >= before.frames + 2 * FPS - 1


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_watching_costs_the_publisher_no_keyframe(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    bob.watch(alice, off=True)
    lab.run(1)
    asked = [encoding["plis"] for encoding in alice.sent()]
    lab.run(5)
    assert [encoding["plis"] for encoding in alice.sent()] == asked


@pytest.mark.parametrize("seed", SEEDS)
def test_mute_is_told_and_what_follows_it_is_decoded(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    (track,) = bob.tracks_of(alice).values()
    assert not track.muted
    alice.mute()
    lab.run(3 * DELAY)
    (track,) = bob.tracks_of(alice).values()
    assert track.muted
    before = bob.received(alice).frames
    lab.run(3)
    assert bob.received(alice).frames == before
    alice.mute(muted=False)
    lab.until(lambda: bob.received(alice).frames > before, within=1)
    lab.run(2)
    (track,) = bob.tracks_of(alice).values()
    got = bob.received(alice)
    assert not track.muted
    assert got.seam_total == got.undecodable == 0
    assert got.frames >= before + 1.5 * FPS


@pytest.mark.parametrize("seed", SEEDS)
def test_who_subscribes_anew_gets_the_same_section_again(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    section, sections, frames = bob.section_of(alice), bob.sections, bob.received(alice).frames
    bob.subscribe(alice, False)
    lab.run(1)
    assert bob.section_of(alice) is None
    assert lab.tables == (2, 1, 0)
    assert bob.received(alice).frames <= frames + FPS / 2
    bob.subscribe(alice)
    lab.until(lambda: bob.section_of(alice), within=1)
    lab.run(2)
    assert bob.section_of(alice) == section
    assert bob.sections == sections
    assert bob.received(alice).flawless
    assert bob.received(alice).frames >= FPS * 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_publications_that_come_and_go_do_not_pile_up_sections(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    for n in range(5):
        alice.publish(CAMERA, name=f"screen-{n}")
        lab.until(partial(sees, bob, alice, 2, f"screen-{n}"), within=2)
        alice.unpublish(f"screen-{n}")
        lab.run(1)
        assert list(bob.tracks_of(alice)) == [alice.sids["camera"]]
        assert lab.tables == (2, 1, 1)
    assert bob.sections == 7
    assert bob.received(alice).flawless
