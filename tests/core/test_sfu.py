"""Joining, leaving and time-outs, in virtual time, with doubles of engine, associations and client."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Event
from d4e_sfu.config import Config, Limits, RoomRule
from d4e_sfu.core.negotiation import Negotiation
from d4e_sfu.core.participant import State
from d4e_sfu.core.sfu import CLOSED_SECONDS, CONNECT_SECONDS
from d4e_sfu.errors import ClientError, Full, RoomNotFound, TooLarge, Unauthorized
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person, join_request
from tests.doubles import AssociationsDouble, ClientDouble, Description, EngineDouble

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action
States = models.ParticipantInfo.State


# --- joining ---------------------------------------------------------------------------------------------------------


def test_the_first_frame_is_the_join_response_with_all_that_clients_insist_on(house: House) -> None:
    an = house.join("an")
    assert an.client.kinds()[:2] == ["join", "answer"]
    join = an.client.last("join")
    assert join.room.sid.startswith("RM_")
    assert join.room.name == "ward"
    assert join.participant.sid.startswith("PA_")
    assert join.participant.identity == "an"
    assert join.participant.state == States.JOINED
    assert join.participant.permission.can_publish
    assert join.participant.client_protocol == 2
    assert not join.subscriber_primary
    assert (join.ping_interval, join.ping_timeout) == (5, 15)
    assert join.server_info.version
    assert join.server_version
    assert join.client_configuration.resume_connection == models.ClientConfigSetting.ENABLED
    mimes = [codec.mime for codec in join.enabled_publish_codecs]
    assert mimes == ["video/VP8", "video/H264", "video/VP9", "video/AV1", "audio/opus", "audio/PCMU", "audio/PCMA"]


def test_the_answer_opens_the_transport_once(house: House) -> None:
    an = house.join("an")
    assert an.client.last("answer").id == 1
    (command,) = house.engine.take(Command.AddTransport)
    assert command.transport == an.participant.transport
    assert command.may_publish
    assert list(house.associations.opened) == [an.participant.transport]
    an.offer()
    assert house.engine.take(Command.AddTransport) == []


def test_others_are_listed_to_the_newcomer_and_he_to_them(house: House) -> None:
    an = house.join("an")
    binh = house.join("binh")
    (other,) = binh.client.last("join").other_participants
    assert other.identity == "an"
    (told,) = an.client.last("update").participants
    assert (told.identity, told.state) == ("binh", States.JOINED)
    binh.connect()
    (told,) = an.client.last("update").participants
    assert told.state == States.ACTIVE


def test_everything_differs_between_two_joins(house: House) -> None:
    first, second = house.join("an"), house.join("binh")
    one, two = house.engine.take(Command.AddTransport)
    assert one.local_ufrag != two.local_ufrag
    assert one.local_pwd != two.local_pwd
    assert first.sid != second.sid
    # RFC 8445 §5.3: at least 4 and 22 characters of ice-char
    assert len(one.local_ufrag) >= 4
    assert len(one.local_pwd) >= 22


def test_versions_grow_with_every_change(house: House) -> None:
    an = house.join("an")
    binh = house.join("binh", video={"canUpdateOwnMetadata": True})
    versions = [binh.client.last("join").participant.version]
    binh.connect()
    binh.ask(update_metadata=rtc.UpdateParticipantMetadata(metadata="x"))
    versions += [update.participants[0].version for update in an.client.take("update")]
    assert versions == sorted(versions)
    assert len(set(versions[1:])) == len(versions) - 1


@pytest.mark.parametrize(
    ("claims", "error", "status"),
    [
        ({"ttl": -3600.0}, Unauthorized, 401),
        ({"video": {"roomJoin": False}}, Unauthorized, 401),
        ({"metadata": "x" * 10_000}, ClientError, 401),
    ],
)
def test_a_token_that_does_not_hold_is_refused_before_the_upgrade(
    house: House, claims: dict[str, Any], error: type[ClientError], status: int
) -> None:
    with pytest.raises(error) as refused:
        house.join("an", **claims)
    assert refused.value.status == status
    assert house.sfu.rooms == {}


def test_a_room_without_a_rule_does_not_exist(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="clinic-*"),)}), mint)
    with pytest.raises(RoomNotFound):
        house.join("an", room="ward")
    assert house.join("an", room="clinic-1").client.kinds()[0] == "join"


def test_a_full_room_refuses_strangers_but_not_a_return(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="*", capacity=2),)}), mint)
    house.join("an")
    house.join("binh")
    with pytest.raises(Full) as refused:
        house.join("chi")
    assert refused.value.status == 503
    assert house.join("an").participant.state is State.JOINED


def test_a_flood_of_rooms_costs_the_empty_ones_and_nobody_who_is_in_one(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"limits": Limits(rooms=10)}), mint)
    an = house.join("an", room="an's")
    for n in range(100):
        person = house.join("eve", room=f"room {n}", now=float(n))
        person.ask(leave=rtc.LeaveRequest(), now=float(n))
        assert len(house.sfu.rooms) <= 10
    assert list(house.sfu.rooms) == ["an's", *(f"room {n}" for n in range(91, 100))], "the last ones to be used"
    assert an.participant.state is State.JOINED
    for n in range(9):
        house.join(f"p{n}", room=f"full {n}", now=100.0)
    with pytest.raises(Full) as refused:
        house.join("one", room="too many")
    assert refused.value.rule == "room_count"
    assert house.join("another", room="an's").participant


def test_two_who_were_admitted_to_the_last_place_cannot_both_have_it(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="*", capacity=1),)}), mint)
    grants = [house.sfu.verify(mint(identity), wall=WALL) for identity in ("an", "binh")]
    admissions = [house.sfu.admit(each, join_request(), wall=WALL) for each in grants]
    clients = [ClientDouble(), ClientDouble()]
    joined = [house.sfu.join(*pair, now=0.0) for pair in zip(clients, admissions, strict=True)]
    assert joined[0] is not None
    assert joined[1] is None
    assert clients[1].kinds() == ["leave"]
    assert clients[1].closed is not None
    refused = {"rule": "room_capacity", "identity": "binh", "room_name": "ward"}
    assert ("join_refused", refused) in house.announcer.heard


def test_a_fault_of_ours_in_a_join_leaves_nobody_behind(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    an = house.join("an")
    an.client.take("update")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Negotiation, "answer", broken)
    with pytest.raises(ZeroDivisionError):
        house.join("binh")
    assert list(house.sfu.rooms["ward"].participants) == ["an"]
    assert an.client.take("update")[-1].participants[0].state == models.ParticipantInfo.State.DISCONNECTED


def test_attributes_of_the_join_request_need_the_right(house: House) -> None:
    request = join_request()
    request.participant_attributes["ward"] = "3"
    request.metadata = "m"
    patient = house.join("an", "patient", request=request).client.last("join").participant
    assert (patient.metadata, "ward" in patient.attributes) == ("", False)
    video = {"canUpdateOwnMetadata": True}
    doctor = house.join("binh", "doctor", request=request, video=video).client.last("join").participant
    assert (doctor.metadata, doctor.attributes["ward"]) == ("m", "3")
    request.metadata = "x" * 100_000
    with pytest.raises(TooLarge):
        house.join("chi", "doctor", request=request, video=video)


@pytest.mark.parametrize("sdp", ["", "v=0\r\n", "nonsense", "v=0\r\nm=audio", "\x00" * 1000, "v=0\r\n" * 50_000])
def test_a_bad_offer_in_the_join_request_ends_in_leave_and_close(house: House, sdp: str) -> None:
    request = join_request()
    request.publisher_offer.CopyFrom(rtc.SessionDescription(type="offer", sdp=sdp))
    person = house.join("an", request=request)
    assert person.participant_or_none is None
    assert person.client.last("leave").action == Action.DISCONNECT
    assert person.client.closed is not None
    assert house.sfu.rooms["ward"].participants == {}
    assert house.engine.take(Command.AddTransport) == []


def test_a_client_may_make_its_first_offer_after_the_join_response(house: House, mint: MintToken) -> None:
    admission = house.sfu.admit(house.sfu.verify(mint("an"), wall=WALL), join_request(), wall=WALL)
    client = ClientDouble()
    participant = house.sfu.join(client, admission, now=0.0)
    assert client.kinds() == ["join", "refresh_token"]
    an = Person(house, participant, client, Description("an"))
    an.offer()
    assert len(house.engine.take(Command.AddTransport)) == 1


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_who_leaves_is_gone_for_everyone_at_once(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    before = an.client.last("update").participants[0]
    transport = binh.participant.transport
    assert transport is not None
    binh.ask(leave=rtc.LeaveRequest(reason=Reason.CLIENT_INITIATED))
    (told,) = an.client.last("update").participants
    assert (told.sid, told.identity, told.state) == (before.sid, "binh", States.DISCONNECTED)
    assert told.disconnect_reason == Reason.CLIENT_INITIATED
    assert told.version > before.version
    assert house.associations.closed == [transport]
    assert house.engine.take(Command.RemoveTransport) == [Command.RemoveTransport(transport)]
    assert binh.client.closed is not None


def test_messages_after_leaving_change_nothing(house: House) -> None:
    an = house.join("an")
    an.ask(leave=rtc.LeaveRequest())
    an.ask(offer=an.description.offer(2))
    an.ask(leave=rtc.LeaveRequest())
    house.sfu.client_lost(an.participant, an.client, now=0.0)
    assert house.associations.closed == [an.participant.transport]


def test_the_same_identity_replaces_the_old_one_at_once(house: House) -> None:
    modern = house.join("modern", protocol=16)
    elder = house.join("elder", protocol=11)
    old = house.join("an")
    for watcher in (modern, elder):
        watcher.client.responses.clear()
    new = house.join("an", now=1.0)
    leave = old.client.last("leave")
    assert (leave.reason, leave.action) == (Reason.DUPLICATE_IDENTITY, Action.DISCONNECT)
    assert old.client.closed is not None
    assert house.associations.closed == [old.participant.transport]
    assert new.sid != old.sid
    # Protocol 12 and above: the new sid says that the old one is over.
    (only,) = modern.client.take("update")
    assert [(each.sid, each.state) for each in only.participants] == [(new.sid, States.JOINED)]
    first, second = elder.client.take("update")
    assert (first.participants[0].sid, first.participants[0].state) == (old.sid, States.DISCONNECTED)
    assert (second.participants[0].sid, second.participants[0].state) == (new.sid, States.JOINED)
    # Late news of the old one touches nobody.
    house.sfu.client_lost(old.participant, old.client, now=1.0)
    house.sfu.transport_failed(old.participant.transport, "closed", now=1.0)  # type: ignore[arg-type]
    assert new.participant.state is State.JOINED
    assert list(house.sfu.rooms["ward"].participants) == ["modern", "elder", "an"]


def test_hidden_participants_are_seen_by_nobody(config: Config, mint: MintToken) -> None:
    role = config.roles["observer"].model_copy(update={"hidden": True})
    role = role.model_copy(update={"publish": config.roles["doctor"].publish})
    house = House(config.model_copy(update={"roles": {**config.roles, "inspector": role}}), mint)
    an = house.join("an")
    an.client.responses.clear()
    inspector = house.join("inspector", "inspector", video={"hidden": True})
    join = inspector.client.last("join")
    assert [other.identity for other in join.other_participants] == ["an"]
    assert not join.participant.permission.can_publish, "whoever publishes is seen"
    inspector.connect()
    inspector.ask(leave=rtc.LeaveRequest())
    assert an.client.kinds() == []
    assert house.sfu.rooms["ward"].info().num_participants == 1


# --- losing and waiting ----------------------------------------------------------------------------------------------


def test_without_a_transport_after_a_minute_he_is_removed(house: House) -> None:
    an = house.join("an")
    house.sfu.tick(now=CONNECT_SECONDS - 0.1)
    assert an.participant.state is State.JOINED
    house.sfu.tick(now=CONNECT_SECONDS)
    leave = an.client.last("leave")
    assert (leave.reason, leave.action) == (Reason.CONNECTION_TIMEOUT, Action.RECONNECT)


def test_a_lost_socket_before_the_transport_is_up_is_the_end(house: House) -> None:
    an = house.join("an")
    house.sfu.client_lost(an.participant, an.client, now=1.0)
    assert an.participant.state is State.DISCONNECTED


def test_a_lost_socket_keeps_the_media_for_a_while_and_no_longer(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.connect()
    binh.connect()
    binh.client.responses.clear()
    house.sfu.client_lost(an.participant, an.client, now=100.0)
    assert an.participant.transport is not None
    assert house.engine.take(Command.SetSignalLost) == [Command.SetSignalLost(an.participant.transport, True)]
    house.sfu.tick(now=100.0 + Limits().resume - 0.1)
    assert binh.client.take("update") == []
    house.sfu.tick(now=100.0 + Limits().resume)
    assert binh.client.last("update").participants[0].state == States.DISCONNECTED


@pytest.mark.parametrize("how", ["consent", "dtls"])
def test_a_lost_transport_asks_for_a_new_join(house: House, how: str) -> None:
    an = house.join("an")
    an.connect()
    transport = an.participant.transport
    assert transport is not None
    if how == "consent":
        house.sfu.engine_event(house.engine, Event.TransportGone(transport), now=40.0)
    else:
        house.sfu.transport_failed(transport, "timeout", now=40.0)
    assert an.client.last("leave").action == Action.RECONNECT
    assert house.sfu.rooms["ward"].participants == {}


def test_who_leaves_may_close_his_transport_first(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.connect()
    house.sfu.transport_failed(an.participant.transport, "closed", now=40.0)  # type: ignore[arg-type]
    an.ask(leave=rtc.LeaveRequest(), now=40.1)
    assert binh.client.last("update").participants[0].disconnect_reason == Reason.CLIENT_INITIATED


@pytest.mark.parametrize("then", ["nothing", "socket closed"])
def test_a_transport_closed_without_a_word_is_not_waited_for(house: House, then: str) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.connect()
    binh.connect()
    house.sfu.transport_failed(an.participant.transport, "closed", now=40.0)  # type: ignore[arg-type]
    if then == "nothing":
        house.sfu.tick(now=40.0 + CLOSED_SECONDS)
        assert an.client.last("leave").action == Action.RECONNECT
    else:
        house.sfu.client_lost(an.participant, an.client, now=40.1)
    assert binh.client.last("update").participants[0].state == States.DISCONNECTED


def test_an_empty_room_is_forgotten_after_its_time(house: House) -> None:
    an = house.join("an")
    sid = house.sfu.rooms["ward"].sid
    an.ask(leave=rtc.LeaveRequest(), now=10.0)
    house.sfu.tick(now=10.0 + 299)
    assert house.sfu.rooms["ward"].sid == sid
    house.sfu.tick(now=10.0 + 300)
    assert house.sfu.rooms == {}


def test_a_dead_worker_takes_only_its_own_rooms(house: House) -> None:
    other_engine, other_associations = EngineDouble(), AssociationsDouble()
    house.sfu.add_worker(other_engine, other_associations)
    here, there = house.join("an", room="one"), house.join("binh", room="two")
    assert there.participant.room.worker.engine is other_engine
    house.sfu.engine_event(other_engine, Event.WorkerDied("panic", None), now=1.0)
    assert there.client.last("leave").action == Action.RECONNECT
    assert here.client.closed is None
    assert list(house.sfu.rooms) == ["one"]
    again = house.join("binh", room="two", now=2.0)
    assert again.participant.state is State.JOINED


def test_draining_asks_everyone_to_join_again_and_nobody_hears_of_the_others(house: House) -> None:
    people = [house.join(identity) for identity in ("an", "binh", "chi")]
    for person in people:
        person.client.responses.clear()
    house.sfu.close(now=5.0)
    for person in people:
        assert person.client.kinds() == ["leave"]
        assert person.client.last("leave").action == Action.RECONNECT
    with pytest.raises(Full):
        house.join("duc")


def test_draining_takes_no_new_room_and_lets_calls_that_run_go_on(house: House) -> None:
    an = house.join("an")
    house.join("chi", room="empty").ask(leave=rtc.LeaveRequest(), now=1.0)
    house.sfu.drain()
    assert an.client.closed is None
    for room in ("theatre", "empty"):
        with pytest.raises(Full, match="takes no new calls") as refused:
            house.join("binh", room=room, now=2.0)
        assert refused.value.rule == "draining"
    assert house.join("binh", now=2.0).participant.state is State.JOINED
    # A worker's death ends the call for a moment; it is still one that ran.
    house.sfu.engine_event(house.engine, Event.WorkerDied("panic", None), now=3.0)
    assert house.sfu.people == 0
    assert house.join("an", now=4.0).participant.state is State.JOINED
    house.sfu.close(now=5.0)
    with pytest.raises(Full) as refused:
        house.join("binh", now=6.0)
    assert refused.value.rule == "restarting"


def test_debug_state_tells_ids_and_no_names(house: House) -> None:
    house.join("an", name="Nguyen Van An", metadata="diagnosis")
    state = str(house.sfu.debug_state()) + str(house.sfu.debug_room("ward"))
    assert "'an'" in state
    assert "Nguyen" not in state
    assert "diagnosis" not in state
    assert house.sfu.debug_room("elsewhere") is None


# --- hostile ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        {"offer": rtc.SessionDescription(type="offer", sdp="garbage")},
        {"offer": rtc.SessionDescription(type="answer", sdp="v=0")},
        {"offer": rtc.SessionDescription()},
        {"subscription": rtc.UpdateSubscription(track_sids=["TR_x"] * 5000, subscribe=True)},
        {"track_setting": rtc.UpdateTrackSettings(track_sids=["TR_x"] * 5000)},
    ],
)
def test_what_no_correct_client_sends_ends_in_leave_and_close(house: House, member: dict[str, Any]) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.ask(**member)
    assert an.client.take("leave")
    assert an.client.closed is not None
    assert an.client.closed[0] != 1000
    assert binh.client.closed is None


def test_too_many_offers_end_the_client(house: House) -> None:
    an = house.join("an")
    for number in range(2, 200):
        an.ask(offer=an.description.offer(number))
    assert an.client.closed is not None
    assert len(an.client.take("answer")) <= 41


def test_what_is_unknown_or_meant_for_others_is_ignored(house: House) -> None:
    an = house.join("an")
    an.client.responses.clear()
    an.ask()
    an.ask(answer=rtc.SessionDescription(type="answer", sdp="?"))
    an.ask(trickle=rtc.TrickleRequest(candidateInit="{" * 10_000))
    an.ask(sync_state=rtc.SyncState())
    an.ask(subscription=rtc.UpdateSubscription(track_sids=["TR_unknown"], subscribe=False))
    an.ask(track_setting=rtc.UpdateTrackSettings(track_sids=["TR_unknown"], disabled=True))
    assert an.client.kinds() == []
    assert an.client.closed is None
