"""Headless Firefox, Debian's ESR, for tests: as much of Playwright's `Browser` as `Client` and `Person` of
tests/lab/browser.py use, so that both work in it as they are. Playwright drives a Firefox of its own build only; this
one is spoken to over WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/), on the socket that it opens by itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import mimetypes
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from playwright.async_api import Browser

FIREFOX = shutil.which("firefox-esr") or "/usr/bin/firefox-esr"
START_SECONDS = 60.0  # the machine may be busy
COMMAND_SECONDS = 60.0
# Fake devices and no question about them; sound without a sound card, at WebRTC's own rate; candidates as addresses;
# and nothing that calls home.
PREFERENCES: Mapping[str, object] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.cubeb.force_mock_context": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.gmp-manager.updateEnabled": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "services.settings.server": "data:,#",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class ScriptError(Exception):
    """The page threw, or a command of the protocol failed."""


@asynccontextmanager
async def firefox() -> AsyncIterator[Browser]:
    """One browser process until the end of the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        profile = Path(folder)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
        (profile / "user.js").write_text("\n".join(lines))
        process = await asyncio.create_subprocess_exec(
            *(FIREFOX, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0", "about:blank"),
            env={"HOME": folder, "MOZ_CRASHREPORTER_DISABLE": "1", "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        draining: asyncio.Task[None] | None = None
        try:
            url = await asyncio.wait_for(_url(process), START_SECONDS)
            draining = asyncio.create_task(_drain(process))
            async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/session", max_msg_size=0) as socket:
                protocol = Protocol(socket)
                try:
                    made = await protocol.ask("session.new", capabilities={})
                    version = str(made["capabilities"]["browserVersion"])
                    await protocol.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
                    yield cast(Browser, Firefox(protocol, version))
                finally:
                    await protocol.end()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if draining is not None:
                await draining


class Protocol:
    """Commands and their results by number; events to those who listen."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {}
        self._reading = asyncio.create_task(self._read())

    async def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        try:
            return await asyncio.wait_for(answer, COMMAND_SECONDS)
        finally:
            del self._waiting[number]

    def listen(self, event: str, context: str, act: Callable[[dict[str, Any]], None]) -> None:
        self._listeners[event, context] = act

    async def end(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            said = json.loads(message.data)
            if said["type"] == "event":
                facts = said["params"]
                context = facts.get("context") or facts.get("source", {}).get("context") or ""
                if (act := self._listeners.get((said["method"], context))) is not None:
                    act(facts)
            elif (answer := self._waiting.get(said["id"])) is not None and not answer.done():
                if said["type"] == "success":
                    answer.set_result(said["result"])
                else:
                    answer.set_exception(ScriptError(f"{said['error']}: {said['message']}"))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ScriptError("the browser has ended"))


class Firefox:
    def __init__(self, protocol: Protocol, version: str) -> None:
        self.version = version
        self.contexts: list[Context] = []
        self._protocol = protocol

    async def new_context(self, *, viewport: Mapping[str, int] | None = None, **_: object) -> Context:
        """What else Playwright takes, such as permissions, is given here anyway."""
        user = await self._protocol.ask("browser.createUserContext")
        context = Context(self._protocol, str(user["userContext"]), viewport, self.contexts)
        self.contexts.append(context)
        return context


class Context:
    """A window with storage of its own."""

    def __init__(
        self, protocol: Protocol, user: str, viewport: Mapping[str, int] | None, contexts: list[Context]
    ) -> None:
        self._protocol, self._user, self._viewport, self._contexts = protocol, user, viewport, contexts
        self._scripts: list[str] = []

    async def add_init_script(self, script: str) -> None:
        self._scripts.append(script)

    async def new_page(self) -> Page:
        # A window, not a tab: what is in the background is slowed down.
        made = await self._protocol.ask("browsingContext.create", type="window", userContext=self._user)
        page = Page(self._protocol, str(made["context"]), self)
        if self._viewport is not None:
            await self._protocol.ask("browsingContext.setViewport", context=page.id, viewport=dict(self._viewport))
        for script in self._scripts:
            await page.add_init_script(script)
        return page

    async def close(self) -> None:
        self._contexts.remove(self)
        await self._protocol.ask("browser.removeUserContext", userContext=self._user)


class Page:
    def __init__(self, protocol: Protocol, id: str, context: Context) -> None:
        self.id, self.context = id, context
        self._protocol = protocol
        self._on: dict[str, Callable[[Any], None]] = {}
        self._routes: list[tuple[str, Callable[[Route], Awaitable[None]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        protocol.listen("log.entryAdded", id, self._logged)
        protocol.listen("network.beforeRequestSent", id, self._requested)

    def on(self, event: str, act: Callable[[Any], None]) -> None:
        self._on[event] = act

    async def add_init_script(self, script: str) -> None:
        function = f"() => {{ {script} }}"
        await self._protocol.ask("script.addPreloadScript", functionDeclaration=function, contexts=[self.id])

    async def goto(self, url: str) -> None:
        await self._protocol.ask("browsingContext.navigate", context=self.id, url=url, wait="complete")

    async def evaluate(self, expression: str, argument: object = None) -> Any:
        """An expression, or a function of the argument. What JSON cannot hold comes back as None."""
        text = f"""(async () => {{
          const given = ({expression});
          const made = typeof given === "function" ? await given({json.dumps(argument)}) : await given;
          try {{ return JSON.stringify(made) ?? "null"; }} catch {{ return "null"; }}
        }})()"""
        answer = await self._protocol.ask(
            "script.evaluate",
            expression=text,
            target={"context": self.id},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] != "success":
            raise ScriptError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    async def wait_for_selector(self, selector: str) -> None:
        async with asyncio.timeout(COMMAND_SECONDS):
            while not await self.evaluate(f"document.querySelector({json.dumps(selector)}) !== null"):
                await asyncio.sleep(0.1)

    async def click(self, selector: str) -> None:
        await self.wait_for_selector(f"{selector}:not([disabled])")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def fill(self, selector: str, text: str) -> None:
        await self.wait_for_selector(selector)
        await self.evaluate(
            "([selector, text]) => { const field = document.querySelector(selector); field.focus(); field.value = text;"
            " field.dispatchEvent(new Event('input', { bubbles: true })); }",
            [selector, text],
        )

    async def press(self, selector: str, key: str) -> None:
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        value = {"Enter": "\ue007"}.get(key, key)  # WebDriver §17.4.2: keys that are no characters
        strokes = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        typing = {"type": "key", "id": "keyboard", "actions": strokes}
        await self._protocol.ask("input.performActions", context=self.id, actions=[typing])

    async def route(self, pattern: str, act: Callable[[Route], Awaitable[None]]) -> None:
        parts = urlsplit(pattern)
        address = {"protocol": parts.scheme, "hostname": parts.hostname, "port": str(parts.port)}
        self._routes.append((pattern, act))
        await self._protocol.ask(
            "network.addIntercept",
            phases=["beforeRequestSent"],
            contexts=[self.id],
            urlPatterns=[{"type": "pattern", **address}],
        )

    async def screenshot(self, *, path: Path) -> None:
        made = await self._protocol.ask("browsingContext.captureScreenshot", context=self.id)
        path.write_bytes(base64.b64decode(made["data"]))

    def _logged(self, entry: dict[str, Any]) -> None:
        if entry["type"] == "console" and "console" in self._on:
            self._on["console"](_Message({"warn": "warning"}.get(entry["method"], entry["method"]), entry["text"]))
        elif entry["type"] == "javascript" and entry["level"] == "error" and "pageerror" in self._on:
            self._on["pageerror"](entry["text"])

    def _requested(self, facts: dict[str, Any]) -> None:
        url = str(facts["request"]["url"])
        if "request" in self._on:
            self._on["request"](_Request(url))
        if facts["isBlocked"]:
            route = Route(self._protocol, str(facts["request"]["request"]), url)
            act = next((act for pattern, act in self._routes if fnmatch(url, pattern)), Route.continue_)
            task = asyncio.ensure_future(act(route))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class Route:
    """A request that waits for what to do with it."""

    def __init__(self, protocol: Protocol, id: str, url: str) -> None:
        self.request = _Request(url)
        self._protocol, self._id = protocol, id

    async def continue_(self) -> None:
        await self._protocol.ask("network.continueRequest", request=self._id)

    async def fulfill(self, *, path: Path | None = None, body: str = "", content_type: str = "") -> None:
        content = body.encode() if path is None else path.read_bytes()
        kind = content_type or mimetypes.guess_type(path or "")[0] or "text/plain"
        await self._protocol.ask(
            "network.provideResponse",
            request=self._id,
            statusCode=200,
            headers=[{"name": "Content-Type", "value": {"type": "string", "value": f"{kind}; charset=utf-8"}}],
            body={"type": "base64", "value": base64.b64encode(content).decode()},
        )


class _Request:
    def __init__(self, url: str) -> None:
        self.url = url


class _Message:
    def __init__(self, type: str, text: str) -> None:
        self.type, self.text = type, text


async def _url(process: asyncio.subprocess.Process) -> str:
    """Where it listens, which it says on its standard error."""
    assert process.stderr is not None
    said = []
    while line := await process.stderr.readline():
        said.append(line.decode(errors="replace"))
        if match := re.search(r"WebDriver BiDi listening on (ws://\S+)", said[-1]):
            return match[1]
    raise AssertionError("Firefox has ended:\n" + "".join(said))


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(1 << 16):
        pass
