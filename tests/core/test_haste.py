"""People in a hurry, or of ill will: what one client changes over and over costs the others little, and nobody but him
pays for it. The last word always arrives."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from d4e_sfu.config import Config
from d4e_sfu.core import payloads
from d4e_sfu.core.participant import (
    MAX_RETIRED_SSRCS,
    PERMISSION_BURST,
    TOLD_BURST,
    TOLD_BYTES_PER_SECOND,
)
from d4e_sfu.drivers.signal import MAX_WAITING, MESSAGE_BURST
from tests.conftest import MintToken
from tests.core.house import House, Person
from tests.doubles import camera, microphone


def heard(person: Person, kind: str) -> int:
    """Bytes of what he was told of this kind since the last look."""
    return sum(message.ByteSize() for message in person.client.take(kind))


def test_a_flood_of_changes_reaches_others_as_few(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    an.ask(update_metadata=rtc.UpdateParticipantMetadata(metadata="x" * 8000))
    sid = an.publish(microphone())
    binh = house.join("binh")
    binh.client.take("update")
    for n in range(MESSAGE_BURST + 1):
        an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=n % 2 == 0), now=1.0)
    assert heard(binh, "update") <= TOLD_BURST
    assert 2 * TOLD_BURST <= MAX_WAITING, "two such people are borne by someone who reads nothing meanwhile"
    house.sfu.tick(now=1.5)
    (last,) = binh.client.take("update")
    assert last.participants[0].tracks[0].muted, "what holds is told, however many changes went before it"
    assert last.participants[0].version == an.participant.version
    house.sfu.tick(now=2.0)
    assert binh.client.take("update") == []


def test_a_change_that_was_put_off_is_told_to_oneself_too(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    for n in range(MESSAGE_BURST):
        an.ask(update_metadata=rtc.UpdateParticipantMetadata(metadata=f"{n}" + "x" * 8000), now=1.0)
    an.client.take("update")
    house.sfu.tick(now=1.5)
    (last,) = an.client.take("update")
    assert last.participants[0].metadata.startswith(f"{MESSAGE_BURST - 1}x")


def test_ordinary_changes_are_told_at_once(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    for n in range(100):
        binh.client.take("update")
        an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=n % 2 == 0), now=n / 10)
        (update,) = binh.client.take("update")
        assert update.participants[0].tracks[0].muted == (n % 2 == 0)


def test_a_publication_is_told_before_its_answer_however_hasty_its_publisher_was(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    binh = house.join("binh")
    an.participant.telling.take(now=0.0, amount=an.participant.telling._level)
    sid = an.publish(camera())
    assert binh.client.last("update").participants[0].tracks[0].sid == sid
    assert TOLD_BYTES_PER_SECOND < TOLD_BURST


def test_a_flood_of_permissions_reaches_others_as_few(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.publish(camera())
    sid = an.publish(microphone())
    for n in range(MESSAGE_BURST + 1):
        an.ask(subscription_permission=rtc.SubscriptionPermission(all_participants=n % 2 == 1), now=1.0)
    assert len(binh.client.take("subscription_permission_update")) <= 2 * PERMISSION_BURST
    house.sfu.tick(now=1.5)
    assert sid not in binh.participant.subscriptions, "the last permission holds"


def test_who_comes_and_goes_in_a_hurry_does_not_make_others_break_the_rule_for_offers(house: House) -> None:
    people = [house.join(f"publisher-{n}") for n in range(4)]
    binh = house.join("binh")
    asked = 0

    def satisfied(now: float) -> None:
        nonlocal asked
        for requirement in binh.client.take("media_sections_requirement"):
            asked += 1
            binh.description.add_receiving("video", requirement.num_videos)
            binh.offer(now=now)

    for turn in range(8):
        for person in people:
            person.publish(camera(f"camera-{turn}"))
            satisfied(0.0)
            person.description.unpublish(len(person.description.sections) - 1)
            person.offer()
    assert asked == 1, "they are all gone before he may be asked again"
    sid = people[0].publish(camera("last"))
    satisfied(0.0)
    for half in range(1, 10):
        house.sfu.tick(now=half / 2)
        satisfied(half / 2)
    assert binh.participant.subscriptions[sid].mid is not None, "what waited is asked for at a tick"
    assert binh.client.closed is None


def test_a_picture_that_was_unsubscribed_in_a_hurry_is_taken_away_in_the_end(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(camera())
    binh.offer()
    binh.participant.sections.ask(now=0.0)
    binh.participant.sections.helped()
    binh.client.take("media_sections_requirement")
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=False))
    assert binh.client.take("media_sections_requirement") == []
    house.sfu.tick(now=0.5)
    assert len(binh.client.take("media_sections_requirement")) == 1
    binh.offer(now=0.6)
    house.sfu.tick(now=5.0)
    assert binh.client.take("media_sections_requirement") == []


def test_subscribing_over_and_over_remembers_little(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sids = [an.publish(camera()), an.publish(microphone())]
    for _ in range(MAX_RETIRED_SSRCS):
        for subscribe in (False, True):
            binh.ask(subscription=rtc.UpdateSubscription(track_sids=sids, subscribe=subscribe))
    kept = binh.participant.subscriptions.values()
    used = {ssrc for each in kept for ssrc in (each.ssrc, each.rtx_ssrc, *each.spare)}
    assert len(used) == 8
    assert used <= binh.participant.ssrcs
    assert len(binh.participant.ssrcs) == MAX_RETIRED_SSRCS + len(used)


def test_publications_that_are_gone_are_forgotten_by_those_who_could_not_have_them(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.ask(subscription_permission=rtc.SubscriptionPermission())
    sid = an.publish(camera())
    assert binh.participant.forbidden == {sid}
    an.description.unpublish(7)
    an.offer()
    assert binh.participant.forbidden == set()


def test_whoever_comes_back_unseen_has_left_for_the_others(config: Config, mint: MintToken) -> None:
    role = config.roles["observer"].model_copy(update={"hidden": True})
    house = House(config.model_copy(update={"roles": {**config.roles, "inspector": role}}), mint)
    an, linh = house.join("an"), house.join("linh")
    an.client.responses.clear()
    house.join("linh", "inspector", video={"hidden": True})
    (update,) = an.client.take("update")
    (info,) = update.participants
    assert (info.sid, info.state) == (linh.sid, models.ParticipantInfo.State.DISCONNECTED)


def test_what_is_placed_is_not_worked_out_again_for_every_change_of_someone_else(
    unlimited: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    binh = unlimited.join("binh")
    for n in range(5):
        unlimited.join(f"publisher-{n}", now=float(n)).publish(camera(), now=float(n))
        for requirement in binh.client.take("media_sections_requirement"):
            binh.description.add_receiving("video", requirement.num_videos)
            binh.offer(now=float(n))

    def worked_out(*_: object) -> None:
        raise AssertionError("it was placed")

    monkeypatch.setattr(payloads, "subscribable", worked_out)
    assert len(binh.offer().mid_to_track_id) == 5
