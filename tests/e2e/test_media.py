"""What arrives is what was sent: colour, pitch and size of real pictures and voices, between real clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.lab.browser import Client, until
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "ward"
RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 160, 30)
# A sender that converts by BT.601 and a viewer by BT.709 differ by up to 30; another of the colours is 130 away.
COLOUR_TOLERANCE = 45
# A 16,384-point transform at 48 kHz has bins of 2.9 Hz; the pitches below are 200 Hz apart.
PITCH_TOLERANCE = 6.0


def css(colour: tuple[int, int, int]) -> str:
    return f"rgb{colour}"


def like(seen: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= COLOUR_TOLERANCE for a, b in zip(seen, colour, strict=True))


async def sees(client: Client, other: str, colour: tuple[int, int, int], size: tuple[int, int] | None = None) -> None:
    """Waits until the client shows further frames of that colour, and of that size where one is given."""
    first = ((await client.seen(other)) or {"frames": 0})["frames"]
    await until(
        f"{client.identity} sees {other} in {colour} at {size or 'any size'}",
        lambda: client.seen(other),
        seconds=25,
        so=lambda seen: (
            seen is not None
            and seen["frames"] >= first + 5
            and like(seen["colour"], colour)
            and size in (None, (seen["width"], seen["height"]))
        ),
    )


async def hears(client: Client, other: str, hertz: float) -> None:
    await until(
        f"{client.identity} hears {other} at {hertz} Hz",
        lambda: client.heard(other),
        so=lambda heard: (
            heard is not None and abs(heard["hertz"] - hertz) < PITCH_TOLERANCE and heard["decibels"] > -60
        ),
    )


async def test_everyone_sees_the_right_colour_and_hears_the_right_pitch(browser: Browser, server: Server) -> None:
    people = [("ada", RED, 440.0), ("bich", BLUE, 640.0), ("chi", GREEN, 840.0)]
    clients = [await Client.join(browser, server, ROOM, name) for name, _, _ in people]
    for client, (_, colour, hertz) in zip(clients, people, strict=True):
        await client.publish(colour=css(colour), hertz=hertz)
    for client in clients:
        for name, colour, hertz in people:
            if name != client.identity:
                await sees(client, name, colour)
                await hears(client, name, hertz)


async def test_each_of_the_three_sizes_is_reached_by_asking_for_it(browser: Browser, server: Server) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    await sender.publish(colour=css(RED), hertz=440)
    viewer = await Client.join(browser, server, ROOM, "viewer", role="observer")
    for quality, size in [
        ("LOW", (320, 180)),
        ("HIGH", (1280, 720)),
        ("MEDIUM", (640, 360)),
        ("LOW", (320, 180)),
        ("HIGH", (1280, 720)),
    ]:
        await viewer.call("ask", "sender", quality)
        await sees(viewer, "sender", RED, size)
    (stream,) = await viewer.stats("inbound-rtp", kind="video")
    # A switch leaves no hole, and the decoder never has to ask for a new picture.
    assert stream["packetsLost"] == stream["nackCount"] == stream["pliCount"] == 0


async def test_an_observer_joins_late_and_sees_at_once(browser: Browser, server: Server) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    await sender.publish(colour=css(BLUE), hertz=500)
    await asyncio.sleep(3)
    viewer = await Client.join(browser, server, ROOM, "viewer", role="observer")
    await sees(viewer, "sender", BLUE)
    await hears(viewer, "sender", 500)
    with pytest.raises(Exception, match=r"(?i)permission"):
        await viewer.publish(colour=css(RED))


async def test_h264_is_forwarded_and_decoded(browser: Browser, server: Server) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    viewer = await Client.join(browser, server, ROOM, "viewer")
    await sender.publish(colour=css(GREEN), codec="h264")
    await sees(viewer, "sender", GREEN)
    codecs = {stats["mimeType"] for stats in await viewer.stats("codec")}
    assert "video/H264" in codecs


async def test_the_pypi_client_and_the_browser_decode_each_other(browser: Browser, server: Server) -> None:
    native = LivekitClient()
    await native.join(server.ws, server.token(ROOM, "native", "doctor"))
    try:
        web = await Client.join(browser, server, ROOM, "web")
        await native.publish(colour=BLUE, hertz=700)
        await web.publish(colour=css(RED), hertz=500)

        await sees(web, "native", BLUE)
        await hears(web, "native", 700)

        async def decoded() -> Decoded:
            return native.decoded.get("web", Decoded())

        await until(
            "the PyPI client decodes the browser",
            decoded,
            seconds=25,
            so=lambda d: (
                d.frames > 10 and like(d.colour, RED) and abs(d.hertz - 500) < PITCH_TOLERANCE and d.decibels > -60
            ),
        )

        # Its simulcast as well: the browser gets the sizes that it asks for.
        for quality, size in [("LOW", (320, 180)), ("HIGH", (1280, 720))]:
            await web.call("ask", "native", quality)
            await sees(web, "native", BLUE, size)

        await web.call("say", "from the browser")
        await native.room.local_participant.send_text("from Python", topic="lk.chat")

        async def texts() -> tuple[Any, Any]:
            return native.texts, await web.page.evaluate("lab.texts")

        await until(
            "chat both ways",
            texts,
            so=lambda both: both == ([("web", "from the browser")], [["native", "from Python"]]),
        )
    finally:
        await native.leave()

    async def gone() -> list[str]:
        return await web.events("disconnected")

    await until("the browser sees the PyPI client leave", gone, so=lambda who: who == ["native"], seconds=5)
