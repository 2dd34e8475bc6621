"""The connector under a real systemd: what it may reach and what not, its score, and that a restart loses nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit import api

from tests.boot.guest import SETTINGS, Guest, guest

pytestmark = pytest.mark.long

UNIT = "d4e-sfu-connector.service"
ALLOWED, DENIED = "http://127.0.0.1:9000/hook", "https://127.0.0.2:9000/hook"


@pytest.fixture(scope="module")
def machine() -> Iterator[Guest]:
    with guest() as booted:
        told = f"webhooks: {{urls: ['{ALLOWED}', '{DENIED}'], folder: /var/lib/d4e-sfu/webhooks}}\n"
        booted.settings(SETTINGS + told)
        allow = booted.root / f"etc/systemd/system/{UNIT}.d"
        allow.mkdir()
        (allow / "allow.conf").write_text("[Service]\nIPAddressAllow=127.0.0.1\n")
        shutil.copy(Path(__file__).parent / "receiver.py", booted.root / "opt/d4e-sfu/receiver.py")
        for address in ("127.0.0.1", "127.0.0.2"):
            portal = "/usr/bin/python3", "/opt/d4e-sfu/receiver.py", address, "9000", f"/root/{address}.jsonl"
            booted.run("systemd-run", f"--unit=portal-{address}", *portal)
        booted.run("systemctl", "daemon-reload")
        booted.run("systemctl", "start", "d4e-sfu-connector.socket")
        booted.start()
        yield booted


def happen(machine: Guest, room: str) -> None:
    """Something that is told: a room is made."""
    secret = (machine.root / "etc/d4e-sfu/keys/province.key").read_text().strip()
    token = api.AccessToken("province", secret).with_grants(api.VideoGrants(room_create=True)).to_jwt()
    url = "http://127.0.0.1:7880/twirp/livekit.RoomService/CreateRoom"
    head = "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"
    said = machine.run("curl", "-sS", "--fail-with-body", *head, "-d", json.dumps({"name": room}), url).stdout
    assert json.loads(said)["name"] == room


def told(machine: Guest, address: str = "127.0.0.1") -> list[str]:
    file = machine.root / f"root/{address}.jsonl"
    return [json.loads(line)["room"]["name"] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_portal_that_is_allowed_is_told_and_one_that_is_not_cannot_be_reached(machine: Guest) -> None:
    happen(machine, "ward-1")
    machine.until("the portal is told", lambda: told(machine) == ["ward-1"])
    machine.until("the other is not", lambda: "webhook refused address=1 status=None" in machine.journal())
    # Its first packet is dropped. With a connection TLS would have failed, at a portal that speaks none.
    assert "status=None error=timeout" in machine.journal()
    assert "error=tls" not in machine.journal()
    assert told(machine, "127.0.0.2") == []


def test_it_is_nobody_and_holds_no_key(machine: Guest) -> None:
    pid = machine.show(UNIT, "MainPID")
    user = machine.run("ps", "-o", "user=", "-p", pid).stdout.strip()
    assert user not in ("root", "d4e-sfu")
    within = "nsenter", "-t", pid, "-m", "ls"
    assert machine.run(*within, "/etc/d4e-sfu", check=False).stdout == ""
    assert machine.run(*within, "/run/credentials/" + UNIT).stdout.split() == ["config"]


def test_a_restart_of_either_loses_nothing(machine: Guest) -> None:
    machine.run("systemctl", "stop", UNIT, "d4e-sfu-connector.socket")
    happen(machine, "ward-2")
    machine.run("systemctl", "restart", "d4e-sfu.service")
    happen(machine, "ward-3")
    machine.run("systemctl", "start", "d4e-sfu-connector.socket")
    machine.until("all is told", lambda: {"ward-2", "ward-3"} <= set(told(machine)), seconds=60)


def test_its_score_and_those_of_debians_own(machine: Guest) -> None:
    said = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=15", UNIT).stdout
    score = re.search(rf"exposure level for {UNIT}: ([0-9.]+)", said)
    assert score is not None
    assert float(score[1]) <= 1.2
    print(f"{UNIT}: {score[1]}")
    for line in machine.run("systemd-analyze", "security", "--no-pager").stdout.splitlines():
        print(line)
