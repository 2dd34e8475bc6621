"""The room page in Firefox ESR, with a native client: it joins, publishes, subscribes, mutes, chats and leaves. Two
addresses are announced, and nobody answers at the first: Firefox nominates every pair against a peer that is ICE-lite
(RFC 8445 §8.1.1), also those that lead nowhere."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.lab.browser import Person, until
from tests.lab.firefox import firefox
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.namespace import HERE, NOBODY, delegated
from tests.lab.server import running

pytestmark = pytest.mark.browser

ROOM = "clinic"


async def test_the_page_in_firefox_joins_publishes_subscribes_mutes_and_leaves(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if await delegated(request.node.nodeid):
        return
    media = {"port": 7882, "addresses": [{"listen": HERE, "announce": [NOBODY, HERE]}]}
    native = LivekitClient()
    async with running(tmp_path, config={"media": media}) as server, firefox() as browser:
        try:
            await native.join(server.ws, server.token(ROOM, "native", "doctor"))
            await native.publish(colour=(200, 30, 30), hertz=440)
            person = await Person.arrive(browser, server, ROOM, "firefox", name="Firefox")
            # Its own picture, before it joins: devices take longer to open than in Chromium.
            shows = partial(person.page.evaluate, "document.querySelector('video')?.videoWidth ?? 0")
            await until("its own picture", shows, seconds=30)
            await person.join()

            async def received() -> tuple[int, int]:
                pictures = await person.stats("inbound-rtp", kind="video")
                voices = await person.stats("inbound-rtp", kind="audio")
                frames = sum(each.get("framesDecoded", 0) for each in pictures)
                return frames, sum(each.get("packetsReceived", 0) for each in voices)

            await until("it decodes the other", received, seconds=30, so=lambda got: min(got) > 20)

            async def decoded() -> Decoded:
                return native.decoded.get("firefox", Decoded())

            def comes(seen: Decoded) -> bool:
                return seen.frames > 20 and seen.decibels > -60

            await until("the other sees and hears it", decoded, seconds=30, so=comes)

            await person.press("chat")
            await person.say("from Firefox")

            async def texts() -> list[tuple[str, str]]:
                return native.texts

            await until("the other reads it", texts, so=lambda got: got == [("firefox", "from Firefox")])

            async def events() -> list[tuple[str, str]]:
                return native.events

            for event in ("track_muted", "track_unmuted"):
                await person.press("microphone")
                await until(event, events, so=partial(_told, event))

            pairs = await person.stats("candidate-pair")
            remotes = {each["id"]: each["address"] for each in await person.stats("remote-candidate")}
            tried = {remotes[pair["remoteCandidateId"]]: pair["state"] for pair in pairs if pair["nominated"]}
            assert tried.get(HERE) == "succeeded", tried
            assert NOBODY in remotes.values()
            for transport in (await server.room(ROOM))["engine"]["transports"]:
                assert transport["path"], transport
            await person.press("leave")
            await person.page.wait_for_selector("body[data-state=ended]")
            await until("it is gone", events, so=partial(_told, "participant_disconnected"))
            assert not [line for line in person.console if line.startswith(("error", "pageerror"))]
        finally:
            await asyncio.gather(native.leave(), return_exceptions=True)


def _told(event: str, events: list[tuple[str, str]]) -> bool:
    return (event, "firefox") in events
