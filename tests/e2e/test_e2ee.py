"""End-to-end encryption as livekit-client has it, in Chromium: frames and data that the server cannot read pass through
it, and it still finds the keyframes by which it switches and lets people in."""

from __future__ import annotations

from functools import partial

import pytest
from playwright.async_api import Browser

from tests.e2e.test_media import BLUE, RED, css, hears, sees
from tests.lab.browser import Client, until
from tests.lab.server import Server

pytestmark = pytest.mark.browser

ROOM = "ward"
PACKETS = 100  # of each kind: two seconds of a voice


async def test_who_has_the_key_sees_hears_and_reads_and_who_has_another_does_not(
    browser: Browser, server: Server
) -> None:
    stranger = await Client.join(browser, server, ROOM, "stranger", passphrase="wrong")
    an = await Client.join(browser, server, ROOM, "an", passphrase="right")
    await an.publish(colour=css(RED), hertz=440)
    binh = await Client.join(browser, server, ROOM, "binh", passphrase="right")  # late: he needs a keyframe
    await binh.publish(colour=css(BLUE), hertz=640)
    await sees(an, "binh", BLUE)
    await hears(an, "binh", 640)
    await hears(binh, "an", 440)
    for quality, size in (("LOW", (320, 180)), ("HIGH", (1280, 720))):
        await binh.call("ask", "an", quality)
        await sees(binh, "an", RED, size)

    await an.call("say", "between us")
    texts = partial(binh.page.evaluate, "lab.texts")
    await until("he reads it", texts, so=lambda got: got == [["an", "between us"]])

    for kind in ("audio", "video"):
        streams = partial(stranger.stats, "inbound-rtp", kind=kind)
        await until(f"{kind} reaches the stranger", streams, so=lambda all: _least(all, "packetsReceived") >= PACKETS)
    assert [stream.get("framesDecoded", 0) for stream in await stranger.stats("inbound-rtp", kind="video")] == [0, 0]
    for name, hertz in (("an", 440), ("binh", 640)):
        assert not (await stranger.seen(name) or {}).get("frames")
        heard = await stranger.heard(name)
        assert heard is None or heard["decibels"] < -60 or abs(heard["hertz"] - hertz) > 50, heard
    assert await stranger.page.evaluate("lab.texts") == []

    # What is said of them to all: that they are encrypted, and so that nobody takes redundant voice apart.
    for name in ("an", "binh"):
        assert await stranger.page.evaluate(f"lab.room.remoteParticipants.get('{name}').isEncrypted")


def _least(streams: list[dict[str, int]], what: str) -> int:
    return min((stream.get(what, 0) for stream in streams), default=0) if len(streams) == 2 else 0
