"""From the archive to a call, as a province does it: three commands, an inventory of a few lines, a bare Debian that
reaches nothing outside, and two browsers on its network that see and hear each other."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from playwright.async_api import Browser

from benchmarks.results import record
from tests.appliance import release
from tests.appliance.call import join, links, sees_and_hears, station
from tests.appliance.controller import DOMAIN, OLDEST, environment
from tests.appliance.machine import ADDRESS, Machine

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
    await sees_and_hears(await join(browser, link))


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

    by_role = links(machine, "ward-7")
    async with station(machine) as browser:
        await asyncio.gather(*(seen(browser, by_role[role]) for role in ("doctor", "patient")))
    called = time.monotonic() - began

    assert len(inventory.splitlines()) <= 10
    assert machine.strays() == 0, machine.outside("nft", "list", "ruleset")
    record("appliance.json", "appliance_three_commands", [installed], "s")
    record("appliance.json", "appliance_first_call", [called], "s", f"<= {CALL_SECONDS:g}")
