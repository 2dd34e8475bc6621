"""The status page beside a live room: it tells what goes on, in two languages, and asks nobody else for anything."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.test_page_access import Axe
from tests.lab.browser import ARTEFACTS, Person, Tab, until
from tests.lab.client import Camera, Voice, lab
from tests.lab.server import Server, running

pytestmark = pytest.mark.browser


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, module="tests.lab.quick") as server:
        yield server


async def opened(browser: Browser, server: Server, **context: Any) -> Person:
    tab = await Tab.open(browser, server, "operator", **context)
    await tab.page.goto(server.admin)
    await tab.page.wait_for_selector("body[data-state=told]")
    return Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)


async def plot(page: Person, title: str) -> str:
    """What a plot says to who does not see it."""
    return str(await page.page.get_attribute(f"figure:has-text('{title}') svg", "aria-label"))


async def test_it_shows_the_figures_of_a_live_room_to_everybody_in_two_languages(
    browser: Browser, server: Server
) -> None:
    async with lab() as peers:
        for who in ("an", "binh"):
            await peers.join(
                server.ws, server.token("ward", who, "doctor"), publish=[Voice(), Camera(encodings=(500_000,))]
            )

        async def told() -> Any:
            return json.loads(await server.get("/status"))

        await until("pictures flow", told, so=lambda now: (now["series"]["sent"] or [0])[-1] > 800_000)
        page = await opened(browser, server, locale="en-GB", reduced_motion="reduce")
        assert await page.page.text_content("h1") == "Server status"
        assert await page.page.text_content(".verdict") == "The server is ready. Nothing needs attention."
        assert "2 of 500" in str(await page.page.text_content(".figures"))
        assert "People: 2 now" in await plot(page, "People")
        sent = await plot(page, "Voices and pictures")
        most = re.search(r"sent: .*? at most ([0-9.]+) Mbit/s", sent)
        assert most is not None
        assert float(most[1]) >= 0.8, sent
        for line in ("first", "second"):
            points = await page.page.get_attribute(f"figure:has-text('Voices') .line.{line}", "points")
            assert len(set(str(points).split())) > 2

        axe = Axe(page)
        await axe.check("English")
        await page.page.click("summary")
        await axe.check("the table")
        await page.page.focus("header button")
        await page.page.keyboard.press("Enter")
        assert await page.page.text_content("h1") == "Tình trạng máy chủ"
        assert await page.page.get_attribute("html", "lang") == "vi"
        await axe.check("Vietnamese")
        await page.page.reload()
        await page.page.wait_for_selector("html[lang=vi] body[data-state=told]")
        await page.page.set_viewport_size({"width": 1280, "height": 900})
        ARTEFACTS.mkdir(exist_ok=True)
        await page.page.screenshot(path=ARTEFACTS / "status.png", full_page=True)

    # Nothing from anywhere else, and nothing that the page's own policy forbids.
    assert {url[: len(server.admin)] for url in page.requests} == {server.admin}
    assert not page.console
    # Where everybody comes it is not to be had.
    async with aiohttp.ClientSession(server.url) as http:
        for path in ("/status", "/status/", "/status/index.html"):
            async with http.get(path) as answer:
                assert answer.status == 404, path


async def test_it_says_what_needs_attention_and_that_the_server_is_silent(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path, quiet=False) as server:  # a refused reload is an error in its log
        page = await opened(browser, server, locale="vi-VN")
        await page.page.clock.install()
        await page.page.reload()
        await page.page.wait_for_selector("body[data-state=told]")
        server.config.write_text(server.config.read_text() + "limits: {participants: none}\n")
        server.process.send_signal(signal.SIGHUP)

        async def said() -> str:
            await page.page.clock.fast_forward(10_000)
            return str(await page.page.text_content(".verdict"))

        refused = ("Cấu hình mới có lỗi", "D4eSfuReloadRefused")
        await until("the refused reload", said, so=lambda text: all(words in text for words in refused))
        await server.stop()
        await until("the silence", said, so=lambda text: "không trả lời" in text)
