"""Every video codec and layer structure in virtual time: encodings beside each other, layers inside one, and both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from livekit.protocol import models

from d4e_sfu._engine import Command
from tests.lab.network import Conditions
from tests.lab.virtual import Camera, Lab, Person
from tests.sim.scene import FPS, GOOD, LOSSY

LOW, MEDIUM, HIGH = models.LOW, models.MEDIUM, models.HIGH
SEED = 1


def simulcast(codec: str, **more: Any) -> Camera:
    return Camera(codec, (60_000, 150_000, 400_000), {"fps": FPS, "temporal_layers": 3, **more})


def scalable(codec: str, spatial: int, temporal: int, **more: Any) -> Camera:
    return Camera(codec, (600_000,), {"fps": FPS, "spatial_layers": spatial, "temporal_layers": temporal, **more})


SIMULCAST = {f"{codec} simulcast": simulcast(codec) for codec in ("vp8", "h264", "vp9", "av1")}
SVC = {
    "vp9 L3T3": scalable("vp9", 3, 3),
    "av1 L3T3": scalable("av1", 3, 3),
    "av1 L2T2": scalable("av1", 2, 2),
    "vp9 L3T3 by its own descriptor": scalable("vp9", 3, 3, dependency_descriptor=False),
}
K_SVC = {
    "vp9 L3T3_KEY": scalable("vp9", 3, 3, k_svc=True),
    "av1 L3T3_KEY": scalable("av1", 3, 3, k_svc=True),
    "vp9 L3T3_KEY by its own descriptor": scalable("vp9", 3, 3, k_svc=True, dependency_descriptor=False),
}
EVERY = {**SIMULCAST, **SVC, **K_SVC}


def cameras(named: dict[str, Camera]) -> Any:
    return pytest.mark.parametrize("camera", [pytest.param(camera, id=name) for name, camera in named.items()])


def in_a_call(camera: Camera, seed: int = SEED) -> tuple[Lab, Person, Person]:
    lab = Lab(seed)
    alice, bob = lab.join("alice", publish=[camera]), lab.join("bob")
    lab.until(partial(sees, bob, alice, top(camera)), within=3)
    lab.run(1)
    return lab, alice, bob


def top(camera: Camera) -> int:
    return len(camera.encodings) - 1 or int(camera.more.get("spatial_layers", 1)) - 1


def size(viewer: Person, of: Person) -> int | None:
    """The spatial layer that he sees: the encoding, or the layer in the only one."""
    got = viewer.received(of)
    return None if got.encoding is None else got.encoding + (got.spatial or 0)


def sees(viewer: Person, of: Person, spatial: int) -> bool:
    return size(viewer, of) == spatial


def limit(lab: Lab, viewer: Person, of: Person, *, temporal: int, spatial: int = 2) -> None:
    """What his link allows; nothing in the signalling asks for temporal layers."""
    assert viewer.participant is not None
    subscription = viewer.participant.subscriptions[of.sids["camera"]]
    lab.submit([Command.SetLayer(subscription.id, spatial, temporal)])


@cameras(EVERY)
def test_each_size_is_reached_in_turn_without_a_seam(camera: Camera) -> None:
    lab, alice, bob = in_a_call(camera)
    for quality in (LOW, MEDIUM, HIGH, LOW, HIGH):
        bob.watch(alice, quality=quality)
        lab.until(partial(sees, bob, alice, min(quality, top(camera))), within=2.5)
        lab.run(0.5)
    got = bob.received(alice)
    assert got.flawless, got
    assert got.lost == got.nacked == 0


@cameras(EVERY)
def test_sizes_change_under_loss_without_a_seam(camera: Camera) -> None:
    switches(camera, seed=SEED, times=12, link=LOSSY)


@pytest.mark.long
@cameras(EVERY)
def test_a_thousand_switches_under_loss_leave_no_seam(camera: Camera) -> None:
    switches(camera, seed=SEED + 1, times=1_000, link=LOSSY)


def switches(camera: Camera, *, seed: int, times: int, link: Conditions) -> None:
    lab, alice, bob = in_a_call(camera, seed)
    for person in (alice, bob):
        lab.link(person, up=link, down=link)
    before = bob.received(alice).switches
    wanted = top(camera)
    for _ in range(times):
        wanted = lab.chance.choice([each for each in range(top(camera) + 1) if each != wanted])
        bob.watch(alice, quality=wanted)
        lab.until(partial(sees, bob, alice, wanted), within=5)
        lab.run(lab.chance.random() * 0.5)
    got = bob.received(alice)
    assert got.switches - before >= times
    # Repairs bring back all that is lost: what cannot be decoded would be our doing.
    assert (got.undecodable, got.corrupt, got.broken) == (0, 0, 0), got
    assert got.seam_total == 0, got.seams


@cameras({**SIMULCAST, **SVC, **K_SVC})
def test_temporal_layers_are_taken_away_and_given_back(camera: Camera) -> None:
    if camera.codec == "h264":
        assert camera.more["temporal_layers"] == 3, "by the dependency descriptor, for H.264 has no other way"
    layers = int(camera.more["temporal_layers"])
    lab, alice, bob = in_a_call(camera)
    keyframes = [encoding["keyframes"] for encoding in alice.sent()]
    for temporal in (0, 1, 2, 0, 2):
        limit(lab, bob, alice, temporal=temporal)
        lab.run(1)
        before = bob.received(alice)
        lab.run(2)
        got = bob.received(alice)
        new = [b - a for a, b in zip(before.temporal, got.temporal, strict=True)]
        assert all(new[: min(temporal, layers - 1) + 1]), (temporal, new)
        assert not any(new[temporal + 1 :]), (temporal, new)
    got = bob.received(alice)
    assert (got.undecodable, got.corrupt, got.broken, got.seam_total) == (0, 0, 0, 0), got
    assert [encoding["keyframes"] for encoding in alice.sent()] == keyframes, "no keyframe was needed"


@cameras(SVC)
def test_svc_goes_down_without_a_keyframe_and_up_with_one(camera: Camera) -> None:
    lab, alice, bob = in_a_call(camera)
    (before,) = alice.sent()
    bob.watch(alice, quality=LOW)
    took = lab.until(partial(sees, bob, alice, 0), within=1)
    assert took < 0.3, "the next picture, not the next keyframe"
    lab.run(2)
    (after,) = alice.sent()
    assert (after["keyframes"], after["plis"]) == (before["keyframes"], before["plis"])
    bob.watch(alice, quality=HIGH)
    lab.until(partial(sees, bob, alice, top(camera)), within=2)
    (last,) = alice.sent()
    assert last["plis"] == after["plis"] + 1
    assert bob.received(alice).flawless


@cameras(K_SVC)
def test_k_svc_changes_size_at_a_keyframe_and_sends_nothing_that_is_not_needed(camera: Camera) -> None:
    lab, alice, bob = in_a_call(camera)
    bob.watch(alice, quality=MEDIUM)
    lab.until(partial(sees, bob, alice, 1), within=2)
    (before,), packets = alice.sent(), bob.received(alice).packets
    lab.run(4)
    (after,), got = alice.sent(), bob.received(alice)
    assert after["keyframes"] == before["keyframes"], "asked for once"
    # The middle one of three layers, each twice the size of the one below, is two sevenths.
    assert got.packets - packets < (after["packets"] - before["packets"]) * 0.6
    assert got.flawless


def test_two_viewers_of_one_stream_have_each_his_own_layer() -> None:
    lab, alice, bob = in_a_call(K_SVC["av1 L3T3_KEY"])
    carol = lab.join("carol")
    lab.run(1)
    carol.watch(alice, quality=LOW)
    lab.until(partial(sees, carol, alice, 0), within=2)
    lab.run(2)
    assert size(bob, alice) == 2
    assert bob.received(alice).flawless
    assert carol.received(alice).flawless


def test_numbers_wrap_in_every_codec() -> None:
    start = {"sequence": 65_500, "timestamp": 2**32 - 90_000, "picture_id": 0x7FF0, "tl0_pic_idx": 250}
    for camera in EVERY.values():
        lab = Lab(SEED, link=replace(GOOD))
        alice, bob = lab.join("alice", publish=[camera], start=start), lab.join("bob")
        lab.run(5)
        assert bob.received(alice).flawless, camera
