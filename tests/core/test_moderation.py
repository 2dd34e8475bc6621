"""What a moderator does to others: it holds in the engine at once, all are told, and no role is exceeded."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, cast

import pytest
from livekit.protocol import models, room, rtc

from d4e_sfu._engine import Command
from d4e_sfu.config import Config, RoomRule
from d4e_sfu.core import moderation
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.participant import State
from d4e_sfu.errors import Forbidden, NotFound, NotNow, TooLarge
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person, join_request
from tests.doubles import camera, microphone

Source = models.TrackSource
ALL_RIGHTS: dict[str, Any] = {"can_subscribe": True, "can_publish": True, "can_publish_data": True}
ADMIN = {"roomAdmin": True}


def moderate(house: House, request: moderation.Request, *, by: str = "mai", now: float = 0.0) -> moderation.Response:
    token = house.mint(by, "moderator", video=ADMIN)
    return house.sfu.moderate(house.sfu.verify(token, wall=WALL), request, wall=WALL, now=now)


def permit(house: House, person: Person, **permission: Any) -> models.ParticipantInfo:
    request = room.UpdateParticipantRequest(
        room="ward",
        identity=person.participant.identity,
        permission=models.ParticipantPermission(**{**ALL_RIGHTS, **permission}),
    )
    return cast(models.ParticipantInfo, moderate(house, request))


def mute(person: Person, sid: str, *, muted: bool = True) -> room.MuteRoomTrackRequest:
    return room.MuteRoomTrackRequest(room="ward", identity=person.participant.identity, track_sid=sid, muted=muted)


def remove(person: Person) -> room.RoomParticipantIdentity:
    return room.RoomParticipantIdentity(room="ward", identity=person.participant.identity)


def satisfy(person: Person) -> None:
    for requirement in person.client.take("media_sections_requirement"):
        person.description.add_receiving("audio", requirement.num_audios)
        person.description.add_receiving("video", requirement.num_videos)
        person.offer()


def seen(viewer: Person, of: Person) -> models.ParticipantInfo:
    """The latest that the viewer was told of him."""
    infos: list[models.ParticipantInfo]
    infos = [info for update in viewer.client.take("update") for info in update.participants if info.sid == of.sid]
    assert infos, "nothing was told"
    return infos[-1]


# --- mute ------------------------------------------------------------------------------------------------------------


def test_a_moderators_mute_stops_the_forwarding_and_is_told_to_all(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    satisfy(binh)
    house.engine.commands.clear()
    version = an.participant.version
    response = moderate(house, mute(an, sid))
    assert house.engine.commands == [Command.SetLayer(binh.participant.subscriptions[sid].id, None, 255)]
    assert isinstance(response, room.MuteRoomTrackResponse)
    assert (response.track.sid, response.track.muted) == (sid, True)
    told = an.client.last("mute")
    assert (told.sid, told.muted) == (sid, True)
    for viewer in (an, binh):
        info = seen(viewer, an)
        assert [track.muted for track in info.tracks] == [True]
        assert info.version > version
    assert house.announcer.heard[-1] == (
        "moderated",
        {**an.participant.who, "action": "mute", "by": "key:test", "by_identity": "mai"},
    )
    moderate(house, mute(an, sid))
    assert an.client.take("mute") == [], "it is so already"


def test_people_unmute_themselves_and_others_only_where_the_room_says_so(config: Config, mint: MintToken) -> None:
    for allowed in (False, True):
        rule = RoomRule(name="*", remote_unmute=allowed)
        house = House(config.model_copy(update={"rooms": (rule,)}), mint)
        an = house.join("an")
        sid = an.publish(microphone())
        moderate(house, mute(an, sid))
        if allowed:
            moderate(house, mute(an, sid, muted=False))
            assert [told.muted for told in an.client.take("mute")] == [True, False]
        else:
            with pytest.raises(NotNow) as refused:
                moderate(house, mute(an, sid, muted=False))
            assert (refused.value.status, refused.value.rule) == (412, "remote_unmute")
        assert an.participant.publications[sid].info.muted is not allowed


# --- rights ----------------------------------------------------------------------------------------------------------


def test_a_source_that_is_taken_away_ends_in_the_engine_and_comes_back_without_a_new_join(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    voice, picture = an.publish(microphone()), an.publish(camera())
    satisfy(binh)
    house.engine.commands.clear()
    an.client.responses.clear()
    removed = an.participant.publications[picture].id
    ended = binh.participant.subscriptions[picture].id

    info = permit(house, an, can_publish_sources=[Source.MICROPHONE])
    assert house.engine.commands == [Command.RemoveSubscription(ended), Command.RemovePublication(removed)]
    assert [told.track_sid for told in an.client.take("track_unpublished")] == [picture]
    assert list(info.permission.can_publish_sources) == [Source.MICROPHONE]
    for viewer in (an, binh):
        told = seen(viewer, an)
        assert [track.sid for track in told.tracks] == [voice]
        assert list(told.permission.can_publish_sources) == [Source.MICROPHONE]

    an.ask(add_track=camera("again"))
    assert an.client.last("request_response").reason == 2  # NOT_ALLOWED

    an.description.unpublish(len(an.description.sections) - 1)
    an.offer()
    permit(house, an)
    again = an.publish(camera("again"))
    satisfy(binh)
    assert [track.sid for track in seen(binh, an).tracks] == [voice, again]
    assert again in binh.participant.subscriptions


def test_who_goes_on_offering_what_was_taken_from_him_publishes_nothing(house: House) -> None:
    an = house.join("an")
    an.publish(camera())
    permit(house, an, can_publish=False)
    house.engine.commands.clear()
    answer = an.offer().sdp  # the section is still there, and still sends
    assert answer.rindex("a=inactive") > answer.rindex("m=video")
    assert house.engine.take(Command.AddPublication) == []
    permit(house, an)
    an.ask(add_track=camera("again"))
    assert "a=recvonly" in an.offer().sdp, "allowed again, the same section carries it"
    assert len(house.engine.take(Command.AddPublication)) == 1


def test_a_promise_is_withdrawn_with_the_right(house: House) -> None:
    an = house.join("an")
    an.ask(add_track=camera())
    sid = an.client.last("track_published").track.sid
    permit(house, an, can_publish=False)
    assert [told.track_sid for told in an.client.take("track_unpublished")] == [sid]
    assert an.participant.publications == {}


def test_the_engine_is_told_who_may_send_at_all(house: House) -> None:
    an = house.join("an")
    house.engine.commands.clear()
    permit(house, an, can_publish=False)
    permit(house, an, can_publish=False)
    permit(house, an)
    transport = an.participant.transport
    assert transport is not None
    assert house.engine.take(Command.SetMayPublish) == [
        Command.SetMayPublish(transport, False),
        Command.SetMayPublish(transport, True),
    ]


def test_who_may_not_subscribe_any_more_receives_nothing_until_he_may_again(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    satisfy(binh)
    subscription = binh.participant.subscriptions[sid].id
    house.engine.commands.clear()
    permit(house, binh, can_subscribe=False)
    assert house.engine.commands == [Command.RemoveSubscription(subscription)]
    binh.offer(now=10.0)
    assert house.engine.take(Command.AddSubscription) == []
    permit(house, binh)
    binh.offer(now=20.0)
    assert [command.publication for command in house.engine.take(Command.AddSubscription)] == [
        an.participant.publications[sid].id
    ]


def test_data_of_who_may_not_send_it_any_more_is_refused(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    for person in (an, binh):
        person.connect()
        for kind in DataKind:
            house.sfu.data_ready(person.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    packet = models.DataPacket(user=models.UserPacket(payload=b"x")).SerializeToString()

    def send() -> int:
        return house.sfu.data_received(an.participant.transport, DataKind.LOSSY, packet, now=0.0).deliveries  # type: ignore[arg-type]

    assert send() == 1
    permit(house, an, can_publish_data=False)
    assert send() == 0
    permit(house, an)
    assert send() == 1


def test_nobody_is_given_more_than_his_role_may_have(house: House) -> None:
    patient = house.join("an", "patient")
    info = permit(house, patient, can_publish_sources=[Source.SCREEN_SHARE, Source.CAMERA], can_update_metadata=True)
    assert list(info.permission.can_publish_sources) == [Source.CAMERA]
    assert not info.permission.can_update_metadata
    observer = house.join("binh", "observer")
    info = permit(house, observer, hidden=True)
    assert (info.permission.can_publish, info.permission.can_publish_data, info.permission.hidden) == (False,) * 3


def test_more_than_the_token_granted_may_be_given(house: House) -> None:
    an = house.join("an", video={"canPublish": False})
    assert not an.participant.rights.publish
    permit(house, an)
    assert an.publish(microphone())


def test_who_is_hidden_goes_for_the_others_and_comes_back(config: Config, mint: MintToken) -> None:
    doctor = config.roles["doctor"].model_copy(update={"hidden": True})
    house = House(config.model_copy(update={"roles": {**config.roles, "doctor": doctor}}), mint)
    an, binh = house.join("an"), house.join("binh")
    an.publish(microphone())
    binh.client.take("update")
    permit(house, an, hidden=True)
    info = seen(binh, an)
    assert (info.state, list(info.tracks)) == (State.DISCONNECTED.value, [])
    assert an.participant.publications == {}
    assert seen(an, an).permission.hidden
    permit(house, an)
    back = seen(binh, an)
    assert back.state == State.JOINED.value
    assert back.version > info.version


def test_name_metadata_and_attributes_are_given_too(house: House) -> None:
    an, binh = house.join("an", attributes={"a": "1", "b": "2"}), house.join("binh")
    request = room.UpdateParticipantRequest(
        room="ward", identity="an", name="An", metadata="m", attributes={"a": "", "c": "3", "d4e.role": "moderator"}
    )
    moderate(house, request)
    for viewer in (an, binh):
        info = seen(viewer, an)
        assert (info.name, info.metadata) == ("An", "m")
        assert dict(info.attributes) == {"b": "2", "c": "3", "d4e.role": "doctor"}
    rights = an.participant.rights
    moderate(house, room.UpdateParticipantRequest(room="ward", identity="an"))
    assert (an.participant.name, an.participant.metadata) == ("An", "m")
    assert an.participant.rights == rights


@pytest.mark.parametrize(
    "more",
    [{"name": "x" * 257}, {"metadata": "x" * 8193}, {"attributes": {str(n): "x" for n in range(65)}}],
    ids=["name", "metadata", "attributes"],
)
def test_what_is_too_large_changes_nothing(house: House, more: dict[str, Any]) -> None:
    an = house.join("an")
    permission = models.ParticipantPermission(can_subscribe=True)
    with pytest.raises(TooLarge):
        moderate(house, room.UpdateParticipantRequest(room="ward", identity="an", permission=permission, **more))
    assert an.participant.rights.publish
    assert an.client.take("update") == []


def test_a_role_that_a_reload_took_away_is_not_given_back(house: House, config: Config) -> None:
    an = house.join("an")
    roles = {name: role for name, role in config.roles.items() if name != "doctor"}
    house.sfu.reconfigure(config.model_copy(update={"roles": roles}), now=0.0)
    with pytest.raises(NotNow):
        permit(house, an)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_given_and_taken_the_engine_holds_what_the_room_allows(
    config: Config, mint: MintToken, seed: int
) -> None:
    """Three people publish, stop and offer while a moderator changes his mind; the engine's tables are kept beside."""
    chance = random.Random(seed)
    house = House(config, mint)
    people = [house.join(identity) for identity in ("an", "binh", "chi")]
    publications: set[int] = set()
    subscriptions: set[int] = set()
    for step in range(150):
        now = 10.0 * step
        person = chance.choice(people)
        match chance.randrange(6):
            case 0 | 1:
                flags = {flag: chance.random() < 0.7 for flag in ALL_RIGHTS}
                permit(house, person, **flags, can_publish_sources=chance.choice([[], [Source.CAMERA]]))
            case 2:
                request = chance.choice([camera, microphone])(f"track-{step}")
                person.ask(add_track=request, now=now)
                kind = "video" if request.layers else "audio"
                if len(person.description.sections) < 60:
                    person.description.publish(kind, request.cid, simulcast=kind == "video")
            case 3:
                published = range(7, len(person.description.sections))  # after those of the first offer
                if published:
                    person.description.unpublish(chance.choice(published))
            case 4:
                sids = list(person.participant.publications)
                if sids:
                    moderate(house, mute(person, chance.choice(sids)))
            case 5:
                for each in people:
                    each.offer(now=now)
        for command in house.engine.commands:
            match command:
                case Command.AddPublication(publication=id):
                    publications.add(id)
                case Command.RemovePublication(publication=id):
                    publications.remove(id)
                case Command.AddSubscription(subscription=id, publication=of):
                    assert of in publications
                    subscriptions.add(id)
                case Command.RemoveSubscription(subscription=id):
                    subscriptions.remove(id)
                case Command.SetLayer(subscription=id):
                    assert id in subscriptions
        house.engine.commands.clear()
        everyone = [each.participant for each in people]
        bound = [each for one in everyone for each in one.publications.values() if each.spec is not None]
        assert {each.id for each in bound} == publications
        placed = [each for one in everyone for each in one.subscriptions.values() if each.mid is not None]
        assert {each.id for each in placed} == subscriptions
        for one in everyone:
            assert {each.source for each in one.publications.values()} <= one.rights.publish
            assert one.rights.subscribe or not one.subscriptions
        assert all(each.client.closed is None for each in people)


# --- removal ---------------------------------------------------------------------------------------------------------


def test_who_is_removed_does_not_come_back_with_the_same_token(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.publish(microphone())
    transport = an.participant.transport
    assert transport is not None
    house.engine.commands.clear()
    moderate(house, remove(an))
    assert Command.RemoveTransport(transport) in house.engine.commands
    leave = an.client.last("leave")
    assert leave.reason == models.DisconnectReason.PARTICIPANT_REMOVED
    assert leave.action == leave.DISCONNECT
    assert an.client.closed is not None
    assert seen(binh, an).disconnect_reason == models.DisconnectReason.PARTICIPANT_REMOVED
    with pytest.raises(Forbidden) as refused:
        house.join("an")
    assert (refused.value.status, refused.value.rule) == (403, "removed")
    assert house.join("chi").participant
    assert house.join("an", room="other").participant, "another room is none of this one's business"


def test_nor_with_the_longer_one_with_which_he_had_resumed(house: House) -> None:
    an = house.join("an", ttl=600)
    an.connect()
    house.sfu.client_lost(an.participant, an.client, now=0.0)
    longer = house.mint("an")
    house.resume(an)
    moderate(house, remove(an))
    later = WALL + 3600
    with pytest.raises(Forbidden) as refused:
        house.sfu.admit(house.sfu.verify(longer, wall=later), join_request(), wall=later)
    assert refused.value.rule == "removed"


def test_a_token_that_is_signed_after_the_removal_is_welcome(house: House) -> None:
    an = house.join("an")
    moderate(house, remove(an))
    grants = house.sfu.verify(house.mint("an", "doctor", now=WALL + 1), wall=WALL + 1)
    assert house.sfu.admit(grants, join_request(), wall=WALL + 1)


def test_who_loads_his_page_again_has_no_more_than_a_moderator_has_left_him(house: House) -> None:
    an = house.join("an")
    permit(house, an, can_publish_sources=[Source.MICROPHONE], can_publish_data=False)
    an.ask(leave=rtc.LeaveRequest())
    again = house.join("an")
    assert [source.value for source in again.participant.rights.publish] == ["microphone"]
    assert not again.participant.rights.data
    permit(house, again)
    assert house.join("an").participant.rights.data, "and all that was given back"
    later = house.sfu.verify(house.mint("an", "doctor", now=WALL + 1), wall=WALL + 1)
    permit(house, again, can_publish=False)
    assert house.sfu.admit(later, join_request(), wall=WALL + 1).rights.publish, "a later token is as it says"


def test_a_moderator_who_was_removed_moderates_no_more(house: House) -> None:
    an, mai = house.join("an"), house.join("mai", "moderator", video=ADMIN)
    other = house.mint("other", "moderator", video=ADMIN)
    house.sfu.moderate(house.sfu.verify(other, wall=WALL), remove(mai), wall=WALL, now=0.0)
    with pytest.raises(Forbidden) as refused:
        moderate(house, remove(an), by="mai")
    assert refused.value.rule == "removed"
    assert an.participant.state is State.JOINED


def test_decisions_are_forgotten_with_their_tokens_and_never_too_many(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = house.sfu.verify(house.mint("an", "doctor"), wall=WALL)
    decisions = moderation.Decisions()
    decisions.add(grants, None, wall=WALL)

    def removed(wall: float, **changes: Any) -> bool:
        changed = dataclasses.replace(grants, **changes)
        try:
            return decisions.applied(changed, wall=wall) != changed
        except Forbidden:
            return True

    end = grants.expires + 60  # the leeway for clocks that differ
    assert removed(end - 1)
    assert not removed(end)
    assert not removed(WALL, identity="binh")
    assert not removed(WALL, room="other")
    # Signed by a clock that is ahead of ours: it is the token that he held all the same.
    ahead = dataclasses.replace(grants, not_before=WALL + 40)
    decisions.add(ahead, None, wall=WALL + 20)
    assert removed(WALL + 50, not_before=WALL + 40)
    assert not removed(WALL + 50, not_before=WALL + 41)
    monkeypatch.setattr(moderation, "MAX_DECISIONS", 10)
    for n in range(100):
        decisions.add(dataclasses.replace(grants, identity=str(n)), None, wall=WALL)
    assert len(decisions) == 10
    assert removed(WALL, identity="99")
    assert not removed(WALL, identity="0")
    decisions.add(grants, None, wall=end)
    assert len(decisions) == 1


# --- who and whom ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mute", "update", "remove"])
@pytest.mark.parametrize(
    ("video", "role"),
    [({}, "moderator"), (ADMIN, "doctor"), ({**ADMIN, "room": "other"}, "moderator"), ({}, "doctor")],
    ids=["no grant", "no role", "another room", "neither"],
)
def test_who_does_not_moderate_changes_nothing(house: House, kind: str, video: dict[str, Any], role: str) -> None:
    an = house.join("an")
    sid = an.publish(microphone())
    requests: dict[str, moderation.Request] = {
        "mute": mute(an, sid),
        "update": room.UpdateParticipantRequest(room="ward", identity="an", name="fool"),
        "remove": remove(an),
    }
    commands = list(house.engine.commands)
    grants = house.sfu.verify(house.mint("binh", role, video=video), wall=WALL)
    with pytest.raises(Forbidden):
        house.sfu.moderate(grants, requests[kind], wall=WALL, now=0.0)
    assert house.engine.commands == commands
    assert an.participant.name != "fool"
    assert an.client.closed is None


@pytest.mark.parametrize(
    "request_",
    [
        room.RoomParticipantIdentity(room="ward", identity="nobody"),
        room.MuteRoomTrackRequest(room="ward", identity="an", track_sid="TR_other", muted=True),
        room.MuteRoomTrackRequest(room="ward", identity="an", muted=True),
    ],
    ids=["person", "track", "no track"],
)
def test_who_or_what_is_not_there_is_not_found(house: House, request_: moderation.Request) -> None:
    house.join("an")
    with pytest.raises(NotFound):
        moderate(house, request_)


def test_a_moderator_in_the_room_is_named_by_his_sid(house: House) -> None:
    an, mai = house.join("an"), house.join("mai", "moderator", video=ADMIN)
    moderate(house, remove(an))
    assert house.announcer.heard[-1][1]["by"] == mai.sid


def test_a_servers_token_that_names_nobody_moderates(house: House) -> None:
    an = house.join("an")
    grants = house.sfu.verify(house.mint("", video={"roomJoin": False, **ADMIN}), wall=WALL)
    house.sfu.moderate(grants, remove(an), wall=WALL, now=0.0)
    assert an.participant.state is State.DISCONNECTED


def test_no_name_of_anyone_is_announced(house: House) -> None:
    an = house.join("an", name="Nguyễn Văn An")
    moderate(house, remove(an))
    assert "Nguyễn" not in str(house.announcer.heard)
