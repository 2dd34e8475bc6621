"""Which payload of an offered section is taken for a codec of several variants, and what is accepted beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d4e_sfu._engine import Codec, Extension
from d4e_sfu.core import payloads
from d4e_sfu.core.sdp import HeaderExtension, Payload, Section

ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
DEPENDENCY = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
EVERY = (Codec.Vp8, Codec.H264, Codec.Vp9, Codec.Av1)
# As Chromium offers them: what it sends, and what it only receives.
OFFERED = (
    Payload(45, "AV1", 90_000, format="level-idx=5;profile=0;tier=0"),
    Payload(47, "AV1", 90_000, format="level-idx=5;profile=1;tier=0"),
    Payload(100, "VP9", 90_000, format="profile-id=2"),
    Payload(98, "VP9", 90_000, format="profile-id=0"),
    Payload(99, "rtx", 90_000, format="apt=98"),
)


def section(*offered: Payload) -> Section:
    return Section(kind="video", protocol="UDP/TLS/RTP/SAVPF", payloads=offered or OFFERED)


@pytest.mark.parametrize(
    ("codec", "offered", "number"),
    [
        (Codec.Vp9, OFFERED, 98),
        (Codec.Av1, OFFERED, 45),
        # Where nothing is said it is profile 0, main tier.
        (Codec.Vp9, (Payload(35, "VP9", 90_000),), 35),
        (Codec.Av1, (Payload(35, "AV1", 90_000),), 35),
        # Not every subscriber could decode these.
        (Codec.Vp9, (Payload(100, "VP9", 90_000, format="profile-id=2"),), None),
        (Codec.Av1, (Payload(47, "AV1", 90_000, format="profile=1"),), None),
        (Codec.Av1, (Payload(47, "AV1", 90_000, format="tier=1"),), None),
    ],
)
def test_only_what_every_decoder_of_the_codec_takes_is_published(
    codec: Codec, offered: tuple[Payload, ...], number: int | None
) -> None:
    choice = payloads.publishable(section(*offered), EVERY, codec)
    assert (choice and choice.media.number) == number


@pytest.mark.parametrize(
    ("codec", "stream", "number"),
    [
        (Codec.Vp9, "profile-id=0", 98),
        (Codec.Vp9, "", 98),
        (Codec.Vp9, "profile-id=2", 100),
        (Codec.Vp9, "profile-id=1", None),
        (Codec.Av1, "level-idx=8;profile=0;tier=0", 45),  # levels may differ
        (Codec.Av1, "", 45),
        (Codec.Av1, "profile=1", 47),
        (Codec.Av1, "profile=0;tier=1", None),
    ],
)
def test_a_subscriber_receives_under_a_payload_type_that_can_decode_it(
    codec: Codec, stream: str, number: int | None
) -> None:
    choice = payloads.subscribable(section(), codec, stream)
    assert (choice and choice.media.number) == number


@pytest.mark.parametrize(
    ("published", "accepted"),
    [(None, True), (Codec.Av1, True), (Codec.Vp9, True), (Codec.H264, True), (Codec.Vp8, False)],
)
def test_vp8_tells_of_its_layers_by_its_own_descriptor_alone(published: Codec | None, accepted: bool) -> None:
    offered = Section(kind="video", protocol="UDP/TLS/RTP/SAVPF", extensions=(HeaderExtension(12, DEPENDENCY),))
    ids: dict[Extension, int] = {}
    choice = payloads.Choice(Codec.Vp8, Payload(96, "VP8", 90_000), None)
    assert bool(payloads.extensions(offered, ids, choice=choice, published=published)) == accepted
    assert ids == ({Extension.DependencyDescriptor: 12} if accepted else {})


def test_remb_is_agreed_on_only_with_those_who_know_no_transport_wide_feedback() -> None:
    both = Payload(96, "VP8", 90_000, feedback=("goog-remb", "transport-cc", "nack"))
    alone = replace(both, feedback=("goog-remb", "nack"))
    for payload, feedback in ((both, ("transport-cc", "nack")), (alone, ("goog-remb", "nack"))):
        choice = payloads.subscribable(section(payload), Codec.Vp8, "")
        assert choice is not None
        assert choice.media.feedback == feedback
        # What libwebrtc estimates by for REMB, and nothing else needs.
        ids: dict[Extension, int] = {}
        timed = replace(section(payload), extensions=(HeaderExtension(2, ABS_SEND_TIME),))
        payloads.extensions(timed, ids, choice=choice)
        assert ids == ({} if payload is both else {Extension.AbsSendTime: 2})
