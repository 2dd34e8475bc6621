"""The units as files: what systemd itself says of them, without one that runs. Under a real one: tests/boot."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from d4e_sfu.config import Admin, Config, Media, MediaAddress
from d4e_sfu.drivers.sockets import unit

FOLDER = Path(__file__).parents[1] / "systemd"
UNIT = FOLDER / "d4e-sfu.service"
CONNECTOR = FOLDER / "d4e-sfu-connector.service"
CONFIG = Config(
    admin=Admin(control=Path("/run/d4e-sfu/control")), media=Media(addresses=(MediaAddress(listen="10.0.0.5"),))
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def score(text: str, folder: Path, name: str = "d4e-sfu.service") -> float:
    (folder / name).write_text(text)
    said = analyze("security", "--no-pager", "--offline=true", str(folder / name)).stdout
    found = re.search(rf"exposure level for {name}: ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def test_the_exposure_score_is_at_most_half_a_point(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert score(text, tmp_path) <= 0.5
    assert score(text.replace("PrivateNetwork=yes", ""), tmp_path) > 0.5, "the score can fail"


def test_the_exposure_score_of_the_connector_is_at_most_one_and_a_fifth(tmp_path: Path) -> None:
    """With whom a province allows: addresses of its own network and of the internet."""
    allowed = "IPAddressDeny=any\nIPAddressAllow=10.0.0.53 203.0.113.7"
    text = CONNECTOR.read_text().replace("IPAddressDeny=any", allowed)
    assert score(text, tmp_path, CONNECTOR.name) <= 1.2
    weaker = text.replace("PrivateUsers=yes", "").replace("\nCapabilityBoundingSet=", "")
    assert score(weaker, tmp_path, CONNECTOR.name) > 1.2, "the score can fail"


@pytest.mark.parametrize("file", [UNIT, CONNECTOR], ids=lambda file: file.stem)
def test_a_unit_that_ends_for_its_settings_is_not_started_again_and_leaves_no_core(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert {"RestartPreventExitStatus=78", "LimitCORE=0", "IPAddressDeny=any"} <= set(lines)
    first = next(line for line in lines if line.startswith("SystemCallFilter="))
    assert first == "SystemCallFilter=@system-service", "with a deny-list first all of it would be a deny-list"


def test_the_connector_is_reached_by_the_server_alone() -> None:
    socket = (FOLDER / "d4e-sfu-connector.socket").read_text().splitlines()
    assert {"SocketUser=d4e-sfu", "SocketMode=0600"} <= set(socket)
    assert f"ListenStream={Config().webhooks.socket}" in socket


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    service = UNIT.read_text().replace("/opt/d4e-sfu/current/bin/d4e-sfu", "/bin/true")
    for text, silent in ((service, True), (service.replace("ProtectSystem=", "ProtectSytem="), False)):
        (tmp_path / "d4e-sfu.service").write_text(text)
        (tmp_path / "d4e-sfu.socket").write_text(unit(CONFIG, media_addresses=[]))
        connector = CONNECTOR.read_text().replace("/opt/d4e-sfu/current/bin/d4e-sfu", "/bin/true")
        (tmp_path / CONNECTOR.name).write_text(connector)
        (tmp_path / "d4e-sfu-connector.socket").write_text((FOLDER / "d4e-sfu-connector.socket").read_text())
        done = analyze("verify", "--man=no", *(str(each) for each in sorted(tmp_path.iterdir())))
        assert (done.returncode == 0 and not done.stderr) == silent, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "RestartPreventExitStatus=78",
        "LoadCredential=keys:/etc/d4e-sfu/keys",
        "RestrictAddressFamilies=AF_UNIX",
        "SystemCallErrorNumber=EPERM",
        "LimitCORE=0",
    ],
)
def test_the_unit_says_it_once(line: str) -> None:
    assert UNIT.read_text().splitlines().count(line) == 1


def test_the_first_system_call_filter_is_the_list_of_what_is_allowed() -> None:
    """With a deny-list first all of it would be a deny-list, and the score would not tell."""
    first = next(line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter="))
    assert first == "SystemCallFilter=@system-service"
