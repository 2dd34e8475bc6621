"""What stock clients are told of each other: who speaks, how good links are, metadata, data, rights, fresh tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit import rtc
from playwright.async_api import Browser

from tests.lab.browser import Client, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "ward"
PATIENCE = 25.0

# What the stock client in the browser tells of somebody, and the data that it gets.
LOOK = """(identity) => {
  const p = lab.room.remoteParticipants.get(identity);
  return p && {
    speaking: p.isSpeaking, level: p.audioLevel, quality: p.connectionQuality,
    name: p.name, metadata: p.metadata, attributes: p.attributes,
    allowed: [...p.trackPublications.values()].map((each) => each.permissionStatus === "allowed" && each.isSubscribed),
    loudest: lab.room.activeSpeakers[0]?.identity,
  };
}"""
LISTEN = """() => {
  lab.data = [];
  lab.room.on("dataReceived", (payload, p, _, topic) =>
    lab.data.push([p?.identity ?? "", topic, new TextDecoder().decode(payload)]));
}"""


class Person:
    """Somebody with the native client from PyPI; what it told him."""

    def __init__(self) -> None:
        self.client = LivekitClient()
        self.told: list[tuple[Any, ...]] = []
        on: Any = self.client.room.on
        on("active_speakers_changed", lambda all_: self.told.append(("speakers", {each.identity for each in all_})))
        on("connection_quality_changed", lambda who, quality: self.told.append(("quality", who.identity, quality)))
        on("data_received", lambda packet: self.told.append(("data", packet.participant.identity, packet.data)))
        on("token_refreshed", lambda: self.told.append(("token",)))

    @property
    def room(self) -> rtc.Room:
        return self.client.room

    async def heard(self, *what: Any) -> None:
        async def look() -> bool:
            return what in self.told

        await until(f"{what} is told", look, seconds=PATIENCE)


async def test_the_native_client_and_the_browser_are_told_of_each_other(browser: Browser, server: Server) -> None:
    ada = await Client.join(browser, server, ROOM, "ada")
    await ada.page.evaluate(LISTEN)
    binh, chi = Person(), Person()

    async def seen(what: str, so: Any) -> Any:
        return await until(what, lambda: ada.page.evaluate(LOOK, "binh"), seconds=PATIENCE, so=so)

    try:
        await binh.client.join(server.ws, server.token(ROOM, "binh", "doctor", can_update_own_metadata=True))
        await chi.client.join(server.ws, server.token(ROOM, "chi", "doctor"))
        await binh.client.publish(colour=(30, 30, 200), hertz=440)

        # Who speaks: a tone that goes on is a voice.
        one = await seen("binh speaks", lambda p: p and p["speaking"])
        assert 0 < one["level"] <= 1
        assert one["loudest"] == "binh"
        await binh.heard("speakers", {"binh"})
        await chi.heard("speakers", {"binh"})

        # Fresh tokens.
        await binh.heard("token")

        # Metadata, name and attributes; one of them taken away again.
        me = binh.room.local_participant
        await me.set_metadata('{"bed": 4}')
        await me.set_name("Bình")
        await me.set_attributes({"language": "vi", "ward": "3"})
        await me.set_attributes({"ward": ""})
        one = await seen(
            "who binh is", lambda p: p["attributes"].get("language") == "vi" and "ward" not in p["attributes"]
        )
        assert (one["name"], one["metadata"]) == ("Bình", '{"bed": 4}')
        assert one["attributes"]["d4e.role"] == "doctor"

        # Data: to one, to all, reliable and lossy, in the name of who sent it.
        await me.publish_data("for ada", reliable=True, destination_identities=["ada"], topic="t")
        for n in range(20):
            await me.publish_data(f"{n}", reliable=True)
        data = await until(
            "data", lambda: ada.page.evaluate("lab.data"), seconds=PATIENCE, so=lambda all_: len(all_) >= 21
        )
        assert data == [["binh", "t", "for ada"], *(["binh", "", f"{n}"] for n in range(20))]
        await chi.heard("data", "binh", b"19")
        assert [told[2] for told in chi.told if told[0] == "data"] == [f"{n}".encode() for n in range(20)]
        await ada.page.evaluate(
            "lab.room.localParticipant.publishData(new TextEncoder().encode('x'), { reliable: false, topic: 'l' })"
        )
        await chi.heard("data", "ada", b"x")

        # How good the links are: excellent, on loopback, and nothing to blame anybody for.
        await seen("the quality of binh's link", lambda p: p["quality"] == "excellent")
        await binh.heard("quality", "binh", rtc.ConnectionQuality.QUALITY_EXCELLENT)
        assert not [each for each in await ada.page.evaluate("lab.data") if each[1] == "d4e.quality"]

        # He takes his voice and picture away from all, and gives them back.
        me.set_track_subscription_permissions(allow_all_participants=False)
        await seen("nothing is allowed", lambda p: p["allowed"] == [False, False])
        me.set_track_subscription_permissions(allow_all_participants=True)
        await seen("all is allowed again", lambda p: p["allowed"] == [True, True])

        # How many are here.
        async def count() -> int:
            return binh.room.num_participants

        await until("how many are here", count, seconds=PATIENCE, so=lambda n: n == 3)
    finally:
        await asyncio.gather(binh.client.leave(), chi.client.leave())
