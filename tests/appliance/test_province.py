"""An installation with all that a province may ask for: a certificate by ACME, a Prometheus and a time server of its
own, logs that are kept. Its machine is broken in ways that need these, and the doctor is asked. Each test is a chapter.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.appliance.acme import Authority, authority
from tests.appliance.controller import DOMAIN, Controller
from tests.appliance.machine import ADDRESS, OUTSIDE, Machine
from tests.appliance.test_life import ended_well, get, paths, process
from tests.lab.server import TOP

CLOCK = TOP / "tests/appliance/clock.py"
SERVED_SECONDS = 10.0
NATTED = f"""\
add table ip nat
add chain ip nat before {{ type nat hook prerouting priority -100; }}
add chain ip nat after {{ type nat hook postrouting priority 100; }}
add rule ip nat before ip daddr {OUTSIDE} tcp dport 443 dnat to {ADDRESS}
add rule ip nat after ip daddr {ADDRESS} tcp dport 443 masquerade
"""


@pytest.fixture(scope="module")
def acme(machine: Machine) -> Iterator[Authority]:
    with authority(machine) as one:
        yield one


@pytest.fixture(scope="module")
def province(controller: Controller, acme: Authority) -> Controller:
    controller.variables = {
        "d4e_sfu_tls_mode": "acme",
        "d4e_sfu_acme_directory": acme.directory,
        "d4e_sfu_acme_ca": str(acme.ca),
        "monitoring_prometheus": True,
        "host_ntp_servers": [OUTSIDE],
    }
    return controller


BEFORE: dict[str, set[str]] = {}


@contextmanager
def time_server(machine: Machine, *, wrong_by: float) -> Iterator[None]:
    words = ["ip", "netns", "exec", machine.namespace, "/usr/bin/python3", str(CLOCK), OUTSIDE, str(wrong_by)]
    running = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(10)


def served(machine: Machine) -> str:
    """The certificate that browsers are shown: who made it, for whom, and its number."""
    asked = f"openssl s_client -connect {ADDRESS}:443 -servername {DOMAIN} </dev/null 2>/dev/null | "
    return machine.outside("sh", "-c", f"{asked} openssl x509 -noout -issuer -ext subjectAltName -serial")


def doctor(machine: Machine, *words: str) -> dict[str, str]:
    """What is red, and what he says of it."""
    command = "/opt/d4e-sfu/current/bin/d4e-sfu doctor --config /etc/d4e-sfu/d4e-sfu.yaml --lang en --json"
    said = json.loads(machine.sh(" ".join([command, *words]), check=False))
    return {finding["check"]: finding["en"] for finding in said if finding["state"] == "bad"}


def test_one_play_gets_a_certificate_by_acme_and_all_the_rest(province: Controller, machine: Machine) -> None:
    BEFORE["paths"] = paths(machine)
    ended_well(province.play("site"))
    shown = served(machine)
    assert "Pebble" in shown
    assert f"DNS:{DOMAIN}" in shown
    assert get(machine, "http://127.0.0.1:7881/readyz") == "ready\n"


def test_a_second_run_changes_nothing(province: Controller, machine: Machine) -> None:
    before = served(machine)
    outcome = province.play("site")
    ended_well(outcome)
    assert outcome.changed == 0
    assert served(machine) == before


def test_a_renewed_certificate_is_served_without_a_restart(province: Controller, machine: Machine) -> None:
    before = process(machine), served(machine)
    machine.sh("systemctl start d4e-sfu-acme.service")
    deadline = time.monotonic() + SERVED_SECONDS
    while served(machine) == before[1]:
        assert time.monotonic() < deadline, "the new one is not served"
        time.sleep(0.2)
    assert "Pebble" in served(machine)
    assert process(machine) == before[0]


def test_what_browsers_would_refuse_is_not_put_in_place(province: Controller, machine: Machine) -> None:
    before = process(machine), machine.sh("cat /etc/d4e-sfu/tls/server.crt")
    live = "/etc/d4e-sfu/acme/live/d4e-sfu"
    # The leaf alone: whoever does not know the one between would not trust it.
    machine.sh(f"cp {live}/fullchain.pem /root/kept.pem; cat {live}/cert.pem > {live}/fullchain.pem")
    refused = machine.sh("/opt/d4e-sfu/acme 2>&1; echo $?", check=False)
    assert "chain_missing" in refused
    assert refused.splitlines()[-1] != "0"
    machine.sh(f"cat /root/kept.pem > {live}/fullchain.pem; rm /root/kept.pem")
    assert (process(machine), machine.sh("cat /etc/d4e-sfu/tls/server.crt")) == before
    assert machine.sh("/opt/d4e-sfu/acme; echo $?").splitlines()[-1] == "0"


def test_prometheus_asks_the_server_and_knows_the_rules(machine: Machine) -> None:
    def query(expression: str) -> dict[str, str]:
        found = json.loads(get(machine, f"http://127.0.0.1:9090/api/v1/query?query={expression}"))["data"]["result"]
        return {each["metric"]["job"]: each["value"][1] for each in found}

    deadline = time.monotonic() + 60  # it asks every fifteen seconds
    while query("up") != {"d4e-sfu": "1", "node": "1"}:
        assert time.monotonic() < deadline, query("up")
        time.sleep(1)
    assert query("d4e_sfu_build_info") == {"d4e-sfu": "1"}
    groups = json.loads(get(machine, "http://127.0.0.1:9090/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {"D4eSfuDown", "D4eSfuCertificateExpires"} <= {rule["name"] for rule in rules}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    # Loopback is its own; from outside neither it nor the server's figures are to be had.
    for port in (9090, 7881):
        assert not machine.outside("curl", "--max-time", "2", f"http://{ADDRESS}:{port}/", check=False)


def test_the_journal_is_kept_for_twelve_months(province: Controller, machine: Machine) -> None:
    said = machine.sh("systemd-analyze cat-config systemd/journald.conf")
    assert re.findall(r"^(?:MaxRetentionSec|SystemMaxUse|Storage)=(.*)$", said, re.MULTILINE)[-3:] == [
        "persistent", "12month", "8G",
    ]  # fmt: skip
    assert machine.sh("journalctl --header --file /var/log/journal/*/system.journal | head -1").strip()
    # A file that sorts after ours and says otherwise is found.
    other = "/etc/systemd/journald.conf.d/90-other.conf"
    machine.sh(f"printf '[Journal]\\nMaxRetentionSec=1month\\n' > {other}")
    outcome = province.play("site")
    machine.sh(f"rm {other}")
    assert outcome.code != 0
    assert "sfu-1: the journal is kept by" in " ".join(outcome.text.split())


def test_the_unit_is_the_repositorys_and_its_limits_hold(machine: Machine) -> None:
    unit = (TOP / "systemd/d4e-sfu.service").read_text()
    assert machine.sh("cat /etc/systemd/system/d4e-sfu.service") == unit
    shown = machine.sh(
        "systemctl show --property Type,WatchdogUSec,MemoryMax,MemoryHigh,TasksMax,CPUWeight,LimitNOFILE,LimitCORE "
        "d4e-sfu.service"
    )
    facts = dict(line.split("=", 1) for line in shown.splitlines())
    assert (facts["Type"], facts["WatchdogUSec"]) == ("notify", "10s")
    assert (facts["TasksMax"], facts["CPUWeight"]) == ("256", "1000")
    assert 0 < int(facts["MemoryHigh"]) < int(facts["MemoryMax"])
    # Pinned by a drop-in, as the unit's head says; and what the kernel holds each process to.
    folder = "/etc/systemd/system/d4e-sfu.service.d"
    machine.sh(f"mkdir {folder}; printf '[Service]\\nCPUAffinity=0\\n' > {folder}/pin.conf; systemctl daemon-reload")
    try:
        machine.sh("systemctl restart d4e-sfu.service")
        pid = process(machine)
        allowed = machine.sh(f"grep -h Cpus_allowed_list /proc/{pid}/task/*/status").split()[1::2]
        assert set(allowed) == {"0"}
        limits = machine.sh(f"cat /proc/{pid}/limits")
        # As many as the unit says, or as the machine itself was given.
        files = min(65_536, int(machine.sh("grep 'open files' /proc/1/limits").split()[4]))
        assert re.search(rf"Max open files +{files} +{files} ", limits)
        assert re.search(r"Max core file size +0 +0", limits)
    finally:
        machine.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl restart d4e-sfu.service")


def test_the_doctor_names_a_clock_that_is_off(province: Controller, machine: Machine) -> None:
    # A container may not set the clock, which chrony's unit asks for; it only looks here.
    folder = "/etc/systemd/system/chrony.service.d"
    # The servers that the role has written, and no makestep: what is off stays off.
    start = 'ExecStart=\\nExecStart=!/usr/sbin/chronyd -x -F 0 "sourcedir /etc/chrony/sources.d"'
    machine.sh(f"mkdir {folder}; printf '[Unit]\\nConditionCapability=\\n[Service]\\n{start}\\n' > {folder}/look.conf")

    def off(wrong_by: float) -> bool:
        """Whether the doctor says that the clock is off, once chrony has asked the server."""
        with time_server(machine, wrong_by=wrong_by):
            machine.sh("systemctl daemon-reload; systemctl restart chrony.service")
            deadline = time.monotonic() + 60
            while f",{OUTSIDE}," not in machine.sh("chronyc -c tracking", check=False):
                assert time.monotonic() < deadline, machine.sh(
                    "chronyc sources; journalctl -u chrony -n 20", check=False
                )
                time.sleep(0.5)
            return "The clock is off by" in doctor(machine).get("clock", "")

    try:
        assert not off(0.0)
        assert off(120.0)
    finally:
        machine.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl stop chrony.service")


def test_the_doctor_names_an_address_translation_that_clients_are_not_told_of(machine: Machine) -> None:
    machine.sh("cp /etc/hosts /root/hosts 2>/dev/null || touch /root/hosts")
    machine.sh(f"echo '{ADDRESS} {DOMAIN}' >> /etc/hosts")
    try:
        assert not {"nat", "proxy", "dns"} & set(doctor(machine, "--host", DOMAIN))
        # Now browsers come by an address of somebody else, who passes them on.
        machine.outside("sysctl", "-qw", "net.ipv4.ip_forward=1")
        (machine.folder / "nat.nft").write_text(NATTED)
        machine.outside("nft", "-f", machine.folder / "nat.nft")
        machine.sh(f"cp /root/hosts /etc/hosts; echo '{OUTSIDE} {DOMAIN}' >> /etc/hosts")
        red = doctor(machine, "--host", DOMAIN)
        assert "proxy" not in red, "it is this server that is met there"
        assert f"Browsers come by {OUTSIDE}, and clients are told {ADDRESS} for media" in red["nat"]
    finally:
        machine.outside("nft", "delete", "table", "ip", "nat", check=False)
        machine.sh("cp /root/hosts /etc/hosts; rm /root/hosts")


def test_the_doctor_names_a_disk_that_is_full(machine: Machine) -> None:
    assert "disk" not in doctor(machine)
    free = int(machine.sh("df --output=avail --block-size=1 / | tail -1"))
    machine.sh(f"fallocate -l {free - (512 << 20)} /full")
    try:
        assert "disk" in doctor(machine)
    finally:
        machine.sh("rm /full")
    assert "disk" not in doctor(machine)


def test_an_uninstall_leaves_nothing_of_it(province: Controller, machine: Machine) -> None:
    ended_well(province.play("uninstall", extra={"d4e_uninstall": "yes"}))
    mine = [path for path in paths(machine) if "d4e" in path]
    assert not mine
    assert "d4e" not in machine.sh("nft list ruleset; systemctl list-units --all; ls /etc/systemd/system")
    assert not machine.sh("cut -d: -f1 /etc/passwd /etc/group | grep d4e", check=False)
