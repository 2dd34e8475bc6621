"""Headless Chromium for tests: `Person` is someone at the room page, `Client` is the stock client library on a page
without a user interface (`client.html`). Both are served from the origin of the server under test. What they assert is
the business of the tests; here is only how to start, look and listen.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Route, async_playwright

from tests.lab.server import TOP, Server

T = TypeVar("T")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
LIBRARY = TOP / "d4e_sfu/web/node_modules/livekit-client/dist/livekit-client.umd.js"
WHIP_WHEP = TOP / "d4e_sfu/web/node_modules/whip-whep"
ARTEFACTS = TOP / "tests/artefacts"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Fake devices, two cameras among them, and a click on every question about them.
    "--use-fake-device-for-media-stream=device-count=2",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # The server listens on loopback, its candidates are addresses and not mDNS names, and `client.html` comes from
    # Playwright, which Chromium takes for the open internet reaching into this machine.
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks",
    # Several pages share one window: none of them is to be slowed down for being behind another.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
# Every peer connection that the page opens, so that a test can read its statistics without the page's help.
HOOK = """
window.__connections = [];
window.RTCPeerConnection = new Proxy(window.RTCPeerConnection, {
  construct(target, args) {
    const made = Reflect.construct(target, args);
    window.__connections.push(made);
    return made;
  },
});
"""
STATS = """async () => {
  const all = [];
  for (const pc of window.__connections)
    if (pc.connectionState !== "closed") (await pc.getStats()).forEach((each) => all.push(each));
  return all;
}"""


@asynccontextmanager
async def chromium(*arguments: str, executable: str = CHROMIUM) -> AsyncIterator[Browser]:
    """One browser process until the end of the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()


async def until(
    what: str, look: Callable[[], Awaitable[T]], *, seconds: float = 15.0, so: Callable[[T], object] = bool
) -> T:
    """Look again until it is so; fails with what was seen last. Browsers have clocks of their own."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if so(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Tab:
    """One page in a context of its own, with what it logged and what it asked for."""

    page: Page
    server: Server
    identity: str
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    async def open(cls, browser: Browser, server: Server, identity: str, *, script: str = "", **context: Any) -> Tab:
        made: BrowserContext = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        await made.add_init_script(HOOK + script)
        tab = cls(await made.new_page(), server, identity)

        def log(message: ConsoleMessage) -> None:
            tab.console.append(f"{message.type}: {message.text}")

        tab.page.on("console", log)
        tab.page.on("pageerror", lambda error: tab.console.append(f"pageerror: {error}"))
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        return tab

    async def stats(self, of: str, /, **having: object) -> list[dict[str, Any]]:
        """WebRTC statistics of one type, such as `inbound-rtp`, with these members."""
        found = await self.page.evaluate(STATS)
        return [s for s in found if s["type"] == of and all(s.get(key) == value for key, value in having.items())]

    async def close(self) -> None:
        await self.page.context.close()


class Client(Tab):
    """The stock client library in a browser, without a page of ours."""

    __slots__ = ()

    @classmethod
    async def join(
        cls,
        browser: Browser,
        server: Server,
        room: str,
        identity: str,
        *,
        role: str = "doctor",
        script: str = "",
        **options: Any,
    ) -> Client:
        client = await cls.visit(browser, server, identity, script=script)
        await client.call("join", server.url.replace("http", "ws"), server.token(room, identity, role), options)
        return client

    @classmethod
    async def visit(cls, browser: Browser, server: Server, identity: str, *, script: str = "") -> Client:
        """The page, and nobody has joined."""
        tab = await cls.open(browser, server, identity, script=script)
        client = cls(tab.page, tab.server, tab.identity, tab.console, tab.requests)
        await client.page.route(f"{server.url}/lab/**", _serve)
        await client.page.goto(f"{server.url}/lab/client.html")
        return client

    async def enter(self, room: str, *, role: str = "doctor", **options: Any) -> float:
        """Milliseconds that it took, as the page saw it."""
        token = self.server.token(room, self.identity, role)
        took: float = await self.call("join", self.server.url.replace("http", "ws"), token, options)
        return took

    async def call(self, verb: str, *arguments: object) -> Any:
        """Run one of the page's verbs and give back what it answers."""
        return await self.page.evaluate(f"async (args) => await lab.{verb}(...args)", list(arguments))

    async def publish(self, **what: object) -> None:
        await self.call("publish", what)

    async def seen(self, identity: str) -> dict[str, Any] | None:
        return await self.call("seen", identity)  # type: ignore[no-any-return]

    async def heard(self, identity: str) -> dict[str, float] | None:
        return await self.call("heard", identity)  # type: ignore[no-any-return]

    async def codecs(self, kind: str, of: str = "inbound-rtp") -> set[str]:
        """Of the streams that carry something, by name in lower case."""
        mime_types = {each["id"]: each["mimeType"] for each in await self.stats("codec")}
        streams = [each for each in await self.stats(of, kind=kind) if each.get("codecId") in mime_types]
        return {mime_types[each["codecId"]].partition("/")[2].lower() for each in streams}

    async def events(self, name: str) -> list[str]:
        every: list[list[Any]] = await self.page.evaluate("lab.events")
        return [event[1] for event in every if event[0] == name]


class Person(Tab):
    """Someone at the room page, who does everything by its buttons."""

    __slots__ = ()

    @classmethod
    async def arrive(
        cls,
        browser: Browser,
        server: Server,
        room: str,
        identity: str,
        *,
        role: str = "doctor",
        name: str = "",
        **context: Any,
    ) -> Person:
        """Open the join link, and wait at the device check."""
        tab = await cls.open(browser, server, identity, **context)
        person = cls(tab.page, tab.server, tab.identity, tab.console, tab.requests)
        await person.page.goto(server.link(room, identity, role, name=name))
        await person.page.wait_for_selector("body[data-state=lobby]")
        return person

    async def join(self) -> None:
        await self.press("join")
        await self.page.wait_for_selector("body[data-state=joined]")

    async def press(self, button: str) -> None:
        await self.page.click(f"[data-button={button}]")

    async def tile(self, identity: str, source: str = "camera") -> dict[str, str] | None:
        """The `data-*` attributes of somebody's tile."""
        found: dict[str, str] | None = await self.page.evaluate(
            "([who, source]) => { const tile = document.querySelector("
            "`li.tile[data-participant=${JSON.stringify(who)}][data-source=${source}]`);"
            " return tile && { ...tile.dataset }; }",
            [identity, source],
        )
        return found

    async def frames(self, identity: str, source: str = "camera") -> int:
        """Frames of somebody's picture that this page has decoded and shown."""
        shown: int = await self.page.evaluate(
            "([who, source]) => document.querySelector("
            "`li.tile[data-participant=${JSON.stringify(who)}][data-source=${source}] video`"
            ")?.getVideoPlaybackQuality().totalVideoFrames ?? 0",
            [identity, source],
        )
        return shown

    async def say(self, text: str) -> None:
        await self.page.fill("#chat textarea", text)
        await self.page.press("#chat textarea", "Enter")

    async def messages(self) -> list[str]:
        return await self.page.eval_on_selector_all(  # type: ignore[no-any-return]
            "#chat li .text", "all => all.map((each) => each.textContent)"
        )

    async def screenshot(self, name: str) -> Path:
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / name
        await self.page.screenshot(path=path)
        return path


async def _serve(route: Route) -> None:
    name = route.request.url.rsplit("/", 1)[1]
    paths = [folder / name for folder in (TOP / "tests/lab", LIBRARY.parent, WHIP_WHEP)]
    await route.fulfill(path=next(path for path in paths if path.exists()))
