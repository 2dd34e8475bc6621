"""The command line, as an operator types it: what it prints where, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from d4e_sfu import config as configuration
from d4e_sfu.__main__ import main
from d4e_sfu.config import Config
from d4e_sfu.core import policy, tokens
from d4e_sfu.drivers import control
from d4e_sfu.errors import ConfigError

SAMPLE = Path(__file__).parents[1] / "config" / "d4e-sfu.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    secret = tmp_path / "province.key"
    secret.write_text("x" * 40)
    secret.chmod(0o600)
    path = tmp_path / "c.yaml"
    path.write_text(
        "http: {listeners: [{port: 7880}, {address: 0.0.0.0, port: 8080}, {address: 10.0.0.5, port: 80}]}\n"
        "keys: [{id: province, secret_file: province.key}, {id: portal, secret_file: province.key}]\n"
        "rooms: [{name: 'khoa *'}, {name: demo}]\n"
    )
    return path


def test_check_says_that_the_sample_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SAMPLE)]) == 0
    assert "names no key" in capsys.readouterr().err


def test_check_tells_every_mistake_and_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("media:\n  prot: 1\n  workers: many\nlimits: {}\nlimits: {}\n")
    assert main(["check", str(bad)]) == 78
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        f"{bad}:2:3: media.prot: unknown key; did you mean 'port'?",
        f"{bad}:3:12: media.workers: expected a whole number, not 'many'",
        f"{bad}:5:1: 'limits' is already given at line 4",
    ]


@pytest.mark.parametrize("command", ["check", "serve --config", "token --room r --identity i --role patient --config"])
def test_a_file_that_is_not_there_exits_78(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "/nonexistent/c.yaml"]) == 78
    assert capsys.readouterr().err == "/nonexistent/c.yaml:1:1: cannot be read: No such file or directory\n"


def test_check_diff_says_what_a_reload_would_do(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(file.read_text() + "limits: {sections: 99}\nmedia: {workers: 2}\n")
    assert main(["check", "--diff", str(file), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == ["limits.sections changed", "media.workers needs a restart"]
    assert main(["check", "--diff", str(file), str(file)]) == 0
    assert capsys.readouterr().out == ""
    new.write_text("keys: []")
    assert main(["check", "--diff", str(file), str(new)]) == 78, "a reload would be refused"
    assert "there is no key" in capsys.readouterr().err


def test_systemd_sockets_prints_the_unit_and_nothing_else(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text() + "media: {addresses: [10.0.0.5]}\n")
    assert main(["systemd-sockets", "--config", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "ListenDatagram=10.0.0.5:7882" in shown.out.splitlines()
    file.write_text("media: {port: 0}")
    assert main(["systemd-sockets", "--config", str(file)]) == 78
    assert "port 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reload", "drain"])
def test_a_command_without_a_server_says_where_it_asked(
    command: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", str(file)]) == 78
    assert "set admin.control" in capsys.readouterr().err
    file.write_text(file.read_text() + "admin: {control: control}\n")
    assert main([command, "--config", str(file)]) == 1
    assert str(tmp_path / "control") in capsys.readouterr().err


@pytest.mark.parametrize(("accepted", "code"), [(True, 0), (False, 78)])
def test_reload_exits_as_the_server_judges(
    accepted: bool, code: int, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(path: Path, command: str, *, timeout: float | None) -> control.Verdict:
        return control.Verdict(accepted, (f"{command} at {path.name}",))

    monkeypatch.setattr(control, "ask", ask)
    file.write_text(file.read_text() + "admin: {control: socket}\n")
    assert main(["reload", "--config", str(file)]) == code
    assert capsys.readouterr().err == "reload at socket\n"


def test_serve_without_a_key_exits_78_and_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(SAMPLE)]) == 78
    shown = capsys.readouterr().err
    assert "there is no key" in shown
    assert "openssl rand" in shown
    assert "secret_file: province.key" in shown


def test_the_way_to_make_a_key_that_serve_tells_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("keys: []")
    main(["serve", "--config", str(path)])
    _, command, *lines = capsys.readouterr().err.splitlines()
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    path.write_text("\n".join(line.removeprefix("    ") for line in lines))
    key = configuration.load(path).key("province")
    assert key is not None
    assert len(key.secret) == 64
    assert main(["check", str(path)]) == 0


def test_serve_hands_over_the_configuration_and_the_way_to_read_it_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []

    def run(config: Config, *, reload: Callable[[], Config]) -> int:
        seen.append(config)
        file.write_text(file.read_text() + "limits: {sections: 99}\n")
        seen.append(reload())
        file.write_text("keys: []")
        with pytest.raises(ConfigError, match="there is no key"):
            reload()
        return 7

    double = types.ModuleType("d4e_sfu.server")
    vars(double)["run"] = run
    monkeypatch.setitem(sys.modules, "d4e_sfu.server", double)
    monkeypatch.setattr("d4e_sfu.server", double, raising=False)
    assert main(["serve", "--config", str(file)]) == 7
    assert [config.limits.sections for config in seen] == [512, 99]


def test_token_prints_a_token_and_nothing_else(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"token --config {file} --room demo --identity lan --role doctor --name Lan --ttl 90s --key portal"
    assert main(command.split()) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    [token] = shown.out.splitlines()
    grants = tokens.verify(token, configuration.load(file), now=time.time())
    assert (grants.key, grants.identity, grants.name, grants.role, grants.room) == (
        "portal", "lan", "Lan", "doctor", "demo",
    )  # fmt: skip
    assert grants.expires == pytest.approx(time.time() + 90, abs=5)


@pytest.mark.parametrize("role", ["doctor", "health-worker", "patient", "observer", "moderator"])
def test_a_printed_token_brings_all_that_the_role_may_do(
    role: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration.load(file)
    main(f"token --config {file} --room demo --identity i --role {role}".split())
    rights = policy.rights(config, tokens.verify(capsys.readouterr().out.strip(), config, now=time.time()))
    has = config.roles[role]
    assert (rights.publish, rights.moderate, rights.data) == (has.publish, has.moderate, has.data)
    assert rights.update_own_metadata == has.update_own_metadata
    assert rights.hidden == has.hidden


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("--role surgeon", "no role 'surgeon'; known: doctor, health-worker, patient, observer, moderator"),
        ("--key other", "no key 'other'; known: province, portal"),
        ("--room elsewhere", "this token would be refused: requested room does not exist (no_room_rule)"),
        (f"--identity {'x' * 300}", "this token would be refused: The token is not accepted. (claim_size)"),
    ],
)
def test_a_token_that_would_not_work_is_not_printed(
    changed: str, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"token --config {file} --room demo --identity i --role doctor {changed}"
    assert main(command.split()) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"d4e-sfu: {said}\n"


@pytest.mark.parametrize("ttl", ["6", "-1h", "0s", "367d", "1w", "²s", ""])
def test_a_wrong_time_exits_2(ttl: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*f"token --config {file} --room demo --identity i --role doctor".split(), f"--ttl={ttl}"])
    assert exit_.value.code == 2
    assert "expected a time such as" in capsys.readouterr().err


def test_links_lead_into_the_room_one_per_role_and_listener(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration.load(file)
    assert main(["links", "--config", str(file), "--room", "khoa nhi", "--host", "sfu.example.vn"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [role for role, _ in lines] == [role for role in config.roles for _ in range(3)]
    for number, (role, link) in enumerate(lines):
        address = urlsplit(link)
        assert address.netloc == ("localhost:7880", "sfu.example.vn:8080", "sfu.example.vn:80")[number % 3]
        assert (address.path, address.query) == ("/", "")  # nothing that a server could log
        fragment = parse_qs(address.fragment, strict_parsing=True)
        assert fragment["room"] == ["khoa nhi"]
        assert tokens.verify(fragment["token"][0], config, now=time.time()).role == role


def test_links_name_no_host_that_nobody_knows(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["links", "--config", str(file), "--room", "demo"])
    hosts = {urlsplit(line.split("\t")[1]).netloc for line in capsys.readouterr().out.splitlines()}
    assert hosts == {"localhost:7880", "10.0.0.5:80"}


def test_no_command_shows_a_secret(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "province.key").write_text("canary-" * 8)
    for command in (
        "check {}",
        "token --config {} --room demo --identity i --role doctor",
        "links --config {} --room demo",
    ):
        assert main(command.format(file).split()) == 0
        shown = capsys.readouterr()
        assert "canary" not in shown.out + shown.err


def test_a_command_that_only_signs_starts_no_engine(file: Path) -> None:
    """`token` must work while the engine is being replaced, and at once."""
    code = (
        "import sys; from d4e_sfu.__main__ import main; "
        f"main(['token', '--config', {str(file)!r}, '--room', 'demo', '--identity', 'i', '--role', 'doctor']); "
        "assert 'd4e_sfu._engine' not in sys.modules and 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version_says_something_even_in_a_source_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
