"""Signalling lost and regained, in virtual time: what stays, what is told, who is refused, and what it costs us."""

from __future__ import annotations

import dataclasses

import pytest
from livekit.protocol import models, rtc
from livekit.protocol import room as api

from d4e_sfu._engine import Command, Event, Voice
from d4e_sfu.config import Config, Limits, RoomRule
from d4e_sfu.core import resume
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.datapacket import REPLAYED_BYTES, SENT_BYTES, SENT_SECONDS
from d4e_sfu.core.participant import State
from d4e_sfu.errors import ClientError
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person
from tests.core.test_datapacket import open_channels, packet, received, send
from tests.doubles import camera, microphone

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action
States = models.ParticipantInfo.State


def lose(person: Person, *, now: float) -> None:
    person.house.sfu.client_lost(person.participant, person.client, now=now)


def two(house: House) -> tuple[Person, Person, str, str]:
    """An publishes voice and picture, Binh receives both; both are connected."""
    an, binh = house.join("an"), house.join("binh")
    open_channels(an, binh)
    voice, picture = an.publish(microphone()), an.publish(camera())
    binh.offer()
    return an, binh, voice, picture


# --- what stays ------------------------------------------------------------------------------------------------------


def test_who_comes_back_is_the_same_and_his_media_has_never_stopped(house: House) -> None:
    an, binh, voice, picture = two(house)
    house.engine.commands.clear()
    lose(an, now=10.0)
    assert house.engine.commands == [Command.SetSignalLost(an.participant.transport, True)]  # type: ignore[arg-type]
    house.sfu.tick(now=20.0)
    house.engine.commands.clear()
    binh.client.responses.clear()
    back = house.resume(an, now=24.9)
    assert back.participant is an.participant
    assert house.engine.commands == [Command.SetSignalLost(an.participant.transport, False)]  # type: ignore[arg-type]
    assert (house.associations.closed, binh.client.kinds()) == ([], [])
    assert set(binh.participant.subscriptions) == {voice, picture}
    house.sfu.tick(now=100.0)
    assert an.participant.state is State.ACTIVE
    assert ("participant_resumed", {"room": an.participant.room.sid, "participant": an.sid, "seconds": 14.9}) in [
        (event, {**facts, "seconds": round(float(facts["seconds"]), 1)} if "seconds" in facts else facts)
        for event, facts in house.announcer.heard
    ]


def test_the_connection_that_was_thought_to_live_is_closed_and_its_end_means_nothing(house: House) -> None:
    an = house.join("an")
    an.connect()
    back = house.resume(an, now=5.0)
    assert an.client.closed is not None
    lose(an, now=6.0)
    house.sfu.tick(now=100.0)
    assert back.participant.state is State.ACTIVE
    assert back.participant.client is back.client
    # Nor is he lost twice over: a further resume closes the second.
    third = house.resume(an, now=101.0)
    assert back.client.closed is not None
    assert third.client.closed is None


def test_how_long_he_is_kept_is_configured_and_nothing_is_kept_with_0(config: Config, mint: MintToken) -> None:
    for seconds in (0.0, 40.0):
        house = House(config.model_copy(update={"limits": Limits.model_validate({"resume": f"{seconds}s"})}), mint)
        an = house.join("an")
        an.connect()
        setting = an.client.last("join").client_configuration.resume_connection
        assert (setting == models.ClientConfigSetting.DISABLED) == (seconds == 0)
        lose(an, now=10.0)
        house.sfu.tick(now=10.0 + max(seconds - 0.1, 0.0))
        assert (an.participant.state is State.ACTIVE) == (seconds > 0)
        house.sfu.tick(now=10.0 + seconds)
        assert an.participant.state is State.DISCONNECTED
        assert house.resume(an, now=10.1 + seconds).client.kinds() == ["leave"]


def test_an_ice_restart_changes_the_credentials_and_nothing_else(house: House) -> None:
    an, *_ = two(house)
    (opened, _) = house.engine.take(Command.AddTransport)
    house.engine.commands.clear()
    an.description.name = "restarted"
    answer = an.offer()
    (restart,) = house.engine.take(Command.RestartIce)
    assert (restart.transport, restart.remote_ufrag) == (an.participant.transport, "rest")
    assert restart.local_ufrag != opened.local_ufrag
    assert f"a=ice-ufrag:{restart.local_ufrag}\r\na=ice-pwd:{restart.local_pwd}\r\n" in answer.sdp
    assert f"a=ice-ufrag:{opened.local_ufrag}" not in answer.sdp
    assert {type(command) for command in house.engine.commands} <= {Command.SetExtensions}
    house.engine.commands.clear()
    an.offer()
    assert house.engine.take(Command.RestartIce) == []
    assert house.associations.closed == []


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_reply_comes_first_and_names_the_last_packet_of_his(house: House) -> None:
    an, *_ = two(house)
    send(an, packet(sequence=7))
    lose(an, now=1.0)
    back = house.resume(an, now=2.0)
    assert back.client.kinds()[0] == "reconnect"
    reply = back.client.last("reconnect")
    assert reply.last_message_seq == 7
    assert reply.server_info.version
    assert "refresh_token" in back.client.kinds()
    assert "join" not in back.client.kinds()


def test_who_has_come_gone_or_changed_meanwhile_is_told(house: House) -> None:
    an, binh, chi = (house.join(identity) for identity in ("an", "binh", "chi"))
    for person in (an, binh, chi):
        person.connect()
    lose(an, now=10.0)
    binh.ask(leave=rtc.LeaveRequest(), now=11.0)
    chi.publish(microphone(), now=11.0)
    dung = house.join("dung", now=11.0)
    back = house.resume(an, now=12.0)
    gone, here = back.client.take("update")
    assert [(each.identity, each.sid, each.state) for each in gone.participants] == [
        ("binh", binh.sid, States.DISCONNECTED)
    ]
    assert {each.identity: len(each.tracks) for each in here.participants} == {"an": 0, "chi": 1, "dung": 0}
    assert {each.sid for each in here.participants} == {an.sid, chi.sid, dung.sid}
    assert back.client.last("room_update").room.num_participants == 3


def test_who_has_left_just_before_the_loss_is_told_as_well_for_that_word_may_be_lost(house: House) -> None:
    an, binh, chi = (house.join(identity) for identity in ("an", "binh", "chi"))
    an.connect()
    binh.ask(leave=rtc.LeaveRequest(), now=9.0)
    chi.ask(leave=rtc.LeaveRequest(), now=9.0)
    house.join("chi", now=9.5)
    lose(an, now=10.0)
    (gone, here) = house.resume(an, now=11.0).client.take("update")
    assert [each.identity for each in gone.participants] == ["binh"], "who is back is not told to be gone"
    assert [each.identity for each in here.participants] == ["an", "chi"]


def test_hidden_people_stay_unseen_and_who_becomes_hidden_is_gone(config: Config, mint: MintToken) -> None:
    hidden = config.roles["observer"].model_copy(update={"hidden": True})
    house = House(config.model_copy(update={"roles": {**config.roles, "inspector": hidden}}), mint)
    an, binh = house.join("an"), house.join("binh")
    inspector = house.join("inspector", "inspector", video={"hidden": True})
    an.connect()
    lose(an, now=10.0)
    inspector.ask(leave=rtc.LeaveRequest(), now=11.0)
    house.join("inspector", "inspector", video={"hidden": True}, now=11.0)
    rights = dataclasses.replace(binh.participant.rights, hidden=True)
    binh.participant.room.set_rights(binh.participant, binh.participant.grants, rights, now=11.0)
    updates = house.resume(an, now=12.0).client.take("update")
    assert [(each.identity, each.state) for update in updates for each in update.participants] == [
        ("binh", States.DISCONNECTED),
        ("an", States.ACTIVE),
    ]


def test_rights_mutes_and_permissions_as_they_are_now_are_told(house: House) -> None:
    an, binh, voice, picture = two(house)
    for person in (an, binh):
        lose(person, now=10.0)
    an.participant.room.mute(an.participant.publications[voice], True, now=11.0)
    rights = dataclasses.replace(binh.participant.rights, data=False)
    binh.participant.room.set_rights(binh.participant, binh.participant.grants, rights, now=11.0)
    back = house.resume(an, now=12.0)
    assert [(each.sid, each.muted) for each in back.client.take("mute")] == [(voice, True)]
    only_voice = rtc.TrackPermission(participant_identity="binh", track_sids=[voice])
    back.ask(subscription_permission=rtc.SubscriptionPermission(track_permissions=[only_voice]), now=12.0)
    other = house.resume(binh, now=13.0)
    told = other.client.take("subscription_permission_update")
    assert {(each.track_sid, each.allowed) for each in told} == {(voice, True), (picture, False)}
    (himself,) = [
        each for update in other.client.take("update") for each in update.participants if each.identity == "binh"
    ]
    assert not himself.permission.can_publish_data


def test_an_announcement_whose_answer_was_lost_is_answered_again(house: House) -> None:
    an = house.join("an")
    an.connect()
    an.ask(add_track=microphone("cid"))
    sid = an.client.last("track_published").track.sid
    lose(an, now=1.0)
    back = house.resume(an, now=2.0)
    (again,) = back.client.take("track_published")
    assert (again.cid, again.track.sid) == ("cid", sid)


def test_who_speaks_now_is_told_and_who_does_not_any_more(house: House) -> None:
    an, binh, voice, _ = two(house)
    publication = an.participant.publications[voice]
    lose(binh, now=10.0)
    assert an.participant.transport is not None
    for n in range(10):
        heard = Voice(transport=an.participant.transport, publication=publication.id, level=20, spoken_ms=200)
        house.sfu.engine_event(house.engine, Event.Voices([heard]), now=10.0 + n / 5)
    back = house.resume(binh, now=12.0)
    told = {each.sid: each.active for each in back.client.last("speakers_changed").speakers}
    assert told == {an.sid: True, binh.sid: False}


# --- SyncState -------------------------------------------------------------------------------------------------------


def test_a_client_may_have_unsubscribed_and_switched_off_pictures_meanwhile(house: House) -> None:
    _, binh, voice, picture = two(house)
    lose(binh, now=10.0)
    back = house.resume(binh, now=11.0)
    state = rtc.SyncState(track_sids_disabled=[picture, "TR_unknown"])
    state.subscription.track_sids.append(voice)
    back.ask(sync_state=state, now=11.0)
    assert list(binh.participant.subscriptions) == [picture]
    assert binh.participant.subscriptions[picture].wanted.disabled
    assert back.client.closed is None


def test_a_publication_that_we_do_not_know_ends_in_a_new_join(house: House) -> None:
    an, *_ = two(house)
    lose(an, now=10.0)
    back = house.resume(an, now=11.0)
    state = rtc.SyncState()
    state.publish_tracks.add().track.sid = "TR_unknown"
    back.ask(sync_state=state, now=11.0)
    leave = back.client.last("leave")
    assert (leave.reason, leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)


def test_it_is_taken_once_after_each_resume_and_never_without(house: House) -> None:
    an, binh, *_ = two(house)
    send(an, packet(sequence=1))
    received(binh)
    state = rtc.SyncState()
    state.datachannel_receive_states.add(publisher_sid=an.sid, last_seq=0)
    binh.ask(sync_state=state)
    assert received(binh) == []
    back = house.resume(binh, now=1.0)
    for _ in range(3):
        back.ask(sync_state=state, now=1.0)
    assert len(received(binh)) == 1


@pytest.mark.parametrize("field", ["publish_tracks", "track_sids_disabled", "datachannel_receive_states"])
def test_one_that_is_too_long_is_refused(house: House, field: str) -> None:
    an = house.join("an")
    an.connect()
    back = house.resume(an, now=1.0)
    state = rtc.SyncState()
    for n in range(resume.MAX_ENTRIES + 1):
        each = getattr(state, field)
        each.append(f"TR_{n}") if field == "track_sids_disabled" else each.add()
    back.ask(sync_state=state, now=1.0)
    assert back.client.last("leave").action == Action.DISCONNECT


# --- reliable data ---------------------------------------------------------------------------------------------------


def test_what_he_has_not_received_is_sent_again_in_order_and_nothing_else(house: House) -> None:
    an, binh, chi = (house.join(identity) for identity in ("an", "binh", "chi"))
    open_channels(an, binh, chi)
    for sequence in range(1, 6):
        send(an, packet(sequence=sequence), now=1.0)
        send(chi, packet(sequence=sequence), now=1.0)
    send(an, packet(sequence=6, destination_identities=["chi"]), now=1.0)
    send(an, packet(), DataKind.LOSSY, now=1.0)
    send(an, packet(), now=1.0)  # without a number nobody could tell that it comes twice
    received(binh)
    lose(binh, now=2.0)
    back = house.resume(binh, now=3.0)
    state = rtc.SyncState()
    state.datachannel_receive_states.add(publisher_sid=an.sid, last_seq=3)
    state.datachannel_receive_states.add(publisher_sid="PA_unknown", last_seq=3)
    back.ask(sync_state=state, now=3.0)
    got = [(each.participant_identity, each.sequence) for each in received(binh)]
    assert got == [("an", 4), ("an", 5), *(("chi", sequence) for sequence in range(1, 6))]


def test_what_was_sent_before_he_came_is_not_for_him(house: House) -> None:
    an = house.join("an")
    binh = house.join("binh", now=1.0)
    open_channels(an)
    send(an, packet(sequence=1), now=0.5)
    late = house.join("late", now=2.0)
    open_channels(late, now=2.0)
    lose(late, now=3.0)
    back = house.resume(late, now=4.0)
    state = rtc.SyncState()
    state.datachannel_receive_states.add(publisher_sid=binh.sid, last_seq=1)
    back.ask(sync_state=state, now=4.0)
    assert received(late) == []


def test_what_his_client_sends_twice_is_passed_on_once(house: House) -> None:
    an, binh, *_ = two(house)
    for sequence in (1, 2, 3):
        send(an, packet(sequence=sequence))
    lose(an, now=1.0)
    back = house.resume(an, now=2.0)
    assert back.client.last("reconnect").last_message_seq == 3
    received(binh)
    for sequence in (2, 3, 4):
        send(an, packet(sequence=sequence), now=2.0)
    assert [each.sequence for each in received(binh)] == [4]


# --- who is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another's sid", "another's token", "an old sid", "no sid", "unknown"])
def test_whoever_is_not_who_he_says_touches_nobody(house: House, how: str) -> None:
    an, binh, *_ = two(house)
    old = an.sid
    match how:
        case "another's sid":
            person = house.resume(an, identity="binh", now=1.0)
        case "another's token":
            person = house.resume(binh, identity="an", now=1.0)
        case "an old sid":
            an = house.join("an", now=1.0)
            person = house.resume(an, sid=old, now=1.0)
        case "no sid":
            person = house.resume(an, sid="", now=1.0)
        case _:
            person = house.resume(an, identity="chi", now=1.0)
    assert person.participant_or_none is None
    assert person.client.kinds() == ["leave"]
    leave = person.client.last("leave")
    assert (leave.reason, leave.action, leave.can_reconnect) == (Reason.STATE_MISMATCH, Action.RECONNECT, True)
    assert person.client.closed is not None
    for each in (an, binh):
        assert each.participant.client is each.client
        assert each.client.closed is None


def test_who_was_removed_meanwhile_is_refused_before_the_upgrade(house: House) -> None:
    an, _ = house.join("an"), house.join("binh")
    an.connect()
    lose(an, now=10.0)
    moderator = house.sfu.verify(house.mint("boss", "moderator", room="ward", video={"roomAdmin": True}), wall=WALL)
    house.sfu.moderate(moderator, api.RoomParticipantIdentity(room="ward", identity="an"), wall=WALL, now=11.0)
    with pytest.raises(ClientError) as refused:
        house.resume(an, now=12.0)
    assert refused.value.status == 403


@pytest.mark.parametrize("how", ["consent", "closed by himself", "worker"])
def test_without_his_transport_there_is_nothing_to_resume(house: House, how: str) -> None:
    an, _ = house.join("an"), house.join("binh")
    an.connect()
    transport = an.participant.transport
    assert transport is not None
    if how != "closed by himself":
        lose(an, now=10.0)
    match how:
        case "consent":
            house.sfu.engine_event(house.engine, Event.TransportGone(transport), now=11.0)
        case "worker":
            house.sfu.engine_event(house.engine, Event.WorkerDied("panic", None), now=11.0)
        case _:
            house.sfu.transport_failed(transport, "closed", now=11.0)
    assert house.resume(an, now=11.1).client.last("leave").action == Action.RECONNECT


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_departures_are_remembered_in_bounds_and_who_missed_more_joins_anew(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="*", capacity=1000),)}), mint)
    an = house.join("an", now=0.0)
    an.connect()
    lose(an, now=30.0)
    room = an.participant.room
    info = models.ParticipantInfo(sid="PA_x", identity="x" * 256, metadata="m" * 8192, version=3)
    for _ in range(resume.MAX_DEPARTED):
        room.departed.add(info, now=31.0)
    assert resume.is_possible(an.participant, now=32.0)
    room.departed.add(info, now=31.0)
    assert not resume.is_possible(an.participant, now=32.0)
    assert house.resume(an, now=32.0).client.last("leave").action == Action.RECONNECT
    kept = room.departed.since(0.0)
    assert len(kept) == resume.MAX_DEPARTED
    assert all(each.ByteSize() < 400 for each in kept)
    room.departed.add(info, now=31.1 + resume.DEPARTED_SECONDS)
    assert len(room.departed.since(0.0)) == 1


def test_what_was_sent_is_kept_in_bounds_of_bytes_and_time(house: House) -> None:
    an, binh, *_ = two(house)
    size = 50_000
    for sequence in range(1, 40):
        send(an, packet(sequence=sequence, user=models.UserPacket(payload=b"x" * size)), now=float(sequence))
    kept = an.participant.mail.after(0, since=0.0)
    assert [each.sequence for each in kept] == list(range(35, 40))
    assert sum(len(each.payload) for each in kept) <= SENT_BYTES
    received(binh)
    lose(binh, now=40.0)
    back = house.resume(binh, now=41.0)
    state = rtc.SyncState()
    state.datachannel_receive_states.add(publisher_sid=an.sid, last_seq=1)
    back.ask(sync_state=state, now=41.0)
    assert sum(len(each.user.payload) for each in received(binh)) <= REPLAYED_BYTES
    house.sfu.tick(now=41.0 + SENT_SECONDS)
    assert an.participant.mail.after(0, since=0.0) == []


def test_thousands_of_resumes_leave_nothing_behind(house: House) -> None:
    an, *_ = two(house)
    person = an
    for n in range(2000):
        now = 10.0 + n
        if n % 2:
            lose(person, now=now)
        person = house.resume(person, now=now + 0.5)
        person.ask(sync_state=rtc.SyncState(), now=now + 0.5)
    assert person.participant is an.participant
    assert list(house.sfu.rooms["ward"].participants) == ["an", "binh"]
    assert house.sfu.debug_state()["participants"] == 2
