"""Tokens that are taken back while people are in a call with them: who came with one goes, and nobody else."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command
from d4e_sfu.config import Config
from d4e_sfu.core import tokens
from d4e_sfu.core.netcheck import Way
from d4e_sfu.core.refresh import INTERVAL
from d4e_sfu.errors import Unauthorized
from tests.conftest import WALL
from tests.core.house import House, join_request
from tests.doubles import ClientDouble, microphone

Reason = models.DisconnectReason


def revoking(house: House, *names: str) -> Config:
    """The same configuration, with these in its list."""
    config = house.sfu._config.model_copy()
    config._revoked = frozenset(names)
    return config


def test_a_call_that_was_joined_with_it_ends_and_he_is_told_why(house: House) -> None:
    an, binh = house.join("an", "doctor"), house.join("binh", "doctor")
    for person in (an, binh):
        person.connect()
    an.publish(microphone())
    transport = an.participant.transport
    for person in (an, binh):
        person.client.responses.clear()
    config = revoking(house, tokens.token_id(house.mint("an", "doctor")))

    assert house.sfu.reconfigure(config, now=7.0) == 1
    leave = an.client.last("leave")
    assert (leave.reason, leave.action) == (Reason.PARTICIPANT_REMOVED, rtc.LeaveRequest.Action.DISCONNECT)
    assert an.client.closed == (1008, "the token was taken back")
    assert list(house.sfu.rooms["ward"].participants) == ["binh"]
    assert binh.client.closed is None
    (gone,) = binh.client.last("update").participants
    assert (gone.sid, gone.state) == (an.sid, models.ParticipantInfo.State.DISCONNECTED)
    assert gone.disconnect_reason == Reason.PARTICIPANT_REMOVED
    removed = [each.transport for each in house.engine.commands if isinstance(each, Command.RemoveTransport)]
    assert removed == [transport]
    (facts,) = [facts for event, facts in house.announcer.heard if event == "participant_left"]
    assert (facts["identity"], facts["reason"]) == ("an", "token_revoked")
    assert house.announcer.reported[-1].participant.disconnect_reason == Reason.PARTICIPANT_REMOVED

    assert house.sfu.reconfigure(config, now=8.0) == 0, "once"
    with pytest.raises(Unauthorized):
        house.join("an", "doctor")


@pytest.mark.parametrize("by", ["hash", "id"])
def test_a_token_with_an_id_is_taken_back_by_either_and_what_was_made_from_it_as_well(house: House, by: str) -> None:
    an = house.join("an", id="visit-9")
    an.connect()
    house.sfu.tick(now=INTERVAL)
    fresh = str(an.client.last("refresh_token"))
    first = tokens.token_id(house.mint("an", id="visit-9"))
    config = revoking(house, first if by == "hash" else "visit-9")
    assert house.sfu.reconfigure(config, now=INTERVAL + 1) == 1
    assert an.client.closed is not None
    with pytest.raises(Unauthorized) as refused:
        house.sfu.verify(fresh, wall=WALL + INTERVAL + 1)
    assert refused.value.rule == "revoked"


def test_who_is_away_does_not_come_back(house: House) -> None:
    an = house.join("an")
    an.connect()
    house.sfu.client_lost(an.participant, an.client, now=1.0)
    assert house.sfu.reconfigure(revoking(house, tokens.token_id(house.mint("an"))), now=2.0) == 1
    assert "an" not in house.sfu.rooms["ward"].participants


@pytest.mark.parametrize("way", [None, Way.SEND])
def test_whoever_was_let_in_a_moment_before_is_turned_away(house: House, way: Way | None) -> None:
    grants = house.sfu.verify(house.mint("an"), wall=WALL)
    admission = house.sfu.admit(grants, join_request(), way=way, wall=WALL)
    house.sfu.reconfigure(revoking(house, grants.id), now=0.0)
    client = ClientDouble()
    assert house.sfu.join(client, admission, now=0.0) is None
    assert client.last("leave").reason == Reason.PARTICIPANT_REMOVED
    assert client.closed == (1008, tokens.NOT_ACCEPTED)
    assert house.sfu.rooms == {}


def test_another_token_for_the_same_person_is_another_token(house: House) -> None:
    an = house.join("an", id="visit-2")
    assert house.sfu.reconfigure(revoking(house, "visit-1", tokens.token_id(house.mint("an"))), now=1.0) == 0
    assert an.client.closed is None
