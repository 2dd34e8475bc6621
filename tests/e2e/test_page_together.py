"""The room page among others: the picture that follows the speaker, pins, hands, words about the network, devices, and
what a moderator does. Cameras are small here, so that several pages fit on one machine; real pictures are in
`test_call.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from livekit.protocol import models, rtc
from playwright.async_api import Browser, WebSocketRoute

from tests.lab.browser import Client, Person, until
from tests.lab.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

# A camera that costs next to nothing to encode, in place of the browser's fake one.
SMALL_CAMERA = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  if (!wanted.video) return ask(wanted);
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const draw = canvas.getContext("2d");
  let n = 0;
  setInterval(() => { draw.fillStyle = `hsl(${n++} 50% 50%)`; draw.fillRect(0, 0, 320, 180); }, 200);
  const stream = wanted.audio ? await ask({ audio: wanted.audio }) : new MediaStream();
  stream.addTrack(canvas.captureStream(5).getVideoTracks()[0]);
  return stream;
};
"""
SLOW = 40  # seconds; other tests may be busy beside these
PACKET = 1200  # bytes of a picture at most


async def enter(
    browser: Browser,
    server: Server,
    room: str,
    identity: str,
    *,
    role: str = "doctor",
    join: bool = True,
    script: str = "",
    **context: Any,
) -> Person:
    """Someone at the page, in English. A moderator's token has the grant."""
    context = {"locale": "en-GB", "reduced_motion": "reduce", **context}
    tab = await Person.open(browser, server, identity, script=SMALL_CAMERA + script, **context)
    person = Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)
    person.page.set_default_timeout(SLOW * 1000)
    await person.page.goto(server.link(room, identity, role, room_admin=role == "moderator"))
    await person.page.wait_for_selector("body[data-state=lobby]")
    if join:
        await person.join()
    return person


async def identities(person: Person, grid: str) -> list[str]:
    found: list[str] = await person.page.eval_on_selector_all(
        f"ul.{grid} > li.tile", "all => all.map((each) => each.dataset.participant)"
    )
    return found


async def shown_large(person: Person, *expected: str) -> None:
    await until(
        f"shown large: {expected}",
        lambda: identities(person, "large"),
        seconds=SLOW,
        so=lambda seen: seen == list(expected),
    )


async def tile_has(person: Person, identity: str, **data: str) -> None:
    async def look() -> dict[str, str]:
        return await person.tile(identity) or {}

    await until(
        f"{identity}: {data}", look, seconds=SLOW, so=lambda tile: all(tile.get(key) == data[key] for key in data)
    )


async def reads(person: Person, selector: str, words: str) -> None:
    await until(
        f"{person.identity} reads {words!r}",
        lambda: person.page.eval_on_selector_all(selector, "all => all.map((each) => each.textContent).join(' ')"),
        seconds=SLOW,
        so=lambda text: words in text,
    )


async def test_the_picture_follows_who_speaks_and_a_pinned_one_stays(
    emptied_browser: Browser, one_server: Server
) -> None:
    names = ("an", "binh", "chi", "dung")
    viewer = await enter(emptied_browser, one_server, "many", "viewer")
    others = {name: await Client.join(emptied_browser, one_server, "many", name) for name in names}

    async def speaks(name: str, speaking: bool = True) -> None:
        await others[name].page.evaluate(f"lab.room.localParticipant.setMicrophoneEnabled({str(speaking).lower()})")
        await tile_has(viewer, name, speaking=str(speaking).lower())

    for client in others.values():
        await client.publish(hertz=440)
        await client.page.evaluate("lab.room.localParticipant.setMicrophoneEnabled(false)")
    for name in names:
        await tile_has(viewer, name, microphone="off", speaking="false")

    await speaks("an")
    await shown_large(viewer, "an")
    assert await identities(viewer, "people") == ["binh", "chi", "dung", "viewer"]
    await speaks("an", False)
    assert await identities(viewer, "large") == ["an"], "the last speaker stays"
    await speaks("binh")
    await shown_large(viewer, "binh")
    # The two changed places, and nobody else has moved.
    assert await identities(viewer, "people") == ["an", "chi", "dung", "viewer"]

    await viewer.page.focus("li.tile[data-participant=chi] .pin")
    await viewer.page.keyboard.press("Enter")
    await shown_large(viewer, "chi")
    assert await viewer.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    await reads(viewer, "#polite", "chi is pinned")
    await speaks("binh", False)
    await speaks("dung")
    await asyncio.sleep(1)  # longer than it takes the picture to turn, had it been free to
    assert await identities(viewer, "large") == ["chi"]
    await viewer.page.click("li.tile[data-participant=chi] .pin")
    await shown_large(viewer, "dung")


async def test_a_pinned_picture_asks_for_a_higher_layer(emptied_browser: Browser, one_server: Server) -> None:
    viewer = await enter(emptied_browser, one_server, "pin", "viewer")
    doctor = await enter(emptied_browser, one_server, "pin", "doctor")
    nurse = await enter(emptied_browser, one_server, "pin", "nurse")
    await tile_has(viewer, "doctor", camera="on")
    await tile_has(viewer, "nurse", camera="on")

    async def width(identity: str) -> int:
        """What the viewer's page asks the server for."""
        participants = (await one_server.room("pin"))["participants"]
        sids = {each["identity"]: each["sid"] for each in participants}
        me = next(each for each in participants if each["identity"] == "viewer")
        asked = [each["wanted"] for each in me["subscriptions"] if each["publisher"] == sids[identity]]
        return max((each["width"] or 0 for each in asked if not each["disabled"]), default=0)

    before = await until("both are asked for", lambda: width("doctor"), seconds=SLOW)
    await viewer.page.hover("li.tile[data-participant=doctor]")
    await viewer.page.click("li.tile[data-participant=doctor] .pin")
    await until("the pinned one is asked for larger", lambda: width("doctor"), seconds=SLOW, so=lambda w: w > before)
    await until("the other one smaller", lambda: width("nurse"), seconds=SLOW, so=lambda w: 0 < w < before)
    for person in (doctor, nurse):
        assert not [line for line in person.console if line.startswith("pageerror")], person.console


async def test_a_moderator_acts_and_whoever_is_concerned_is_told(emptied_browser: Browser, one_server: Server) -> None:
    lan = await enter(emptied_browser, one_server, "ward", "lan", role="moderator")
    nam = await enter(emptied_browser, one_server, "ward", "nam", role="patient")
    await tile_has(lan, "nam", microphone="on", camera="on")

    # A hand: on the tile, in the list, said aloud; lowered by oneself or by the moderator.
    await nam.press("hand")
    await tile_has(lan, "nam", hand="up")
    await reads(lan, "#polite", "nam raised a hand")
    await reads(lan, "[data-button=people] .hands", "1")
    await lan.press("people")
    assert await lan.page.get_attribute("#people li:first-child", "data-person") == "nam"
    await nam.press("hand")
    await tile_has(lan, "nam", hand="down")
    await nam.press("hand")
    await tile_has(nam, "nam", hand="up")
    await lan.page.click("[data-person=nam] [data-button=more]")
    await lan.press("lower-hand")
    await reads(nam, ".banner", "A moderator has lowered your hand.")
    await tile_has(nam, "nam", hand="down")

    # Nobody else has the controls.
    await nam.press("people")
    await nam.page.wait_for_selector("[data-person=lan] [data-button=pin]")
    assert await nam.page.query_selector("[data-button=more]") is None
    await nam.press("people")

    await lan.press("stop-microphone")
    await reads(nam, ".banner", "A moderator has muted you.")
    await tile_has(lan, "nam", microphone="off")
    await nam.press("microphone")
    await tile_has(lan, "nam", microphone="on")
    await lan.press("stop-camera")
    await reads(nam, ".banner", "A moderator has stopped your camera.")
    await tile_has(lan, "nam", camera="off")

    await lan.page.uncheck("[data-right=microphone]")
    await reads(nam, ".banner", "A moderator no longer lets you speak.")
    await nam.page.wait_for_selector(".controls [data-button=microphone]", state="hidden")
    await tile_has(lan, "nam", microphone="off")
    # Two in one breath: a permission is replaced whole, and the second must not give the first back.
    await lan.page.uncheck("[data-right=camera]")
    await lan.page.uncheck("[data-right=data]")
    await reads(nam, ".banner", "A moderator no longer lets you send messages.")
    await nam.page.wait_for_selector(".controls [data-button=camera]", state="hidden")
    assert await nam.page.query_selector("#chat form[hidden]") is not None
    await lan.page.check("[data-right=microphone]")
    await reads(nam, ".banner", "A moderator now lets you speak.")
    await nam.page.wait_for_selector(".controls [data-button=microphone]")
    # What the role forbids is no moderator's to give, and does not look given.
    await lan.page.click("[data-right=screen]")
    await reads(lan, ".banner", "The role of this person does not allow that.")
    assert not await lan.page.is_checked("[data-right=screen]")

    await lan.press("remove")
    await lan.press("cancel")
    assert await nam.page.get_attribute("body", "data-state") == "joined"
    await lan.press("remove")
    await lan.press("confirm")
    assert "removed you" in await nam.page.inner_text("[data-fault=removed]")
    assert await nam.page.query_selector("[data-button=again]") is None, "the server would not let him back"
    await until("he is gone", lambda: lan.tile("nam"), seconds=SLOW, so=lambda tile: tile is None)
    for person in (lan, nam):
        assert not [line for line in person.console if line.startswith("pageerror")], person.console


async def test_sound_only_receives_and_sends_no_picture_and_is_remembered(
    emptied_browser: Browser, one_server: Server
) -> None:
    lan = await enter(emptied_browser, one_server, "quiet", "lan")
    nam = await enter(emptied_browser, one_server, "quiet", "nam")
    await tile_has(nam, "lan", picture="shown")
    await tile_has(lan, "nam", camera="on")

    async def received() -> int:
        """Bytes of pictures; a probe is padding, and has none."""
        streams = await nam.stats("inbound-rtp", kind="video")
        return sum(each.get("bytesReceived", 0) for each in streams)

    async def wanted() -> list[bool]:
        participants = (await one_server.room("quiet"))["participants"]
        me = next(each for each in participants if each["identity"] == "nam")
        return [each["wanted"]["disabled"] for each in me["subscriptions"]]

    await until("pictures come", received, seconds=SLOW)
    await nam.press("settings")
    await nam.press("audio-only")
    await nam.press("done")
    await tile_has(nam, "lan", picture="none")
    await tile_has(lan, "nam", camera="off")
    await until("the server is asked for no picture", wanted, seconds=SLOW, so=lambda off: off.count(True) == 1)
    before = await received()
    await asyncio.sleep(1)
    assert await received() - before <= 2 * PACKET, "pictures still come"
    await reads(nam, ".banner", "Sound only")
    await reads(nam, "li.tile[data-participant=lan] .state", "Picture not received")

    await nam.page.reload()
    await nam.page.wait_for_selector("body[data-state=lobby]")
    await nam.join()
    await tile_has(nam, "lan", camera="on", picture="none")
    await tile_has(lan, "nam", microphone="on", camera="off")
    assert await received() <= 2 * PACKET
    await nam.page.click(".banner button")
    await tile_has(nam, "lan", picture="shown")
    await until("pictures come again", received, seconds=SLOW, so=lambda packets: packets > 5)


async def test_devices_are_chosen_in_the_call_and_may_come_and_go(emptied_browser: Browser, one_server: Server) -> None:
    tab = await Person.open(emptied_browser, one_server, "lan", locale="en-GB")
    lan = Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)
    await lan.page.goto(one_server.link("devices", "lan"))
    await lan.page.wait_for_selector("body[data-state=lobby]")
    await lan.join()
    nam = await Client.join(emptied_browser, one_server, "devices", "nam")
    await nam.publish(hertz=440)
    await tile_has(lan, "lan", camera="on", microphone="on")
    await tile_has(lan, "nam", microphone="on")

    async def used() -> list[str]:
        sent: list[str] = await lan.page.evaluate(
            "window.__connections.flatMap((each) => each.getSenders())"
            ".map((each) => each.track?.getSettings().deviceId ?? '')"
        )
        return sent

    async def heard_by() -> list[str]:
        sinks: list[str] = await lan.page.eval_on_selector_all("#sounds audio", "all => all.map((each) => each.sinkId)")
        return sinks

    async def choose(kind: str, look: Callable[[], Awaitable[list[str]]]) -> None:
        options: list[str] = await lan.page.eval_on_selector_all(
            f"dialog [data-device={kind}] option", "all => all.map((each) => each.value)"
        )
        before = await look()
        other = next(each for each in reversed(options) if each not in before)
        await lan.page.select_option(f"dialog [data-device={kind}]", other)
        await until(f"another {kind} is used", look, seconds=SLOW, so=lambda ids: other in ids)
        assert await lan.page.evaluate(f"localStorage.getItem('d4e-{kind}')") == other

    await lan.press("settings")
    await choose("videoinput", used)
    await choose("audioinput", used)
    await choose("audiooutput", heard_by)
    await lan.press("done")

    # A headset is plugged in, and pulled out again.
    await lan.page.evaluate("""() => {
      const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
      const headset = { kind: "audioinput", deviceId: "headset", groupId: "", label: "Headset 7" };
      window.plug = (there) => {
        navigator.mediaDevices.enumerateDevices = async () => [...(await list()), ...(there ? [headset] : [])];
        navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
      };
      window.plug(true);
    }""")
    await reads(lan, ".banner", "Plugged in: Headset 7.")
    await lan.page.click(".banner button")
    await lan.page.wait_for_selector("dialog[open] option[value=headset]", state="attached")
    await lan.page.evaluate("window.plug(false)")
    await reads(lan, ".banner", "Unplugged: Headset 7.")
    await until(
        "it is off the list",
        lambda: lan.page.query_selector("dialog[open] option[value=headset]"),
        so=lambda option: option is None,
    )


async def test_the_network_is_told_in_words_with_the_leg_that_is_weak(
    emptied_browser: Browser, one_server: Server
) -> None:
    sockets: list[WebSocketRoute] = []
    lan = await enter(emptied_browser, one_server, "network", "lan", join=False)

    def pass_on(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    await lan.page.route_web_socket(re.compile("/rtc"), pass_on)
    await lan.join()
    nam = await Client.join(emptied_browser, one_server, "network", "nam")
    await tile_has(lan, "nam", quality="unknown")
    participants = (await one_server.room("network"))["participants"]
    sids = {each["identity"]: each["sid"] for each in participants}

    def judge(identity: str, quality: models.ConnectionQuality) -> None:
        """As the server tells it, in the room protocol's own message."""
        info = rtc.ConnectionQualityInfo(participant_sid=sids[identity], quality=quality)
        update = rtc.ConnectionQualityUpdate(updates=[info])
        sockets[-1].send(rtc.SignalResponse(connection_quality=update).SerializeToString())

    judge("nam", models.ConnectionQuality.POOR)
    await reads(lan, "li.tile[data-participant=nam] .state", "Weak network")
    await lan.press("people")
    await reads(lan, "[data-person=nam] .hint", "Weak network")
    judge("nam", models.ConnectionQuality.EXCELLENT)
    await reads(lan, "[data-person=nam] .hint", "Good network")
    assert await lan.page.is_hidden("li.tile[data-participant=nam] .state")
    judge("nam", models.ConnectionQuality.LOST)
    await reads(lan, "li.tile[data-participant=nam] .state", "Connection lost")

    judge("lan", models.ConnectionQuality.POOR)
    await reads(lan, ".banner", "Your network is weak.")
    # A participant's packet is not the server's word.
    forged = json.dumps({"updates": [{"participant": sids["lan"], "leg": "up"}]})
    await nam.page.evaluate(
        "(text) => lab.room.localParticipant.publishData(new TextEncoder().encode(text),"
        " { reliable: true, topic: 'd4e.quality' })",
        forged,
    )
    await nam.call("say", "sent after it")
    await until("the forged packet has passed", lan.messages, seconds=SLOW)
    assert "the others hear and see you badly" not in await lan.page.inner_text(".banner.status")
    await lan.page.click(".banner.status button")
    await reads(lan, ".banner.status", "Sound only")
