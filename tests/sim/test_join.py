"""Joining, in virtual time: how soon there is a picture, what it costs the publisher, and joining once more."""

from __future__ import annotations

import pytest
from livekit.protocol import models

from tests.lab.virtual import Camera, Conditions, Lab, Person
from tests.sim.scene import CAMERA, DELAY, FPS, FRAME, ROUND_TRIP, ROUTER_TICK, SEEDS, SMALL, VOICE

# A keyframe on request: the request goes down one way, the next picture is one, it comes up and goes down.
PICTURE_ON_REQUEST = ROUTER_TICK + DELAY + FRAME + ROUND_TRIP
FIRST_WORD = 0.5  # s; until probes have told what the link carries: three round trips, each with its feedback


def first_picture(person: Person, of: Person) -> float:
    """Seconds from being connected to the first decodable picture."""
    received = person.received(of)
    assert received.first_frame is not None
    assert person.connected_at is not None
    return received.first_frame - person.connected_at


@pytest.mark.parametrize("seed", SEEDS)
def test_people_who_join_see_and_hear_each_other_after_one_round_trip_and_a_picture(seed: int) -> None:
    lab = Lab(seed)
    people = [lab.join(name, publish=[CAMERA, VOICE]) for name in ("alice", "bob", "carol")]
    lab.run(5)
    for person in people:
        others = [other for other in people if other is not person]
        first, second = sorted(first_picture(person, other) for other in others)
        assert first <= ROUND_TRIP + 2 * FRAME
        assert second <= FIRST_WORD + 2 * FRAME
        for other in others:
            assert person.received(other).flawless
            assert person.received(other).encoding == 2
            assert person.received(other, "microphone").flawless
            assert person.received(other, "microphone").frames >= 50 * 4.5
        assert person.stats["unknown_stream"] == person.stats["unauthentic"] == 0
    assert lab.tables == (3, 6, 12)


@pytest.mark.parametrize("seed", SEEDS)
def test_late_joiner_sees_a_keyframe_younger_than_a_second_at_once_from_the_cache(seed: int) -> None:
    lab = Lab(seed)
    camera = Camera(encodings=(150_000,), more={"fps": FPS, "keyframe_interval": 0.9})
    alice = lab.join("alice", publish=[camera])
    lab.join("bob")
    lab.run(5 + lab.chance.random())
    requests = alice.sent()[0]["plis"]
    carol = lab.join("carol")
    lab.run(1)
    assert first_picture(carol, alice) <= DELAY + ROUTER_TICK, "one way from the server"
    assert alice.sent()[0]["plis"] == requests
    lab.run(4)
    assert carol.received(alice).flawless
    assert lab.counters["pictures_from_cache"] >= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_late_joiner_to_an_old_picture_sees_a_new_one_that_is_asked_for_once(seed: int) -> None:
    lab = Lab(seed)
    alice = lab.join("alice", publish=[CAMERA])
    bob = lab.join("bob")
    lab.run(10 + lab.chance.random())
    before = [encoding["plis"] for encoding in alice.sent()]
    carol = lab.join("carol")
    lab.run(5)
    assert first_picture(carol, alice) <= PICTURE_ON_REQUEST
    asked = [encoding["plis"] - plis for encoding, plis in zip(alice.sent(), before, strict=True)]
    assert asked == [0, 0, 1], "only of the encoding that he is to see"
    assert carol.received(alice).flawless
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_joiners_within_a_second_cost_the_publisher_one_keyframe(seed: int) -> None:
    lab = Lab(seed)
    alice = lab.join("alice", publish=[SMALL])
    lab.join("bob")
    lab.run(10)
    before, keyframes = alice.sent()[0]["plis"], alice.sent()[0]["keyframes"]
    joiners = []
    for n in range(10):
        joiners.append(lab.join(f"joiner {n}"))
        lab.run(0.09 * lab.chance.random())
    lab.run(3)
    assert alice.sent()[0]["plis"] - before == 1
    assert alice.sent()[0]["keyframes"] - keyframes == 1
    for joiner in joiners:
        assert first_picture(joiner, alice) <= PICTURE_ON_REQUEST
        assert joiner.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_keyframe_requests_of_everyone_reach_the_publisher_once_a_second(seed: int) -> None:
    lab = Lab(seed)
    alice = lab.join("alice", publish=[SMALL])
    viewers = [lab.join(f"viewer {n}") for n in range(5)]
    lab.run(3)
    before = alice.sent()[0]["plis"]
    for _ in range(100):
        viewer = lab.chance.choice(viewers)
        viewer.peer.request_keyframe(viewer.ssrc_of(alice))
        lab.flush(viewer)
        lab.run(0.05)
    assert 4 <= alice.sent()[0]["plis"] - before <= 6, "the first at once, and one a second for five seconds"


@pytest.mark.parametrize("seed", SEEDS)
def test_who_joins_again_under_his_identity_is_seen_again_within_a_second(seed: int) -> None:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[CAMERA, VOICE]), lab.join("bob", publish=[SMALL])
    lab.run(5 + lab.chance.random())
    again = lab.join("alice", publish=[CAMERA, VOICE])
    lab.until(lambda: bob.received(again).frames and again.received(bob).frames, within=1.0)
    assert alice.left is not None
    assert alice.left.reason == models.DUPLICATE_IDENTITY
    assert alice.closed is not None
    lab.run(3)
    assert bob.received(again).flawless
    assert bob.received(again, "microphone").flawless
    assert set(bob.received(again).sources) == {again.numbers["camera"]}
    assert bob.people["alice"].sid == again.participant.sid  # type: ignore[union-attr]
    assert lab.tables == (2, 3, 3), "nothing is left of the first"


@pytest.mark.parametrize("seed", SEEDS)
def test_more_publications_than_sections_are_asked_for_and_placed(seed: int) -> None:
    lab = Lab(seed)
    people = [lab.join(f"person {n}", publish=[SMALL, VOICE]) for n in range(6)]
    watcher = lab.join("watcher")
    lab.run(4)
    for person in people:
        assert watcher.received(person).flawless
        assert watcher.received(person, "microphone").flawless
    assert watcher.sections == 13, "six of each kind, and the data channels"


@pytest.mark.parametrize("seed", SEEDS)
def test_joining_through_heavy_loss_takes_longer_and_succeeds(seed: int) -> None:
    lab = Lab(seed, link=Conditions(delay=DELAY, loss=0.3))
    alice, bob = lab.join("alice", publish=[SMALL]), lab.join("bob")
    lab.until(lambda: bob.received(alice).frames > 10, within=10)


@pytest.mark.parametrize("seed", SEEDS)
def test_chat_said_before_the_other_is_connected_is_kept_for_him(seed: int) -> None:
    lab = Lab(seed)
    alice = lab.join("alice")
    lab.run(1)
    bob = lab.join("bob")
    lab.run(2 * DELAY)  # he is in the room; his transport is not up
    assert bob.connected_at is None
    alice.say("xin chào")
    lab.run(1)
    ((_, packet),) = bob.data
    assert packet.user.payload == "xin chào".encode()
    assert packet.participant_identity == "alice"
