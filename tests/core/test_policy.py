"""Policy: a right is grant AND role, the role comes from a fixed order of places, and nothing else decides."""

from __future__ import annotations

import dataclasses
import itertools
from types import MappingProxyType
from typing import Any

import pytest
from livekit.protocol import models

from d4e_sfu import config as configuration
from d4e_sfu.config import CodecName, Config, Source
from d4e_sfu.core import policy
from d4e_sfu.core.tokens import NOT_ACCEPTED, Grants
from d4e_sfu.errors import Forbidden, RoomNotFound, Unauthorized

KEYS = "keys: [{id: province, secret_env: S, default_role: patient}, {id: portal, secret_env: S}]\n"


def config(text: str = "") -> Config:
    return configuration.parse(KEYS + text, environ={"S": "x" * 32})


ALL = Grants(
    key="province",
    identity="lan",
    name="Lan",
    metadata="",
    attributes=MappingProxyType({}),
    kind="standard",
    role="doctor",
    not_before=0,
    expires=0,
    room="clinic",
    room_join=True,
    room_admin=True,
    publish=frozenset(Source),
    subscribe=True,
    data=True,
    update_own_metadata=True,
    hidden=True,
)
EVERYTHING = "{publish: [camera, microphone, screen_share, screen_share_audio], data: true, moderate: true, "
EVERYTHING += "hidden: true, update_own_metadata: true}"
NOTHING = "{subscribe: false}"
FLAGS = {
    "subscribe": "subscribe",
    "data": "data",
    "room_admin": "moderate",
    "hidden": "hidden",
    "update_own_metadata": "update_own_metadata",
}


@pytest.mark.parametrize(("granted", "role_has"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("grant", "right"), list(FLAGS.items()))
def test_a_right_is_grant_and_role(grant: str, right: str, granted: bool, role_has: bool) -> None:
    roles = config(f"roles: {{doctor: {EVERYTHING if role_has else NOTHING}, patient: {{}}}}")
    changed: dict[str, Any] = {grant: granted}
    grants = dataclasses.replace(ALL, **changed)
    assert getattr(policy.rights(roles, grants), right) is (granted and role_has)


@pytest.mark.parametrize("granted", [frozenset(Source), frozenset({Source.SCREEN_SHARE, Source.CAMERA}), frozenset()])
def test_sources_are_those_that_both_allow(granted: frozenset[Source]) -> None:
    grants = dataclasses.replace(ALL, role="patient", publish=granted)
    assert policy.rights(config(), grants).publish == granted & {Source.CAMERA, Source.MICROPHONE}


@pytest.mark.parametrize(
    ("token", "room", "key", "expected"),
    [
        ("doctor", "observer", "province", "doctor"),
        (None, "observer", "province", "observer"),
        (None, None, "province", "patient"),
        ("doctor", None, "portal", "doctor"),
    ],
)
def test_the_role_is_the_tokens_else_the_rooms_else_the_keys(
    token: str | None, room: str | None, key: str, expected: str
) -> None:
    rooms = config(f"rooms: [{{name: clinic, default_role: {room or 'null'}}}]")
    assert policy.rights(rooms, dataclasses.replace(ALL, role=token, key=key)).role == expected


def test_without_any_role_nobody_joins() -> None:
    with pytest.raises(Unauthorized) as refusal:
        policy.rights(config(), dataclasses.replace(ALL, role=None, key="portal"))
    assert refusal.value.rule == "no_role"


def test_an_unknown_role_is_named_in_the_log_and_not_to_the_client() -> None:
    with pytest.raises(Unauthorized) as refusal:
        policy.rights(config(), dataclasses.replace(ALL, role="surgeon"))
    assert (refusal.value.rule, refusal.value.detail) == ("unknown_role", "role 'surgeon'")
    assert str(refusal.value) == NOT_ACCEPTED


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"room_join": False}, "no_room_join"),
        ({"room": ""}, "no_room_join"),
        ({"identity": ""}, "identity"),
        ({"key": "gone"}, "unknown_key"),
    ],
)
def test_a_token_that_is_not_for_joining_does_not_join(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        policy.rights(config(), dataclasses.replace(ALL, **changed))
    assert refusal.value.rule == rule
    assert refusal.value.status == 401


SERVERS: dict[str, Any] = {"identity": "", "role": None, "room_join": False}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"role": "moderator"}, None),
        ({"role": "doctor"}, "not_moderator"),
        ({"role": "moderator", "room_admin": False}, "not_room_admin"),
        ({"role": "moderator", "room": "other"}, "not_room_admin"),
        ({"role": "moderator", "room": ""}, "not_room_admin"),
        # Nobody's: a key's own. A role that it names counts all the same, and what it lacks is not made up for.
        (SERVERS, None),
        ({**SERVERS, "role": "moderator"}, None),
        ({**SERVERS, "role": "doctor"}, "not_moderator"),
        ({**SERVERS, "role": "surgeon"}, "not_moderator"),
        ({**SERVERS, "room_admin": False}, "not_room_admin"),
        ({**SERVERS, "room": "other"}, "not_room_admin"),
        # It could join: then it acts with the role with which it would.
        ({"role": None}, "not_moderator"),
        ({"role": None, "identity": "portal"}, "not_moderator"),
    ],
)
def test_a_moderator_has_the_grant_for_the_room_and_the_role(changed: dict[str, Any], rule: str | None) -> None:
    grants = dataclasses.replace(ALL, **changed)
    if rule is None:
        policy.check_moderator(config(), grants, "clinic")
        return
    with pytest.raises(Forbidden) as refusal:
        policy.check_moderator(config(), grants, "clinic")
    assert (refusal.value.rule, refusal.value.status) == (rule, 403)


def test_where_no_role_moderates_no_key_does() -> None:
    with pytest.raises(Forbidden):
        policy.check_moderator(
            config("roles: {doctor: {data: true}, patient: {}}"), dataclasses.replace(ALL, **SERVERS), "clinic"
        )
    with pytest.raises(RoomNotFound):
        policy.check_moderator(config("rooms: [{name: 'khoa-*'}]"), dataclasses.replace(ALL, **SERVERS), "clinic")


@pytest.mark.parametrize(
    ("permission", "publish"),
    [
        ({"can_publish": True}, frozenset(Source)),
        ({"can_publish": False, "can_publish_sources": [models.TrackSource.CAMERA]}, frozenset()),
        ({"can_publish": True, "can_publish_sources": [models.TrackSource.CAMERA]}, frozenset({Source.CAMERA})),
        ({"can_publish": True, "can_publish_sources": [models.TrackSource.UNKNOWN]}, frozenset()),
    ],
)
def test_a_permission_reads_like_a_tokens_grant(permission: dict[str, Any], publish: frozenset[Source]) -> None:
    grants = policy.permitted(ALL, models.ParticipantPermission(**permission))
    assert grants.publish == publish
    assert not any((grants.subscribe, grants.data, grants.hidden, grants.update_own_metadata))
    assert (grants.role, grants.room_admin) == (ALL.role, ALL.room_admin)


def test_what_a_participant_says_of_himself_decides_nothing() -> None:
    boast = dataclasses.replace(
        ALL,
        role="observer",
        name="moderator",
        identity="moderator",
        kind="agent",
        metadata='{"role": "moderator", "canPublish": true}',
        attributes=MappingProxyType({"role": "moderator"}),
    )
    assert policy.rights(config(), boast) == policy.rights(config(), dataclasses.replace(ALL, role="observer"))


def test_a_room_without_a_rule_does_not_exist() -> None:
    rooms = config("rooms: [{name: 'khoa-*'}]")
    for refused in (lambda: policy.room_policy(rooms, "clinic"), lambda: policy.rights(rooms, ALL)):
        with pytest.raises(RoomNotFound, match="requested room does not exist") as refusal:
            refused()
        assert refusal.value.status == 404


def test_a_rooms_policy_is_that_of_the_first_rule() -> None:
    rooms = config(
        "rooms:\n"
        "  - {name: 'khoa-*', capacity: 3, codecs: [h264], idle_timeout: 10s, max_bitrate: {camera: 1M}}\n"
        "  - {name: '*', default_role: observer}\n"
    )
    narrow = policy.room_policy(rooms, "khoa-nhi")
    assert (narrow.capacity, narrow.codecs, narrow.idle_timeout) == (3, (CodecName.H264,), 10)
    assert narrow.max_bitrate == {
        Source.CAMERA: 1_000_000,
        Source.MICROPHONE: 192_000,
        Source.SCREEN_SHARE: 4_000_000,
        Source.SCREEN_SHARE_AUDIO: 256_000,
    }
    assert policy.room_policy(rooms, "phong").default_role == "observer"


@pytest.mark.parametrize(
    ("sent", "audio", "source"),
    [
        (models.TrackSource.UNKNOWN, True, Source.MICROPHONE),
        (models.TrackSource.UNKNOWN, False, Source.CAMERA),
        (models.TrackSource.CAMERA, False, Source.CAMERA),
        (models.TrackSource.MICROPHONE, True, Source.MICROPHONE),
        (models.TrackSource.SCREEN_SHARE, False, Source.SCREEN_SHARE),
        (models.TrackSource.SCREEN_SHARE_AUDIO, True, Source.SCREEN_SHARE_AUDIO),
        (models.TrackSource.CAMERA, True, None),
        (models.TrackSource.MICROPHONE, False, None),
        (models.TrackSource.SCREEN_SHARE, True, None),
        (models.TrackSource.SCREEN_SHARE_AUDIO, False, None),
        (99, False, None),
    ],
)
def test_a_source_fits_its_kind(sent: int, audio: bool, source: Source | None) -> None:
    assert policy.source_of(sent, audio=audio) is source
