"""Fresh tokens: when they come, what they say, and that they join."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, room, rtc

from d4e_sfu.config import Config, Key, Source
from d4e_sfu.core import tokens
from d4e_sfu.core.refresh import CHANGE_INTERVAL, INTERVAL, LIFE
from d4e_sfu.core.tokens import MAX_METADATA, MAX_TOKEN, Grants
from d4e_sfu.errors import ClientError
from tests.conftest import KEY, WALL
from tests.core.house import House, Person

OTHER = Key(id="other", default_role="patient").holding(b"another secret of thirty-two bytes, or more")


def fresh(person: Person, *, now: float = 0.0) -> list[Grants]:
    """What his new tokens grant, at that time."""
    return [
        tokens.verify(token, person.house.sfu._config, now=WALL + now) for token in person.client.take("refresh_token")
    ]


def test_it_comes_after_the_join_and_every_five_minutes(house: House) -> None:
    an = house.join("an")
    assert an.client.kinds()[0] == "join"
    assert len(fresh(an)) == 1
    an.connect()
    seen = []
    for now in range(1, 1000):
        house.sfu.tick(now=float(now))
        seen += [now] * len(an.client.take("refresh_token"))
    assert seen == [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


@pytest.mark.parametrize("ttl", [60.0, 6 * 3600.0])
def test_it_lives_ten_minutes_or_as_long_as_the_original(house: House, ttl: float) -> None:
    an = house.join("an", ttl=ttl)
    an.connect()
    (first,) = fresh(an)
    assert first.expires == WALL + max(LIFE, ttl)
    for now in (INTERVAL, 2 * INTERVAL):
        house.sfu.tick(now=now)
        (later,) = fresh(an, now=now)
        assert later.expires == WALL + max(now + LIFE, ttl)


def test_it_says_all_that_the_original_said(house: House) -> None:
    said: dict[str, Any] = {
        "name": "Dr Lan",
        "metadata": '{"ward": 7}\n',
        "attributes": {"language": "vi", "sở": "Y tế"},
        "kind": "agent",
        "video": {"roomAdmin": True, "canUpdateOwnMetadata": True, "canPublishSources": ["microphone"]},
    }
    for role in ("health-worker", None):
        an = house.join("an", role, **said)
        original = an.participant.grants
        (grants,) = fresh(an)
        times = {"not_before": 0, "expires": 0}
        assert {**_fields(grants), **times} == {**_fields(original), **times}
        assert grants.role == role, "kept, or none as before"


def _fields(grants: Grants) -> dict[str, object]:
    return {name: getattr(grants, name) for name in grants.__slots__}


def test_it_joins_when_the_original_has_expired(house: House) -> None:
    an = house.join("an", ttl=60.0)
    an.connect()
    house.sfu.tick(now=INTERVAL)
    token = an.client.last("refresh_token")
    now = INTERVAL + LIFE - 1
    grants = house.sfu.verify(token, wall=WALL + now)
    house.sfu.admit(grants, rtc.JoinRequest(), wall=WALL + now)


def test_a_change_of_what_it_says_brings_a_new_one(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    fresh(an)
    changes = [
        {"name": "Lan"},
        {"metadata": "m"},
        {"attributes": {"k": "v"}},
        {"attributes": {"k": ""}},
    ]
    now = 10.0
    for change in changes:
        now += 2 * CHANGE_INTERVAL
        an.ask(update_metadata=rtc.UpdateParticipantMetadata(**change), now=now)  # type: ignore[arg-type]
        house.sfu.tick(now=now)
        (grants,) = fresh(an, now=now)
        assert (grants.name, grants.metadata, grants.attributes) == (
            an.participant.name,
            an.participant.metadata,
            an.participant.attributes,
        )
        house.sfu.tick(now=now + CHANGE_INTERVAL)
        assert fresh(an) == []
    assert grants.attributes == {}
    assert (grants.name, grants.metadata) == ("Lan", "m")


def test_many_changes_bring_few(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    fresh(an)
    for n in range(100):
        an.ask(update_metadata=rtc.UpdateParticipantMetadata(metadata=f"{n}"), now=10 + n / 50)
        house.sfu.tick(now=10 + n / 50)
    house.sfu.tick(now=20.0)
    told = fresh(an, now=20.0)
    assert len(told) <= 4
    assert told[-1].metadata == "99"


def test_rights_that_a_moderator_takes_and_gives_are_in_it(house: House) -> None:
    an = house.join("an")
    fresh(an)
    moderator = house.sfu.verify(house.mint("chair", "moderator", video={"roomAdmin": True}), wall=WALL)
    permission = models.ParticipantPermission(can_subscribe=True, can_publish=True)
    permission.can_publish_sources.append(models.TrackSource.MICROPHONE)
    request = room.UpdateParticipantRequest(room="ward", identity="an", permission=permission)
    house.sfu.moderate(moderator, request, wall=WALL, now=5.0)
    house.sfu.tick(now=6.0)
    (grants,) = fresh(an, now=6.0)
    assert grants.publish == {Source.MICROPHONE}
    assert (grants.data, grants.subscribe) == (False, True)


@pytest.mark.parametrize("clock", [0.0, -3600.0], ids=["steady", "set back"])
def test_whoever_is_removed_does_not_come_back_with_it(house: House, clock: float) -> None:
    """Nor where our clock has been set back between the token and the removal, which then seems to be the earlier."""
    an = house.join("an", ttl=60.0)
    an.connect()
    house.sfu.tick(now=INTERVAL)
    token = an.client.last("refresh_token")
    moderator = house.sfu.verify(house.mint("chair", "moderator", video={"roomAdmin": True}), wall=WALL)
    request = room.RoomParticipantIdentity(room="ward", identity="an")
    house.sfu.moderate(moderator, request, wall=WALL + INTERVAL + 1 + clock, now=INTERVAL + 1)
    wall = WALL + INTERVAL + LIFE - 1
    with pytest.raises(ClientError) as refused:
        house.sfu.admit(house.sfu.verify(token, wall=wall), rtc.JoinRequest(), wall=wall)
    assert refused.value.rule == "removed"


def test_it_is_signed_with_the_key_of_the_original_and_not_after_that_is_gone(config: Config) -> None:
    def mint(identity: str, role: str | None, *, room: str, **more: Any) -> str:
        return tokens.mint(OTHER, identity=identity, room=room, role=role, now=WALL, **more)

    both = config.model_copy(update={"keys": (KEY, OTHER)})
    house = House(both, mint)
    an = house.join("an")
    (grants,) = fresh(an)
    assert grants.key == OTHER.id
    an.connect()
    house.sfu.reconfigure(config, now=300.0)
    house.sfu.tick(now=INTERVAL)
    assert fresh(an) == []


def test_one_that_would_be_too_long_to_join_leaves_out_what_makes_it_so(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    fresh(an)
    metadata = "ă" * (MAX_METADATA // 2)
    an.ask(update_metadata=rtc.UpdateParticipantMetadata(metadata=metadata, attributes={"k": metadata[9:]}), now=9.0)
    assert an.participant.metadata == metadata
    house.sfu.tick(now=10.0)
    token = an.client.last("refresh_token")
    assert len(token) <= MAX_TOKEN
    grants = house.sfu.verify(token, wall=WALL + 10)
    assert (grants.identity, grants.metadata) == ("an", "")


def test_nobody_without_signalling_is_sent_one(house: House) -> None:
    an = house.join("an")
    an.connect()
    fresh(an)
    house.sfu.client_lost(an.participant, an.client, now=1.0)
    an.participant.metadata = "changed"
    house.sfu.tick(now=5.0)
    assert an.client.take("refresh_token") == []
