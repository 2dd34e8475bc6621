"""The network check of the page in Chromium: over a good network, a narrow one, and one that lets no UDP pass."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.lab.browser import Person, chromium, until
from tests.lab.link import Conditions
from tests.lab.relay import relay
from tests.lab.server import Server, running

pytestmark = pytest.mark.browser
GOOD = Conditions(rate=20_000_000, delay=0.02, queue=0.3)
NARROW = Conditions(rate=90_000, delay=0.05, queue=0.3)

# A firewall that drops UDP: whoever reaches the server directly is told a port that nobody hears on. By TURN it is the
# relay that goes there, on the other side of the firewall.
NO_UDP = r"""
const accept = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
  const far = this.getConfiguration().iceTransportPolicy === "relay";
  const sdp = far ? answer.sdp : answer.sdp.replace(/(a=candidate:\S+ 1 udp \d+ \S+) \d+/gi, "$1 9");
  return accept.call(this, { type: answer.type, sdp });
};
"""


async def checked(browser: Browser, server: Server, *, script: str = "") -> Person:
    """Somebody at the door whose check has ended; what it found stands on the page."""
    tab = await Person.open(browser, server, "someone", script=script, locale="en-GB")
    await tab.page.goto(server.link("ward", "someone", "observer"))
    person = Person(tab.page, tab.server, tab.identity, tab.console, tab.requests)
    await person.press("network")
    await person.page.wait_for_selector(".network[data-verdict]", timeout=40_000)
    return person


async def verdict(person: Person) -> str | None:
    return await person.page.get_attribute(".network", "data-verdict")


async def figures(person: Person) -> tuple[float, ...]:
    """kbit/s up and down, per cent lost, ms of the round trip."""
    text = await person.page.inner_text("[data-way=carried]")
    return tuple(float(each.replace(",", "")) for each in re.findall(r"[\d,]*\d", text))


async def test_a_good_network_carries_voice_and_picture_and_nothing_of_the_check_is_left(
    browser: Browser, server: Server
) -> None:
    async with relay(server.media_port, seed=1, conditions=GOOD) as way:
        person = await checked(browser, server, script=way.script)
        assert await verdict(person) == "picture"
        assert re.fullmatch(r"UDP: open, round trip \d+ ms", await person.page.inner_text("[data-way=udp]"))
        up, down, _, trip = await figures(person)
        assert min(up, down) > 200
        assert trip >= 40
        await until("nobody there", lambda: server.get("/debug/rooms"), so=lambda rooms: json.loads(rooms) == {})
        # The observer, who may not publish in a room, goes on to join it.
        await person.press("join")
        await person.page.wait_for_selector("body[data-state=joined]")
        assert not [line for line in person.console if line.startswith(("pageerror", "error"))]


@pytest.mark.long
async def test_a_narrow_network_carries_a_voice(browser: Browser, server: Server) -> None:
    async with relay(server.media_port, seed=1, conditions=NARROW) as way:
        person = await checked(browser, server, script=way.script)
        assert await verdict(person) in ("voice", "weak")
        up, down, *_ = await figures(person)
        assert min(up, down) < 100


@pytest.mark.long
async def test_where_udp_does_not_pass_it_says_so(browser: Browser, server: Server) -> None:
    async with relay(server.media_port, seed=1, conditions=Conditions(rate=1_000_000, delay=0.02, loss=1.0)) as way:
        person = await checked(browser, server, script=way.script)
        assert await verdict(person) == "blocked"
        assert await person.page.inner_text("[data-way=udp]") == "UDP: blocked"
        assert "UDP port" in await person.page.inner_text(".network .what")


async def test_where_tcp_443_alone_passes_a_call_works(tmp_path: Path) -> None:
    async with running(tmp_path, front=True) as server, chromium("--ignore-certificate-errors") as browser:
        person = await checked(browser, server, script=NO_UDP)
        assert await verdict(person) == "picture"
        said = {each: await person.page.inner_text(f"[data-way={each}]") for each in ("udp", "tcp", "tls")}
        assert said["udp"] == "UDP: blocked"
        assert re.fullmatch(r"TCP: open, round trip \d+ ms", said["tcp"])
        assert re.fullmatch(r"TLS \(TURN\): open, round trip \d+ ms", said["tls"])
