"""Both stock clients with two peer connections, as mobile SDKs have them: they meet each other, and one who has one."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from playwright.async_api import Browser

from tests.lab.browser import Client, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.browser

ROOM = "clinic"
RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 160, 30)
PITCHES = {"native": 440.0, "chromium": 880.0, "single": 660.0}


def css(colour: tuple[int, int, int]) -> str:
    return f"rgb({', '.join(map(str, colour))})"


def alike(seen: tuple[int, ...], colour: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 60 for one, other in zip(seen, colour, strict=True))


async def shown(client: Client, identity: str, colour: tuple[int, int, int]) -> None:
    def right(seen: dict[str, list[int]] | None) -> bool:
        return seen is not None and alike(tuple(seen["colour"]), colour)

    await until(f"{client.identity} sees {identity}", partial(client.seen, identity), seconds=25, so=right)

    def sounds(heard: dict[str, float] | None) -> bool:
        return heard is not None and abs(heard["hertz"] - PITCHES[identity]) < 15

    await until(f"{client.identity} hears {identity}", partial(client.heard, identity), seconds=25, so=sounds)


async def test_clients_with_two_connections_and_with_one_see_hear_and_read_each_other(
    browser: Browser, server: Server
) -> None:
    native = LivekitClient()
    try:
        await native.join(server.ws, server.token(ROOM, "native", "doctor"), dual=True)
        chromium = await Client.join(browser, server, ROOM, "chromium", singlePeerConnection=False)
        single = await Client.join(browser, server, ROOM, "single")
        uplinks = {person["identity"]: person["uplink"] for person in (await server.room(ROOM))["participants"]}
        assert [uplinks[name] is not None for name in ("native", "chromium", "single")] == [True, True, False]
        await native.publish(colour=RED, hertz=PITCHES["native"])
        await chromium.publish(colour=css(BLUE), hertz=PITCHES["chromium"])
        await single.publish(colour=css(GREEN), hertz=PITCHES["single"])
        await shown(chromium, "native", RED)
        await shown(chromium, "single", GREEN)
        await shown(single, "native", RED)
        await shown(single, "chromium", BLUE)
        for identity, colour in (("chromium", BLUE), ("single", GREEN)):

            async def decoded(identity: str = identity) -> tuple[int, int, int]:
                return native.decoded[identity].colour if identity in native.decoded else (0, 0, 0)

            await until(f"the native client sees {identity}", decoded, seconds=25, so=partial(alike, colour))

        for client in (chromium, single):
            await client.call("say", f"from {client.identity}")

        async def texts() -> list[tuple[str, str]]:
            return sorted(native.texts)

        await until("both texts arrive", texts, so=lambda got: len(got) == 2)
        assert await texts() == [("chromium", "from chromium"), ("single", "from single")]
        await native.room.local_participant.send_text("from native", topic="lk.chat")
        for client in (chromium, single):
            read = partial(client.page.evaluate, "lab.texts")
            await until(f"{client.identity} reads it", read, so=lambda got: ["native", "from native"] in got)

        for muted in (True, False):
            verb = "setMicrophoneEnabled"
            await chromium.page.evaluate(f"lab.room.localParticipant.{verb}({str(not muted).lower()})")
            name = "muted" if muted else "unmuted"

            async def told(name: str = name) -> list[str]:
                return [event for event in await single.events(name) if event.startswith("chromium")]

            await until(f"it is told to be {name}", told)
        await chromium.page.evaluate("lab.room.disconnect()")
        await until("who leaves is gone", partial(single.events, "disconnected"), so=lambda gone: "chromium" in gone)
        await asyncio.sleep(0.2)
        assert (await server.room(ROOM))["participants"][0]["state"] == "active"
    finally:
        await native.leave()
