"""The appliance's short form: `site` makes a server of a machine that was booted for it, `uninstall` leaves nothing.

Its root is this machine's, so that nothing is fetched: Debian's packages are here already, and so is the release, whose
wheels would take longer to install than all the rest. On a pristine Debian, with both from the bundle and over SSH:
tests/appliance, `make test-appliance`. Each test is a chapter and leaves what the next begins with; of these only the
installation itself is short.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.guest import SEEN, TOP, TREE, Guest, booted, disk, not_here, place

BUNDLE = "root/bundle"
VERSION = "0.0.1"
DOMAIN = "sfu.province.test"
INVENTORY = f"""\
d4e_sfu:
  hosts:
    sfu-1: {{ansible_connection: local}}
  vars:
    ansible_user: root
    d4e_sfu_domain: {DOMAIN}
    d4e_sfu_media_addresses: [127.0.0.1]
    d4e_sfu_settings: {{webhooks: {{urls: ['http://127.0.0.1:9000/hook'], folder: /var/lib/d4e-sfu/webhooks}}}}
    d4e_sfu_connector_allow: [127.0.0.1]
    monitoring_node_exporter: false
    preflight_free_mib: 100
"""
FOLDERS = "/etc /usr/local /var/lib /var/backups /var/log /run"
ANSIBLE = TOP / "build/ansible/newest"
PLAY_SECONDS = 300


def _bundle(root: Path) -> None:
    """As `make bundle` lays it out, without what a machine like this one would not ask for."""
    bundle = root / BUNDLE
    shutil.copytree(TOP / "ansible", bundle / "ansible")
    shutil.copytree(TOP / "systemd", bundle / "systemd")
    shutil.copytree(TOP / "certs", bundle / "certs")
    (bundle / "VERSION").write_text(f"{VERSION}\n")
    for empty in ("SHA256SUMS", "wheels.tar", "apt.tar"):
        (bundle / empty).touch()
    (bundle / "ansible/inventory/hosts.yml").write_text(INVENTORY)
    place(root, f"opt/d4e-sfu/releases/{VERSION}/bin")
    (root / f"opt/d4e-sfu/releases/{VERSION}/complete").touch()


@pytest.fixture(scope="module")
def machine() -> Iterator[Guest]:
    if shutil.which("nft") is None:
        not_here("nft is missing (apt-get install nftables)")
    with disk(_bundle) as root:
        assert (ANSIBLE / "bin/ansible-playbook").exists(), "make test-boot puts Ansible there"
        with booted(root, TREE | {"ansible": ANSIBLE}) as machine:
            yield machine


def play(machine: Guest, name: str, *arguments: str) -> tuple[str, int]:
    """What it said, and how many changes there were."""
    words = "ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 LC_ALL=C.UTF-8 HOME=/root"
    ansible = f"{SEEN}/ansible/bin/python {SEEN}/ansible/bin/ansible-playbook"
    command = f"cd /{BUNDLE}/ansible && {words} {ansible} -i inventory/hosts.yml {name}.yml {' '.join(arguments)}"
    done = machine.run("sh", "-c", command, check=False, timeout=PLAY_SECONDS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout, sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))


def paths(machine: Guest) -> set[str]:
    found = machine.run("sh", "-c", f"find {FOLDERS} -xdev; find /opt -maxdepth 1", check=False).stdout
    return {path for path in found.splitlines() if "d4e" in path}


@pytest.fixture(scope="module")
def before(machine: Guest) -> set[str]:
    return paths(machine)


@pytest.mark.long
def test_a_check_of_a_virgin_host_ends_well_and_changes_nothing(machine: Guest, before: set[str]) -> None:
    play(machine, "site", "--check")
    assert paths(machine) == before
    assert machine.run("getent", "passwd", "d4e-sfu", check=False).stdout == ""


def test_one_play_makes_a_server_that_answers(machine: Guest, before: set[str]) -> None:
    assert "/etc/d4e-sfu" not in before
    play(machine, "site")
    assert machine.get("/readyz") == "ready\n"
    authority = f"/{BUNDLE}/ansible/inventory/ca/ca.crt"
    machine.run("d4e-sfu", "check", "/etc/d4e-sfu/d4e-sfu.yaml")
    page = machine.run(
        *("curl", "-sS", "--max-time", "20", "--cacert", authority),
        *("--resolve", f"{DOMAIN}:443:127.0.0.1", f"https://{DOMAIN}/"),
    )
    assert "<html" in page.stdout
    rules = machine.run("nft", "list", "table", "inet", "d4e_sfu").stdout
    assert "udp dport 7882 accept" in rules
    assert "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept" in rules
    for unit, tenths in (("d4e-sfu.service", 5), ("d4e-sfu-connector.service", 12)):
        installed = (machine.root / "etc/systemd/system" / unit).read_text()
        assert installed == (TOP / "systemd" / unit).read_text()
        machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={tenths}", unit)


@pytest.mark.long
def test_a_second_run_changes_nothing(machine: Guest) -> None:
    pid = machine.show("d4e-sfu.service", "MainPID")
    _, changed = play(machine, "site")
    assert changed == 0
    assert machine.show("d4e-sfu.service", "MainPID") == pid


@pytest.mark.long
def test_an_upgrade_brings_what_keeps_and_what_watches_the_server_too(machine: Guest) -> None:
    bundle = machine.root / BUNDLE
    (bundle / "VERSION").write_text("0.0.2\n")
    place(machine.root, "opt/d4e-sfu/releases/0.0.2/bin")
    (machine.root / "opt/d4e-sfu/releases/0.0.2/complete").touch()
    for file in ("monitoring/files/d4e-sfu.rules.yml", "backup/templates/backup.sh.j2"):
        with (bundle / "ansible/roles" / file).open("a") as text:
            text.write("# of the new release\n")
    play(machine, "upgrade")
    assert machine.run("readlink", "/opt/d4e-sfu/current").stdout == "/opt/d4e-sfu/releases/0.0.2\n"
    assert machine.get("/readyz") == "ready\n"
    for file in ("monitoring/d4e-sfu.rules.yml", "backup"):
        assert (machine.root / "opt/d4e-sfu" / file).read_text().endswith("# of the new release\n"), file


@pytest.mark.long
def test_an_uninstall_leaves_no_file_user_or_rule(machine: Guest, before: set[str]) -> None:
    play(machine, "uninstall", "-e", "d4e_uninstall=yes")
    assert paths(machine) - before == set()
    assert "/opt/d4e-sfu" not in paths(machine)
    assert (
        machine.run("sh", "-c", "cut -d: -f1 /etc/passwd /etc/group | grep d4e | grep -v ^{SEEN}", check=False).stdout
        == ""
    )
    left = "nft list ruleset | grep d4e; systemctl list-units --all --no-legend 'd4e*'"
    assert machine.run("sh", "-c", left, check=False).stdout == ""
