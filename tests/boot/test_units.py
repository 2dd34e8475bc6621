"""The units under a real systemd: sockets, walls, watchdog, restarts, reload. One boot for all of it.

What takes seconds, and proves most, is short; the rest is long.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from livekit import api

from benchmarks.results import record
from tests.boot import crowd
from tests.boot.guest import SETTINGS, TOP, Guest, guest
from tests.lab import browser as browsers
from tests.lab.server import Server

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def machine() -> Iterator[Guest]:
    with guest() as booted:
        yield booted


@pytest.fixture
def serving(machine: Guest) -> Guest:
    machine.settings()
    machine.start()
    return machine


def main_pid(machine: Guest) -> int:
    return int(machine.show("d4e-sfu.service", "MainPID"))


def test_it_is_started_with_the_sockets_of_systemd_and_has_no_network_of_its_own(serving: Guest) -> None:
    assert serving.get("/readyz") == "ready\n"
    assert "<html" in serving.get("/", port=7880)
    assert serving.show("d4e-sfu.service", "StatusText") == "serving"
    pid = main_pid(serving)
    inside = serving.run("nsenter", "-t", str(pid), "-n", "ip", "-brief", "link").stdout
    assert [line.split()[0] for line in inside.splitlines()] == ["lo"]
    listening = serving.run("ss", "-lunm").stdout
    assert listening.count("127.0.0.1:788") == 2
    assert len(re.findall(r"rb33554432", listening)) == 2, f"16 MiB as the kernel counts them, twice\n{listening}"


def test_the_score_of_the_installed_unit_and_those_of_debians_own(serving: Guest) -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--threshold=5", "d4e-sfu.service"]
    score = re.search(r"exposure level for d4e-sfu.service: ([0-9.]+)", serving.run(*command).stdout)
    assert score is not None
    assert float(score[1]) <= 0.5
    print(f"d4e-sfu.service: {score[1]}")
    for line in serving.run("systemd-analyze", "security", "--no-pager").stdout.splitlines():
        print(line)


def test_every_denied_act_is_denied_in_the_unit_and_possible_outside_of_it(machine: Guest) -> None:
    units = machine.root / "etc/systemd/system"
    text = (units / "d4e-sfu.service").read_text()
    shutil.copy(HERE / "probe.py", machine.root / "opt/d4e-sfu/probe.py")
    text = re.sub(r"^ExecStart=.*", "ExecStart=/usr/bin/python3 /opt/d4e-sfu/probe.py", text, flags=re.MULTILINE)
    text = text.replace("Type=notify", "Type=oneshot").replace("Restart=on-failure\n", "")
    text = re.sub(r"^(Requires|After|Also|WatchdogSec)=.*\n", "", text, flags=re.MULTILINE)
    (units / "d4e-sfu-probe.service").write_text(text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "d4e-sfu-probe.service")
    inside = json.loads(machine.journal("d4e-sfu-probe.service").partition("{")[2].join(["{", ""]).splitlines()[0])
    outside = json.loads(machine.run("/usr/bin/python3", "/opt/d4e-sfu/probe.py").stdout)
    print(json.dumps(inside, indent=1))
    through = {name: became for name, became in inside["forbidden"].items() if not became.startswith("denied")}
    assert through == {}
    assert set(inside["needed"].values()) == {"done"}
    possible = [name for name, became in outside["forbidden"].items() if not became.startswith("denied")]
    print(f"{len(inside['forbidden'])} acts denied, {len(possible)} of them possible to root outside of the unit")
    assert len(possible) >= 40, "or nothing was proved"


@pytest.mark.long
def test_a_stopped_process_is_restarted_by_the_watchdog(serving: Guest) -> None:
    pid = main_pid(serving)
    serving.run("kill", "-STOP", str(pid))
    restarted = serving.until("a new process", lambda: main_pid(serving) not in (0, pid), seconds=30)
    ready = serving.until("that is ready", lambda: serving.get("/readyz") == "ready\n", seconds=30)
    print(f"restarted {restarted:.1f} s after SIGSTOP, and ready {ready:.1f} s after that")
    assert restarted <= 10 + 3
    assert "Watchdog timeout" in serving.journal()


@pytest.mark.long
def test_a_configuration_error_is_not_tried_again(machine: Guest) -> None:
    machine.settings()
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "stop", "d4e-sfu.service", "d4e-sfu.socket")
    file = machine.root / "etc/d4e-sfu/d4e-sfu.yaml"
    file.write_text(SETTINGS + "limits: {sections: many}\n")
    machine.run("systemctl", "start", "d4e-sfu.service", check=False)
    machine.until("failed", lambda: machine.show("d4e-sfu.service", "ActiveState") == "failed")
    assert machine.show("d4e-sfu.service", "ExecMainStatus") == "78"
    time.sleep(2)  # several times the pause before a restart
    assert machine.show("d4e-sfu.service", "NRestarts") == "0"
    assert "/etc/d4e-sfu/d4e-sfu.yaml:6:20: limits.sections: expected a whole number" in machine.journal()


@pytest.mark.long
def test_other_sockets_than_the_configuration_wants_are_named_with_both_sides(machine: Guest) -> None:
    machine.settings()
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "stop", "d4e-sfu.service", "d4e-sfu.socket")
    file = machine.root / "etc/d4e-sfu/d4e-sfu.yaml"
    file.write_text(SETTINGS.replace("workers: 2", "workers: 1, port: 7890"))
    machine.run("systemctl", "start", "d4e-sfu.service", check=False)
    machine.until("failed", lambda: machine.show("d4e-sfu.service", "ActiveState") == "failed")
    assert machine.show("d4e-sfu.service", "ExecMainStatus") == "78"
    said = machine.journal()
    assert "systemd passed udp 127.0.0.1:7882, udp 127.0.0.1:7883; the configuration wants udp 127.0.0.1:7890" in said


def test_a_reload_waits_for_the_verdict(serving: Guest) -> None:
    file = serving.root / "etc/d4e-sfu/d4e-sfu.yaml"
    pid = main_pid(serving)
    file.write_text(SETTINGS + "limits: {sections: 99}\n")
    serving.run("systemctl", "reload", "d4e-sfu.service")
    assert "config limits.sections changed" in serving.journal()
    assert "reload by=uid:" in serving.journal()
    file.write_text(SETTINGS + "limits: {sections: many}\n")
    refused = serving.run("systemctl", "reload", "d4e-sfu.service", check=False)
    assert refused.returncode != 0
    assert "/etc/d4e-sfu/d4e-sfu.yaml:6:20: limits.sections: expected a whole number" in serving.journal()
    assert main_pid(serving) == pid
    assert serving.get("/readyz") == "ready\n"
    assert "d4e_sfu_config_last_reload_successful 0.0" in serving.get("/metrics")


@pytest.mark.long
def test_the_audit_log_is_written_and_verifies_against_the_checkpoints_in_the_journal(serving: Guest) -> None:
    serving.run("systemctl", "reload", "d4e-sfu.service")
    serving.run("systemctl", "restart", "d4e-sfu.service")
    verify = "/opt/d4e-sfu/current/bin/d4e-sfu audit verify --config /etc/d4e-sfu/d4e-sfu.yaml --checkpoints -"
    piped = f"journalctl --no-pager --unit d4e-sfu.service | {verify}"
    right = serving.run("sh", "-c", piped)
    assert ": right;" in right.stderr, right.stderr
    folder = serving.root / "var/lib/d4e-sfu/audit"
    (file,) = folder.glob("audit-*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    found = [json.loads(line) for line in lines]
    assert [each["event"] for each in found[-4:]] == ["start", "reload", "stop", "start"]
    assert found[-3]["actor"].startswith("uid:")
    assert file.stat().st_mode & 0o077 == 0, "the unit's umask"
    serving.run("systemctl", "stop", "d4e-sfu.service")
    file.write_text("".join(lines[:-2]))
    cut = serving.run("sh", "-c", piped, check=False)
    assert cut.returncode == 1
    assert "are missing at the end: a checkpoint has seen them" in cut.stdout
    file.unlink()


class Inside(Server):
    """The server in the guest, as the browser's tests see one; its tokens are made in there."""

    def token(self, room: str, identity: str, role: str | None = None, *, name: str = "", **grants: Any) -> str:
        command = "/opt/d4e-sfu/current/bin/d4e-sfu", "token", "--config", "/etc/d4e-sfu/d4e-sfu.yaml"
        who = "--room", room, "--identity", identity, "--role", role or "doctor", "--name", name
        assert isinstance(self.process, Guest)
        return self.process.run(*command, *who).stdout.strip()


@pytest.mark.long
@pytest.mark.browser
async def test_two_browsers_see_each_other_through_a_server_inside_the_unit(serving: Guest, tmp_path: Path) -> None:
    """DTLS handshakes under MemoryDenyWriteExecute, media through the sockets of systemd."""
    within = tmp_path / "chromium"
    within.write_text(f'#!/bin/sh\nexec nsenter --target {serving.leader} --net {browsers.CHROMIUM} "$@"\n')
    within.chmod(0o755)
    server = Inside(serving, tmp_path, port=7880, admin_port=7881, media_port=7882, secret="")  # type: ignore[arg-type]
    async with browsers.chromium(executable=str(within)) as browser:
        people = [await browsers.Person.arrive(browser, server, "ward", who) for who in ("an", "binh")]
        for person in people:
            await person.join()
        for person, other in (people, people[::-1]):
            await browsers.until(
                f"{other.identity}'s picture", partial(person.frames, other.identity), so=lambda frames: frames > 20
            )
    handshakes = re.search(r'd4e_sfu_dtls_handshakes_total\{result="connected"\} ([0-9]+)', serving.get("/metrics"))
    assert handshakes is not None
    assert int(handshakes[1]) >= 2


def test_a_restart_keeps_the_sockets_and_loses_no_datagram(serving: Guest) -> None:
    """What is sent while nobody serves waits in systemd's sockets: here a request that opens a connection."""
    inode = sockets(serving)
    pid = main_pid(serving)
    serving.run("systemctl", "--no-block", "restart", "d4e-sfu.service")
    while main_pid(serving) == pid:
        assert "<html" in serving.get("/", port=7880), "a connection waits until it is served"
    assert serving.get("/readyz") == "ready\n"
    assert sockets(serving) == inode


CROWD, BACK_SECONDS = 50, 5.0


@pytest.mark.long
def test_fifty_people_rejoin_by_themselves_after_a_restart_under_load(serving: Guest, tmp_path: Path) -> None:
    secret = (serving.root / "etc/d4e-sfu/keys/province.key").read_text().strip()
    grants = [(f"person-{n}", api.VideoGrants(room_join=True, room=f"ward-{n // crowd.ROOM}")) for n in range(CROWD)]
    tokens = [api.AccessToken("province", secret).with_identity(who).with_grants(each).to_jwt() for who, each in grants]
    words = ["nsenter", "--target", str(serving.leader), "--net", sys.executable, "-m", "tests.boot.crowd"]
    log = tmp_path / "crowd"
    with log.open("wb") as out, (tmp_path / "errors").open("wb") as errors:
        people = subprocess.Popen(
            [*words, "http://127.0.0.1:7880"], cwd=TOP, stdin=subprocess.PIPE, stdout=out, stderr=errors
        )
    try:
        assert people.stdin is not None
        people.stdin.write("\n".join(tokens).encode())
        people.stdin.close()

        def media(since: float) -> dict[int, float]:
            events = [json.loads(line) for line in log.read_text().splitlines()]
            return {each["who"]: each["at"] for each in events if each["event"] == "media" and each["at"] > since}

        serving.until("all are in", lambda: len(media(0.0)) == CROWD, seconds=90)
        time.sleep(3)  # of load
        inodes, pid, began = sockets(serving), main_pid(serving), time.monotonic()
        serving.run("systemctl", "restart", "d4e-sfu.service")
        restarted = time.monotonic() - began
        serving.until("all hear again", lambda: len(media(began)) == CROWD, seconds=90)
    finally:
        people.terminate()
        people.wait(30)
    took = sorted(at - began for at in media(began).values())
    p95 = took[math.ceil(0.95 * CROWD) - 1]
    median, worst = took[CROWD // 2], took[-1]
    print(f"restarted in {restarted:.1f} s; media back: median {median:.2f} s, p95 {p95:.2f} s, worst {worst:.2f} s")
    record("appliance.json", "restart_media_back_p95", [p95], "s", f"<= {BACK_SECONDS:g}", people=CROWD)
    assert main_pid(serving) != pid
    assert sockets(serving) == inodes


def sockets(machine: Guest) -> list[str]:
    """Which sockets the first process holds, by inode."""
    return sorted(re.findall(r"ino:(\d+)", machine.run("ss", "-lune", "( sport = :7882 or sport = :7883 )").stdout))
