"""What servers outside are told of a call, from its first moment to its last."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc, webhook

from d4e_sfu._engine import Event
from d4e_sfu.core.netcheck import Way
from d4e_sfu.core.reports import EVENTS
from d4e_sfu.errors import NotFound
from tests.conftest import WALL
from tests.core.house import House, join_request
from tests.core.test_roomcalls import call
from tests.doubles import ClientDouble, microphone

Ended = models.RoomEndReason


def told(house: House) -> list[webhook.WebhookEvent]:
    """Since the last look."""
    reported, house.announcer.reported = house.announcer.reported, []
    assert {each.event for each in reported} <= set(EVENTS)
    return reported


def names(house: House) -> list[str]:
    return [each.event for each in told(house)]


def test_a_call_from_its_first_moment_to_its_last(house: House) -> None:
    an = house.join("an", name="An")
    (started,) = told(house)
    assert (started.event, started.room.name) == ("room_started", "ward")
    an.connect()
    (joined,) = told(house)
    assert (joined.event, joined.participant.identity, joined.participant.name) == ("participant_joined", "an", "An")
    assert joined.room.num_participants == 1
    sid = an.publish(microphone())
    (published,) = told(house)
    assert (published.event, published.track.sid, published.participant.sid) == ("track_published", sid, an.sid)
    an.ask(leave=rtc.LeaveRequest(), now=5.0)
    ended, left = told(house)
    assert (ended.event, ended.track.sid) == ("track_unpublished", sid)
    assert (left.event, left.participant.identity) == ("participant_left", "an")
    assert left.participant.disconnect_reason == models.DisconnectReason.CLIENT_INITIATED
    assert left.room.num_participants == 0
    house.sfu.tick(now=1000.0)
    (finished,) = told(house)
    assert (finished.event, finished.room_end_reason) == ("room_finished", Ended.ROOM_END_IDLE_TIMEOUT)
    assert finished.room.sid == started.room.sid


def test_who_goes_before_his_media_could_flow_has_never_joined(house: House) -> None:
    an = house.join("an")
    an.ask(leave=rtc.LeaveRequest())
    assert names(house) == ["room_started", "participant_connection_aborted"]


def test_who_replaces_himself_leaves_and_joins(house: House) -> None:
    house.join("an").connect()
    told(house)
    house.join("an").connect()
    left, joined = told(house)
    assert (left.event, joined.event) == ("participant_left", "participant_joined")
    assert left.participant.disconnect_reason == models.DisconnectReason.DUPLICATE_IDENTITY
    assert left.participant.sid != joined.participant.sid


def test_each_end_of_a_room_says_why(house: House) -> None:
    def end() -> models.RoomEndReason:
        reported: Any = told(house)[-1]
        assert reported.event == "room_finished"
        return reported.room_end_reason  # type: ignore[no-any-return]

    house.join("an")
    call(house, "DeleteRoom", room="ward")
    assert end() == Ended.ROOM_END_API_DELETE
    house.join("an")
    house.sfu.engine_event(house.engine, Event.WorkerDied("", None), now=0.0)
    assert end() == Ended.ROOM_END_UNKNOWN
    house.join("an")
    house.sfu.close(now=0.0)
    assert end() == Ended.ROOM_END_SERVER_SHUTDOWN


def test_a_promise_that_no_offer_carried_is_never_told(house: House) -> None:
    an = house.join("an")
    an.ask(add_track=microphone())
    an.ask(leave=rtc.LeaveRequest())
    assert not [name for name in names(house) if name.startswith("track")]


def test_a_track_says_who_and_no_more_of_him(house: House) -> None:
    an = house.join("an", metadata="m" * 8000)
    an.publish(microphone())
    (published,) = (each for each in told(house) if each.event == "track_published")
    assert published.ByteSize() < 1000


def test_nobody_is_told_of_a_network_check_and_no_list_shows_it(house: House) -> None:
    grants = house.sfu.verify(house.mint("an", "doctor"), wall=WALL)
    admission = house.sfu.admit(grants, join_request(), way=Way.UDP, wall=WALL)
    checking = house.sfu.join(ClientDouble(), admission, now=0.0)
    assert checking is not None
    assert list(call(house, "ListRooms").rooms) == []
    with pytest.raises(NotFound):
        call(house, "DeleteRoom", room=checking.room.name)
    house.sfu.close(now=0.0)
    assert names(house) == []
