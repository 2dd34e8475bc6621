"""The roles and the wrapper, as far as they can be read: what they may use, what they promise of their variables. That
they do what they say is shown on booted machines (tests/appliance, `make test-appliance`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible import bundle
from tests.lab.server import TOP

ANSIBLE = TOP / "ansible"
ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir())
# What a task may carry beside its module.
KEYWORDS = {
    "name", "when", "loop", "loop_control", "register", "changed_when", "failed_when", "check_mode", "become",
    "delegate_to", "run_once", "notify", "vars", "until", "retries", "delay", "no_log", "environment", "diff", "tags",
    "block", "rescue", "always",
}  # fmt: skip


def tasks(of: Any) -> Iterator[dict[str, Any]]:
    for task in of or []:
        yield task
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(task.get(part))


def test_the_roles_are_those_that_were_promised() -> None:
    assert [role.name for role in ROLES] == ["backup", "d4e_sfu", "host", "monitoring", "preflight"]


def test_nothing_is_used_but_what_ansible_itself_brings() -> None:
    seen = 0
    for path in [*ANSIBLE.glob("roles/*/tasks/*.yml"), *ANSIBLE.glob("roles/*/handlers/*.yml")]:
        for task in tasks(yaml.safe_load(path.read_text())):
            modules = set(task) - KEYWORDS
            seen += len(modules)
            assert all(module.startswith("ansible.builtin.") for module in modules), (path, modules)
    for path in ANSIBLE.glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            for task in tasks(play.get("tasks")):
                modules = set(task) - KEYWORDS
                seen += len(modules)
                assert all(module.startswith("ansible.builtin.") for module in modules), (path, modules)
    assert seen > 80


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_variable_is_specified_with_the_default_that_it_has(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"]["options"]
    assert {name: option.get("default") for name, option in options.items()} == defaults
    assert all(len(option["description"]) > 15 for option in options.values())


def test_every_template_that_can_be_wrong_is_validated_before_it_is_used() -> None:
    validated = {"acme.sh.j2", "backup.sh.j2", "d4e-sfu.yaml.j2", "firewall.nft.j2", "prometheus.yml.j2"}
    found = set()
    for path in ANSIBLE.glob("roles/*/tasks/*.yml"):
        for task in tasks(yaml.safe_load(path.read_text())):
            template = task.get("ansible.builtin.template", {})
            if "validate" in template:
                found.add(template["src"])
    assert found == validated


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_sentence_of_a_failure_names_the_host_and_the_fix(role: Path) -> None:
    for path in role.glob("tasks/*.yml"):
        for task in tasks(yaml.safe_load(path.read_text())):
            said = task.get("ansible.builtin.assert", {}).get("fail_msg") or task.get("ansible.builtin.fail", {}).get(
                "msg"
            )
            if said:
                assert said.startswith("{{ inventory_hostname }}: "), (path, said)
                assert " Fix: " in said, (path, said)


def test_every_play_is_one_that_ansible_can_read() -> None:
    """What can be known of them without a machine; `make lint` has put Ansible there."""
    ansible = TOP / "build/ansible/newest/bin/ansible-playbook"
    assert ansible.exists(), "make lint"
    plays = sorted(path.name for path in ANSIBLE.glob("*.yml"))
    assert len(plays) == 7
    words = [str(ansible), "--syntax-check", "-i", "inventory/example.yml", *plays]
    made = subprocess.run(words, cwd=ANSIBLE, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert [line.split(": ")[1] for line in made.stdout.splitlines() if line.startswith("playbook:")] == plays


def wrapper(*words: str, stdin: str = "", inventory: Path, lang: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANSIBLE / "d4e", *words],
        input=stdin,
        env={**os.environ, "D4E_INVENTORY": str(inventory), "LC_ALL": lang},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_few_questions_make_an_inventory_of_at_most_ten_lines(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    answers = "10.1.0.9\nroot\nhop.soyte.example.vn\n10.1.0.9\n203.0.113.7\n10.1.0.1\n"
    assert wrapper("init", stdin=answers, inventory=inventory).returncode == 0
    text = inventory.read_text()
    assert len(text.splitlines()) <= 10
    group = yaml.safe_load(text)["d4e_sfu"]
    addresses = [{"listen": "10.1.0.9", "announce": ["203.0.113.7"]}]
    assert group["hosts"] == {"10.1.0.9": {"d4e_sfu_media_addresses": addresses}}
    assert group["vars"]["d4e_sfu_domain"] == "hop.soyte.example.vn"
    assert group["vars"]["host_ntp_servers"] == ["10.1.0.1"]
    # What is there is not overwritten, and what is no name does not get in.
    assert wrapper("init", stdin=answers, inventory=inventory).returncode == 1
    refused = wrapper("init", stdin="a: b\n", inventory=tmp_path / "other.yml")
    assert refused.returncode == 1
    assert not (tmp_path / "other.yml").exists()


def test_what_is_damaged_or_signed_by_nobody_is_no_bundle(tmp_path: Path) -> None:
    for name in ("ansible/site.yml", "ansible/inventory/example.yml", "systemd/d4e-sfu.service", "certs/authority.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    d4e = tmp_path / "d4e"
    d4e.write_bytes((ANSIBLE / "d4e").read_bytes())
    d4e.chmod(0o755)
    bundle._sign(tmp_path, tmp_path.parent / "key")

    def verified() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [d4e, "verify"], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        )

    assert verified().returncode == 0, verified().stderr
    (tmp_path / "ansible/inventory/hosts.yml").write_text("the province's own\n")
    (tmp_path / "minutes of a meeting.txt").write_text("nobody runs it\n")
    assert verified().returncode == 0, verified().stderr
    for stray in ("ansible/action_plugins/command.py", "certs/argparse.py"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_text("raise SystemExit\n")
        assert f"what nobody has signed lies in the bundle: {stray};" in verified().stderr
        (tmp_path / stray).unlink()
    (tmp_path / "ansible/site.yml").write_text("[]\n")
    assert "a file is damaged" in verified().stderr


def test_the_wrapper_speaks_both_languages(tmp_path: Path) -> None:
    english, vietnamese = (wrapper("help", inventory=tmp_path, lang=lang).stdout for lang in ("C", "vi_VN.UTF-8"))
    assert "foretell what install would change" in english
    assert "cách dùng" in vietnamese
    assert [line.split()[0] for line in english.splitlines()[1:]] == [
        line.split()[0] for line in vietnamese.splitlines()[1:]
    ]
