"""Each video codec between real clients: what is published is decoded, and its sizes are reached by asking for them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser

from tests.e2e.test_media import BLUE, GREEN, RED, css, like, sees
from tests.lab.browser import Client, until
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "ward"
SIZES = {"LOW": (320, 180), "MEDIUM": (640, 360), "HIGH": (1280, 720)}


@pytest.mark.parametrize(
    ("codec", "mode"),
    [
        ("vp8", ""),
        ("h264", ""),
        ("vp9", ""),  # what the client library makes of it: L3T3_KEY
        ("vp9", "L1T3"),  # simulcast
        ("av1", ""),
        ("av1", "L1T3"),
    ],
)
async def test_chromium_decodes_each_size_of_each_codec(
    browser: Browser, server: Server, codec: str, mode: str
) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    viewer = await Client.join(browser, server, ROOM, "viewer", role="observer")
    await sender.publish(colour=css(RED), codec=codec, scalabilityMode=mode)
    # Highest last: encoders begin with little, and come to it when they know that the link carries it.
    for quality in ("LOW", "MEDIUM", "HIGH", "LOW"):
        await viewer.call("ask", "sender", quality)
        await sees(viewer, "sender", RED, SIZES[quality])

    async def received() -> dict[str, Any]:
        (stream,) = await viewer.stats("inbound-rtp", kind="video")
        return stream

    # A busy machine drops some where the size changes; who misses what a picture rests on never stops.
    await until(
        "few pictures are dropped", received, so=lambda seen: seen["framesDropped"] <= seen["framesDecoded"] / 10
    )
    assert (await received())["packetsLost"] == 0
    assert {stats["mimeType"].lower() for stats in await viewer.stats("codec")} >= {f"video/{codec}"}
    streams = await sender.stats("outbound-rtp", kind="video")
    assert len(streams) == (1 if mode == "" and codec in ("vp9", "av1") else 3)


@pytest.mark.parametrize("codec", ["vp8", "h264", "vp9", "av1"])
async def test_the_pypi_client_and_the_browser_decode_each_other_in_each_codec(
    browser: Browser, server: Server, codec: str
) -> None:
    native = LivekitClient()
    await native.join(server.ws, server.token(ROOM, "native", "doctor"))
    try:
        web = await Client.join(browser, server, ROOM, "web")
        await native.publish(colour=BLUE, hertz=700, codec=codec)
        await web.publish(colour=css(GREEN), codec=codec)
        await sees(web, "native", BLUE)

        async def decoded() -> Decoded:
            return native.decoded.get("web", Decoded())

        def green(seen: Any) -> bool:
            return seen.frames > 10 and like(seen.colour, GREEN)

        await until("the PyPI client decodes the browser", decoded, seconds=25, so=green)
    finally:
        await native.leave()
