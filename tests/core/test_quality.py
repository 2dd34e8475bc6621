"""How good a link is said to be, which leg is to blame, and for what."""

from __future__ import annotations

import json

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Estimate, Event, Leg, Link
from d4e_sfu.core.audience import QUALITY_TOPIC
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.quality import (
    BUSY,
    DUMB_TIMES,
    INTERVAL,
    PATIENCE,
    SILENT_MS,
    UNHEARD_TIMES,
    Cause,
    Quality,
    Word,
)
from tests.core.house import House, Person, join_request
from tests.doubles import microphone

RATE = 250  # packets between two judgements


class Wire:
    """Somebody's link: what went over it since it began."""

    def __init__(self, transport: int = 1) -> None:
        self.transport = transport
        self._up = [0, 0]
        self._down = [0, 0]
        self._sent = 0

    def link(
        self,
        *,
        up: float = 0.0,
        down: float = 0.0,
        packets: int = RATE,
        reported: bool = True,
        jitter: tuple[int, int] = (0, 0),
        queue: int = 0,
        silent_ms: int = 0,
        round_trip_ms: int | None = None,
    ) -> Link:
        """After a while with these shares of loss."""
        self._up = [self._up[0] + packets, self._up[1] + round(packets * up)]
        self._sent += packets
        if reported:
            self._down = [self._down[0] + packets, self._down[1] + round(packets * down)]
        return Link(
            transport=self.transport,
            up=Leg(expected=self._up[0], lost=self._up[1], jitter_ms=jitter[0], queue_ms=queue),
            down=Leg(expected=self._down[0], lost=self._down[1], jitter_ms=jitter[1]),
            sent=self._sent,
            silent_ms=silent_ms,
            round_trip_ms=round_trip_ms,
        )


def judged(*links: Link, quality: Quality | None = None) -> tuple[int, str]:
    """The word and the leg after these."""
    quality = quality or Quality()
    for link in links:
        quality.measure(link)
        quality.judge()
    assert quality.judgement is not None
    return quality.judgement.word, quality.judgement.leg


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({}, (Word.EXCELLENT, "")),
        ({"up": 0.01, "down": 0.01, "round_trip_ms": 60}, (Word.EXCELLENT, "")),
        ({"up": 0.08}, (Word.GOOD, "up")),
        ({"down": 0.08}, (Word.GOOD, "down")),
        ({"up": 0.3}, (Word.POOR, "up")),
        ({"down": 0.3, "up": 0.02}, (Word.POOR, "down")),
        ({"up": 0.3, "down": 0.3}, (Word.POOR, "both")),
        ({"jitter": (300, 5)}, (Word.POOR, "up")),
        ({"jitter": (5, 150)}, (Word.GOOD, "down")),
        ({"round_trip_ms": 900}, (Word.POOR, "both")),
        ({"silent_ms": SILENT_MS}, (Word.LOST, "up")),
        ({"packets": 10, "up": 0.1}, (Word.EXCELLENT, "")),  # one lost of a silent voice's ten
    ],
)
def test_the_worse_leg_is_found_and_named(what: dict[str, object], expected: tuple[int, str]) -> None:
    wire = Wire()
    assert judged(wire.link(), wire.link(**what)) == expected  # type: ignore[arg-type]


def blamed(quality: Quality) -> tuple[str, Cause]:
    assert quality.judgement is not None
    return quality.judgement.leg, quality.judgement.cause


@pytest.mark.parametrize(
    ("what", "queue_ms", "expected"),
    [
        ({"up": 0.2}, 0, ("up", Cause.LOSS)),
        ({"down": 0.2}, 0, ("down", Cause.LOSS)),
        ({"up": 0.2, "jitter": (80, 5)}, 0, ("up", Cause.QUEUE)),
        ({"up": 0.2, "queue": 300}, None, ("up", Cause.QUEUE)),
        ({"round_trip_ms": 440, "queue": 400}, None, ("up", Cause.QUEUE)),
        ({"round_trip_ms": 440, "queue": 5}, None, ("down", Cause.QUEUE)),
        ({"round_trip_ms": 40}, 400, ("down", Cause.QUEUE)),
        ({"down": 0.2, "round_trip_ms": 340}, 300, ("down", Cause.QUEUE)),
        ({"down": 0.01, "round_trip_ms": 60}, 5, ("", Cause.NONE)),
    ],
)
def test_the_cause_is_found_and_named(
    what: dict[str, object], queue_ms: int | None, expected: tuple[str, Cause]
) -> None:
    wire, quality = Wire(), Quality()
    for _ in range(3):
        quality.measure(wire.link(round_trip_ms=40))
        quality.judge()
    if queue_ms is not None:
        estimate = {"transport": 1, "bitrate": 300_000, "loss": 0, "limited": False}
        quality.estimated(Estimate(queue_ms=queue_ms, **estimate))  # type: ignore[arg-type]
        quality.estimated(Estimate(queue_ms=0, **estimate))  # type: ignore[arg-type]
    judged(wire.link(**what), quality=quality)  # type: ignore[arg-type]
    assert blamed(quality) == expected


def test_a_way_that_has_become_longer_for_good_is_nobodys_queue() -> None:
    wire, quality = Wire(), Quality()
    judged(wire.link(round_trip_ms=40), wire.link(round_trip_ms=40), quality=quality)
    for _ in range(40):
        judged(wire.link(round_trip_ms=600), quality=quality)
    assert blamed(quality) == ("both", Cause.NONE)


def later(link: Link, *, silent_ms: int) -> Link:
    """The same, as nothing has come since."""
    return Link(
        transport=link.transport, up=link.up, down=link.down, sent=link.sent, silent_ms=silent_ms, round_trip_ms=None
    )


def test_whose_voice_is_on_and_who_sends_nothing_is_to_blame_himself() -> None:
    wire, quality = Wire(), Quality()
    judged(wire.link(), wire.link(), quality=quality)
    stuck = wire.link()
    for turn in range(1, DUMB_TIMES + 2):
        quality.measure(later(stuck, silent_ms=500 + turn))
        quality.judge(sends=True)
        assert blamed(quality) == (("up", Cause.SENDER) if turn > DUMB_TIMES else ("", Cause.NONE))
    silent = Quality()
    for turn in range(10):
        silent.measure(later(stuck, silent_ms=500 + turn))
        silent.judge(sends=False)
    assert blamed(silent) == ("", Cause.NONE), "who is muted owes nothing"


def test_a_worker_without_time_is_to_blame_for_what_is_lost_before_it() -> None:
    for busy, expected in ((BUSY, ("", Cause.SERVER)), (0.5, ("up", Cause.LOSS)), (None, ("up", Cause.LOSS))):
        wire, quality = Wire(), Quality()
        judged(wire.link(), wire.link(), quality=quality)
        quality.measure(wire.link(up=0.3))
        quality.judge(busy=busy)
        assert blamed(quality) == expected


def test_reports_that_come_every_five_seconds_are_waited_for() -> None:
    wire, quality = Wire(), Quality()
    judged(wire.link(down=0.2), wire.link(down=0.2), quality=quality)
    for _ in range(2):
        assert judged(wire.link(reported=False), quality=quality) == (Word.POOR, "down")
    assert judged(wire.link(down=0.2), quality=quality) == (Word.POOR, "down")


def test_the_score_falls_with_every_fault() -> None:
    scores = []
    for loss in (0.0, 0.03, 0.08, 0.2, 0.5, 1.0):
        wire, quality = Wire(), Quality()
        judged(wire.link(), wire.link(up=loss), quality=quality)
        assert quality.judgement is not None
        scores.append(quality.judgement.score)
    assert scores == sorted(scores, reverse=True)
    assert 4.3 < scores[0] <= 4.5
    assert scores[-1] == 1.0


def test_what_was_before_does_not_count() -> None:
    wire = Wire()
    assert judged(wire.link(up=0.5), wire.link()) == (Word.EXCELLENT, "")


def test_it_falls_at_once_and_rises_when_it_has_stayed_better() -> None:
    wire, quality = Wire(), Quality()
    assert judged(wire.link(), wire.link(up=0.3), quality=quality)[0] == Word.POOR
    for _ in range(10):  # good and bad by turns is bad
        assert judged(wire.link(), quality=quality)[0] == Word.POOR
        assert judged(wire.link(up=0.3), quality=quality)[0] == Word.POOR
    for turn in range(1, PATIENCE + 1):
        word, _ = judged(wire.link(), quality=quality)
        assert word == (Word.EXCELLENT if turn == PATIENCE else Word.POOR)


def test_who_acknowledges_nothing_of_what_he_is_sent_receives_nothing() -> None:
    wire, quality = Wire(), Quality()
    judged(wire.link(), wire.link(), quality=quality)
    for turn in range(1, UNHEARD_TIMES + 1):
        found = judged(wire.link(reported=False), quality=quality)
        assert found == ((Word.LOST, "down") if turn == UNHEARD_TIMES else (Word.EXCELLENT, ""))
    for _ in range(PATIENCE - 1):
        judged(wire.link(), quality=quality)
    assert judged(wire.link(), quality=quality) == (Word.EXCELLENT, "")


def test_a_client_that_never_reports_is_not_called_lost() -> None:
    wire = Wire()
    assert judged(*(wire.link(reported=False) for _ in range(10))) == (Word.EXCELLENT, "")


# --- in a room -------------------------------------------------------------------------------------------------------


def connected(house: House, identity: str, **more: object) -> Person:
    person = house.join(identity, **more)  # type: ignore[arg-type]
    person.connect()
    for kind in DataKind:
        house.sfu.data_ready(person.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    return person


def words(person: Person) -> list[tuple[str, int]]:
    told = person.client.take("connection_quality")
    return [(each.participant_sid, each.quality) for message in told for each in message.updates]


def legs(person: Person) -> list[tuple[str, str, str]]:
    """What came on the data topic."""
    sent, house = [], person.house
    for transport, kind, payload in house.associations.sent:
        if transport == person.participant.transport:
            packet = models.DataPacket.FromString(payload)
            assert (kind, packet.user.topic) == (DataKind.RELIABLE, QUALITY_TOPIC)
            assert not packet.participant_identity, "it is nobody's but the server's"
            sent += [
                (each["participant"], each["leg"], each["cause"]) for each in json.loads(packet.user.payload)["updates"]
            ]
    house.associations.sent = [each for each in house.associations.sent if each[0] != person.participant.transport]
    return sent


class Weather:
    """The links of several people, one judgement after the other."""

    def __init__(self, *people: Person) -> None:
        self.house = people[0].house
        self.wires = {person.sid: Wire(int(person.participant.transport or 0)) for person in people}
        self.now = 0.0

    def pass_by(self, **more: object) -> None:
        """`more`: by identity, what is wrong with his link."""
        for room in self.house.sfu.rooms.values():
            people = {participant.identity: participant.sid for participant in room.participants.values()}
        links = [self.wires[sid].link(**more.get(identity, {})) for identity, sid in people.items()]  # type: ignore[arg-type]
        self.now += INTERVAL
        self.house.sfu.engine_event(self.house.engine, Event.Links(links), now=self.now)
        self.house.sfu.tick(now=self.now)


def test_he_himself_and_those_who_receive_him_are_told_with_the_leg_and_nobody_else(house: House) -> None:
    an, binh = connected(house, "an"), connected(house, "binh")
    chi = connected(house, "chi", request=join_request(auto_subscribe=False))
    an.publish(microphone())
    weather = Weather(an, binh, chi)
    weather.pass_by()
    weather.pass_by()
    assert words(an) == [(an.sid, Word.EXCELLENT)]
    assert sorted(words(binh)) == sorted([(an.sid, Word.EXCELLENT), (binh.sid, Word.EXCELLENT)])
    assert words(chi) == [(chi.sid, Word.EXCELLENT)]
    assert legs(an) == legs(binh) == legs(chi) == [], "nothing to blame, nothing to say"
    weather.pass_by(an={"up": 0.3})
    assert words(an) == words(binh) == [(an.sid, Word.POOR)]
    assert legs(an) == legs(binh) == [(an.sid, "up", "loss")]
    assert words(chi) == []
    assert legs(chi) == []
    weather.pass_by(an={"up": 0.3})
    assert words(an) == words(binh) == [], "nothing has changed"
    assert legs(an) == legs(binh) == []
    weather.pass_by(an={"down": 0.3})
    assert words(an) == []
    assert legs(an) == [(an.sid, "down", "loss")]
    for _ in range(PATIENCE):
        weather.pass_by()
    assert words(an) == [(an.sid, Word.EXCELLENT)]
    assert legs(an) == [(an.sid, "", "")]


def test_whoever_begins_to_receive_someone_hears_how_good_his_link_is(house: House) -> None:
    an, binh = connected(house, "an"), connected(house, "binh", request=join_request(auto_subscribe=False))
    sid = an.publish(microphone())
    weather = Weather(an, binh)
    weather.pass_by()
    weather.pass_by(an={"up": 0.3})
    words(binh)
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True), now=weather.now)
    weather.pass_by(an={"up": 0.3})
    assert words(binh) == [(an.sid, Word.POOR)]
    assert legs(binh) == [(an.sid, "up", "loss")]


def test_an_operator_sees_the_leg_and_its_figures(house: House) -> None:
    an = connected(house, "an")
    weather = Weather(an)
    weather.pass_by()
    weather.pass_by(an={"down": 0.2, "jitter": (3, 40), "round_trip_ms": 80})
    state = house.sfu.debug_room("ward")
    assert state is not None
    seen = state["participants"][0]["quality"]
    assert (seen["word"], seen["leg"], seen["cause"], seen["round_trip_ms"]) == ("poor", "down", "loss", 80)
    assert seen["down"]["loss_percent"] == 20.0
    assert seen["down"]["jitter_ms"] == 40
    assert seen["up"]["loss_percent"] == 0.0
