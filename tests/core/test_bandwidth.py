"""Estimates in, layers out: what the engine and the clients are told when a link does not carry everything."""

from __future__ import annotations

import json

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Estimate, Event, Rate, Voice
from d4e_sfu.config import Config, Links, Role, RoomRule, Source
from d4e_sfu.core.allocator import HOLD
from d4e_sfu.core.bandwidth import LOOK, LOOK_SHORT, NO_ESTIMATE, SLOW, STREAMS_TOPIC, UNKNOWN
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.encodings import DELAY
from d4e_sfu.core.sections import SPARING
from d4e_sfu.core.subscription import PINNED
from tests.conftest import KEY, MintToken
from tests.core.house import House, Person
from tests.doubles import camera, microphone

Quality = models.VideoQuality
WHOLE = 4_000_000


def connected(house: House, identity: str, role: str | None = None) -> Person:
    person = house.join(identity, role)
    person.connect()
    for kind in DataKind:
        house.sfu.data_ready(person.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    return person


def satisfy(person: Person, *, now: float = 0.0) -> None:
    """Answers what it is asked for, until nothing is missing."""
    person.house.sfu.tick(now=now)
    for required in person.client.take("media_sections_requirement"):
        person.description.add_receiving("audio", required.num_audios)
        person.description.add_receiving("video", required.num_videos)
        person.offer(now=now)
    now += 0.4
    person.house.sfu.tick(now=now)
    if "media_sections_requirement" in person.client.kinds():
        satisfy(person, now=now)


def estimate(viewer: Person, bitrate: int, *, redundancy: int = 0, copies: int = 0, loss: int = 0, now: float) -> None:
    transport = int(viewer.participant.transport or 0)
    told = Estimate(transport=transport, bitrate=bitrate, redundancy=redundancy, copies=copies, loss=loss)
    viewer.house.sfu.engine_event(viewer.house.engine, Event.Estimates([told]), now=now)


def measured(publisher: Person, *, now: float) -> None:
    """His voice at 50, his picture at 150, 500 and 1700 kbit/s."""
    rates = []
    for publication in publisher.participant.publications.values():
        bitrates = (150_000, 500_000, 1_700_000) if publication.is_video else (50_000,)
        rates += [
            Rate(publication=publication.id, encoding=n, layers=[(0, 0, bitrate)]) for n, bitrate in enumerate(bitrates)
        ]
    publisher.house.sfu.engine_event(publisher.house.engine, Event.Rates(rates), now=now)


def layers(viewer: Person, *sids: str) -> list[int | None]:
    """What the engine was told last of these subscriptions."""
    return [viewer.participant.subscriptions[sid].steered[0] for sid in sids]


def told(viewer: Person) -> tuple[dict[str, int], dict[str, str]]:
    """By sid: stream states, and reasons."""
    states = {
        each.track_sid: each.state
        for message in viewer.client.take("stream_state_update")
        for each in message.stream_states
    }
    sent = viewer.house.associations.sent
    packets = [models.DataPacket.FromString(payload) for to, _, payload in sent if to == viewer.participant.transport]
    viewer.house.associations.sent = [each for each in sent if each[0] != viewer.participant.transport]
    updates = [
        each
        for packet in packets
        if packet.user.topic == STREAMS_TOPIC
        for each in json.loads(packet.user.payload)["updates"]
    ]
    return states, {each["track"]: each["reason"] for each in updates}


def call(house: House) -> tuple[Person, Person, str, str]:
    """A publisher and a viewer who wants all of him; the sids of voice and picture."""
    an, binh = connected(house, "an"), connected(house, "binh")
    voice, picture = an.publish(microphone()), an.publish(camera())
    satisfy(binh)
    measured(an, now=0.0)
    return an, binh, voice, picture


def test_without_an_estimate_nothing_is_limited(house: House) -> None:
    _, binh, voice, picture = call(house)
    assert layers(binh, voice, picture) == [0, 2]
    estimate(binh, NO_ESTIMATE, now=1.0)
    assert layers(binh, voice, picture) == [0, 2]
    assert told(binh) == ({}, {})


def test_what_is_sent_again_of_a_picture_is_part_of_what_it_weighs(house: House) -> None:
    an, binh, voice, picture = call(house)
    for n, (loss, used) in enumerate(((19, 1_700_000), (100, 1_888_888), (300, 2_428_571), (900, 2_550_000))):
        now = 1.0 + n * (LOOK + 0.5)
        measured(an, now=now)
        estimate(binh, 10_000_000, loss=loss, now=now)
        assert binh.participant.bandwidth.allocation.used == pytest.approx(used + 50_000, abs=1), loss
    estimate(binh, 2_000_000, loss=300, now=now + 1.0)
    assert layers(binh, voice, picture) == [0, 1]


def test_a_picture_whose_packets_go_three_times_weighs_three_times_as_much_at_once(house: House) -> None:
    an, binh, voice, picture = call(house)
    measured(an, now=1.0)
    estimate(binh, 3_000_000, now=1.0)
    assert layers(binh, voice, picture) == [0, 2]
    estimate(binh, 3_000_000, copies=2, now=1.0 + 0.25)
    assert layers(binh, voice, picture) == [0, 1]
    assert binh.participant.bandwidth.allocation.used == pytest.approx(3 * 500_000 + 50_000, rel=0.001)


def test_a_small_link_gets_a_small_picture_then_only_the_voice_and_is_told_why(house: House) -> None:
    _, binh, voice, picture = call(house)
    house.engine.commands.clear()
    estimate(binh, 400_000, now=1.0)
    assert layers(binh, voice, picture) == [0, 0]
    subscription = binh.participant.subscriptions[picture]
    assert house.engine.take(Command.SetLayer) == [Command.SetLayer(subscription.id, 0, 255)]
    assert told(binh) == ({}, {picture: "link_smaller"})
    estimate(binh, 64_000, now=2.0)
    assert layers(binh, voice, picture) == [0, None]
    assert told(binh) == ({picture: rtc.StreamState.PAUSED}, {picture: "link_paused"})
    estimate(binh, 4_000_000, now=2.5)
    assert layers(binh, voice, picture) == [0, None], "not so soon"
    estimate(binh, 4_000_000, now=2.0 + HOLD)
    assert layers(binh, voice, picture) == [0, 2]
    assert told(binh) == ({picture: rtc.StreamState.ACTIVE}, {picture: ""})


def test_the_engine_is_told_how_far_it_is_worth_probing(house: House) -> None:
    _, binh, _, picture = call(house)
    house.engine.commands.clear()
    estimate(binh, 400_000, now=1.0)
    (demand,) = house.engine.take(Command.SetDemand)
    assert demand.transport == binh.participant.transport
    assert 1_700_000 + 45_000 <= demand.bitrate <= 1_700_000 + 55_000
    estimate(binh, 300_000, now=2.0)
    assert house.engine.take(Command.SetDemand) == [], "the same"
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[picture], quality=Quality.LOW), now=3.0)
    (demand,) = house.engine.take(Command.SetDemand)
    assert demand.bitrate < 210_000


def test_nobody_is_asked_more_often_than_five_times_a_second(house: House) -> None:
    _, binh, _, picture = call(house)
    estimate(binh, 400_000, now=1.0)
    estimate(binh, 64_000, now=1.1)
    assert layers(binh, picture) == [0]
    house.sfu.tick(now=1.15)
    assert layers(binh, picture) == [0]
    house.sfu.tick(now=1.25)
    assert layers(binh, picture) == [None], "what came too soon is not forgotten"


def test_an_estimate_that_changes_nothing_decides_nothing_until_weights_may_have_changed(house: House) -> None:
    _, binh, voice, picture = call(house)
    bandwidth = binh.participant.bandwidth
    estimate(binh, 400_000, now=1.0)
    for step in range(1, 5):
        estimate(binh, 400_000 + 1000 * step, now=1.0 + 0.2 * step)
    assert bandwidth.allocated_at == 1.0
    estimate(binh, 400_000, now=1.0 + LOOK_SHORT)
    assert bandwidth.allocated_at == 1.0 + LOOK_SHORT
    estimate(binh, 64_000, now=2.2)
    assert layers(binh, voice, picture) == [0, None], "what it does not carry goes at once"
    estimate(binh, WHOLE, now=2.2 + HOLD)
    estimate(binh, WHOLE, now=2.2 + HOLD + LOOK - 0.1)
    assert bandwidth.allocated_at == 2.2 + HOLD
    estimate(binh, WHOLE, now=2.2 + HOLD + LOOK)
    assert bandwidth.allocated_at == 2.2 + HOLD + LOOK


def test_whose_feedback_ends_is_no_longer_limited(house: House) -> None:
    _, binh, _, picture = call(house)
    estimate(binh, 64_000, now=1.0)
    assert layers(binh, picture) == [None]
    estimate(binh, NO_ESTIMATE, now=2.0)
    assert layers(binh, picture) == [2]
    assert told(binh)[1] == {picture: ""}


def test_a_view_that_is_closed_gives_its_share_to_another(house: House) -> None:
    _, binh, _, picture = call(house)
    chi = connected(house, "chi")
    other = chi.publish(camera())
    satisfy(binh, now=1.0)
    measured(chi, now=1.0)
    estimate(binh, 800_000, now=2.0)
    assert layers(binh, picture, other) in ([0, 1], [1, 0])
    wide = (picture, other)[layers(binh, picture, other).index(1)]
    narrow = (other, picture)[layers(binh, picture, other).index(1)]
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[wide], disabled=True), now=5.0)
    house.sfu.tick(now=5.25)
    assert layers(binh, wide, narrow) == [None, 1]


def test_a_new_picture_on_a_limited_link_waits_for_its_share(house: House) -> None:
    _, binh, _, _ = call(house)
    estimate(binh, 100_000, now=1.0)
    chi = connected(house, "chi")
    other = chi.publish(camera(), now=1.05)
    house.engine.commands.clear()
    satisfy(binh, now=1.1)
    added = [each for each in house.engine.commands if isinstance(each, Command.AddSubscription)]
    assert [each.spec.spatial for each in added] in ([None], [])
    assert layers(binh, other) == [None]


def test_an_operator_sees_budget_layers_and_reasons(house: House) -> None:
    _, binh, _, picture = call(house)
    estimate(binh, 400_000, now=1.0)
    subscription = binh.participant.subscriptions[picture]
    house.sfu.engine_event(house.engine, Event.LayerChanged(subscription.id, 1), now=1.1)
    state = house.sfu.debug_room("ward")
    assert state is not None
    seen = state["participants"][1]
    assert seen["bandwidth"]["estimate"]["bitrate"] == seen["bandwidth"]["allocation"]["budget"] == 400_000
    assert seen["bandwidth"]["allocation"]["used"] <= 400_000
    mine = next(each for each in seen["subscriptions"] if each["publication"] == picture)
    assert (mine["wanted_layer"], mine["layer"], mine["current"], mine["reason"]) == (2, 0, 1, "link_smaller")


@pytest.fixture
def ranked(mint: MintToken) -> House:
    staff = frozenset(Source)
    roles = {"doctor": Role(publish=staff, priority=10), "patient": Role(publish=staff)}
    rooms = (RoomRule(name="*", pictures=2),)
    return House(Config(keys=(KEY,), roles=roles, rooms=rooms, links=Links(start_bitrate=0)), mint)


def test_where_not_all_voices_fit_the_roles_rank_decides_and_then_who_speaks(ranked: House) -> None:
    viewer = connected(ranked, "viewer", "patient")
    people = [connected(ranked, name, "doctor" if name == "doctor" else "patient") for name in ("an", "binh", "doctor")]
    voices = [person.publish(microphone()) for person in people]
    satisfy(viewer)
    for second in range(1, 8):
        for person in people:
            measured(person, now=float(second))
    estimate(viewer, 60_000, now=7.0)
    assert layers(viewer, *voices) == [None, None, 0]
    heard = Voice(
        transport=int(people[1].participant.transport or 0),
        publication=people[1].participant.publications[voices[1]].id,
        level=20,
        spoken_ms=400,
    )
    ranked.sfu.engine_event(ranked.engine, Event.Voices([heard]), now=7.1)
    ranked.sfu.engine_event(ranked.engine, Event.Voices([heard]), now=7.6)
    for second in range(8, 11):
        for person in people:
            measured(person, now=float(second))
    estimate(viewer, 150_000, now=8.0 + HOLD)
    assert layers(viewer, *voices) == [None, 0, 0]
    assert told(viewer)[1][voices[0]] == "link_voice_paused"


def test_redundancy_goes_before_any_voice_and_comes_back_with_headroom(house: House) -> None:
    viewer = connected(house, "viewer")
    people = [connected(house, name) for name in ("an", "binh")]
    voices = [person.publish(microphone()) for person in people]
    satisfy(viewer)
    for sid in voices:
        viewer.participant.subscriptions[sid].redundant = True  # his sections take it
    for second in range(1, 12):
        for person in people:
            measured(person, now=float(second))
    allowed = []
    steps = [(120_000, 0), (120_000, 1), (400_000, 1), (400_000, 1), (400_000, 3), (220_000, 3), (220_000, 2)]
    for step, (bitrate, redundancy) in enumerate(steps):
        now = 11.0 + (0.3 * step if step < 3 else step)
        for person in people:
            measured(person, now=now)
        estimate(viewer, bitrate, redundancy=redundancy, now=now)
        allowed.append([each.allowed for each in house.engine.take(Command.SetRedundancy)])
        assert layers(viewer, *voices) == [0, 0]
    assert allowed == [[], [False], [], [True], [], [False], []], "it weighs what the engine would make of it"


# --- the last N pictures ----------------------------------------------------------------------------------------------


def speak(person: Person, sid: str, *, now: float) -> None:
    voice = Voice(
        transport=int(person.participant.transport or 0),
        publication=person.participant.publications[sid].id,
        level=20,
        spoken_ms=500,
    )
    person.house.sfu.engine_event(person.house.engine, Event.Voices([voice]), now=now)


def test_only_so_many_pictures_are_sent_and_who_speaks_takes_the_place_of_who_spoke_longest_ago(
    ranked: House,
) -> None:
    viewer = connected(ranked, "viewer", "patient")
    people = [connected(ranked, f"p{n}", "patient") for n in range(4)]
    voices = [person.publish(microphone()) for person in people]
    pictures = [person.publish(camera()) for person in people]
    satisfy(viewer)
    ranked.sfu.tick(now=1.0)
    assert layers(viewer, *pictures) == [2, 2, None, None]
    assert told(viewer)[1] == dict.fromkeys(pictures[2:], "not_recent")
    now = 2.0
    for who, expected in (
        (1, [2, 2, None, None]),
        (3, [None, 2, None, 2]),
        (1, [None, 2, None, 2]),
        (0, [2, 2, None, None]),
    ):
        speak(people[who], voices[who], now=now)
        ranked.sfu.tick(now=now + 0.5)
        ranked.sfu.tick(now=now + 0.75)
        assert layers(viewer, *pictures) == expected, who
        ranked.sfu.tick(now=now + 3.0)
        assert layers(viewer, *pictures) == expected, "a pause moves nobody"
        now += 5.0
    setting = rtc.UpdateTrackSettings(track_sids=[pictures[2]], quality=Quality.HIGH, priority=PINNED)
    viewer.ask(track_setting=setting, now=now)
    assert layers(viewer, *pictures) == [2, None, 2, None], "who is pinned is always among them"
    assert told(viewer)[0][pictures[2]] == rtc.StreamState.ACTIVE


def test_a_picture_that_is_not_shown_takes_nobodys_place(ranked: House) -> None:
    viewer = connected(ranked, "viewer", "patient")
    people = [connected(ranked, f"p{n}", "patient") for n in range(3)]
    pictures = [person.publish(camera()) for person in people]
    satisfy(viewer)
    viewer.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[pictures[0]], disabled=True), now=1.0)
    ranked.sfu.tick(now=2.0)
    assert layers(viewer, *pictures) == [None, 2, 2]


# --- who is muted costs no section ------------------------------------------------------------------------------------


def test_in_a_large_room_what_is_muted_gets_its_section_when_it_is_first_heard(house: House) -> None:
    viewer = connected(house, "viewer")
    speaker = connected(house, "speaker")
    for n in range(SPARING):
        connected(house, f"p{n}")
    muted = camera(muted=True)
    sid = speaker.publish(muted)
    viewer.description.add_receiving("video", 3)
    viewer.offer()
    assert viewer.participant.subscriptions[sid].mid is None
    assert not viewer.client.take("media_sections_requirement")
    speaker.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=False), now=1.0)
    satisfy(viewer, now=1.1)
    viewer.offer(now=1.2)
    section = viewer.participant.subscriptions[sid].mid
    assert section is not None
    assert layers(viewer, sid) == [2]
    speaker.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=True), now=2.0)
    viewer.offer(now=2.1)
    assert viewer.participant.subscriptions[sid].mid == section, "it keeps it, and no word waits again"


# --- what nobody uses is paused at the publisher ----------------------------------------------------------------------


def qualities(publisher: Person) -> list[list[bool]]:
    told = publisher.client.take("subscribed_quality_update")
    for message in told:
        assert [each.codec for each in message.subscribed_codecs] == ["vp8"]
        assert message.subscribed_codecs[0].qualities == message.subscribed_qualities
        assert [each.quality for each in message.subscribed_qualities] == [Quality.LOW, Quality.MEDIUM, Quality.HIGH]
    return [[each.enabled for each in message.subscribed_qualities] for message in told]


def test_encodings_that_nobody_uses_are_paused_after_a_while_and_come_back_at_once(house: House) -> None:
    an, binh, _, picture = call(house)

    def want(quality: models.VideoQuality, now: float) -> None:
        binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[picture], quality=quality), now=now)

    house.sfu.tick(now=0.0)
    want(Quality.LOW, 0.5)
    house.sfu.tick(now=0.5 + DELAY - 0.75)
    assert qualities(an) == []
    house.sfu.tick(now=0.5 + DELAY + 0.25)
    assert qualities(an) == [[True, False, False]]
    want(Quality.HIGH, 10.0)
    house.sfu.tick(now=10.0)
    assert qualities(an) == [[True, False, True]]
    want(Quality.OFF, 11.0)
    house.sfu.tick(now=11.0 + DELAY)
    assert qualities(an) == [[False, False, False]]
    want(Quality.MEDIUM, 20.0)
    house.sfu.tick(now=20.0)
    assert qualities(an) == [[False, True, False]]


def test_while_nobody_has_come_the_smallest_goes_on(house: House) -> None:
    an = connected(house, "an")
    an.publish(camera())
    house.sfu.tick(now=0.0)
    house.sfu.tick(now=DELAY)
    assert qualities(an) == [[True, False, False]]


def test_what_no_viewers_link_carries_is_paused_as_well(house: House) -> None:
    an, binh, _, _ = call(house)
    house.sfu.tick(now=0.0)
    estimate(binh, 400_000, now=1.0)
    for second in range(1, 8):
        house.sfu.tick(now=float(second))
    assert qualities(an)[-1] == [True, False, False]


def test_only_so_many_voices_pass_where_the_room_says_so_and_the_engine_is_told_who_goes_first(
    config: Config, mint: MintToken
) -> None:
    roles = {"doctor": Role(publish=frozenset(Source), priority=7), "patient": config.roles["patient"]}
    limited = config.model_copy(update={"rooms": (RoomRule(name="*", voices=3),), "roles": roles})
    for house, limit in ((House(limited, mint), 3), (House(config, mint), None)):
        an, binh = connected(house, "an", "doctor"), connected(house, "binh", "patient")
        transport = binh.participant.transport
        told_of = [each.voices for each in house.engine.take(Command.SetVoices) if each.transport == transport]
        assert told_of == [] if limit is None else [limit]
        voice = an.publish(microphone())
        satisfy(binh)
        subscription = binh.participant.subscriptions[voice]
        ranks = house.engine.take(Command.SetRank)
        assert ranks == ([] if limit is None else [Command.SetRank(subscription.id, 7)])
        binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[voice], priority=PINNED), now=1.0)
        ranks = house.engine.take(Command.SetRank)
        assert ranks == ([] if limit is None else [Command.SetRank(subscription.id, 255)])


def test_where_a_link_does_not_carry_all_voices_at_once_only_so_many_pass_and_the_pinned_first(
    config: Config, mint: MintToken
) -> None:
    rooms = (RoomRule(name="*", voices=6),)
    for limit, house in ((6, House(config.model_copy(update={"rooms": rooms}), mint)), (None, House(config, mint))):
        viewer = connected(house, "viewer")
        voices = [connected(house, f"p{n}").publish(microphone()) for n in range(4)]
        satisfy(viewer)
        viewer.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[voices[3]], priority=PINNED), now=1.0)
        house.engine.take(Command.SetVoices), house.engine.take(Command.SetRank)
        told_of = []
        for second, bitrate in enumerate((WHOLE, 64_000, 60_000, 110_000, 40_000, WHOLE)):
            estimate(viewer, bitrate, now=2.0 + second)
            told_of += [each.voices for each in house.engine.take(Command.SetVoices)]
        assert told_of == [2, 3, 2, limit]
        if limit is None:
            pinned = viewer.participant.subscriptions[voices[3]]
            assert house.engine.take(Command.SetRank) == [
                Command.SetRank(pinned.id, 255),
                Command.SetRank(pinned.id, 0),
            ]


def test_on_a_link_that_has_told_nothing_one_picture_goes_ahead_and_none_where_it_was_slow_to_come_up(
    config: Config, mint: MintToken
) -> None:
    estimating = config.model_copy(update={"links": Links(start_bitrate=600_000)})
    for came_up, first, word in ((0.3, 2, True), (0.3, 2, False), (SLOW, None, True), (SLOW, None, False)):
        house = House(estimating, mint)
        pictures = [
            connected(house, f"p{n}").publish(each) for n, each in enumerate((camera(), camera(), microphone()))
        ]
        *pictures, voice = pictures
        binh = house.join("binh")
        assert layers(binh, voice) == [0]
        binh.connect(now=came_up)
        house.sfu.tick(now=came_up + 0.2)
        assert layers(binh, voice, *pictures) == [0, first, None]
        if word:
            estimate(binh, WHOLE, now=came_up + 0.5)
        else:
            house.sfu.tick(now=came_up + UNKNOWN + 0.01)
        assert layers(binh, voice, *pictures) == [0, 2, 2]
