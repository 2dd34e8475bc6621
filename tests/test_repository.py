"""The repository keeps its promises to a newcomer: targets that explain themselves, locks that pin, notices that are
current, a development server that answers at the links it prints, and a wheel that holds what it should."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import development
from tests.lab.server import TOP, free_ports

REGISTRIES = re.compile(r"pypi\.org|pythonhosted|npmjs|registry\.|mirror|static\.crates\.io|find-links|index-url", re.I)
ROLES = ("doctor", "health-worker", "patient", "observer", "moderator")


def run(*words: str, cwd: Path = TOP) -> str:
    return subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_help_lists_every_target_with_what_it_does() -> None:
    listed = run("make", "--no-print-directory", "help")
    for target in ("run", "test", "test-long", "lint", "bench", "acceptance", "wheel", "help"):
        assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE), target
    targets = re.findall(r"^([a-z][a-z-]+):.*", (TOP / "Makefile").read_text(), re.MULTILINE)
    assert {target for target in targets if f"make {target} " not in listed} <= {
        "chromium",
        "firefox",
        "guest",
        "nspawn",
    }


def test_lint_runs_every_checker_in_its_strict_form() -> None:
    recipe = run("make", "--dry-run", "lint")
    for checker in (
        r"ruff format --check \.",
        r"ruff check \.",
        r"bin/mypy$",
        r"cargo fmt --check",
        r"clippy .*--features python -- -D warnings",
        r"clippy .*--features peer -- -D warnings",
        r"npm run --silent check",
        r"cd ansible .* ansible-lint",
    ):
        assert re.search(checker, recipe, re.MULTILINE), checker
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]
    assert settings["mypy"]["strict"] is True
    assert set(settings["mypy"]["files"]) >= {"d4e_sfu", "tests", "benchmarks"}
    assert json.loads((TOP / "d4e_sfu/web/package.json").read_text())["scripts"]["check"] == "tsc --noEmit"
    assert '"strict": true' in (TOP / "d4e_sfu/web/tsconfig.json").read_text()


@pytest.mark.parametrize(("user", "says"), [("0", "apt-get install .*chromium"), ("1000", "Chromium is missing")])
def test_a_missing_chromium_is_installed_by_root_and_named_to_others(tmp_path: Path, user: str, says: str) -> None:
    """`make chromium` in a world without one, with stand-ins that say what they were asked to do."""
    for name, body in (("id", f"echo {user}"), ("apt-get", 'echo apt-get "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    make = shutil.which("make")
    assert make
    made = subprocess.run(
        [make, "--no-print-directory", "chromium", "RUST_SOURCES=", "PAGE_SOURCES="],
        cwd=TOP,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(says, made.stdout), made.stdout + made.stderr
    assert (made.returncode == 0) == (user == "0")
    sentence = [line for line in made.stdout.splitlines() if "missing" in line]
    assert len(sentence) == (user != "0")


def test_ci_runs_lint_test_and_acceptance_in_a_clean_shell() -> None:
    script = TOP / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "for target in lint test acceptance; do" in script.read_text()
    assert "set -euo pipefail" in script.read_text()


def test_python_is_locked_with_hashes_and_no_lock_names_a_registry() -> None:
    for name in ("runtime", "build", "dev", "installer", "ansible", "ansible-oldest"):
        text = (TOP / f"requirements/{name}.txt").read_text()
        assert not REGISTRIES.search(text), name
        pins = re.findall(r"^([A-Za-z0-9_.\[\]-]+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
        unpinned = [line for line in text.splitlines() if re.match(r"[A-Za-z]", line) and not line.endswith("\\")]
        assert pins
        assert not unpinned
    runtime = (TOP / "requirements/runtime.txt").read_text()
    assert re.search(r"^aiortc==1\.16\.", runtime, re.MULTILINE)
    assert re.search(r"^cryptography==50\.", runtime, re.MULTILINE)


def test_rust_and_npm_are_locked_with_hashes() -> None:
    crates = tomllib.loads((TOP / "d4e_sfu/engine/Cargo.lock").read_text())["package"]
    assert [crate["name"] for crate in crates if "checksum" not in crate] == ["d4e-engine"]
    lock = (TOP / "d4e_sfu/web/package-lock.json").read_text()
    assert not re.search(r"npmjs|registry\.", lock)
    packages = json.loads(lock)["packages"]
    assert not [name for name, package in packages.items() if name and "integrity" not in package]


def test_what_the_engine_links_has_its_notice() -> None:
    written = (TOP / "THIRD_PARTY.md").read_text()
    assert written == run(sys.executable, ".ci/notices.py"), "out of date: make notices"
    assert "| aws-lc-sys |" in written
    assert "Apache License" in (TOP / "LICENSE").read_text()


def test_git_keeps_no_secret_of_certs() -> None:
    for name in ("development.key", "development.secret", "province.secret", "development.yaml"):
        run("git", "check-ignore", "--quiet", f"certs/{name}")
    assert run("git", "ls-files", "certs").split() == ["certs/README.md", "certs/authority.py"]


def test_the_readme_says_what_a_stranger_needs() -> None:
    readme = (TOP / "README.md").read_text()
    for section in (
        "Two commands",
        "Point an existing client at it",
        "Configure",
        "Map of the code",
        "Limits that remain",
    ):
        assert f"\n## {section}\n" in readme, section
    for way in ("A media packet", "A join", "A setting", "A metric"):
        assert f"- **{way}**: " in readme, way
    assert "Works with LiveKit client SDKs; not affiliated with LiveKit, Inc." in readme
    assert "make run" in readme
    assert "make test" in readme
    # Every file that it points at is there: the picture, the sample, the folders of the map.
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (TOP / link).exists(), link


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str], dict[str, int]]]:
    """`make run`'s server in a folder and on ports of its own, and the lines that it printed until its links."""
    http, tls, admin = free_ports(socket.SOCK_STREAM, 3)
    (media,) = free_ports(socket.SOCK_DGRAM, 1)
    ports = {"--port": http, "--tls-port": tls, "--admin-port": admin, "--media-port": media}
    words = [f"{name}={port}" for name, port in ports.items()]
    process = subprocess.Popen(
        [sys.executable, "config/development.py", f"--folder={tmp_path}", *words],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if "Ctrl-C" in line:
            break
    yield process, lines, ports
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    process.stdout.close()


def test_the_development_server_answers_at_the_links_that_it_prints(
    started: tuple[subprocess.Popen[str], list[str], dict[str, int]], tmp_path: Path
) -> None:
    process, lines, ports = started
    printed = "\n".join(lines)
    for role in ROLES:
        link = re.search(
            rf"^{role}\n  this machine  (http://localhost:\d+/)#room=demo&token=(\S+)", printed, re.MULTILINE
        )
        assert link, printed
        with urllib.request.urlopen(link[1], timeout=5) as page:
            assert b"<html" in page.read()
        url = f"{link[1]}rtc/v1/validate?access_token={link[2]}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.status == 200

    certificate = tmp_path / "development.crt"
    trusting = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"https://localhost:{ports['--tls-port']}/", timeout=5, context=trusting) as page:
        assert page.status == 200
    for private in ("development.key", "development.secret"):
        assert (tmp_path / private).stat().st_mode & 0o077 == 0
    assert "#room" in printed
    assert not re.search(r"[?&]token=", printed.replace("#room=demo&token=", ""))

    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_second_start_keeps_the_key_so_that_old_links_still_join(tmp_path: Path) -> None:
    secret = tmp_path / "development.secret"
    development.secret(secret)
    first = secret.read_bytes()
    development.secret(secret)
    assert secret.read_bytes() == first
    other = tmp_path / "other.secret"
    development.secret(other)
    assert other.read_bytes() != first
    assert len(first.strip()) >= 32


@pytest.mark.long
async def test_the_wheel_holds_what_it_should_and_runs_alone(tmp_path: Path) -> None:
    maturin = Path(sys.executable).with_name("maturin")
    build = await asyncio.create_subprocess_exec(
        *(str(maturin), "build", "--release", "--locked", "--quiet"),
        *("--interpreter", sys.executable, "--out", str(tmp_path)),
        cwd=TOP,
    )
    assert await build.wait() == 0
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "-cp311-abi3-" in wheel.name
    for wanted in (
        "d4e_sfu/__main__.py",
        "d4e_sfu/_engine.abi3.so",
        "d4e_sfu/web/dist/index.html",
        "d4e_sfu/web/dist/licenses.txt",
        "d4e_sfu/web/dist/status/index.html",
    ):
        assert wanted in names
    for notice in ("LICENSE", "NOTICE", "THIRD_PARTY.md"):
        assert any(name.endswith(f"dist-info/licenses/{notice}") for name in names), notice
    strangers = [
        name
        for name in names
        if re.search(
            r"\.rs$|Cargo|/engine/|/peer|node_modules|web/(src|tests)/|\.tsx?$|(^|/)tests?/|\.pem$|secret", name
        )
    ]
    assert not strangers
    assert b"d4e-peer" not in zipfile.ZipFile(wheel).read("d4e_sfu/_engine.abi3.so")

    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet"]
    run(*pip, "--require-hashes", "-r", str(TOP / "requirements/runtime.txt"))
    run(*pip, "--no-deps", str(wheel))
    # Away from the tree, so that only what is installed can be found.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for words in (["version"], ["check", str(TOP / "config/d4e-sfu.yaml")]):
        command = [str(home / "bin/d4e-sfu"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
