"""The host is killed at a random instant, again and again: the next boot serves, and the audit log verifies."""

from __future__ import annotations

import json
import random
import subprocess
import time

import pytest

from tests.boot.guest import Guest, booted, disk

pytestmark = pytest.mark.long

CUTS = 20
READY_SECONDS = 20.0
VERIFY = "/opt/d4e-sfu/current/bin/d4e-sfu audit verify --config /etc/d4e-sfu/d4e-sfu.yaml --checkpoints -"


def ready(machine: Guest) -> float:
    """Seconds from the power button to readiness."""
    machine.until("ready", lambda: machine.get("/readyz") == "ready\n", seconds=READY_SECONDS)
    return time.monotonic() - machine.began


def busy(machine: Guest) -> subprocess.Popen[bytes]:
    """Somebody who has everything recorded all the time."""
    reload = "while :; do curl -s --unix-socket /run/d4e-sfu/control -X POST http://localhost/reload; done"
    inside = ["nsenter", "-t", str(machine.leader), "-a", "sh", "-c", reload]
    return subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_after_each_kill_it_is_ready_in_time_and_the_audit_log_verifies() -> None:
    chance = random.Random(20)
    took = []
    with disk() as root:
        with booted(root) as machine:
            machine.settings()
            machine.run("systemctl", "enable", "d4e-sfu.socket", "d4e-sfu.service")
        for _ in range(CUTS):
            with booted(root) as machine:
                # Half of them while it starts, half while records are written.
                if chance.random() < 0.5:
                    time.sleep(chance.uniform(0, 1.5))
                    machine.kill()
                    continue
                took.append(ready(machine))
                writing = busy(machine)
                time.sleep(chance.uniform(0.2, 2))
                machine.kill()
                writing.wait(10)
        with booted(root) as machine:
            took.append(ready(machine))
            piped = f"journalctl --no-pager --unit d4e-sfu.service | {VERIFY}"
            verdict = machine.run("sh", "-c", piped, check=False)
            records = [
                json.loads(line)
                for file in (root / "var/lib/d4e-sfu/audit").glob("audit-*.jsonl")
                for line in file.read_text().splitlines()
            ]
            print(f"{len(took)} starts, at most {max(took):.1f} s; {len(records)} records; {verdict.stderr.strip()}")
            assert verdict.returncode == 0, verdict.stdout
            assert [each["event"] for each in records].count("start") >= len(took)
            assert len(records) > 100, "something was being written"
    assert max(took) <= READY_SECONDS
