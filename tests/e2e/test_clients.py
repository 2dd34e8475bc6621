"""Which client does what: each with one and the same other, livekit-client in Chromium, who judges what arrives there.
A cell of the README's table is a step of these tests (`make clients`, tests/lab/clients.py)."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar

import pytest
from playwright.async_api import Browser

from tests.e2e import test_whip_ffmpeg as ffmpeg
from tests.e2e.test_media import BLUE, PITCH_TOLERANCE, RED, css, hears, like, sees
from tests.lab.browser import Client, chromium, until
from tests.lab.clients import CLIENTS, STEPS, UNDEFINED, outcomes
from tests.lab.firefox import firefox
from tests.lab.go_client import GoClient
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.namespace import HERE, delegated
from tests.lab.server import Server, running
from tests.lab.wire import Wire, wired

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    # What is recorded is for tests/lab/clients.py, which reads it where it stands.
    pytest.mark.filterwarnings("ignore:record_property is incompatible:pytest.PytestWarning"),
]

ROOM = "clinic"
SUBJECT, JUDGE = "subject", "judge"
MINE, JUDGES = 440.0, 640.0  # hertz
PATIENCE = 40.0  # s; clients wait longer from one try to the next


@dataclass(slots=True)
class Call:
    """`seen` is the server as the subject sees it, behind the wire."""

    server: Server
    seen: Server
    wire: Wire
    judge: Client
    folder: Path

    @property
    def token(self) -> str:
        return self.seen.token(ROOM, SUBJECT, "doctor")

    async def subject(self) -> dict[str, Any]:
        """As the server knows him; empty while he is not there."""
        people = (await self.server.room(ROOM))["participants"]
        return next((person for person in people if person["identity"] == SUBJECT), {})

    async def goes_on(self) -> None:
        """The judge sees and hears him, from now on."""
        await sees(self.judge, SUBJECT, RED)
        await hears(self.judge, SUBJECT, MINE)


class Subject:
    """A client under test. What the steps ask of it; `step` does what is the same for all."""

    name: ClassVar[str]

    def __init__(self, call: Call) -> None:
        self.call = call

    async def join(self) -> None:
        raise NotImplementedError

    async def publish(self) -> None:
        raise NotImplementedError

    async def decoded(self) -> Decoded:
        """What it decodes of the judge."""
        raise NotImplementedError

    async def say(self, text: str) -> None:
        raise NotImplementedError

    async def texts(self) -> list[str]:
        raise NotImplementedError

    async def mute(self, on: bool) -> None:
        raise NotImplementedError

    async def restart_ice(self) -> None:
        """The SDKs do it when they resume."""
        self.call.wire.cut()

    async def reconnect(self) -> None:
        """Away for longer than anybody is kept."""
        self.call.wire.dead = True
        self.call.wire.cut()
        await until("it is given up", self.call.subject, seconds=PATIENCE, so=lambda person: not person)
        self.call.wire.dead = False

    async def leave(self) -> None:
        raise NotImplementedError

    async def step(self, name: str) -> None:
        await getattr(self, f"_{name.lower().replace(' ', '_')}")()

    async def _join(self) -> None:
        await self.join()
        await until("it is in the room", self.call.subject, seconds=PATIENCE, so=lambda it: it.get("state") == "active")

    async def _publish(self) -> None:
        await self.publish()
        await self.call.goes_on()

    async def _subscribe(self) -> None:
        def right(seen: Decoded) -> bool:
            heard = abs(seen.hertz - JUDGES) < PITCH_TOLERANCE and seen.decibels > -60
            return seen.frames > 20 and like(seen.colour, BLUE) and heard

        await until("it sees and hears the judge", self.decoded, seconds=PATIENCE, so=right)

    async def _simulcast(self) -> None:
        for quality, size in (("LOW", (320, 180)), ("HIGH", (1280, 720))):
            await self.call.judge.call("ask", SUBJECT, quality)

            def reached(seen: dict[str, Any] | None, size: tuple[int, int] = size) -> bool:
                return seen is not None and (seen["width"], seen["height"]) == size

            # Encoders begin with little, and come to the largest when they trust the link.
            await until(f"{quality} is seen", partial(self.call.judge.seen, SUBJECT), seconds=2 * PATIENCE, so=reached)

    async def _data(self) -> None:
        await self.say("one way")
        texts = partial(self.call.judge.page.evaluate, "lab.texts")
        await until("the judge reads it", texts, so=lambda got: [SUBJECT, "one way"] in got)
        await self.call.judge.call("say", "and the other")
        await until("it reads the judge", self.texts, so=lambda got: "and the other" in got)

    async def _mute(self) -> None:
        for on, event in ((True, "muted"), (False, "unmuted")):
            await self.mute(on)
            await until(event, partial(self.call.judge.events, event), so=lambda of: f"{SUBJECT} microphone" in of)
        await hears(self.call.judge, SUBJECT, MINE)

    async def _resume(self) -> None:
        sid = (await self.call.subject())["sid"]
        resumed = f"participant_resumed .* participant={sid} "
        self.call.wire.cut()

        async def times() -> int:
            return len(re.findall(resumed, self.call.server.log))

        await until("it is back", times, seconds=PATIENCE)
        await self.call.goes_on()
        assert (await self.call.subject())["sid"] == sid

    async def _ice_restart(self) -> None:
        before = await self.call.subject()
        await self.restart_ice()

        def renewed(after: dict[str, Any]) -> bool:
            return bool(after) and not {*before["ice"]} & {*after["ice"]}

        after = await until("all has new credentials", self.call.subject, seconds=PATIENCE, so=renewed)
        assert after["sid"] == before["sid"]
        await self._flows()

    async def _full_reconnect(self) -> None:
        before = (await self.call.subject())["sid"]
        await self.reconnect()

        def anew(after: dict[str, Any]) -> bool:
            return after.get("state") == "active" and after["sid"] != before

        await until("it is in again", self.call.subject, seconds=PATIENCE, so=anew)
        await self._flows()

    async def _flows(self) -> None:
        await self.call.goes_on()


class Web(Subject):
    name = "JS single"
    options: Mapping[str, Any] = {"singlePeerConnection": True}

    def __init__(self, call: Call, browser: Browser) -> None:
        super().__init__(call)
        self._browser = browser
        self._client: Client

    async def join(self) -> None:
        self._client = await Client.join(self._browser, self.call.seen, ROOM, SUBJECT, **self.options)

    async def publish(self) -> None:
        await self._client.publish(colour=css(RED), hertz=MINE)

    async def decoded(self) -> Decoded:
        return await decoded(self._client)

    async def say(self, text: str) -> None:
        await self._client.call("say", text)

    async def texts(self) -> list[str]:
        return [text for _, text in await self._client.page.evaluate("lab.texts")]

    async def mute(self, on: bool) -> None:
        await self._client.page.evaluate(
            f"async () => {{ await lab.room.localParticipant.setMicrophoneEnabled({str(not on).lower()}); }}"
        )

    async def leave(self) -> None:
        await self._client.page.evaluate("async () => { await lab.room.disconnect(); }")


class WebDual(Web):
    name = "JS dual"
    options: Mapping[str, Any] = {"singlePeerConnection": False}


class Firefox(Web):
    name = "Firefox ESR"
    options: Mapping[str, Any] = {}


class Python(Subject):
    name = "Python single"
    dual = False

    async def restart_ice(self) -> None:
        async def settled() -> bool:
            names = [name for name, _ in self._client.events]
            return names.count("reconnected") == names.count("reconnecting")

        # Cut while it comes back, and it says so seconds later, it would begin anew.
        await until("it has come back", settled, seconds=PATIENCE)
        await super().restart_ice()

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._client = LivekitClient()

    async def join(self) -> None:
        await self._client.join(self.call.seen.ws, self.call.token, dual=self.dual)

    async def publish(self) -> None:
        await self._client.publish(colour=RED, hertz=MINE)

    async def decoded(self) -> Decoded:
        return self._client.decoded.get(JUDGE, Decoded())

    async def say(self, text: str) -> None:
        await self._client.room.local_participant.send_text(text, topic="lk.chat")

    async def texts(self) -> list[str]:
        return [text for _, text in self._client.texts]

    async def mute(self, on: bool) -> None:
        for publication in self._client.room.local_participant.track_publications.values():
            if publication.name == "voice" and publication.track is not None:
                (publication.track.mute if on else publication.track.unmute)()

    async def leave(self) -> None:
        await self._client.leave()


class PythonDual(Python):
    name = "Python dual"
    dual = True


class Go(Subject):
    name = "Go"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._client = GoClient(call.folder / "go")

    async def join(self) -> None:
        await self._client.join(self.call.seen, ROOM, SUBJECT)

    async def publish(self) -> None:
        await self._client.publish(colour=RED, hertz=MINE)

    async def decoded(self) -> Decoded:
        return await self._client.decoded(JUDGE)

    async def say(self, text: str) -> None:
        await self._client.ask(f"say {text}")

    async def texts(self) -> list[str]:
        return [text for _, text in await self._client.told("text")]

    async def mute(self, on: bool) -> None:
        await self._client.ask("mute" if on else "unmute")

    async def restart_ice(self) -> None:
        await self._settled()
        await super().restart_ice()

    async def reconnect(self) -> None:
        await self._settled()
        await super().reconnect()

    async def leave(self) -> None:
        await self._client.leave()

    async def _settled(self) -> None:
        """A cut before its last resume is over it does not see, and is gone for good (server-sdk-go 2.19:
        `setResumingLocked` does nothing while it resumes)."""

        async def resumes() -> tuple[int, int]:
            return len(await self._client.told("reconnecting")), len(await self._client.told("reconnected"))

        await until("it has resumed", resumes, seconds=PATIENCE, so=lambda counts: counts[0] == counts[1])


class Whip(Subject):
    """The npm client of an author of RFC 9725, with the laboratory's picture and tone."""

    name = "WHIP (`whip-whep`)"
    kind = "WHIP"

    def __init__(self, call: Call, browser: Browser) -> None:
        super().__init__(call)
        self._browser = browser
        self._tab: Client

    async def join(self) -> None:
        self._tab = await Client.visit(self._browser, self.call.seen, SUBJECT)
        await self._begin()

    async def _begin(self) -> None:
        await self._tab.page.evaluate(_WHIP % (self.kind, self.kind.lower()), [self.call.token, css(RED), MINE])

    async def publish(self) -> None:
        pass  # it joins by publishing

    async def restart_ice(self) -> None:
        await self._tab.page.evaluate("async () => { await window.client.restart(); }")

    async def reconnect(self) -> None:
        await self._begin()  # a new session with the same token takes the place of the old one

    async def leave(self) -> None:
        await self._tab.page.evaluate("async () => { await window.client.stop(); }")


class Whep(Whip):
    name = "WHEP (`whip-whep`)"
    kind = "WHEP"

    async def decoded(self) -> Decoded:
        return await decoded(self._tab)

    async def _flows(self) -> None:
        frames = (await self.decoded()).frames
        await until("the picture goes on", self.decoded, seconds=PATIENCE, so=lambda seen: seen.frames > frames + 20)


class Ffmpeg(Subject):
    """The WHIP muxer of PyAV's FFmpeg, in a process of its own: it holds Python's lock while it waits for an answer,
    and the wire that its request comes by is in this one."""

    name = "WHIP (FFmpeg)"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._apart = multiprocessing.get_context("spawn")
        self._stop = self._apart.Event()
        self._encoder: BaseProcess | None = None

    async def join(self) -> None:
        url, options = f"{self.call.seen.url}/whip/{ROOM}", ffmpeg.certificate(self.call.folder)
        self._stop = self._apart.Event()
        self._encoder = self._apart.Process(target=ffmpeg.encode, args=(url, self.call.token, options, self._stop))
        self._encoder.start()

    async def publish(self) -> None:
        pass

    async def reconnect(self) -> None:
        await self.leave()
        await self.join()

    async def leave(self) -> None:
        assert self._encoder is not None
        self._stop.set()
        await asyncio.to_thread(self._encoder.join, PATIENCE)
        if self._encoder.is_alive():
            self._encoder.kill()
            raise TimeoutError("FFmpeg does not end")


_WHIP = """async ([token, colour, hertz]) => {
  const { %sClient: Made } = await import("/lab/%s.js");
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const url = `${location.origin}/${Made.name.slice(0, 4).toLowerCase()}/clinic`;
  window.client = new Made();
  if (window.client.publish) {
    const sizes = [["q", 4, 160_000], ["h", 2, 450_000], ["f", 1, 1_700_000]];
    const sendEncodings = sizes.map(([rid, by, maxBitrate]) => ({ rid, scaleResolutionDownBy: by, maxBitrate }));
    await lab.sound.resume();
    pc.addTransceiver(lab.tone(hertz), { direction: "sendonly" });
    pc.addTransceiver(lab.picture(colour), { direction: "sendonly", sendEncodings });
    await window.client.publish(pc, url, token);
  } else {
    await lab.sound.resume();
    pc.ontrack = ({ track }) => {
      const element = Object.assign(document.createElement(track.kind), { autoplay: true, playsInline: true });
      element.srcObject = new MediaStream([track]);
      lab.show("judge", element, track);
    };
    for (const kind of ["audio", "video"]) pc.addTransceiver(kind, { direction: "recvonly" });
    await window.client.view(pc, url, token);
  }
}"""


async def decoded(client: Client) -> Decoded:
    """What a browser decodes of the judge."""
    seen, heard = await client.seen(JUDGE), await client.heard(JUDGE)
    made = Decoded()
    if seen is not None and heard is not None:
        red, green, blue = seen["colour"]
        made.frames, made.colour, made.size = seen["frames"], (red, green, blue), (seen["width"], seen["height"])
        made.hertz, made.decibels = heard["hertz"], heard["decibels"]
    return made


@asynccontextmanager
async def subject(name: str, call: Call, browser: Browser) -> AsyncIterator[Subject]:
    if name == Firefox.name:
        async with firefox() as other:
            yield Firefox(call, other)
            return
    for kind in (Python, PythonDual, Go, Ffmpeg):
        if name == kind.name:
            yield kind(call)
    for of_browser in (Web, WebDual, Whip, Whep):
        if name == of_browser.name:
            yield of_browser(call, browser)


@pytest.mark.parametrize("name", CLIENTS)
async def test_what_a_client_does(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """Step by step, and on after a step that fails, but for the first."""
    failed: dict[str, Exception] = {}
    settings: dict[str, Any] = {"limits": {"resume": "4s"}}
    if name == Firefox.name:
        report = tmp_path / "inside.xml"
        try:
            if await delegated(request.node.nodeid, report=report):
                return
        finally:
            for step, outcome in (outcomes(report) if report.exists() else {}).items():
                record_property(step, outcome)
        settings["media"] = {"port": 7882, "addresses": [HERE]}
    async with (
        running(tmp_path / "server", config=settings) as server,
        wired(server) as (wire, seen),
        chromium() as browser,
    ):
        judge = await Client.join(browser, server, ROOM, JUDGE)
        await judge.publish(colour=css(BLUE), hertz=JUDGES)
        call = Call(server, seen, wire, judge, tmp_path)
        async with subject(name, call, browser) as it:
            try:
                for step in STEPS:
                    if step in UNDEFINED.get(name, {}):
                        continue
                    try:
                        await it.step(step)
                    except Exception as error:
                        failed[step] = error
                        print(f"{name}: {step}: {type(error).__name__}: {str(error)[:2000]}")
                    record_property(f"{name}: {step}", "no" if step in failed else "yes")
                    if "join" in failed:
                        break
            finally:
                await asyncio.gather(it.leave(), return_exceptions=True)
    assert not failed
