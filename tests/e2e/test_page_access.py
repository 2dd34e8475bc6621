"""The room page for everybody: by keyboard alone, on a phone, and by axe-core's rules (WCAG 2.2 AA) on every screen and
dialog, in both languages.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from livekit.protocol import models, rtc
from playwright.async_api import Browser, Route, WebSocketRoute

from tests.e2e.test_page_together import SLOW, SMALL_CAMERA, enter, shown_large, tile_has
from tests.lab.browser import Client, Person, until
from tests.lab.client import Lab, lab
from tests.lab.server import TOP, Server

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
AXE = TOP / "d4e_sfu/web/node_modules/axe-core/axe.min.js"
DESK, UPRIGHT, LYING = {"width": 1280, "height": 800}, {"width": 360, "height": 640}, {"width": 640, "height": 360}
PHONE: dict[str, Any] = {"viewport": UPRIGHT, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
# A phone cannot share its screen.
NO_SCREEN = "delete MediaDevices.prototype.getDisplayMedia;"

# Every rule that axe-core has, the one for the size of targets (WCAG 2.2 §2.5.8) included, which it leaves out.
CHECK = "axe.run({ rules: { 'target-size': { enabled: true } } })"

# A new size is told to the page with the next picture that it draws.
DRAWN = "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"

# What a keyboard must reach now: in a modal dialog that dialog alone.
REACHABLE = """() => {
  const top = document.querySelector("dialog[open]") ?? document.body;
  const all = top.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
  return [...all].filter((each) => !each.disabled && !each.closest("[inert]")
    && each.checkVisibility({ visibilityProperty: true })).map((each, at) => (each.dataset.reach = String(at)));
}"""
FOCUSED = """() => {
  const style = getComputedStyle(document.activeElement);
  return [document.activeElement.dataset.reach ?? "", style.outlineStyle, style.opacity];
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers() -> AsyncIterator[Lab]:
    async with lab() as peers:
        yield peers


@asynccontextmanager
async def ward(
    browser: Browser, server: Server, peers: Lab, room: str, *, others: int = 0
) -> AsyncIterator[Callable[..., Awaitable[Person]]]:
    """A room where a patient has raised a hand, and others look on; yields how to enter it as a moderator."""
    nam = await Client.join(browser, server, room, "nam", role="patient")
    await nam.publish(hertz=440)
    await nam.page.evaluate("lab.room.localParticipant.setAttributes({ 'd4e.hand': 'true' })")
    for number in range(others):
        await peers.join(server.url, server.token(room, f"viewer {number}", "observer"))

    async def come(**context: Any) -> Person:
        return await enter(browser, server, room, "lan", role="moderator", **context)

    yield come
    await nam.close()


async def test_every_control_is_reached_and_worked_by_keyboard_alone(
    emptied_browser: Browser, one_server: Server, peers: Lab
) -> None:
    async with ward(emptied_browser, one_server, peers, "keyboard") as come:
        lan = await come()
        await tile_has(lan, "nam", hand="up", microphone="on")
        press = lan.page.keyboard.press

        async def reaches_everything(view: str) -> None:
            wanted = set(await lan.page.evaluate(REACHABLE))
            assert wanted, view
            for _ in range(3 * len(wanted)):
                await press("Tab")
                at, outline, opacity = await lan.page.evaluate(FOCUSED)
                if at:
                    assert outline != "none", f"{view}: no focus ring"
                    assert opacity == "1", f"{view}: what has the focus cannot be seen"
                wanted.discard(at)
                if not wanted:
                    return
            left = [await lan.page.get_attribute(f"[data-reach='{at}']", "outerHTML") for at in wanted]
            raise AssertionError(f"{view}: not reached by Tab: {left}")

        async def focus_is_on(button: str) -> None:
            await until(
                f"the focus is on {button}",
                lambda: lan.page.evaluate("document.activeElement.dataset.button"),
                so=lambda seen: seen == button,
            )

        await reaches_everything("the call")
        await lan.page.focus("[data-button=hand]")
        await press("Space")
        await tile_has(lan, "lan", hand="up")
        await lan.page.focus("li.tile[data-participant=nam] .pin")
        await press("Space")
        await shown_large(lan, "nam")

        await lan.page.focus("[data-button=people]")
        await press("Enter")
        await lan.page.focus("[data-person=nam] [data-button=more]")
        await press("Enter")
        await reaches_everything("the list of people")
        await lan.page.focus("[data-person=nam] [data-button=stop-microphone]")
        await press("Enter")
        await tile_has(lan, "nam", microphone="off")
        await lan.page.focus("[data-right=data]")
        await press("Space")
        await until("a right is taken", lambda: lan.page.is_checked("[data-right=data]"), so=lambda given: not given)
        await lan.page.focus("[data-person=nam] [data-button=remove]")
        await press("Enter")
        await focus_is_on("cancel")
        await reaches_everything("the confirmation")
        await press("Escape")
        await focus_is_on("remove")
        await press("Escape")
        await focus_is_on("people")
        assert await lan.page.is_hidden("#people")

        await lan.page.focus("[data-button=chat]")
        await press("Enter")
        await reaches_everything("the chat")
        await press("Escape")
        await lan.page.focus("[data-button=settings]")
        await press("Enter")
        await reaches_everything("the settings")
        await lan.page.focus("[data-button=audio-only]")
        await press("Space")
        assert await lan.page.is_checked("[data-button=audio-only]")
        await press("Escape")
        await focus_is_on("settings")
        await reaches_everything("the call with sound only")

        await lan.page.focus("[data-button=people]")
        await press("Enter")
        await lan.page.focus("[data-person=nam] [data-button=remove]")
        await press("Enter")
        await focus_is_on("cancel")
        await press("Shift+Tab")
        await focus_is_on("confirm")
        await press("Enter")
        await until("nam is gone", lambda: lan.tile("nam"), seconds=SLOW, so=lambda tile: tile is None)


async def test_everything_is_done_on_a_phone(emptied_browser: Browser, one_server: Server, peers: Lab) -> None:
    async with ward(emptied_browser, one_server, peers, "phone", others=3) as come:
        lan = await come(script=NO_SCREEN, **PHONE)
        page = lan.page
        await tile_has(lan, "nam", hand="up")
        # A notch above, a bar below, and a notch at the side when it lies.
        device = await page.context.new_cdp_session(page)

        async def fits(view: str, *, insets: dict[str, int]) -> None:
            size = page.viewport_size
            assert size is not None
            assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"], view
            found: list[dict[str, Any]] = await page.evaluate("""() => {
              const top = document.querySelector("dialog[open]") ?? document.body;
              const targets = top.querySelectorAll("button, select, textarea, label.check");
              return [...targets].filter((each) => each.checkVisibility() && !each.closest("[inert]")).map((each) => {
                const { left, top, right, bottom, width, height } = each.getBoundingClientRect();
                const words = [each, ...each.querySelectorAll(".word")];
                return { html: each.outerHTML.slice(0, 90), left, top, right, bottom, width, height,
                         cut: !each.matches("select") && words.some((one) => one.scrollWidth > one.clientWidth + 1),
                         always: each.matches(".controls *, .topline *") };
              });
            }""")
            assert len(found) >= 2, view
            for each in found:
                where = f"{view}: {each}"
                assert min(each["width"], each["height"]) >= 44, where
                assert insets["left"] <= each["left"] < each["right"] <= size["width"] - insets["right"], where
                assert not each["cut"], where
                if each["always"]:  # and need not be scrolled to
                    assert insets["top"] <= each["top"] < each["bottom"] <= size["height"] - insets["bottom"], where

        for language in ("en", "vi"):
            for size, insets in (
                (UPRIGHT, {"top": 40, "bottom": 24, "left": 0, "right": 0}),
                (LYING, {"top": 0, "bottom": 16, "left": 40, "right": 40}),
            ):
                view = f"{language}, {size['width']} × {size['height']}"
                await page.set_viewport_size(size)  # type: ignore[arg-type]
                await device.send("Emulation.setSafeAreaInsetsOverride", {"insets": insets})
                await fits(f"the call, {view}", insets=insets)
                await page.tap("[data-button=people]")
                await page.tap("[data-person=nam] [data-button=more]")
                await fits(f"the list of people, {view}", insets=insets)
                await page.tap("[data-person=nam] [data-button=remove]")
                await fits(f"the confirmation, {view}", insets=insets)
                await page.tap("[data-button=cancel]")
                await page.tap("[data-person=nam] [data-button=more]")
                await page.tap("#people header button")
                await page.tap("[data-button=chat]")
                await fits(f"the chat, {view}", insets=insets)
                await page.tap("#chat header button")
                await page.tap("[data-button=settings]")
                await fits(f"the settings, {view}", insets=insets)
                await page.tap("[data-button=done]")
            await page.tap("[data-button=language]")

        await page.tap("li.tile[data-participant=nam] .pin")
        await shown_large(lan, "nam")
        await page.tap("[data-button=hand]")
        await tile_has(lan, "lan", hand="up")
        await page.tap("[data-button=leave]")
        await page.wait_for_selector("[data-fault=left]")


class Axe:
    """Checks one page in the sizes of a desk and a phone."""

    def __init__(self, person: Person) -> None:
        self.page = person.page
        self.checked: list[str] = []

    async def check(self, view: str) -> None:
        for size in (DESK, UPRIGHT):
            await self.page.set_viewport_size(size)  # type: ignore[arg-type]
            await self.page.evaluate(DRAWN)
            if await self.page.evaluate("typeof axe") == "undefined":
                await self.page.evaluate(AXE.read_text())
            found = await self.page.evaluate(CHECK)
            wrong = [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
            assert wrong == [], f"{view}, {size['width']} px wide"
            assert len(found["passes"]) > 15, view
            self.checked.append(view)


@pytest.mark.parametrize("language", ["vi", "en"])
async def test_no_rule_of_axe_is_broken_on_any_screen(
    emptied_browser: Browser, one_server: Server, peers: Lab, language: str
) -> None:
    sockets: list[WebSocketRoute] = []

    def pass_on(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    lan = await enter(emptied_browser, one_server, f"axe-{language}", "lan", role="moderator", join=False)
    page, axe = lan.page, Axe(lan)
    await page.route_web_socket(re.compile("/rtc"), pass_on)
    await page.evaluate(f"localStorage.setItem('d4e-language', '{language}')")
    await page.reload()
    await page.wait_for_selector(".mirror[data-camera=on]")
    assert await page.evaluate("document.documentElement.lang") == language
    await axe.check("the device check")
    await lan.join()
    await tile_has(lan, "lan", camera="on")
    await axe.check("the call, alone")

    nam = await Client.join(emptied_browser, one_server, f"axe-{language}", "nam", role="patient")
    await nam.publish(hertz=440)
    await nam.page.evaluate("lab.room.localParticipant.setAttributes({ 'd4e.hand': 'true' })")
    await tile_has(lan, "nam", hand="up")
    await axe.check("the call, with another one")
    for number in range(5):
        await peers.join(one_server.url, one_server.token(f"axe-{language}", f"viewer {number}", "observer"))
    await tile_has(lan, "viewer 4", camera="off")
    await shown_large(lan, "nam")  # his tone is a voice that does not end
    await axe.check("the call, with many")
    await page.evaluate("document.querySelector('li.tile[data-participant=nam] .pin').click()")
    await lan.press("hand")
    await tile_has(lan, "lan", hand="up")
    await axe.check("a pinned picture and two hands")

    await lan.press("people")
    await axe.check("the list of people")
    await page.click("[data-person=nam] [data-button=more]")
    await axe.check("the moderator's options")
    await page.click("[data-right=screen]")
    await page.wait_for_selector("[data-fault=roleForbids]")
    await axe.check("a refusal")
    await lan.press("remove")
    await axe.check("the confirmation")
    await lan.press("cancel")
    await page.click("#people header button")
    await lan.press("chat")
    await nam.call("say", "Xin chào")
    await lan.say("Chào anh")
    await until("both messages stand", lan.messages, seconds=SLOW, so=lambda texts: len(texts) == 2)
    await axe.check("the chat")
    await page.click("#chat header button")
    sid = next(
        each["sid"] for each in (await one_server.room(f"axe-{language}"))["participants"] if each["identity"] == "lan"
    )
    weak = rtc.ConnectionQualityInfo(participant_sid=sid, quality=models.ConnectionQuality.POOR)
    sockets[-1].send(
        rtc.SignalResponse(connection_quality=rtc.ConnectionQualityUpdate(updates=[weak])).SerializeToString()
    )
    await page.wait_for_selector(".banner.status:not([hidden])")
    await axe.check("a weak network")
    await lan.press("settings")
    await page.click("[data-button=audio-only]")
    await axe.check("the settings")
    await lan.press("done")
    await axe.check("sound only")
    await lan.press("leave")
    await page.wait_for_selector("[data-fault=left]")
    await axe.check("the ending")
    assert len(axe.checked) == 28, axe.checked


@pytest.mark.long
@pytest.mark.parametrize("language", ["vi", "en"])
async def test_no_rule_of_axe_is_broken_by_any_sentence_of_a_fault(
    emptied_browser: Browser, one_server: Server, language: str
) -> None:
    """Every fault that ends or prevents a call, as the page shows it when it happens."""
    link = one_server.link("faults", "lan")
    seen: set[str] = set()

    async def come(script: str = "", address: str = link) -> Person:
        tab = await Person.open(
            emptied_browser,
            one_server,
            "lan",
            script=SMALL_CAMERA + script,
            locale={"vi": "vi-VN", "en": "en-GB"}[language],
            reduced_motion="reduce",
        )
        await tab.page.goto(address)
        return Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)

    async def check(person: Person, fault: str) -> None:
        await person.page.wait_for_selector(f"[data-fault={fault}]", timeout=SLOW * 1000)
        await Axe(person).check(fault)
        seen.add(fault)
        await person.close()

    await check(await come(address=one_server.url), "noLink")
    await check(await come(address=f"{one_server.url}/#token=nonsense"), "badLink")
    await check(await come("delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection;"), "unsupported")
    await check(await come("Object.defineProperty(window, 'isSecureContext', { value: false });"), "insecure")

    for answers, fault in (
        ("() => 'NotAllowedError'", "denied"),
        ("() => 'NotFoundError'", "noDevices"),
        ("(video) => video && 'NotFoundError'", "noCamera"),
        ("(_, audio) => audio && 'NotFoundError'", "noMicrophone"),
        ("() => 'NotReadableError'", "inUse"),
        ("() => 'TypeError'", "deviceBroken"),
    ):
        refuse = (
            "const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
            "navigator.mediaDevices.getUserMedia = async (wanted) => {"
            f" const name = ({answers})(Boolean(wanted.video), Boolean(wanted.audio));"
            " if (name) throw new DOMException('', name); return open(wanted); };"
        )
        await check(await come(refuse), fault)

    # The server refuses: the socket does not open, and the question why is answered so.
    refused = (
        "window.WebSocket = class extends WebSocket {"
        " constructor(url) { super(String(url).replace('/rtc', '/nowhere')); } };"
    )
    for status, words, fault in (
        (401, "The token has expired.", "expired"),
        (401, "The token is not yet valid.", "early"),
        (401, "The token is not accepted.", "refused"),
        (404, "requested room does not exist", "noRoom"),
        (429, "Too many requests. Please try again in a moment.", "hurried"),
        (503, "The room is full.", "busy"),
        (500, "Something went wrong on the server. Please try again.", "broken"),
        (0, "", "unreachable"),
    ):
        person = await come(refused)

        async def answer(route: Route, *, status: int = status, words: str = words) -> None:
            await (route.fulfill(status=status, body=words) if status else route.abort())

        await person.page.route(re.compile("/rtc"), answer)
        await person.press("join")
        await check(person, fault)

    # The server ends the call, with a reason.
    for reason, fault in (
        (models.DisconnectReason.DUPLICATE_IDENTITY, "replaced"),
        (models.DisconnectReason.PARTICIPANT_REMOVED, "removed"),
        (models.DisconnectReason.ROOM_DELETED, "closed"),
        (models.DisconnectReason.SERVER_SHUTDOWN, "stopped"),
        (models.DisconnectReason.JOIN_FAILURE, "lost"),
        (models.DisconnectReason.MEDIA_FAILURE, "noMedia"),
    ):
        person = await come()
        sockets: list[WebSocketRoute] = []

        def pass_on(socket: WebSocketRoute, *, sockets: list[WebSocketRoute] = sockets) -> None:
            socket.connect_to_server()
            sockets.append(socket)

        await person.page.route_web_socket(re.compile("/rtc"), pass_on)
        await person.join()
        leave = rtc.LeaveRequest(reason=reason, action=rtc.LeaveRequest.Action.DISCONNECT)
        sockets[-1].send(rtc.SignalResponse(leave=leave).SerializeToString())
        await check(person, fault)
    assert len(seen) == 24, seen
