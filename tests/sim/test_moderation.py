"""What a moderator takes away ends in the engine within 100 ms, in virtual time, against a client that goes on sending;
what he gives back works without a new join."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, room

from d4e_sfu.config import Config, RoomRule
from d4e_sfu.core import moderation, tokens
from tests.conftest import KEY, WALL
from tests.lab.virtual import Lab, Person
from tests.sim.scene import DELAY, FPS, SEEDS, SMALL, VOICE

ENFORCED = 0.1  # s, from the moderator's call to the last packet that leaves the engine
RIGHTS: dict[str, Any] = {"can_subscribe": True, "can_publish": True, "can_publish_data": True}


def in_a_call(seed: int) -> tuple[Lab, Person, Person]:
    """Alice publishes, Bob looks on; a moderator who is not in the room may even unmute."""
    config = Config(keys=(KEY,), rooms=(RoomRule(name="*", remote_unmute=True),))
    lab = Lab(seed, config=config)
    alice, bob = lab.join("alice", publish=[SMALL, VOICE]), lab.join("bob")
    lab.run(3)
    assert bob.received(alice).flawless
    assert bob.received(alice, "microphone").flawless
    return lab, alice, bob


def moderate(lab: Lab, request: moderation.Request) -> None:
    token = tokens.mint(KEY, identity="mai", room="ward", role="moderator", now=WALL, video={"roomAdmin": True})
    lab.sfu.moderate(lab.sfu.verify(token, wall=WALL), request, wall=WALL, now=lab.now)


def permit(lab: Lab, person: Person, **permission: Any) -> None:
    permitted = models.ParticipantPermission(**{**RIGHTS, **permission})
    moderate(lab, room.UpdateParticipantRequest(room="ward", identity=person.identity, permission=permitted))


def mute(lab: Lab, person: Person, name: str, *, muted: bool = True) -> None:
    sid = person.sids[name]
    moderate(lab, room.MuteRoomTrackRequest(room="ward", identity=person.identity, track_sid=sid, muted=muted))


def sent(lab: Lab, *kinds: str) -> int:
    """Packets of these kinds that have left the engine."""
    return sum(lab.counters[f"packets_sent_{kind}"] for kind in kinds)


def ended(lab: Lab, *kinds: str, still: str = "") -> None:
    """Nothing of these kinds leaves any more after 100 ms, though it comes in; of `still` it does."""
    lab.run(ENFORCED)
    before, others = sent(lab, *kinds), sent(lab, still) if still else 0
    arrived = lab.counters["packets_received_audio"], lab.counters["packets_received_video"]
    lab.run(2)
    assert sent(lab, *kinds) == before
    assert not still or sent(lab, still) > others + FPS
    drops = sum(lab.drops.values())
    came = lab.counters["packets_received_audio"] + lab.counters["packets_received_video"] + drops
    assert came > sum(arrived) + FPS, "he goes on sending"


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_muted_is_not_heard_though_his_client_goes_on(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    heard = bob.received(alice, "microphone").packets
    mute(lab, alice, "microphone")
    ended(lab, "audio", still="video")
    assert bob.received(alice, "microphone").packets <= heard + 50 * (ENFORCED + 2 * DELAY)
    assert [m.mute.muted for _, m in alice.told if m.WhichOneof("message") == "mute"] == [True]
    assert bob.tracks_of(alice)[alice.sids["microphone"]].muted
    mute(lab, alice, "microphone", muted=False)
    lab.run(2)
    got = bob.received(alice, "microphone")
    assert got.packets >= heard + 1.8 * 50
    assert got.seam_total == got.undecodable == 0
    assert bob.received(alice).flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_muted_may_unmute_himself(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    mute(lab, alice, "microphone")
    lab.run(1)
    heard = bob.received(alice, "microphone").packets
    alice.mute("microphone", muted=False)
    lab.run(1)
    assert bob.received(alice, "microphone").packets >= heard + 40


@pytest.mark.parametrize("seed", SEEDS)
def test_what_may_not_be_published_any_more_ends_though_his_client_goes_on(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    permit(lab, alice, can_publish_sources=[models.TrackSource.MICROPHONE])
    ended(lab, "video", still="audio")
    assert lab.tables == (2, 1, 1)
    assert set(bob.tracks_of(alice)) == {alice.sids["microphone"]}
    permit(lab, alice, can_publish=False)
    ended(lab, "video", "audio")
    assert lab.drops["not_permitted"] > FPS
    assert bob.tracks_of(alice) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_given_back_works_without_a_new_join(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    transport = alice.participant and alice.participant.transport
    permit(lab, alice, can_publish=False)
    lab.run(1)
    for name in ("camera", "microphone"):
        alice.unpublish(name)
    lab.run(1)
    permit(lab, alice)
    alice.publish(SMALL)
    alice.publish(VOICE)
    lab.run(3)
    assert alice.participant is not None
    assert alice.participant.transport == transport
    assert bob.received(alice).flawless
    assert bob.received(alice, "microphone").flawless
    assert lab.tables == (2, 2, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_may_not_subscribe_any_more_receives_nothing_until_he_may_again(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    permit(lab, bob, can_subscribe=False)
    ended(lab, "video", "audio")
    assert lab.tables == (2, 2, 0)
    permit(lab, bob)
    lab.until(lambda: bob.section_of(alice) and bob.section_of(alice, "microphone"), within=3)
    lab.run(2)
    assert bob.received(alice).flawless
    assert bob.received(alice, "microphone").flawless


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_removed_neither_sends_nor_receives(seed: int) -> None:
    lab, alice, bob = in_a_call(seed)
    moderate(lab, room.RoomParticipantIdentity(room="ward", identity="alice"))
    ended(lab, "video", "audio")
    assert lab.tables == (1, 0, 0)
    assert alice.left is not None
    assert alice.left.reason == models.DisconnectReason.PARTICIPANT_REMOVED
    assert "alice" not in bob.people
