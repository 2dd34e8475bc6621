"""What participants send each other: in whose name, to whom, and what goes nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from d4e_sfu.config import Config, DataLimits, Limits
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.datapacket import HELD_BYTES, HELD_SECONDS, MAX_DEBT, REFUSALS
from tests.conftest import KEY, MintToken
from tests.core.house import House, Person

RELIABLE, LOSSY = DataKind.RELIABLE, DataKind.LOSSY


def packet(**fields: Any) -> bytes:
    if not any(field in fields for field in ("user", "chat_message", "metrics", "transcription", "speaker")):
        fields["user"] = models.UserPacket(payload=b"hello")
    return models.DataPacket(**fields).SerializeToString()


def open_channels(*people: Person, now: float = 0.0) -> None:
    for person in people:
        person.connect(now=now)
        for kind in DataKind:
            person.house.sfu.data_ready(person.participant.transport, kind, now=now)  # type: ignore[arg-type]


def send(person: Person, payload: bytes, kind: DataKind = RELIABLE, *, now: float = 0.0) -> int:
    return person.house.sfu.data_received(person.participant.transport, kind, payload, now=now).deliveries  # type: ignore[arg-type]


def received(person: Person) -> list[models.DataPacket]:
    """What he got since the last look."""
    sent = person.house.associations.sent
    mine = [each for each in sent if each[0] == person.participant.transport]
    person.house.associations.sent = [each for each in sent if each not in mine]
    return [models.DataPacket.FromString(payload) for _, _, payload in mine]


def test_everyone_else_receives_it_signed_by_the_server(house: House) -> None:
    an, binh, chi = people = [house.join(identity) for identity in ("an", "binh", "chi")]
    open_channels(*people)
    forged = models.UserPacket(payload=b"x", participant_sid="PA_forged", participant_identity="chi")
    send(an, packet(user=forged, participant_sid="PA_forged", participant_identity="chi", kind=1))
    for person in (binh, chi):
        (got,) = received(person)
        assert (got.participant_sid, got.participant_identity) == (an.sid, "an")
        assert (got.user.participant_sid, got.user.participant_identity) == (an.sid, "an")
        assert got.kind == models.DataPacket.Kind.RELIABLE
        assert got.user.payload == b"x"
    assert received(an) == []


def test_a_message_costs_its_sender_as_many_deliveries_as_it_has(house: House) -> None:
    people = [house.join(f"person-{n}") for n in range(5)]
    open_channels(*people)
    assert send(people[0], packet()) == 4
    assert send(people[0], packet(destination_identities=["person-3"])) == 1
    assert send(people[0], packet(destination_identities=["nobody"])) == 0
    assert send(people[0], b"\xff") == 0  # refused


@pytest.mark.parametrize("how", ["identities", "user identities", "user sids"])
def test_what_is_for_one_reaches_one(house: House, how: str) -> None:
    an, binh, chi = people = [house.join(identity) for identity in ("an", "binh", "chi")]
    open_channels(*people)
    if how == "identities":
        send(an, packet(destination_identities=["binh", "nobody"]))
    elif how == "user identities":
        send(an, packet(user=models.UserPacket(payload=b"x", destination_identities=["binh"])))
    else:
        send(an, packet(user=models.UserPacket(payload=b"x", destination_sids=[binh.sid])))
    assert len(received(binh)) == 1
    assert received(chi) == []


def test_other_rooms_hear_nothing(house: House) -> None:
    an, binh = house.join("an", room="one"), house.join("binh", room="two")
    open_channels(an, binh)
    send(an, packet())
    send(an, packet(destination_identities=["binh"]))
    assert received(binh) == []


def test_a_reliable_packet_sent_again_is_not_heard_again(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an, binh)
    for sequence in (1, 2, 2, 1, 3, 3):
        send(an, packet(sequence=sequence))
    assert [got.sequence for got in received(binh)] == [1, 2, 3]
    send(an, packet(sequence=1), LOSSY)
    send(an, packet())
    assert len(received(binh)) == 2


def test_who_may_not_send_data_reaches_nobody(house: House) -> None:
    observer, binh = house.join("observer", "observer"), house.join("binh")
    open_channels(observer, binh)
    send(observer, packet())
    assert received(binh) == []
    assert ("data_refused", {"reason": "not_permitted"}) in house.announcer.heard


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff" * 100, "malformed"),
        (b"", "kind_not_relayed"),
        (packet(metrics={}), "kind_not_relayed"),
        (packet(speaker={}), "kind_not_relayed"),
        (packet(transcription=models.Transcription(transcribed_participant_identity="binh")), "kind_not_relayed"),
        (packet(user=models.UserPacket(payload=b"x" * 70_000)), "too_large"),
    ],
)
def test_what_a_participant_must_not_say_goes_nowhere(house: House, payload: bytes, reason: str) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an, binh)
    send(an, payload)
    assert received(binh) == []
    assert ("data_refused", {"reason": reason}) in house.announcer.heard


def test_reliable_data_waits_for_a_joiner_whose_channel_is_not_open_yet(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an)
    for sequence in (1, 2, 3):
        send(an, packet(sequence=sequence), now=1.0)
    send(an, packet(), LOSSY, now=1.0)
    assert received(binh) == []
    open_channels(binh, now=2.0)
    assert [got.sequence for got in received(binh)] == [1, 2, 3]


def test_what_waits_too_long_or_is_too_much_is_dropped(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an)
    send(an, packet(sequence=1), now=0.0)
    for sequence in range(2, 20):
        send(an, packet(sequence=sequence, user=models.UserPacket(payload=b"x" * 60_000)), now=HELD_SECONDS)
    assert binh.participant.mail.held_bytes <= HELD_BYTES
    open_channels(binh, now=HELD_SECONDS + 1)
    got = [each.sequence for each in received(binh)]
    assert got == [16, 17, 18, 19]


def test_what_waits_is_heard_in_order_before_what_comes_later(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an)
    binh.connect(now=1.0)
    for sequence in range(1, 11):
        send(an, packet(sequence=sequence), now=1.0 + sequence / 10)
    open_channels(binh, now=2.5)
    send(an, packet(sequence=11), now=2.5)
    assert [got.sequence for got in received(binh)] == list(range(1, 12))
    open_channels(binh, now=3.0)
    assert received(binh) == [], "once"


def test_what_waits_for_someone_without_channels_does_not_stay(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    open_channels(an)
    send(an, packet(user=models.UserPacket(payload=b"x" * 60_000)), now=1.0)
    send(an, packet(), now=1.0 + HELD_SECONDS + 0.1)
    assert 0 < binh.participant.mail.held_bytes < 1000


# --- limits ----------------------------------------------------------------------------------------------------------


def limited(mint: MintToken, **limits: Any) -> tuple[House, Person, Person]:
    house = House(Config(keys=(KEY,), limits=Limits(data=DataLimits(**limits))), mint)
    an, binh = house.join("an"), house.join("binh")
    open_channels(an, binh)
    return house, an, binh


def refused(house: House) -> list[object]:
    return [facts["reason"] for event, facts in house.announcer.heard if event == "data_refused"]


def test_the_largest_packet_is_the_operators_to_say(mint: MintToken) -> None:
    house, an, binh = limited(mint, packet=2048)
    send(an, packet(user=models.UserPacket(payload=b"x" * 2100)))
    assert (received(binh), refused(house)) == ([], ["too_large"])
    send(an, packet(user=models.UserPacket(payload=b"x" * 1900)))
    assert len(received(binh)) == 1


@pytest.mark.parametrize("limits", [{"packets_per_second": 20}, {"bytes_per_second": 20 * 1024}])
def test_lossy_packets_beyond_the_rate_are_dropped_and_counted(mint: MintToken, limits: dict[str, int]) -> None:
    house, an, binh = limited(mint, packet=1024, burst="2s", **limits)
    payload = packet(user=models.UserPacket(payload=b"x" * 1000))
    size = 1024 if "bytes_per_second" in limits else len(payload)
    for hundredth in range(1000):  # ten seconds, five times as many as he may
        send(an, payload, LOSSY, now=hundredth / 100)
    passed = len(received(binh))
    assert passed == pytest.approx(20 * (10 + 2) * size / len(payload), abs=3)
    assert refused(house) == ["too_fast"] * (1000 - passed)
    assert set(refused(house)) <= set(REFUSALS)


def test_whoever_sends_reliably_is_slowed_down_and_loses_nothing(mint: MintToken) -> None:
    house, an, binh = limited(mint, packets_per_second=1000, bytes_per_second=64 * 1024)
    payload = packet(user=models.UserPacket(payload=b"x" * 15_000))
    now = 0.0
    for _ in range(200):  # as fast as his association lets him
        taken = house.sfu.data_received(an.participant.transport, RELIABLE, payload, now=now)  # type: ignore[arg-type]
        assert taken.deliveries == 1
        now += taken.pause
    assert len(received(binh)) == 200
    assert refused(house) == []
    assert now == pytest.approx(200 * len(payload) / (64 * 1024) - 2.0, abs=0.5)


def test_whoever_cannot_be_slowed_down_is_refused(mint: MintToken) -> None:
    house, an, binh = limited(mint, packets_per_second=100, burst="1s")
    for _ in range(10_000):
        send(an, packet(), now=1.0)
    assert len(received(binh)) <= 100 * (1 + MAX_DEBT) + 1
    assert set(refused(house)) == {"too_fast"}
    send(an, packet(), now=20.0)
    assert len(received(binh)) == 1


def test_one_senders_flood_costs_the_others_nothing(mint: MintToken) -> None:
    house, an, binh = limited(mint, packets_per_second=10)
    for _ in range(1000):
        send(an, packet(), LOSSY)
    received(binh)
    assert send(binh, packet(), LOSSY) == 1
    assert len(received(an)) == 1
    assert house.sfu.rooms["ward"].participants.keys() == {"an", "binh"}


def test_nothing_arrives_in_the_name_of_the_hidden(config: Config, mint: MintToken) -> None:
    role = config.roles["doctor"].model_copy(update={"hidden": True})
    house = House(config.model_copy(update={"roles": {**config.roles, "inspector": role}}), mint)
    inspector, binh = house.join("inspector", "inspector", video={"hidden": True}), house.join("binh")
    open_channels(inspector, binh)
    send(inspector, packet(participant_identity="binh"))
    (got,) = received(binh)
    assert (got.participant_sid, got.participant_identity, got.user.participant_identity) == ("", "", "")


@settings(deadline=None)  # a busy machine is not a finding
@given(payload=st.binary(max_size=300), kind=st.sampled_from(DataKind))
def test_no_bytes_raise(payload: bytes, kind: DataKind) -> None:
    from d4e_sfu.core import tokens
    from tests.conftest import WALL

    def mint(identity: str, role: str | None = None, *, room: str = "ward", now: float = WALL) -> str:
        return tokens.mint(KEY, identity=identity, room=room, role=role, now=now)

    house = House(Config(keys=(KEY,)), mint)
    an, binh = house.join("an"), house.join("binh")
    open_channels(an, binh)
    send(an, payload, kind)
    assert an.client.closed is None
