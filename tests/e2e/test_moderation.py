"""Moderators by the stock server SDK, over a real server, against the stock client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit import api, rtc
from livekit.protocol import models

from tests.lab.browser import until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import KEY_ID, Server


@asynccontextmanager
async def moderator(server: Server) -> AsyncIterator[Any]:
    """As a portal would: the key, and nobody in particular."""
    async with api.LiveKitAPI(server.url, KEY_ID, server.secret) as client:
        yield client.room


@asynccontextmanager
async def call(server: Server) -> AsyncIterator[tuple[LivekitClient, LivekitClient]]:
    """Lan publishes, Minh looks on."""
    lan, minh = LivekitClient(), LivekitClient()
    await lan.join(server.ws, server.token("ward", "lan", "doctor"))
    await minh.join(server.ws, server.token("ward", "minh", "doctor"))
    try:
        await lan.publish(colour=(200, 30, 30), hertz=440)
        await settled("Lan is seen", lambda: "lan" in minh.decoded and minh.decoded["lan"].frames > 5)
        yield lan, minh
    finally:
        await lan.leave()
        await minh.leave()


async def settled(what: str, look: Callable[[], object]) -> None:
    async def seen() -> object:
        return look()

    await until(what, seen)


def publication(client: LivekitClient, source: int) -> rtc.LocalTrackPublication:
    every = client.room.local_participant.track_publications.values()
    return next(each for each in every if each.source == source)


async def test_a_moderator_mutes_with_the_stock_sdk_and_the_stock_client_follows(server: Server) -> None:
    async with call(server) as (lan, minh), moderator(server) as room:
        sid = publication(lan, rtc.TrackSource.SOURCE_MICROPHONE).sid
        request = api.MuteRoomTrackRequest(room="ward", identity="lan", track_sid=sid, muted=True)
        assert (await room.mute_published_track(request)).track.muted
        await settled("Minh is told", lambda: ("track_muted", "lan") in minh.events)
        await settled("Lan's client mutes", lambda: publication(lan, rtc.TrackSource.SOURCE_MICROPHONE).muted)
        request.muted = False
        with pytest.raises(api.TwirpError) as refused:
            await room.mute_published_track(request)
        assert (refused.value.code, refused.value.status) == ("failed_precondition", 412)
        before = minh.decoded["lan"].frames
        await settled("the picture goes on", lambda: minh.decoded["lan"].frames > before + 5)


async def test_rights_are_taken_and_given_back_with_the_stock_sdk(server: Server) -> None:
    async with call(server) as (lan, minh), moderator(server) as room:

        async def permit(*sources: models.TrackSource) -> models.ParticipantInfo:
            permission = models.ParticipantPermission(
                can_subscribe=True, can_publish=True, can_publish_data=True, can_publish_sources=sources
            )
            request = api.UpdateParticipantRequest(room="ward", identity="lan", name="Lan", permission=permission)
            info: models.ParticipantInfo = await room.update_participant(request)
            return info

        picture = publication(lan, rtc.TrackSource.SOURCE_CAMERA).sid
        info = await permit(models.TrackSource.MICROPHONE)
        assert info.name == "Lan"
        assert list(info.permission.can_publish_sources) == [models.TrackSource.MICROPHONE]
        remote = minh.room.remote_participants["lan"]
        await settled("one is left for Minh", lambda: len(remote.track_publications) == 1)
        await lan.room.local_participant.unpublish_track(picture)  # this client leaves that to its application
        await permit()
        track = rtc.LocalVideoTrack.create_video_track("again", rtc.VideoSource(640, 360))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA)
        await lan.room.local_participant.publish_track(track, options)
        await settled("and two again", lambda: len(remote.track_publications) == 2)
        assert [name for name, _ in lan.events if name in ("reconnecting", "disconnected")] == []


async def test_who_is_removed_with_the_stock_sdk_is_out_and_stays_out(server: Server) -> None:
    token = server.token("ward", "lan", "doctor")
    lan = LivekitClient()
    await lan.join(server.ws, token)
    async with moderator(server) as room:
        await asyncio.sleep(1)  # tokens count in whole seconds
        await room.remove_participant(api.RoomParticipantIdentity(room="ward", identity="lan"))
        await settled("he is out", lambda: ("disconnected", "") in lan.events)
        with pytest.raises(api.TwirpError) as refused:
            await room.remove_participant(api.RoomParticipantIdentity(room="ward", identity="lan"))
        assert (refused.value.code, refused.value.status) == ("not_found", 404)
    with pytest.raises(rtc.ConnectError):
        await LivekitClient().join(server.ws, token)
    await asyncio.sleep(1)
    again = LivekitClient()
    await again.join(server.ws, server.token("ward", "lan", "doctor"))
    await again.leave()


async def test_a_moderator_in_the_room_calls_with_his_own_token_in_json(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.token('ward', 'mai', 'moderator', room_admin=True)}"}
    lan = LivekitClient()
    await lan.join(server.ws, server.token("ward", "lan", "doctor"))
    async with aiohttp.ClientSession(headers=headers) as http:
        address = f"{server.url}/twirp/livekit.RoomService/RemoveParticipant"
        async with http.post(address, json={"room": "ward", "identity": "lan"}) as answer:
            assert (answer.status, await answer.json()) == (200, {})
    await settled("he is out", lambda: ("disconnected", "") in lan.events)
    assert await server.metric("d4e_sfu_moderations_total", action="remove") == 1
