"""Negotiation of voices: redundant audio, keys pressed, and the codecs that old devices offer by number alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d4e_sfu._engine import Codec
from d4e_sfu.core import sdp
from d4e_sfu.core.sdp import Direction, Payload
from tests.core.offers import OPUS, audio, mic, negotiation, offer_of, sections_of, voice

RED = Payload(63, "red", 48_000, 2, "111/111")
KEYS = (Payload(110, "telephone-event", 48_000), Payload(126, "telephone-event", 8_000, format="0-15"))
PCMU, PCMA = Payload(0, "PCMU", 8_000), Payload(8, "PCMA", 8_000)
NACKED = replace(OPUS, feedback=("transport-cc", "nack"))


def offered(*payloads: Payload, direction: Direction = Direction.SENDONLY) -> str:
    return offer_of(replace(audio("0", direction), payloads=payloads))


def numbers(answer_sdp: str) -> list[int]:
    return [payload.number for payload in sdp.parse(answer_sdp).sections[0].payloads]


def test_a_voice_that_offers_redundancy_is_asked_for_it_first_and_for_what_it_does_not_bring_again() -> None:
    answer = negotiation().answer(offered(NACKED, RED, *KEYS), pending=[mic()], outgoing=[])
    assert numbers(answer.sdp) == [63, 111, 110]
    section = sections_of(answer)["0"]
    assert section.payloads[0].format == "111/111"
    assert section.payloads[1].feedback == ("transport-cc", "nack")
    spec = answer.published[0].spec
    assert (spec.payload_type, spec.red_payload_type, spec.event_payload_type) == (111, 63, 110)
    assert spec.nack


@pytest.mark.parametrize(
    "red",
    [
        replace(RED, format="111/110"),
        replace(RED, format=""),
        replace(RED, channels=1),
        replace(RED, clock_rate=8_000),
        replace(RED, number=65),  # looks like RTCP
    ],
)
def test_redundancy_of_something_else_than_the_voice_is_not_accepted(red: Payload) -> None:
    answer = negotiation().answer(offered(NACKED, red), pending=[mic()], outgoing=[])
    assert numbers(answer.sdp) == [111]
    assert answer.published[0].spec.red_payload_type is None
    assert answer.published[0].spec.nack


def test_where_the_room_or_the_client_wants_no_redundancy_the_voice_is_plain() -> None:
    answer = negotiation().answer(offered(OPUS, RED), pending=[replace(mic(), red=False)], outgoing=[])
    assert numbers(answer.sdp) == [111]
    assert answer.published[0].spec.red_payload_type is None


def test_a_listener_gets_what_he_offers_under_his_own_numbers() -> None:
    opus, red, keys = replace(OPUS, number=9), replace(RED, number=35, format="9/9"), replace(KEYS[0], number=101)
    for payloads, found in (((opus, red, keys), (9, 35, 101)), ((opus,), (9, None, None))):
        answer = negotiation().answer(offered(*payloads, direction=Direction.RECVONLY), pending=[], outgoing=[voice(1)])
        spec = answer.placed[0].spec
        assert (spec.payload_type, spec.red_payload_type, spec.event_payload_type) == found


@pytest.mark.parametrize(
    ("payloads", "codec", "number", "keys"),
    [
        ((PCMU, *KEYS), Codec.Pcmu, 0, 126),
        ((PCMA,), Codec.Pcma, 8, None),
        ((Payload(0), Payload(8)), Codec.Pcmu, 0, None),  # RFC 3551: no rtpmap is needed
        ((Payload(8), Payload(0)), Codec.Pcma, 8, None),
        ((Payload(96, "pcma", 8_000),), Codec.Pcma, 96, None),
        ((PCMU, OPUS), Codec.Opus, 111, None),  # announced as Opus: the better one
    ],
)
def test_an_old_device_publishes_in_what_it_has(
    payloads: tuple[Payload, ...], codec: Codec, number: int, keys: int | None
) -> None:
    answer = negotiation().answer(offered(*payloads), pending=[mic()], outgoing=[])
    spec = answer.published[0].spec
    assert (spec.codec, spec.payload_type, spec.event_payload_type) == (codec, number, keys)
    assert (spec.red_payload_type, spec.rtx_payload_type) == (None, None)
    answered = sections_of(answer)["0"].payloads[0]
    assert (answered.number, bool(answered.name)) == (number, True)


@pytest.mark.parametrize(("codec", "number"), [(Codec.Pcmu, 0), (Codec.Pcma, 8)])
def test_an_old_voice_is_placed_where_its_codec_is_offered_and_nowhere_else(codec: Codec, number: int) -> None:
    out = replace(voice(1), codec=codec)
    for payloads in ((OPUS, PCMU, PCMA), (OPUS, Payload(0), Payload(8))):
        answer = negotiation().answer(offered(*payloads, direction=Direction.RECVONLY), pending=[], outgoing=[out])
        assert answer.placed[0].spec.payload_type == number
    answer = negotiation().answer(offered(OPUS, direction=Direction.RECVONLY), pending=[], outgoing=[out])
    assert answer.unsupported == [out.subscription]


def test_a_room_without_old_codecs_refuses_a_section_that_has_no_other() -> None:
    old = replace(audio("1", Direction.SENDONLY), payloads=(PCMU, PCMA))
    answer = negotiation([Codec.Opus]).answer(offer_of(audio("0"), old), pending=[mic()], outgoing=[])
    assert sections_of(answer)["1"].port == 0
    assert not answer.published
