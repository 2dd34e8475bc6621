"""The life of an installation on one bare Debian: foretold, installed, run again, asked from outside, upgraded, broken
and rolled back, backed up and restored, removed. Each test is a chapter and leaves what the next begins with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.results import record
from tests.appliance import release
from tests.appliance.controller import DOMAIN, NEWEST, OLDEST, Controller, Outcome
from tests.appliance.machine import ADDRESS, Machine

CONVERGE_SECONDS = 90.0
KEPT = ("/etc", "/opt", "/srv", "/home", "/root", "/usr/local", "/var/lib", "/var/backups", "/var/cache", "/run")
# Debian's own notes of what was installed, and the machine's of its life.
NOISE = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/lib/systemd", "/run/systemd", "/run/udev",
         "/run/sshd", "/run/user", "/run/dbus", "/run/log", "/run/lock", "/run/motd", "/run/adduser", "/root/.ansible",
         "/var/lib/ucf", "/etc/rc")  # fmt: skip


def get(machine: Machine, url: str) -> str:
    """The body that the machine itself is answered with."""
    script = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).read().decode(), end='')"
    return machine.sh(f'/usr/bin/python3 -c "{script}"')


def process(machine: Machine) -> str:
    return machine.sh("systemctl show --property MainPID --value d4e-sfu.service").strip()


def version(machine: Machine) -> str:
    metrics = get(machine, "http://127.0.0.1:7881/metrics")
    line = next(line for line in metrics.splitlines() if line.startswith("d4e_sfu_build_info{"))
    return line.split('version="')[1].split('"')[0]


def paths(machine: Machine) -> set[str]:
    return set(machine.sh(f"find {' '.join(KEPT)} -xdev").splitlines())


def ended_well(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.text[-4000:]


BEFORE: dict[str, set[str]] = {}


def test_a_check_of_a_virgin_host_ends_well_and_changes_nothing(controller: Controller, machine: Machine) -> None:
    BEFORE["paths"] = paths(machine)
    ended_well(controller.play("site", "--check"))
    left = {path for path in paths(machine) - BEFORE["paths"] if not path.startswith(NOISE)}
    assert not left
    BEFORE["users"] = set(machine.sh("cut -d: -f1 /etc/passwd /etc/group").split())


def test_what_is_wrong_is_named_with_host_setting_and_fix(controller: Controller) -> None:
    outcome = controller.play("site", "--check", extra={"d4e_sfu_media_addresses": ["192.0.2.7"]})
    assert outcome.code != 0
    said = " ".join(outcome.text.split())
    assert "sfu-1: d4e_sfu_media_addresses names 192.0.2.7, which is no address of this host" in said
    assert "Fix: name one that `ip address` shows there" in said


def test_one_play_makes_a_server_of_a_bare_debian(controller: Controller, machine: Machine) -> None:
    began = time.monotonic()
    ended_well(controller.play("site"))
    took = time.monotonic() - began
    assert get(machine, "http://127.0.0.1:7881/healthz") == "ok\n"
    assert get(machine, "http://127.0.0.1:7881/readyz") == "ready\n"
    strays = machine.strays()
    assert strays == 0, machine.outside("nft", "list", "ruleset")
    record("appliance.json", "appliance_converge", [took], "s", f"<= {CONVERGE_SECONDS:g}")


@pytest.mark.parametrize("ansible", [OLDEST, NEWEST], ids=["2.14", "2.19"])
def test_a_second_run_changes_nothing(controller: Controller, machine: Machine, ansible: Path) -> None:
    before = process(machine)
    controller.ansible = ansible
    try:
        outcome = controller.play("site")
        foretold = controller.play("site", "--check")
    finally:
        controller.ansible = OLDEST
    ended_well(outcome)
    ended_well(foretold)
    assert (outcome.changed, foretold.changed) == (0, 0)
    assert process(machine) == before


def test_the_audit_log_verifies_and_a_changed_record_is_found(machine: Machine) -> None:
    verify = "/opt/d4e-sfu/current/bin/d4e-sfu audit verify --config /etc/d4e-sfu/d4e-sfu.yaml; echo $?"
    assert machine.sh(verify).splitlines()[-1] == "0"
    machine.sh("cp -a /var/lib/d4e-sfu/audit /var/lib/d4e-sfu/kept")
    machine.sh("sed -i '1s/[0-9]/x/5' $(find /var/lib/d4e-sfu/audit -type f -name '*.jsonl' | head -1)")
    assert machine.sh(verify).splitlines()[-1] == "1"
    machine.sh("cp -a /var/lib/d4e-sfu/kept/. /var/lib/d4e-sfu/audit/; rm -r /var/lib/d4e-sfu/kept")


def test_stations_reach_the_page_with_the_authority_and_nothing_else(controller: Controller, machine: Machine) -> None:
    authority = controller.inventory.parent / "ca/ca.crt"
    page = ("curl", "--silent", "--show-error", "--max-time", "5", "--cacert", authority, "--resolve",
            f"{DOMAIN}:443:{ADDRESS}", f"https://{DOMAIN}/")  # fmt: skip
    assert "<html" in machine.outside(*page)
    for port in (7881, 9100):
        closed = machine.outside("curl", "--max-time", "2", f"http://{ADDRESS}:{port}/", check=False)
        assert not closed


# What is done to the machine, and undone; which check has to name it.
FAULTS = {
    "mtu": ("ip link set eth0 mtu 1000", "ip link set eth0 mtu 1500", "mtu"),
    "permission": ("chmod o+r /etc/d4e-sfu/tls/server.key", "chmod o-r /etc/d4e-sfu/tls/server.key", "permissions"),
    "buffer": (
        "sed -i.kept 's/^ReceiveBuffer=.*/ReceiveBuffer=65536/' /etc/systemd/system/d4e-sfu.socket",
        "mv /etc/systemd/system/d4e-sfu.socket.kept /etc/systemd/system/d4e-sfu.socket",
        "buffer",
    ),
    "chain": (
        "cd /etc/d4e-sfu/tls && cp -p server.crt kept.crt && sed -i '/END CERT/q' server.crt",
        "mv /etc/d4e-sfu/tls/kept.crt /etc/d4e-sfu/tls/server.crt",
        "chain",
    ),
    "firewall": (
        "nft insert rule inet d4e_sfu input udp dport 7882 drop",
        "systemctl restart d4e-sfu-firewall.service",
        "udp",
    ),
    "wrong address": ("ip address del 10.99.0.2/24 dev eth0", "ip address add 10.99.0.2/24 dev eth0", "address"),
}


def red(machine: Machine) -> set[str]:
    said = machine.sh(
        "/opt/d4e-sfu/current/bin/d4e-sfu doctor --config /etc/d4e-sfu/d4e-sfu.yaml --lang en --json", check=False
    )
    return {finding["check"] for finding in json.loads(said) if finding["state"] == "bad"}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_doctor_names_a_fault_that_was_really_made(machine: Machine, fault: str) -> None:
    made, undone, check = FAULTS[fault]
    before = red(machine)
    assert before <= {"dns", "clock"}  # in this laboratory there is neither a name server nor a time server
    machine.sh(made)
    try:
        assert check in red(machine) - before
    finally:
        machine.sh(undone)
    assert red(machine) == before


def test_a_certificate_for_another_is_refused_and_the_old_one_stays(
    controller: Controller, machine: Machine, tmp_path: Path
) -> None:
    before = machine.sh("sha256sum /etc/d4e-sfu/tls/server.crt"), process(machine)
    ca = controller.inventory.parent / "ca"
    for part in ("crt", "key"):
        (tmp_path / f"other.{part}").write_bytes((ca / f"{DOMAIN}.{part}").read_bytes())
    supplied = {
        "d4e_sfu_tls_mode": "supplied",
        "d4e_sfu_domain": "other.province.test",
        "d4e_sfu_tls_certificate": str(tmp_path / "other.crt"),
        "d4e_sfu_tls_key": str(tmp_path / "other.key"),
    }
    outcome = controller.play("site", extra=supplied)
    assert outcome.code != 0
    assert "The certificate is not for other.province.test" in " ".join(outcome.text.split())
    assert (machine.sh("sha256sum /etc/d4e-sfu/tls/server.crt"), process(machine)) == before


def test_an_upgrade_ends_with_the_new_release_serving(controller: Controller, machine: Machine, bundles: Path) -> None:
    controller.bundle = release.bundle(release.remade("0.1.1", bundles / "w1"), bundles)
    ended_well(controller.play("upgrade"))
    assert version(machine) == "0.1.1"
    assert get(machine, "http://127.0.0.1:7881/readyz") == "ready\n"


def test_a_release_that_does_not_start_touches_no_call(controller: Controller, machine: Machine, bundles: Path) -> None:
    broken = {"d4e_sfu/server.py": lambda text: text + "\nraise ImportError('a library is missing')\n"}
    controller.bundle = release.bundle(release.remade("0.1.2", bundles / "w2", broken), bundles)
    before = process(machine)
    outcome = controller.play("upgrade")
    assert outcome.code != 0
    said = " ".join(outcome.text.split())
    assert "sfu-1: release 0.1.2 does not start" in said
    assert "a library is missing" in said
    assert (process(machine), version(machine)) == (before, "0.1.1")


def test_a_release_that_fails_its_health_check_makes_way_for_the_old_one(
    controller: Controller, machine: Machine, bundles: Path
) -> None:
    # A rehearsal has ports of its own and finds nothing; on the real ones it never becomes ready.
    def unwell(text: str) -> str:
        return text.replace("        reasons = [f\"{each.name} is dead\"", "        if self.config.admin.port:\n"
                            "            return ['unwell']\n        reasons = [f\"{each.name} is dead\"")  # fmt: skip

    controller.bundle = release.bundle(release.remade("0.1.3", bundles / "w3", {"d4e_sfu/server.py": unwell}), bundles)
    outcome = controller.play("upgrade", extra={"d4e_sfu_ready_seconds": 3})
    assert outcome.code != 0
    said = " ".join(outcome.text.split())
    assert "sfu-1: release 0.1.3 did not become ready" in said
    assert "0.1.1 serves again" in said
    assert version(machine) == "0.1.1"
    assert get(machine, "http://127.0.0.1:7881/readyz") == "ready\n"


def test_a_rollback_goes_to_the_release_before(controller: Controller, machine: Machine, bundle: Path) -> None:
    controller.bundle = bundle
    first = (bundle / "VERSION").read_text().strip()
    ended_well(controller.play("rollback", extra={"d4e_release": first}))
    assert version(machine) == first
    refused = controller.play("rollback", extra={"d4e_release": "9.9.9"})
    assert refused.code != 0
    assert "sfu-1: d4e_release is 9.9.9" in " ".join(refused.text.split())


def test_a_backup_brings_back_what_was_lost(controller: Controller, machine: Machine) -> None:
    key = machine.sh("cat /etc/d4e-sfu/keys/province.key")
    ended_well(controller.play("backup"))
    archive = next((controller.inventory.parent / "backups/sfu-1").glob("*.tar.gz"))
    machine.sh("echo spoilt > /etc/d4e-sfu/keys/province.key; rm /etc/d4e-sfu/d4e-sfu.yaml")
    ended_well(controller.play("restore", extra={"d4e_archive": str(archive)}))
    assert machine.sh("cat /etc/d4e-sfu/keys/province.key") == key
    assert get(machine, "http://127.0.0.1:7881/readyz") == "ready\n"


def test_a_damaged_backup_is_refused_before_anything_is_touched(controller: Controller, machine: Machine) -> None:
    archive = next((controller.inventory.parent / "backups/sfu-1").glob("*.tar.gz"))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = archive.parent / "damaged.tar.gz"
    damaged.write_bytes(content)
    whole = Path(f"{archive}.sha256").read_text()
    Path(f"{damaged}.sha256").write_text(whole.replace(archive.name, damaged.name))
    before = process(machine), machine.sh("find /etc/d4e-sfu -type f | sort | xargs sha256sum")
    outcome = controller.play("restore", extra={"d4e_archive": str(damaged)})
    assert outcome.code != 0
    assert "is damaged or is no backup" in " ".join(outcome.text.split())
    assert (process(machine), machine.sh("find /etc/d4e-sfu -type f | sort | xargs sha256sum")) == before


def test_an_uninstall_leaves_no_file_user_or_rule(controller: Controller, machine: Machine) -> None:
    refused = controller.play("uninstall")
    assert refused.code != 0
    assert get(machine, "http://127.0.0.1:7881/healthz") == "ok\n"
    ended_well(controller.play("uninstall", extra={"d4e_uninstall": "yes"}))
    mine = [path for path in paths(machine) if "d4e" in path]
    assert not mine
    packaged = set(machine.sh("cat /var/lib/dpkg/info/*.list").splitlines())
    # Debian's packages stay, and so does what they have enabled.
    packaged.add("/etc/systemd/system/multi-user.target.wants/prometheus-node-exporter.service")
    new = paths(machine) - BEFORE["paths"] - packaged
    assert not {path for path in new if not path.startswith(NOISE)}
    users = set(machine.sh("cut -d: -f1 /etc/passwd /etc/group").split())
    assert "d4e-sfu" not in users
    assert "d4e" not in machine.sh("nft list ruleset; systemctl list-units --all; ls /etc/systemd/system")
