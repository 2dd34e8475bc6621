"""What one participant cannot do to another, in virtual time: rights, caps, other people's streams, other rooms."""

from __future__ import annotations

import struct

import pytest
from livekit.protocol import models

from d4e_sfu.config import Config, MaxBitrate, RoomRule
from tests.conftest import KEY
from tests.lab.virtual import Camera, Lab, Person
from tests.sim.scene import FPS, SEEDS, SMALL, VOICE


@pytest.mark.parametrize("seed", SEEDS)
def test_an_observer_who_sends_all_the_same_reaches_nobody(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob")
    eve = lab.join("eve", role="observer")
    lab.run(2)
    eve.send_unasked(SMALL)
    eve.send_unasked(VOICE)
    lab.run(3)
    assert lab.drops["not_permitted"] >= 2.5 * (FPS + 50)
    for person in (alice, bob):
        assert person.stats["unknown_stream"] == 0
        assert not person.tracks_of(eve)
    assert bob.received(alice).flawless
    assert eve.received(alice).flawless, "he may look on"


@pytest.mark.parametrize("seed", SEEDS)
def test_an_observer_who_announces_a_camera_is_refused(seed: int) -> None:
    lab = Lab(seed)
    bob = lab.join("bob")
    eve = lab.join("eve", role="observer")
    lab.run(1)
    eve.publish(SMALL)
    lab.run(2)
    reasons = [m.request_response.reason for _, m in eve.told if m.WhichOneof("message") == "request_response"]
    assert len(reasons) == 1
    assert not bob.tracks_of(eve)
    assert lab.tables == (2, 0, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publisher_over_his_cap_is_cut_and_nobody_else_is_disturbed(seed: int) -> None:
    cap = 300_000
    config = Config(keys=(KEY,), rooms=(RoomRule(name="*", max_bitrate=MaxBitrate(camera=cap)),))
    lab = Lab(seed, config=config)
    alice, carol = lab.join("alice", publish=[SMALL]), lab.join("carol", publish=[SMALL, VOICE])
    bob = lab.join("bob")
    lab.run(3)
    assert "over_bitrate" not in lab.drops
    alice.set_encoding(0, True, bitrate=5 * cap)
    lab.run(10)  # what the beginning of a stream may have above the cap is used up
    before = lab.counters["bytes_sent_video"]
    carols = carol.sent()[0]["octets"]
    lab.run(10)
    assert lab.drops["over_bitrate"] > 100
    others = (carol.sent()[0]["octets"] - carols) * 2 * 1.15  # to two viewers, with headers
    alices = (lab.counters["bytes_sent_video"] - before - others) / 2
    assert 0 < alices <= 1.1 * cap / 8 * 10
    for viewer in (alice, bob):
        assert viewer.received(carol).flawless
        assert viewer.received(carol, "microphone").flawless


def rtp(ssrc: int, payload_type: int, sequence: int) -> bytes:
    """A header of 12 bytes (RFC 3550 §5.1), and a VP8 keyframe's first bytes."""
    return struct.pack("!BBHII", 0x80, payload_type, sequence, 90_000, ssrc) + bytes.fromhex("10000000009d012a")


@pytest.mark.parametrize("seed", SEEDS)
def test_another_ones_ssrc_is_of_no_use(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob")
    mallory = lab.join("mallory", publish=[SMALL])
    lab.run(3)
    stolen = [alice.sent()[0]["ssrc"], bob.ssrc_of(alice)]
    keyframes = alice.sent()[0]["keyframes"]
    for n in range(100):
        for ssrc in stolen:
            mallory.peer.send_rtp(rtp(ssrc, 96, n), 12)
            # BYE (RFC 3550 §6.6), PLI and a NACK of 17 packets (RFC 4585 §6.3.1, §6.2.1) about what is not his.
            mallory.peer.send_rtcp(struct.pack("!BBHI", 0x81, 203, 1, ssrc))
            mallory.peer.send_rtcp(struct.pack("!BBHII", 0x81, 206, 2, 1, ssrc))
            mallory.peer.send_rtcp(struct.pack("!BBHIIHH", 0x81, 205, 3, 1, ssrc, n, 0xFFFF))
        lab.flush(mallory)
        lab.run(0.02)
    lab.run(1)
    assert lab.drops["unknown_stream"] == 200
    for viewer in (bob, mallory):
        assert viewer.received(alice).flawless
        assert set(viewer.received(alice).sources) == {alice.numbers["camera"]}
    assert bob.received(mallory).flawless
    assert alice.sent()[0]["keyframes"] == keyframes
    assert bob.received(alice).rtx == bob.received(alice).byes == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_of_one_room_reaches_another(seed: int) -> None:
    lab = Lab(seed)
    rooms = {
        room: [lab.join(name, room=room, publish=[SMALL, VOICE]) for name in ("alice", "bob", "carol")]
        for room in ("one", "two", "three", "four", "five")
    }
    lab.run(2)
    ((alice, *_), (_, mallory, _), *_) = rooms.values()
    for name in ("camera", "microphone"):
        mallory.subscribe(alice, name=name)
        mallory.watch(alice, name=name, quality=models.LOW)
    mallory.say("to my own room")
    lab.run(3)
    for room, people in rooms.items():
        for person in people:
            assert set(person.people) >= {other.identity for other in people if other is not person}
            known = {info.sid for info in person.people.values()}
            assert known <= {each.participant.sid for each in people if each.participant is not None}
            assert person.stats["unknown_stream"] == person.stats["unauthentic"] == 0
            assert len(person.stats["receivers"]) == 4
            for other in people:
                if other is not person:
                    check_source(person, other)
            assert len(person.data) == (room == "two" and person is not mallory)


def check_source(viewer: Person, publisher: Person) -> None:
    for name in ("camera", "microphone"):
        got = viewer.received(publisher, name)
        assert set(got.sources) == {publisher.numbers[name]}
        assert got.flawless


def test_an_unknown_camera_is_one_that_has_not_come() -> None:
    """The checks above would see a stranger's frame: here is one."""
    lab = Lab(1)
    alice, bob = lab.join("alice", publish=[Camera(encodings=(100_000,))]), lab.join("bob")
    lab.run(1)
    alice.numbers["camera"] += 1
    with pytest.raises(AssertionError):
        check_source(bob, alice)
