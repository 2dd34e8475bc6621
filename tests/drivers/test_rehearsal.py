"""A rehearsal finds a release that does not start, and disturbs nothing that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from d4e_sfu import config as configuration
from d4e_sfu import rehearsal
from d4e_sfu.__main__ import main
from tests.lab.server import running


async def test_a_rehearsal_beside_the_server_that_has_the_ports_becomes_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        config = configuration.load(next(server.folder.glob("*.yaml")))
        assert config.admin.port == server.admin_port
        assert await rehearsal._rehearse(rehearsal.elsewhere(config)) == 0


def test_a_certificate_that_cannot_be_loaded_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("secret", "server.crt", "server.key"):
        (tmp_path / name).write_text("x" * 40)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "d4e-sfu.yaml"
    file.write_text(
        "keys: [{id: province, secret_file: secret}]\n"
        "http: {listeners: [{address: 203.0.113.1, port: 443, tls: true}],"
        " tls: {certificate: server.crt, key: server.key}}\n"
    )
    assert main(["serve", "--rehearse", "--config", str(file)]) == 78
    assert "cannot start" in capsys.readouterr().err
