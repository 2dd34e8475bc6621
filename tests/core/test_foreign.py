"""Ids of what is not his, in every message that names one: neither the engine nor anybody else hears of it."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command
from tests.core.house import House
from tests.doubles import camera, microphone


def about(sid: str, identity: str) -> list[dict[str, Any]]:
    """Every message with which a client can speak of a publication."""
    update = rtc.UpdateTrackSettings(track_sids=[sid], width=640, height=360, quality=models.HIGH)
    permission = rtc.TrackPermission(participant_identity=identity, all_tracks=True, track_sids=[sid])
    inside = models.ParticipantTracks(participant_sid=identity, track_sids=[sid])
    return [
        {"subscription": rtc.UpdateSubscription(track_sids=[sid], subscribe=True)},
        {"subscription": rtc.UpdateSubscription(participant_tracks=[inside], subscribe=True)},
        {"subscription": rtc.UpdateSubscription(track_sids=[sid], subscribe=False)},
        {"track_setting": update},
        {"track_setting": rtc.UpdateTrackSettings(track_sids=[sid], disabled=True)},
        {"mute": rtc.MuteTrackRequest(sid=sid, muted=True)},
        {"subscription_permission": rtc.SubscriptionPermission(track_permissions=[permission])},
        {"update_layers": rtc.UpdateVideoLayers(track_sid=sid, layers=[models.VideoLayer(width=1, height=1)])},
        {"update_video_track": rtc.UpdateLocalVideoTrack(track_sid=sid, width=1, height=1)},
        {"update_audio_track": rtc.UpdateLocalAudioTrack(track_sid=sid)},
    ]


@pytest.mark.parametrize("n", range(len(about("", ""))))
def test_a_publication_of_another_room_is_nothing_to_him(house: House, n: int) -> None:
    an = house.join("an", room="ward")
    sid = an.publish(camera())
    binh = house.join("binh", room="ward")
    mallory = house.join("mallory", room="elsewhere")
    house.sfu.tick(now=10.0)
    for person in (an, binh, mallory):
        person.client.responses.clear()
    house.engine.commands.clear()
    mallory.ask(**about(sid, "binh")[n])
    assert not house.engine.commands
    assert not an.client.responses
    assert not binh.client.responses
    assert "update" not in mallory.client.kinds()


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9])
def test_what_only_its_publisher_may_say_is_heard_from_nobody_else_in_the_room(house: House, n: int) -> None:
    an = house.join("an")
    sid = an.publish(camera())
    mallory = house.join("mallory")
    house.sfu.tick(now=10.0)
    for person in (an, mallory):
        person.client.responses.clear()
    house.engine.commands.clear()
    mallory.ask(**about(sid, "mallory")[n])
    assert not house.engine.commands
    assert not an.client.responses


def test_the_same_identity_elsewhere_takes_nobody_over(house: House) -> None:
    an = house.join("an", room="ward")
    house.join("an", room="elsewhere")
    assert an.client.closed is None
    assert not house.engine.take(Command.RemoveTransport)
    an.ask(add_track=microphone())
    assert "track_published" in an.client.kinds()
