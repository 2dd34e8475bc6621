"""What the doctor sees of a real server and a real machine, with faults that were really made."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from d4e_sfu import config as configuration
from d4e_sfu.__main__ import main
from d4e_sfu.core.diagnosis import Facts, State, diagnose
from d4e_sfu.drivers import probes
from tests.lab.server import free_ports, running


def states(facts: Facts) -> dict[str, State]:
    return {finding.check: finding.state for finding in diagnose(facts)}


async def test_a_running_server_has_its_ports_and_its_datagrams_arrive(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        config = configuration.load(next(server.folder.glob("*.yaml")))
        facts = await asyncio.to_thread(probes.look, config, host=None)
    assert facts.running
    assert {port.held_by for port in facts.ports} == {"d4e-sfu"}
    assert facts.loops
    assert all(loop.arrived == loop.sent == probes.DATAGRAMS for loop in facts.loops)
    seen = states(facts)
    assert (seen["port"], seen["udp"], seen["permissions"]) == (State.GOOD,) * 3


def written(folder: Path, more: str = "", *, mode: int = 0o600) -> tuple[Path, int]:
    secret = folder / "secret"
    secret.write_text("x" * 64)
    secret.chmod(mode)
    port, admin = free_ports(socket.SOCK_STREAM, 2)
    (media,) = free_ports(socket.SOCK_DGRAM, 1)
    file = folder / "d4e-sfu.yaml"
    file.write_text(
        "keys: [{id: province, secret_file: secret}]\n"
        f"http: {{listeners: [{{address: 127.0.0.1, port: {port}}}]}}\n"
        f"admin: {{port: {admin}}}\n"
        f"media: {{port: {media}, addresses: [127.0.0.1]}}\n{more}"
    )
    return file, port


def test_a_port_of_another_program_and_a_secret_that_is_taken_away_are_found(tmp_path: Path) -> None:
    file, port = written(tmp_path)
    config = configuration.load(file)
    with socket.create_server(("127.0.0.1", port)):
        (tmp_path / "secret").unlink()
        facts = probes.look(config, host=None)
    assert facts.running is False
    assert facts.ports[0].held_by not in (None, "", "d4e-sfu")
    seen = states(facts)
    assert (seen["port"], seen["permissions"], seen["udp"]) == (State.BAD, State.BAD, State.UNKNOWN)


def test_a_name_that_does_not_resolve_is_found(tmp_path: Path) -> None:
    config = configuration.load(written(tmp_path)[0])
    assert states(probes.look(config, host="nowhere.invalid"))["dns"] is State.BAD


def test_the_command_speaks_the_language_asked_for_and_fails_where_something_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = written(tmp_path)
    words = ["doctor", "--config", str(file), "--host", "nowhere.invalid"]
    assert main([*words, "--lang", "en"]) == 1
    assert "nowhere.invalid does not resolve here. Fix: " in capsys.readouterr().out
    assert main([*words, "--lang", "vi"]) == 1
    assert "Không phân giải được nowhere.invalid. Cách sửa: " in capsys.readouterr().out
    assert main([*words, "--json"]) == 1
    assert {each["state"] for each in json.loads(capsys.readouterr().out)} <= {"good", "bad", "unknown"}
    assert main([*words, "--firewall-form", "--lang", "vi"]) == 0
    assert "Phiếu yêu cầu mở tường lửa" in capsys.readouterr().out
