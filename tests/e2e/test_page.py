"""The room page by itself: its languages, device check, sentences, keyboard, policy and small screens. What people then
see and hear of each other is `test_call.py`; what they do together, `test_page_together.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.lab.browser import Person, chromium, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import TOP, Server, running

# One server and one browser for all of them: what takes long is to start these.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
ROOM = "phòng khám 7"
AXE = TOP / "d4e_sfu/web/node_modules/axe-core/axe.min.js"
# Letters that English does not have, and every Vietnamese sentence of the page does.
VIETNAMESE = re.compile("[ăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]", re.IGNORECASE)
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}

VIOLATIONS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def browser(emptied_browser: Browser) -> Browser:
    return emptied_browser


@pytest_asyncio.fixture(loop_scope="module")
async def mortal_server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that the test may stop."""
    async with running(tmp_path) as server:
        yield server


def devices_that(refuse: str) -> str:
    """A browser whose devices answer with these errors, by the kinds that were asked for together."""
    return f"""
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {{
      const name = ({refuse})(Boolean(wanted.video), Boolean(wanted.audio));
      if (name) throw new DOMException("", name);
      return ask(wanted);
    }};
    """


async def open_link(browser: Browser, server: Server, link: str, *, script: str = "", **context: Any) -> Person:
    """Opens a link with a script that runs before the page's own, and waits for nothing."""
    tab = await Person.open(browser, server, "someone", **context)
    tab.page.set_default_timeout(15_000)
    await tab.page.add_init_script(VIOLATIONS + script)
    await tab.page.goto(link)
    return Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)


async def at_the_door(browser: Browser, server: Server, *, role: str = "doctor", **options: Any) -> Person:
    person = await open_link(browser, server, server.link(ROOM, "someone", role), **options)
    await person.page.wait_for_selector("body[data-state=lobby]")
    return person


async def told(person: Person, fault: str) -> str:
    """Waits for the sentence of a fault and gives back what the person reads."""
    return await person.page.inner_text(f"[data-fault={fault}]")


async def asked(person: Person, script: str) -> Any:
    return await person.page.evaluate(script)


def altered(server: Server, *, secret: str | None = None, **claims: Any) -> str:
    """A join link whose token has other claims or another signature."""
    made = jwt.decode(server.token(ROOM, "someone", "doctor"), server.secret, algorithms=["HS256"])
    token = jwt.encode({**made, **claims}, secret or server.secret, algorithm="HS256")
    return f"{server.url}/#room=any&token={token}"


@pytest.mark.parametrize(("locale", "spoken"), [("vi-VN", "vi"), ("en-GB", "en"), ("fr-FR", "vi")])
async def test_the_page_speaks_the_browsers_language_or_vietnamese(
    browser: Browser, server: Server, locale: str, spoken: str
) -> None:
    person = await at_the_door(browser, server, locale=locale)
    assert await asked(person, "document.documentElement.lang") == spoken
    assert bool(VIETNAMESE.search(await person.page.inner_text("h1"))) == (spoken == "vi")


async def test_one_button_changes_every_word_and_is_remembered(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server, locale="vi-VN")
    for view in ("the device check", "the call"):
        await person.press("language")
        assert await asked(person, "document.documentElement.lang") == "en"
        text = await asked(
            person,
            """() => {
              const foreign = "[data-button=language], .where, .topline h1";
              for (const each of document.querySelectorAll(foreign)) each.remove();
              const labels = [...document.querySelectorAll("[aria-label], [placeholder]")];
              return [document.title, document.body.innerText,
                ...labels.flatMap((each) => [each.ariaLabel, each.placeholder])].join(" ");
            }""",
        )
        assert not VIETNAMESE.search(text), (view, text)
        await person.page.reload()
        await person.page.wait_for_selector("body[data-state=lobby]")
        assert await asked(person, "document.documentElement.lang") == "en"
        await person.press("language")
        await person.join()


async def test_the_device_check_shows_the_picture_the_level_and_the_devices(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server, locale="en-GB")
    await until("the mirror shows a picture", lambda: asked(person, "document.querySelector('video').videoWidth"))
    await until(
        "the meter moves with the test tone",
        lambda: asked(person, "Number(document.querySelector('[role=meter]').ariaValueNow)"),
        so=lambda level: level >= 4,
    )
    await until(
        "the verdict is in words",
        lambda: person.page.inner_text(".verdict"),
        so=lambda words: words == "Your microphone hears you.",
    )
    for kind in ("videoinput", "audioinput", "audiooutput"):
        assert await asked(person, f"document.querySelector('[data-device={kind}]').options.length") >= 1, kind

    await person.press("microphone")
    await until("the meter rests", lambda: person.page.inner_text(".verdict"), so=lambda w: "is off" in w)
    await person.press("camera")
    await until("nothing is sent", lambda: person.page.inner_text("[data-button=join]"), so=lambda w: "watch" in w)
    assert await asked(person, "document.querySelector('[role=meter]').ariaValueNow") == "0"


async def test_a_device_that_was_off_in_the_check_is_off_in_the_call(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server)
    await person.press("camera")
    await person.page.wait_for_selector(".mirror[data-camera=off]")
    await person.join()

    async def tile() -> dict[str, str]:
        return await person.tile("someone") or {}

    await until("the microphone is on", tile, so=lambda tile: tile.get("microphone") == "on")
    assert (await tile())["camera"] == "off"


@pytest.mark.parametrize(
    ("answers", "fault", "microphone"),
    [
        ("() => 'NotAllowedError'", "denied", "off"),
        ("() => 'NotFoundError'", "noDevices", "off"),
        ("(video, audio) => video && 'NotFoundError'", "noCamera", "on"),
        ("(video, audio) => audio && 'NotFoundError'", "noMicrophone", "off"),
        ("(video, audio) => video && 'NotReadableError'", "inUse", "on"),
    ],
)
async def test_without_a_device_there_is_a_sentence_and_a_way_in(
    browser: Browser, server: Server, answers: str, fault: str, microphone: str
) -> None:
    person = await at_the_door(browser, server, locale="en-GB", script=devices_that(answers))
    assert len(await told(person, fault)) > 40
    await person.join()
    await until(
        "what there is takes part",
        lambda: person.tile("someone"),
        so=lambda tile: tile is not None and tile["microphone"] == microphone,
    )


async def test_a_refusal_taken_back_works_without_a_reload(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server, script=devices_that("() => window.refuse ?? 'NotAllowedError'"))
    await told(person, "denied")
    await asked(person, "void (window.refuse = '')")
    await person.press("retry")
    await person.page.wait_for_selector(".mirror[data-camera=on]")
    assert await person.page.inner_text(".problem") == ""


async def test_the_token_leaves_the_address_and_outlives_a_reload_but_not_leaving(
    browser: Browser, server: Server
) -> None:
    person = await at_the_door(browser, server)
    assert person.page.url == f"{server.url}/"
    for _ in ("from the device check", "from the call"):
        await person.page.reload()
        await person.page.wait_for_selector("body[data-state=lobby]")
        await person.join()
    assert await asked(person, "sessionStorage.length") == 1
    await person.press("leave")
    await told(person, "left")
    assert await asked(person, "sessionStorage.length") == 0
    await person.press("again")
    await person.page.wait_for_selector("body[data-state=lobby]")
    await person.page.reload()
    await told(person, "noLink")


async def test_a_new_link_pasted_into_the_same_tab_is_followed(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server)
    await person.page.goto(server.link("phòng 8", "someone"))
    await until("the other room is named", lambda: person.page.inner_text(".where"), so=lambda name: "phòng 8" in name)
    assert person.page.url == f"{server.url}/"


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"nbf": int(time.time()) - 7200, "exp": int(time.time()) - 3600}, "expired"),
        ({"nbf": int(time.time()) + 3600, "exp": int(time.time()) + 7200}, "early"),
        ({"secret": "another secret of enough length for HS256"}, "refused"),
        ({"iss": "nobody"}, "refused"),
        ({"video": {"room": ROOM}}, "refused"),
    ],
)
async def test_a_refused_link_is_told_in_words(
    browser: Browser, server: Server, claims: dict[str, Any], fault: str
) -> None:
    person = await open_link(browser, server, altered(server, **claims))
    await person.press("join")
    assert len(await told(person, fault)) > 20


@pytest.mark.parametrize(("fragment", "fault"), [("", "noLink"), ("#token=nonsense", "badLink")])
async def test_a_missing_or_broken_link_is_told_in_words(
    browser: Browser, server: Server, fragment: str, fault: str
) -> None:
    person = await open_link(browser, server, f"{server.url}/{fragment}")
    assert len(await told(person, fault)) > 40


async def test_a_full_room_is_told_as_full_and_can_be_tried_again(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path, config={"rooms": [{"name": "*", "capacity": 1}]}) as server:
        first = LivekitClient()
        await first.join(server.ws, server.token(ROOM, "first", "doctor"))
        for locale, full in (("vi-VN", "Phòng hoặc máy chủ đã đầy."), ("en-GB", "The room or the server is full.")):
            person = await at_the_door(browser, server, locale=locale)
            await person.press("join")
            assert full in await told(person, "busy")
            assert await person.page.is_enabled("[data-button=join]")
        await first.leave()
        await person.join()


async def test_an_unreachable_server_is_told_and_can_be_tried_again(browser: Browser, mortal_server: Server) -> None:
    person = await at_the_door(browser, mortal_server)
    await mortal_server.stop()
    await person.press("join")
    assert len(await told(person, "unreachable")) > 40
    assert await person.page.is_enabled("[data-button=join]")
    await person.page.wait_for_selector(".mirror[data-camera=on]")


async def test_a_stopping_server_is_told_and_waited_for(browser: Browser, mortal_server: Server) -> None:
    person = await at_the_door(browser, mortal_server)
    await person.join()
    await mortal_server.stop()
    await person.page.wait_for_selector("body[data-state=reconnecting]")
    assert await person.page.get_attribute(".banner", "data-word") == "reconnecting"
    assert await person.page.get_attribute(".banner", "role") == "alert"


async def test_joining_twice_ends_the_first_with_the_reason(browser: Browser, server: Server) -> None:
    first = await at_the_door(browser, server)
    await first.join()
    second = await at_the_door(browser, server)
    await second.join()
    assert len(await told(first, "replaced")) > 40


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection;", "unsupported"),
        ("delete MediaDevices.prototype.getUserMedia;", "unsupported"),
    ],
)
async def test_a_browser_without_webrtc_is_told_so(browser: Browser, server: Server, script: str, fault: str) -> None:
    person = await open_link(browser, server, server.link(ROOM, "someone"), script=script)
    assert len(await told(person, fault)) > 40


async def test_an_insecure_address_is_told_so(server: Server) -> None:
    async with chromium("--host-resolver-rules=MAP clinic.test 127.0.0.1") as browser:
        person = await open_link(browser, server, server.link(ROOM, "someone").replace("localhost", "clinic.test"))
        assert "https://" in await told(person, "insecure")


async def test_without_scripts_both_languages_say_what_to_do(browser: Browser, server: Server) -> None:
    person = await open_link(browser, server, server.url, java_script_enabled=False)
    await person.page.wait_for_selector(".unstarted [lang=vi]")
    await person.page.wait_for_selector(".unstarted [lang=en]")


async def test_the_whole_call_keeps_to_a_strict_policy_and_to_its_own_host(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server)
    answer = await person.page.request.get(server.url)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in str(policy)
    # The policy is in force here: an inline script is not run.
    await asked(
        person,
        "document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))",
    )
    assert await asked(person, "[window.ran, window.__violations.splice(0)]") == [None, ["script-src-elem inline"]]
    person.console.clear()

    await person.join()
    await until("the camera is on", lambda: person.tile("someone"), so=lambda tile: (tile or {}).get("camera") == "on")
    await person.press("chat")
    await person.say("xin chào")
    await until("the message stands", person.messages)
    await person.press("screen")
    await until("the screen is shared", lambda: person.tile("someone", "screen"))
    await person.press("settings")
    await person.page.click("dialog button[type=submit]")
    await person.press("leave")
    await told(person, "left")

    assert await asked(person, "window.__violations") == []
    own = (f"{server.url}/", server.url.replace("http", "ws", 1) + "/")
    assert [url for url in person.requests if not url.startswith(own)] == []
    assert not [line for line in person.console if line.startswith(("error", "pageerror"))], person.console


async def test_a_message_is_text_and_never_markup(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server)
    await person.join()
    await person.press("chat")
    hostile = "<img src=x onerror=alert(1)><b>đậm</b>"
    await person.say(hostile)
    await until("the message stands as it was typed", person.messages, so=lambda texts: texts == [hostile])
    assert await asked(person, "document.querySelectorAll('.log img, .log b').length") == 0


async def test_the_keyboard_alone_is_enough(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server)
    await person.page.wait_for_selector(".mirror[data-camera=on]")
    keyboard = person.page.keyboard

    async def tab_to(button: str) -> None:
        for _ in range(30):
            await keyboard.press("Tab")
            if await asked(person, "document.activeElement.dataset.button") == button:
                outline = await asked(person, "getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", f"no focus ring on {button}"
                return
        raise AssertionError(f"{button} cannot be reached")

    await tab_to("join")
    await keyboard.press("Enter")
    await person.page.wait_for_selector("body[data-state=joined]")
    await tab_to("chat")
    await keyboard.press("Enter")
    await keyboard.type("hello")
    await keyboard.press("Enter")
    await until("the message stands", person.messages, so=lambda texts: texts == ["hello"])
    await keyboard.press("Escape")
    assert await asked(person, "document.activeElement.dataset.button") == "chat"
    assert await person.page.is_hidden("#chat")
    await tab_to("leave")
    await keyboard.press("Space")
    await told(person, "left")


async def test_an_observer_is_asked_for_no_device_and_has_no_button_for_one(browser: Browser, server: Server) -> None:
    person = await at_the_door(browser, server, role="observer")
    await person.join()
    for button in ("microphone", "camera", "screen"):
        assert await person.page.is_hidden(f".controls [data-button={button}]"), button
    assert (await person.tile("someone") or {})["role"] == "observer"


@pytest.mark.parametrize("size", [DESK, PHONE, {"width": 320, "height": 568}, {"width": 844, "height": 390}])
async def test_every_view_fits_and_is_accessible(browser: Browser, server: Server, size: dict[str, int]) -> None:
    # Without transitions: between two states a colour may have less contrast than in either.
    person = await at_the_door(browser, server, locale="vi-VN", reduced_motion="reduce")
    await person.page.wait_for_selector(".mirror[data-camera=on]")
    await person.page.set_viewport_size({"width": size["width"], "height": size["height"]})

    async def check(view: str) -> None:
        # WCAG 2.2 §1.4.10: nothing to scroll sideways; §2.5.8: targets of 24 px, ours are 36 or more.
        assert await asked(person, "document.documentElement.scrollWidth") <= size["width"], view
        small = await asked(
            person,
            "[...document.querySelectorAll('button, select, textarea, summary')].filter((each) =>"
            " each.checkVisibility() && each.getBoundingClientRect().height < 36).map((each) => each.outerHTML)",
        )
        assert small == [], view
        await asked(person, AXE.read_text())
        found = await asked(person, "axe.run()")
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == [], view
        assert len(found["passes"]) > 20, view

    await check("the device check")
    await person.screenshot(f"check-{size['width']}.png")
    await person.join()
    await until("the camera is on", lambda: person.tile("someone"), so=lambda tile: (tile or {}).get("camera") == "on")
    await check("the call")
    await person.press("chat")
    await check("the chat")
    await person.page.click("#chat header button")
    await person.press("leave")
    await told(person, "left")
    await check("the ending")
