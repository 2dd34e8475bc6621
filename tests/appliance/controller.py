"""The machine that runs Ansible: an unpacked bundle, an inventory of a few lines, and what a play came to."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.appliance.machine import ADDRESS, Machine
from tests.lab.server import TOP

ENVIRONMENTS = TOP / "build/ansible"
NEWEST, OLDEST = ENVIRONMENTS / "newest", ENVIRONMENTS / "oldest"
DOMAIN = "sfu.province.test"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `ansible-playbook` said."""

    code: int
    text: str

    @property
    def changed(self) -> int:
        return sum(map(int, re.findall(r"changed=(\d+)", self.text)))

    @property
    def failed(self) -> int:
        return sum(map(int, re.findall(r"failed=(\d+)", self.text)))


def environment(machine: Machine, ansible: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{ansible / 'bin'}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(machine.folder / "ansible"),
        # Machines have one address, each in a network of its own: a connection that is kept must not lead to another.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(machine.folder / "cp"),
    }


@dataclass(slots=True)
class Controller:
    bundle: Path
    machine: Machine
    ansible: Path = OLDEST
    variables: dict[str, object] = field(default_factory=dict)
    others: list[Machine] = field(default_factory=list)
    """More servers of the same province: sfu-2 and on."""

    @property
    def inventory(self) -> Path:
        return self.machine.folder / "inventory/hosts.yml"

    def write_inventory(self) -> None:
        """As `./d4e init` would, and how to reach a machine that is on no network of ours."""
        self.inventory.parent.mkdir(exist_ok=True)
        variables: dict[str, object] = {
            "ansible_user": "root",
            "d4e_sfu_domain": DOMAIN,
            "d4e_sfu_media_addresses": [ADDRESS],
            **self.variables,
        }
        hosts = {"sfu-1": {"ansible_host": ADDRESS, "ansible_ssh_common_args": self.machine.ssh_arguments}}
        for number, machine in enumerate(self.others, 2):
            # By a name of its own, or Ansible would use the first one's connection; where it leads the arguments say.
            named = {"ansible_host": f"sfu-{number}", "ansible_ssh_common_args": machine.ssh_arguments}
            hosts[f"sfu-{number}"] = named
        self.inventory.write_text(yaml.safe_dump({"d4e_sfu": {"hosts": hosts, "vars": variables}}))

    def play(
        self, name: str, *arguments: str, extra: Mapping[str, object] | None = None, timeout: float = 900.0
    ) -> Outcome:
        self.write_inventory()
        words = [str(self.ansible / "bin/ansible-playbook"), "-i", str(self.inventory), f"{name}.yml", *arguments]
        if extra:
            words += ["-e", json.dumps(dict(extra))]
        made = subprocess.run(
            words,
            cwd=self.bundle / "ansible",
            env=environment(self.machine, self.ansible),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        text = made.stdout + made.stderr
        (self.machine.folder / f"{name}.log").write_text(text)
        return Outcome(made.returncode, text)
