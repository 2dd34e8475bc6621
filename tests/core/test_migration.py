"""Keys that are called otherwise now: the file is rewritten, and nothing else of it; the old name says the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from d4e_sfu import config
from d4e_sfu.__main__ import main
from d4e_sfu.errors import EX_CONFIG, EX_OK, ConfigError
from d4e_sfu.migration import RENAMED, Renaming, migrate
from d4e_sfu.mistakes import settings_at

BEFORE = """\
# Cổng thông tin
webhooks:
  connector: /run/elsewhere/socket   # connector: where it listens
  queue: 20
rooms: [{name: "*"}]
"""
AFTER = """\
# Cổng thông tin
webhooks:
  socket: /run/elsewhere/socket   # connector: where it listens
  queue: 20
rooms: [{name: "*"}]
"""


def test_the_keys_change_and_nothing_else() -> None:
    text, done = migrate(BEFORE.encode())
    assert text.decode() == AFTER
    assert done == [Renaming(3, "webhooks.connector", "socket")]
    assert config.parse(text).webhooks.socket == Path("/run/elsewhere/socket")
    assert migrate(text) == (text, []), "twice is once"


def test_the_items_of_a_list_and_a_line_of_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = {("rooms", "*", "size"): "capacity", ("rooms", "*", "patience"): "idle_timeout"}
    monkeypatch.setattr("d4e_sfu.migration.RENAMED", renamed)
    before = b"rooms:\n  - {name: a, size: 8, patience: 10m}  # size\n  - name: b\n    size: 20\n"
    after = b"rooms:\n  - {name: a, capacity: 8, idle_timeout: 10m}  # size\n  - name: b\n    capacity: 20\n"
    text, done = migrate(before)
    assert text == after
    assert [each.old for each in done] == ["rooms.0.size", "rooms.0.patience", "rooms.1.size"]


@pytest.mark.parametrize(
    "text",
    [
        "webhooks: {connector: /run/a, socket: /run/b}",
        'webhooks: {"connector": /run/a}',
        "webhooks: [connector]",
        "webhooks: connector",
        "connector: /run/a",
    ],
    ids=["both", "quoted", "list", "word", "elsewhere"],
)
def test_what_is_not_sure_is_left_alone(text: str) -> None:
    assert migrate(text.encode()) == (text.encode(), [])


def test_every_new_name_is_a_setting_and_no_old_one_is() -> None:
    for (*where, old), new in RENAMED.items():
        model = settings_at(tuple(0 if part == "*" else part for part in where), config.Config)
        assert new in model.model_fields
        assert old not in model.model_fields


def test_the_old_name_is_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError) as error:
        config.parse("webhooks: {connector: /run/a}")
    (problem,) = error.value.problems
    assert problem.message == "is called socket now: d4e-sfu config migrate rewrites the file"


def test_the_command_rewrites_the_file_and_keeps_the_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d4e-sfu.yaml"
    file.write_text(BEFORE)
    file.chmod(0o640)
    assert main(["config", "migrate", "--dry-run", str(file)]) == EX_OK
    assert file.read_text() == BEFORE
    assert main(["config", "migrate", str(file)]) == EX_OK
    assert f"{file}:3: webhooks.connector is called socket now" in capsys.readouterr().err
    assert (file.read_text(), file.stat().st_mode & 0o777) == (AFTER, 0o640)
    assert (tmp_path / "d4e-sfu.yaml.before").read_text() == BEFORE
    assert main(["config", "migrate", str(file)]) == EX_OK
    assert "nothing is called otherwise" in capsys.readouterr().err
    assert (tmp_path / "d4e-sfu.yaml.before").read_text() == BEFORE
    file.write_text("webhooks: [")
    assert main(["config", "migrate", str(file)]) == EX_CONFIG
