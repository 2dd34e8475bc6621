"""Two servers of a province, upgraded on a working day while a call runs on the first: it is drained, and the second
waits its turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance import release
from tests.appliance.call import join, links, sees_and_hears, station
from tests.appliance.controller import DOMAIN, Controller
from tests.appliance.machine import ADDRESS, Machine, booted
from tests.appliance.test_life import ended_well, get, process, version
from tests.lab.browser import until

DRAIN_SECONDS = 300


@pytest.fixture(scope="module")
def second() -> Iterator[Machine]:
    with booted(2) as machine:
        yield machine


@pytest.fixture(scope="module")
def fleet(controller: Controller, second: Machine) -> Controller:
    controller.others = [second]
    ended_well(controller.play("site", timeout=600))
    return controller


def began(machine: Machine) -> int:
    """When the server that runs was ready; microseconds of the clock that both machines have."""
    shown = "systemctl show --property ActiveEnterTimestampMonotonic --value d4e-sfu.service"
    return int(machine.sh(shown))


def draining(machine: Machine) -> bool:
    return "\nd4e_sfu_draining 1.0\n" in get(machine, "http://127.0.0.1:7881/metrics")


def may_open(machine: Machine, room: str) -> int:
    """The status with which a join into this room would be answered."""
    link = links(machine, room)["doctor"]
    url = f"https://{DOMAIN}/rtc/validate?access_token={link.partition('token=')[2]}"
    words = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", f"{DOMAIN}:443:{ADDRESS}", url)
    return int(machine.outside(*words))


async def test_an_upgrade_lets_a_call_end_and_takes_one_server_after_the_other(
    fleet: Controller, machine: Machine, second: Machine, bundles: Path
) -> None:
    fleet.bundle = release.bundle(release.remade("0.1.1", bundles / "fleet"), bundles)
    first_serves = version(machine)
    before = process(machine), process(second)
    by_role = links(machine, "ward-7")
    async with station(machine) as browser:
        people = [await join(browser, by_role[role]) for role in ("doctor", "patient")]
        await asyncio.gather(*map(sees_and_hears, people))

        extra = {"d4e_sfu_drain_seconds": DRAIN_SECONDS}
        play = asyncio.create_task(asyncio.to_thread(fleet.play, "upgrade", extra=extra, timeout=2400))

        async def drains() -> bool:
            assert not play.done(), play.result().text[-4000:]
            return draining(machine)

        await until("the first is drained", drains, seconds=1500)
        # The call goes on, on the old release; nobody begins another, and the second server is as it was.
        await asyncio.gather(*(sees_and_hears(page, more=150) for page in people))
        assert not play.done()
        assert version(machine) == first_serves
        assert may_open(machine, "another") == 503
        assert (process(machine), process(second)) == before
        assert may_open(second, "another") == 200
    # They have left, so there is nothing to wait for.
    outcome = await play
    ended_well(outcome)
    assert (version(machine), version(second)) == ("0.1.1", "0.1.1")
    assert began(machine) < began(second)
    for each in (machine, second):
        assert get(each, "http://127.0.0.1:7881/readyz") == "ready\n"


def test_where_the_first_fails_the_second_is_not_touched(
    fleet: Controller, machine: Machine, second: Machine, bundles: Path
) -> None:
    broken = {"d4e_sfu/server.py": lambda text: text + "\nraise ImportError('a library is missing')\n"}
    fleet.bundle = release.bundle(release.remade("0.1.2", bundles / "broken", broken), bundles)
    before = process(machine), process(second)
    outcome = fleet.play("upgrade", timeout=600)
    assert outcome.code != 0
    assert "sfu-1: release 0.1.2 does not start" in " ".join(outcome.text.split())
    assert "sfu-2: release 0.1.2" not in " ".join(outcome.text.split())
    assert (process(machine), process(second)) == before
    assert not second.sh("ls -d /opt/d4e-sfu/releases/0.1.2", check=False).strip()
    assert json.loads(get(second, "http://127.0.0.1:7881/status"))["concerns"] == []
