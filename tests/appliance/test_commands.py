"""From the archive to a call, as a province does it: three commands, an inventory of a few lines, a bare Debian that
reaches nothing outside, and two browsers on its network that see and hear each other."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from benchmarks.results import record
from tests.appliance import release
from tests.appliance.controller import DOMAIN, OLDEST, environment
from tests.appliance.machine import ADDRESS, Machine
from tests.lab.browser import ARGUMENTS, CHROMIUM, HOOK, until

CALL_SECONDS = 300.0


def command(machine: Machine, folder: Path, *words: str, stdin: str = "") -> str:
    made = subprocess.run(
        words,
        cwd=folder,
        input=stdin,
        env=environment(machine, OLDEST),
        capture_output=True,
        text=True,
        timeout=2 * CALL_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-2000:]
    return made.stdout


async def seen(browser: Browser, link: str) -> None:
    """Join by that link, and see and hear somebody else."""
    context = await browser.new_context(ignore_https_errors=True, locale="en-GB")
    await context.add_init_script(HOOK)
    page = await context.new_page()
    page.set_default_timeout(60_000)
    await page.goto(link)
    await page.wait_for_selector("body[data-state=lobby]")
    await page.click("[data-button=join]")
    await page.wait_for_selector("body[data-state=joined]")

    async def received() -> tuple[int, int]:
        reports = await page.evaluate("""async () => {
          const all = [];
          for (const pc of window.__connections) (await pc.getStats()).forEach((each) => all.push(each));
          return all.filter((each) => each.type === "inbound-rtp");
        }""")
        pictures = sum(each.get("framesDecoded", 0) for each in reports if each["kind"] == "video")
        voices = sum(each.get("packetsReceived", 0) for each in reports if each["kind"] == "audio")
        return pictures, voices

    await until("a picture and a voice", received, seconds=60, so=lambda both: min(both) > 20)


async def test_three_commands_make_a_call_and_nothing_goes_outside(machine: Machine, tmp_path: Path) -> None:
    archive = f"{release.bundle(release.wheel(), tmp_path)}.tar"
    home = tmp_path / "controller"
    home.mkdir()
    began = time.monotonic()

    command(machine, home, "tar", "xf", archive)
    (folder,) = home.iterdir()
    answers = f"{ADDRESS}\nroot\n{DOMAIN}\n{ADDRESS}\n{ADDRESS}\nnone\n"
    command(machine, folder, "./d4e", "init", stdin=answers)
    inventory = (folder / "ansible/inventory/hosts.yml").read_text()
    # Only that this machine is on no network of the controller's is said beside it.
    command(machine, folder, "./d4e", "install", "--ssh-common-args", machine.ssh_arguments)
    installed = time.monotonic() - began

    links = machine.sh(
        "/opt/d4e-sfu/current/bin/d4e-sfu links --config /etc/d4e-sfu/d4e-sfu.yaml --room ward-7 "
        f"--host {DOMAIN} --ttl 1h"
    )
    doctor, patient = (
        re.findall(rf"^{role}\t(https://\S+)$", links, re.MULTILINE)[0] for role in ("doctor", "patient")
    )
    inside = machine.folder / "chromium"
    inside.write_text(f'#!/bin/sh\nexec ip netns exec {machine.namespace} {CHROMIUM} "$@"\n')
    inside.chmod(0o755)
    async with async_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--host-resolver-rules=MAP {DOMAIN} {ADDRESS}"]
        browser = await playwright.chromium.launch(executable_path=str(inside), args=arguments)
        try:
            await asyncio.gather(seen(browser, doctor), seen(browser, patient))
        finally:
            await browser.close()
    called = time.monotonic() - began

    assert len(inventory.splitlines()) <= 10
    assert machine.strays() == 0, machine.outside("nft", "list", "ruleset")
    record("appliance.json", "appliance_three_commands", [installed], "s")
    record("appliance.json", "appliance_first_call", [called], "s", f"<= {CALL_SECONDS:g}")
