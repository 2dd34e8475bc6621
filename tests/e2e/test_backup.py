"""The second codec of a publication, as the stock client library in a real browser sends it when it is needed."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser

from tests.e2e.test_media import RED, css, sees
from tests.lab.browser import Client, until
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "ward"


async def pictures_sent(sender: Client, codec: str) -> int:
    mime_types = {each["id"]: each["mimeType"].lower() for each in await sender.stats("codec")}
    streams = await sender.stats("outbound-rtp", kind="video")
    sent = [each["framesSent"] for each in streams if mime_types.get(each.get("codecId", "")) == f"video/{codec}"]
    return sum(sent)


@pytest.mark.parametrize("codec", ["vp9", "av1", "h264"])
async def test_who_knows_vp8_alone_gets_it_and_the_others_the_codec_that_the_publisher_prefers(
    browser: Browser, server: Server, codec: str
) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    young = await Client.join(browser, server, ROOM, "young", role="observer")
    await sender.publish(colour=css(RED), codec=codec, backup="vp8")
    await sees(young, "sender", RED)
    assert await pictures_sent(sender, "vp8") == 0, "nobody needs it"
    old = await Client.join(browser, server, ROOM, "old", role="observer", pictures=["vp8"])
    await sees(old, "sender", RED)
    assert await old.codecs("video") == {"vp8"}
    assert await young.codecs("video") == {codec}
    await sees(young, "sender", RED)
    await old.close()

    async def pauses() -> bool:
        before = await pictures_sent(sender, "vp8")
        await asyncio.sleep(1.0)
        return before == await pictures_sent(sender, "vp8")

    await until("the second codec is paused when nobody uses it", pauses, seconds=20)
    another = await Client.join(browser, server, ROOM, "another", role="observer", pictures=["vp8"])
    await sees(another, "sender", RED)
    await sees(young, "sender", RED)


async def test_who_knows_neither_codec_is_told_so_and_hears_all_the_same(browser: Browser, server: Server) -> None:
    sender = await Client.join(browser, server, ROOM, "sender")
    odd = await Client.join(browser, server, ROOM, "odd", role="observer", pictures=["h264"])
    await sender.publish(colour=css(RED), hertz=440, codec="vp9", backup="vp8")

    async def refused() -> list[str]:
        return await odd.events("refused")

    assert await until("he is told so", refused) == ["sender 1"]  # SE_CODEC_UNSUPPORTED
    assert "sender microphone" in await odd.events("subscribed")
    assert await pictures_sent(sender, "vp8") == 0, "nobody asked for it"
