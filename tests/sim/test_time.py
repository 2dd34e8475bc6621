"""Time itself in the virtual laboratory: the same seed is the same run, Python may stall, numbers wrap around."""

from __future__ import annotations

import pytest

from d4e_sfu.config import Config, MaxBitrate, RoomRule
from tests.conftest import KEY
from tests.lab.virtual import Camera, Conditions, Lab
from tests.sim.scene import CAMERA, DELAY, FPS, LOSSY, SEEDS, VOICE


def busy_call(seed: int) -> str:
    lab = Lab(seed, link=Conditions(delay=DELAY, jitter=0.005, loss=0.03, reorder=0.02, duplicate=0.01))
    people = [lab.join(f"person {n}", publish=[CAMERA, VOICE]) for n in range(4)]
    lab.run(2)
    people[0].vanish()
    people[1].watch(people[2], quality=0)
    people[3].move()
    lab.join("person 1", publish=[CAMERA])
    lab.run(2)
    return lab.trace


def test_the_same_seed_is_the_same_run_to_the_last_byte() -> None:
    assert busy_call(1) == busy_call(1)
    assert busy_call(2) != busy_call(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_while_python_stalls_for_two_seconds_media_flows_and_losses_are_repaired(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA, VOICE]), lab.join("bob")
    lab.run(3)
    for person in (alice, bob):
        lab.link(person, up=LOSSY, down=LOSSY)
    before, events = bob.received(alice), len(lab.events)
    lab.stall(2)
    bob.watch(alice, quality=0)
    carol = lab.join("carol")
    bob.move()
    lab.run(1.99)
    got = bob.received(alice)
    assert got.encoding == 2
    assert got.frames >= before.frames + FPS * 1.6
    assert got.recovered > 0
    assert got.undecodable == got.broken == got.seam_total == 0
    assert bob.received(alice, "microphone").frames >= 180, "of 240, less a tenth, less what still waits for that"
    assert len(lab.events) == events, "the core has heard of nothing"
    assert carol.peer is None
    lab.run(2)
    assert bob.received(alice).encoding == 0, "what was asked meanwhile is done now"
    assert carol.received(alice).frames > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_while_python_stalls_the_engine_finds_another_encoding_by_itself(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA]), lab.join("bob")
    lab.run(3 + lab.chance.random())
    lab.stall(2)
    alice.set_encoding(2, False)
    lab.run(1.9)
    assert bob.received(alice).encoding == 1
    assert bob.received(alice).seam_total == 0


@pytest.mark.parametrize("start", range(16))
def test_numbers_wrap_around_from_sixteen_starts(start: int) -> None:
    """Sequence numbers, timestamps, picture ids and TL0PICIDX of all encodings, while sizes change."""
    lab = Lab(start)
    numbers = {
        "sequence": 0xFFFF - 11 * start,
        "timestamp": 0xFFFF_FFFF - 90_000 * start // 8,
        "picture_id": 0x7FFF - 3 * start,
        "tl0_pic_idx": 0xFF - start,
    }
    alice, bob = lab.join("alice", publish=[CAMERA], start=numbers), lab.join("bob")
    for quality in (2, 0, 1, 2):
        lab.run(0.8)
        bob.watch(alice, quality=quality)
    lab.link(bob, down=Conditions(delay=DELAY, loss=0.05, reorder=0.05, reorder_delay=0.006))
    lab.run(4)
    got = bob.received(alice)
    assert got.undecodable == got.corrupt == got.broken == got.seam_total == 0
    assert got.encoding == 2
    assert got.frames >= FPS * 6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_voice_wraps_around_without_a_gap(seed: int) -> None:
    lab = Lab(seed)
    start = {"sequence": 0xFFFF - 20 * seed, "timestamp": 0xFFFF_FFFF - 960 * 20 * seed}
    alice, bob = lab.join("alice", publish=[VOICE], start=start), lab.join("bob")
    lab.run(12)
    assert bob.received(alice, "microphone").flawless


@pytest.mark.parametrize("seed", SEEDS[:1] + SEEDS[5:8])
def test_the_outgoing_numbers_wrap_around_under_loss(seed: int) -> None:
    """A subscriber's numbers begin below 2^15 and are ours; after 33 to 66 thousand packets they wrap."""
    config = Config(keys=(KEY,), rooms=(RoomRule(name="*", max_bitrate=MaxBitrate(camera=10_000_000)),))
    fine = Camera(encodings=(2_400_000,), more={"fps": 60, "max_payload": 110})
    lab = Lab(seed, config=config)
    alice, bob = lab.join("alice", publish=[fine]), lab.join("bob")
    lab.run(1)
    lab.link(bob, down=Conditions(delay=DELAY, loss=0.002))
    lab.run(26)
    got = bob.received(alice)
    assert got.packets > 65_536
    assert got.recovered > 50
    assert got.undecodable == got.corrupt == got.broken == got.seam_total == 0
    assert bob.stats["unauthentic"] == 0
