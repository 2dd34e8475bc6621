"""Failures on demand: each happens to whoever asks, where a setting allows it, and is refused where none does."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc

from d4e_sfu.config import Config, Trial
from d4e_sfu.core.simulation import MAX_SPEECH
from d4e_sfu.core.speakers import RELEASE
from tests.conftest import MintToken
from tests.core.house import House, Person
from tests.core.test_room import satisfy
from tests.doubles import camera

Refusal = rtc.RequestResponse.Reason
Action = rtc.LeaveRequest.Action
SCENARIOS = [
    {"speaker_update": 3},
    {"node_failure": True},
    {"migration": True},
    {"server_leave": True},
    {"switch_candidate_protocol": rtc.CandidateProtocol.TCP},
    {"subscriber_bandwidth": 100_000},
    {"disconnect_signal_on_resume": True},
    {"disconnect_signal_on_resume_no_messages": True},
    {"leave_request_full_reconnect": True},
    {},
]


@pytest.fixture
def testing(config: Config, mint: MintToken) -> House:
    """Where failures may be asked for."""
    return House(config.model_copy(update={"testing": Trial(simulate=True)}), mint)


def simulate(person: Person, *, now: float = 0.0, **scenario: Any) -> None:
    person.ask(simulate=rtc.SimulateScenario(**scenario), now=now)


def connected(house: House, identity: str) -> Person:
    person = house.join(identity)
    person.connect()
    person.client.responses.clear()
    return person


def names(house: House) -> list[str]:
    return [event for event, _ in house.announcer.heard]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_simulated_unless_a_setting_allows_it(house: House, scenario: dict[str, Any]) -> None:
    assert not house.sfu._config.testing.simulate, "as it comes"
    an = connected(house, "an")
    simulate(an, **scenario)
    answer = an.client.last("request_response")
    assert answer.reason == Refusal.NOT_ALLOWED
    assert "testing.simulate" in answer.message
    (facts,) = [facts for event, facts in house.announcer.heard if event == "simulate_refused"]
    assert facts["scenario"] == next(iter(scenario), "none")
    house.sfu.tick(now=1.0)
    assert an.client.kinds() == []
    assert an.client.closed is None
    back = house.resume(an, now=2.0)
    assert back.client.closed is None


def test_he_speaks_for_so_long_and_everybody_is_told(testing: House) -> None:
    an, binh = connected(testing, "an"), connected(testing, "binh")
    an.publish(camera())
    an.client.responses.clear()
    simulate(an, speaker_update=3, now=1.0)
    for quarter in range(5, 13):
        testing.sfu.tick(now=quarter / 4)
    for person in (an, binh):
        told = [info for each in person.client.take("speakers_changed") for info in each.speakers]
        assert [(info.sid, info.active) for info in told[:1]] == [(an.sid, True)]
    for quarter in range(13, 18 + int(4 * RELEASE) + 4):
        testing.sfu.tick(now=quarter / 4)
    (ended,) = binh.client.last("speakers_changed").speakers
    assert (ended.sid, ended.active) == (an.sid, False)


@pytest.mark.parametrize("seconds", [-5, 2**31 - 1])
def test_nobody_speaks_for_ever(testing: House, seconds: int) -> None:
    an = connected(testing, "an")
    simulate(an, speaker_update=seconds)
    testing.sfu.tick(now=MAX_SPEECH + RELEASE + 1.0)
    testing.sfu.tick(now=MAX_SPEECH + RELEASE + 2.0)
    assert testing.sfu.rooms["ward"].speakers.dominant is None


def test_a_server_that_fails_says_nothing_and_has_nothing_to_resume(testing: House) -> None:
    an, binh = connected(testing, "an"), connected(testing, "binh")
    an.client.responses.clear()
    simulate(an, node_failure=True)
    assert an.client.kinds() == []
    assert an.client.closed == (1011, "simulated")
    (gone,) = binh.client.last("update").participants
    assert (gone.sid, gone.state) == (an.sid, models.ParticipantInfo.State.DISCONNECTED)
    back = testing.resume(an, now=1.0)
    assert back.client.last("leave").action == Action.RECONNECT


@pytest.mark.parametrize(
    ("scenario", "action"),
    [("server_leave", Action.DISCONNECT), ("leave_request_full_reconnect", Action.RECONNECT)],
)
def test_he_is_sent_away_for_good_or_to_join_again(testing: House, scenario: str, action: int) -> None:
    an = connected(testing, "an")
    asked: dict[str, Any] = {scenario: True}
    simulate(an, **asked)
    assert an.client.last("leave").action == action
    assert an.client.closed is not None
    assert testing.sfu.rooms["ward"].participants == {}


def test_his_link_carries_no_more_than_he_says_until_he_takes_it_back(testing: House) -> None:
    an, binh = connected(testing, "an"), connected(testing, "binh")
    sid = an.publish(camera())
    satisfy(binh)
    testing.sfu.tick(now=3.0)
    subscription = binh.participant.subscriptions[sid]
    assert subscription.layer()[0] == 2
    simulate(binh, subscriber_bandwidth=200_000, now=4.0)
    assert subscription.layer()[0] == 0
    simulate(binh, subscriber_bandwidth=1_000, now=5.0)
    assert subscription.layer()[0] is None
    assert binh.client.last("stream_state_update").stream_states[0].state == rtc.StreamState.PAUSED
    simulate(binh, subscriber_bandwidth=0, now=6.0)
    assert subscription.layer()[0] == 2


@pytest.mark.parametrize("heard", [True, False])
def test_the_next_resume_is_cut_before_or_after_a_word_was_said_and_the_one_after_it_is_not(
    testing: House, heard: bool
) -> None:
    an = connected(testing, "an")
    scenario: dict[str, Any] = {"disconnect_signal_on_resume" + ("" if heard else "_no_messages"): True}
    simulate(an, **scenario)
    testing.sfu.client_lost(an.participant, an.client, now=1.0)
    cut = testing.resume(an, now=1.5)
    assert cut.client.closed == (1011, "simulated")
    assert bool(cut.client.take("reconnect")) == heard
    if heard:
        testing.sfu.client_lost(an.participant, cut.client, now=1.6)
    back = testing.resume(an, now=2.0)
    assert back.client.closed is None
    assert back.client.take("reconnect")
    assert back.participant is an.participant


@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        ({"migration": True}, "only server"),
        ({"switch_candidate_protocol": rtc.CandidateProtocol.TLS}, "offered at once"),
        ({}, "no such scenario"),
    ],
)
def test_what_one_server_cannot_do_is_said(testing: House, scenario: dict[str, Any], word: str) -> None:
    an = connected(testing, "an")
    simulate(an, **scenario)
    answer = an.client.last("request_response")
    assert answer.reason == Refusal.UNSUPPORTED_TYPE
    assert word in answer.message
    assert an.client.closed is None
    assert "simulated" in names(testing)
