"""Browsers on the network of a machine, and what they see and hear through the server there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

from tests.appliance.controller import DOMAIN
from tests.appliance.machine import ADDRESS, Machine
from tests.lab.browser import ARGUMENTS, CHROMIUM, HOOK, until

STREAMS = """async () => {
  const all = [];
  for (const pc of window.__connections) (await pc.getStats()).forEach((each) => all.push(each));
  return all.filter((each) => each.type === "inbound-rtp");
}"""


@asynccontextmanager
async def station(machine: Machine) -> AsyncIterator[Browser]:
    inside = machine.folder / "chromium"
    inside.write_text(f'#!/bin/sh\nexec ip netns exec {machine.namespace} {CHROMIUM} "$@"\n')
    inside.chmod(0o755)
    async with async_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--host-resolver-rules=MAP {DOMAIN} {ADDRESS}"]
        browser = await playwright.chromium.launch(executable_path=str(inside), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


def links(machine: Machine, room: str) -> dict[str, str]:
    """A link for each role."""
    said = machine.sh(
        f"/opt/d4e-sfu/current/bin/d4e-sfu links --config /etc/d4e-sfu/d4e-sfu.yaml --room {room} "
        f"--host {DOMAIN} --ttl 1h"
    )
    return dict(re.findall(r"^(\S+)\t(https://\S+)$", said, re.MULTILINE))


async def join(browser: Browser, link: str) -> Page:
    context = await browser.new_context(ignore_https_errors=True, locale="en-GB")
    await context.add_init_script(HOOK)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    await page.goto(link)
    await page.wait_for_selector("body[data-state=lobby]")
    # With camera and microphone: the button says otherwise where there are none.
    await page.click("[data-button=join]:has-text('Join the room')")
    await page.wait_for_selector("body[data-state=joined]")
    return page


async def received(page: Page) -> tuple[int, int]:
    """Pictures decoded and packets of voices, so far."""
    reports = await page.evaluate(STREAMS)
    pictures = sum(each.get("framesDecoded", 0) for each in reports if each["kind"] == "video")
    voices = sum(each.get("packetsReceived", 0) for each in reports if each["kind"] == "audio")
    return pictures, voices


async def sees_and_hears(page: Page, *, more: int = 20) -> None:
    """So much more than until now."""
    before = await received(page)
    try:
        await until(
            "a picture and a voice",
            lambda: received(page),
            seconds=60,
            so=lambda now: min(now[0] - before[0], now[1] - before[1]) > more,
        )
    except AssertionError as error:
        states = "window.__connections.map((pc) => [pc.connectionState, pc.iceConnectionState, pc.signalingState])"
        error.add_note(f"{await page.evaluate(states)}: {await page.inner_text('body')}")
        raise
