"""The configuration: the sample is true, every mistake is found at once and where it is, secrets stay secret."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from d4e_sfu import config
from d4e_sfu.config import Config
from d4e_sfu.errors import ConfigError
from tests.core.test_tokens import ES256, jwk, key_set

SAMPLE = Path(__file__).parents[2] / "config" / "d4e-sfu.yaml"
SECRET = "x" * 31 + "y"


def problems(text: str | bytes, **options: object) -> list[str]:
    """What `check` would print, without the file's name."""
    with pytest.raises(ConfigError) as error:
        config.parse(text, file="f", **options)  # type: ignore[arg-type]
    return [str(problem).removeprefix("f:") for problem in error.value.problems]


def inner(field: FieldInfo) -> list[type[BaseModel]]:
    """The models that a field holds: itself one, or a list or table of them."""
    parts = (field.annotation, *get_args(field.annotation))
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def models(model: type[BaseModel] = Config) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in inner(field):
            yield from models(part)


def reload_mark(field: FieldInfo) -> object:
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra["reload"]


def test_the_sample_is_the_defaults() -> None:
    assert config.load(SAMPLE) == Config()


@pytest.mark.parametrize("section", list(Config.model_fields))
def test_the_sample_shows_every_key_and_says_when_it_applies(section: str) -> None:
    block = next(block for block in SAMPLE.read_text().split("\n\n") if re.search(rf"^{section}:", block, re.MULTILINE))
    marks = set() if inner(Config.model_fields[section]) else {reload_mark(Config.model_fields[section])}
    for part in inner(Config.model_fields[section]):
        for model in models(part):
            for name, field in model.model_fields.items():
                assert re.search(rf"^[ #\w:-]*(?:\{{.*)?\b{name}:", block, flags=re.MULTILINE), (
                    f"{model.__name__}.{name}"
                )
                if not inner(field):
                    marks.add(reload_mark(field))
    assert set(re.findall(r"\((live|restart)\)", block)) == marks


def test_the_examples_in_the_sample_are_right(tmp_path: Path) -> None:
    """Uncomment every example, and it is a configuration."""
    for name in ("province.key", "cert.pem", "key.pem"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(SECRET)
    (tmp_path / "ministry.jwks").write_bytes(key_set(jwk(ES256, "2026")))
    text = re.sub(r"^( *)# (- |  \w+:)", r"\1\2", SAMPLE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"(allowed_origins|trusted_proxies|urls|addresses|keys): (?:\[\]|auto)", r"\1:", text)
    text = text.replace("../certs/", "").replace("certificate: null", "certificate: cert.pem")
    text = text.replace("    key: null", "    key: key.pem")
    loaded = config.parse(text, folder=tmp_path, environ={"D4E_PORTAL_SECRET": SECRET})
    assert [key.id for key in loaded.keys] == ["province", "portal", "ministry"]
    assert [rule.name for rule in loaded.rooms] == ["clinic-*", "*"]
    assert [address.announced for address in loaded.media.addresses] == [("10.0.0.5",), ("203.0.113.7", "10.0.0.6")]
    assert loaded.webhooks.urls == ("https://portal.example.vn/hook",)
    assert loaded.http.listeners[1].tls
    assert loaded.http.allowed_origins == ("https://portal.example.vn",)
    assert loaded.http.trusted_proxies == ("10.0.0.2/32", "10.20.0.0/16")


def test_every_setting_is_documented_and_marked_where_it_is_defined() -> None:
    for model in models():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert reload_mark(field) in ("live", "restart")


def test_a_configuration_does_not_change() -> None:
    loaded = config.load(SAMPLE)
    with pytest.raises(ValidationError):
        loaded.media.port = 1
    with pytest.raises(TypeError):
        loaded.roles["doctor"] = loaded.roles["patient"]  # type: ignore[index]


def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    text = """\
http:
  listeners:
    - {address: 0.0.0.0, prot: 7443, tls: true}
    - {address: 127.0.0.1, port: 7881}
  allowed_origins: [https://a.vn/]
media:
  workers: 3
  port: 65535
  adresses: auto
  addresses: [0.0.0.0, 10.0.0.5, 10.0.0.5]
keys:
  - {id: a, secret: geheim}
  - {id: b, secret_env: SECRET, default_role: docter}
roles:
  doctor: {publish: [camera, microfone], data: yes}
rooms:
  - {name: "a*", capacity: 1000, idle_timeout: 300}
  - {name: abc}
limits: {message: 1MB}
limits: {}
"""
    origin = "'https://a.vn/' is not an origin such as https://portal.example.vn (no path, no final slash)"
    units = "expected a number with its unit (B, KiB, MiB, GiB), such as 1MiB, not '1MB'"
    assert problems(text, environ={"SECRET": SECRET}) == [
        "3:7: http.listeners.0.port: is required",
        "3:26: http.listeners.0.prot: unknown key; did you mean 'port'?",
        "4:34: http.listeners.1.port: port 7881 is already taken by admin on 127.0.0.1",
        f"5:21: http.allowed_origins.0: {origin}",
        "8:9: media.port: 3 workers need the ports 65535 to 65537, over 65535",
        "9:3: media.adresses: unknown key; did you mean 'addresses'?",
        "10:15: media.addresses.0: 0.0.0.0 stands for all addresses: name each one",
        "10:34: media.addresses.2: 10.0.0.5 is listed twice",
        "12:5: keys.0: needs one of secret_file, secret_env and public_keys",
        "12:13: keys.0.secret: a secret does not belong in this file: name a secret_file or a secret_env",
        "13:47: keys.1.default_role: no role 'docter'; did you mean 'doctor'?",
        "15:30: roles.doctor.publish.1: 'microfone' is not one of camera, microphone, screen_share, "
        "screen_share_audio; did you mean 'microphone'?",
        "15:48: roles.doctor.data: expected true or false, not 'yes'",
        "17:28: rooms.0.capacity: room 'a*' has capacity 1000, this server 500",
        "17:48: rooms.0.idle_timeout: 300 of what? Write the unit (ms, s, m, h, d), such as 30s or 5m",
        "18:12: rooms.1.name: never used: 'a*' above matches all of it; put the narrower first",
        f"19:19: limits.message: {units}",
        "20:1: 'limits' is already given at line 19",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "colour: red",
            "1:1: colour: unknown key; known here: "
            "http, front, admin, media, audit, webhooks, drain, keys, revoked, roles, rooms, rates, links, limits, "
            "testing",
        ),
        ("media: 7", "1:8: media: expected settings (key: value), not 7"),
        ("media: {port: '7882'}", "1:15: media.port: expected a whole number, not '7882'"),
        ("media: {port: 70000}", "1:15: media.port: 70000 is too large: at most 65535"),
        ("media: {port: true}", "1:15: media.port: expected a whole number, not true"),
        ("media: {port: }", "1:14: media.port: expected a whole number, not nothing"),
        ("media: {workers: 0}", "1:18: media.workers: 0 is too small: at least 1"),
        ("media: {addresses: any}", "1:20: media.addresses: expected auto or a list of addresses, not 'any'"),
        (
            "media: {addresses: []}",
            "1:20: media.addresses: an empty list would receive no media; write auto for every address of this machine",
        ),
        (
            "media: {addresses: [{listen: 10.0.0.5, announce: [sfu.vn]}]}",
            "1:51: media.addresses.0.announce.0: 'sfu.vn' is not an IP address such as 10.0.0.5 or fd00::5",
        ),
        (
            "media: {addresses: [{listen: 10.0.0.5, announce: ['::']}]}",
            "1:21: media.addresses.0: :: stands for all addresses: name each one",
        ),
        ("media: {addresses: [224.0.0.1]}", "1:21: media.addresses.0: 224.0.0.1 is a multicast address"),
        ("media: {workers: 2, port: 65535}", "1:27: media.port: 2 workers need the ports 65535 to 65536, over 65535"),
        ("admin: {port: 7880}", "1:15: admin.port: port 7880 is already taken by the listener on 127.0.0.1"),
        ("http: {listeners: []}", "1:19: http.listeners: too short: at least 1"),
        (
            "http: {listeners: [{address: '::', port: 1, tls: true}]}",
            "1:50: http.listeners.0.tls: needs http.tls.certificate and http.tls.key",
        ),
        ("http: {tls: {key: nofile}}", "1:19: http.tls.key: cannot be read: No such file or directory"),
        ("http: {tls: {key: /tmp}}", "1:19: http.tls.key: cannot be read: Is a directory"),
        ("http: {tls: {key: ''}}", "1:19: http.tls.key: expected the name of a file"),
        ('http: {tls: {key: "a\\0b"}}', "1:19: http.tls.key: expected the name of a file"),
        ("http: {tls: {key: 5}}", "1:19: http.tls.key: expected the name of a file"),
        ("roles: {}", "1:8: roles: too short: at least 1"),
        (
            "roles: {Bad Name: {}}",
            "1:9: roles.Bad Name: expected a name of lower-case letters, digits and hyphens, at most 32",
        ),
        ("roles: {a: {publish: camera}}", "1:22: roles.a.publish: expected a list, not 'camera'"),
        ("rooms: [{name: 7}]", "1:16: rooms.0.name: expected text, not 7; text that looks like a number needs quotes"),
        (
            "rooms: [{name: a, default_role: nurse}]",
            "1:33: rooms.0.default_role: no role 'nurse'; known: doctor, health-worker, moderator, observer, patient",
        ),
        (
            "rooms: [{name: a, codecs: [vp7]}]",
            "1:28: rooms.0.codecs.0: 'vp7' is not one of opus, vp8, h264, vp9, av1, pcmu, pcma; did you mean 'vp9'?",
        ),
        ("rooms: [{name: a, codecs: [vp8, vp8]}]", "1:27: rooms.0.codecs: a codec is listed twice"),
        (
            "rooms: [{name: a, max_bitrate: {camera: 3}}]",
            "1:41: rooms.0.max_bitrate.camera: 3 is too small: at least 30000",
        ),
        ("limits: {participants: 20}", "1:24: limits.participants: room '*' has capacity 50, this server 20"),
        ("keys: [{id: a b, secret_env: S}]", "1:13: keys.0.id: expected 1 to 64 letters, digits, _ or -"),
        ("keys: [{id: a, secret_env: NONE}]", "1:28: keys.0.secret_env: this environment variable is not set"),
        (
            "keys: [{id: a, secret_env: SHORT}]",
            "1:28: keys.0.secret_env: 5 bytes are too few for a secret: at least 32",
        ),
        ("audit: {folder: a}", "1:8: audit: needs both folder and secret_file"),
        ("audit: {folder: a, secret_file: b}", "1:33: audit.secret_file: cannot be read: No such file or directory"),
        ("keys: [{id: a, secret_env: LONG}]", "1:28: keys.0.secret_env: more than 4096 bytes is not a secret"),
        (
            "keys: [{id: a, secret_env: PEM}]",
            "1:28: keys.0.secret_env: this is a certificate or a private key, not a secret for tokens",
        ),
        (
            "keys: [{id: a, secret_env: S, secret_file: f}]",
            "1:8: keys.0: needs one of secret_file, secret_env and public_keys",
        ),
        ("keys: [{id: a, secret_env: S}, {id: a, secret_env: S}]", "1:37: keys.1.id: is already the id of another key"),
    ],
)  # fmt: skip
def test_one_mistake_has_one_line(text: str, expected: str) -> None:
    environ = {"S": SECRET, "SHORT": " short\n", "LONG": "x" * 5000, "PEM": "-----BEGIN PRIVATE KEY-----\n" + SECRET}
    assert problems(text, environ=environ) == [expected]


@pytest.mark.parametrize(
    ("earlier", "later", "unreachable"),
    [
        ("*", "a", True),
        ("*", "*", True),
        ("a*", "ab?", True),
        ("a*", "b", False),
        ("a?", "ab", False),  # true, and not worth being clever about
        ("a", "a*", False),
        ("[ab]*", "a*", False),
        ("*-x", "a*", False),
    ],
)
def test_a_rule_behind_a_wider_one_is_told(earlier: str, later: str, unreachable: bool) -> None:
    text = f"rooms: [{{name: '{earlier}'}}, {{name: '{later}'}}]"
    if unreachable:
        assert [problem.split(": ")[1] for problem in problems(text)] == ["rooms.1.name"]
    else:
        config.parse(text)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("'::'", "'::1'", True),
        ("'::'", "0.0.0.0", False),
    ],
)
def test_two_listeners_do_not_share_a_port(one: str, other: str, clash: bool) -> None:
    text = f"http: {{listeners: [{{address: {one}, port: 9}}, {{address: {other}, port: 9}}]}}"
    if clash:
        assert len(problems(text)) == 1
    else:
        config.parse(text)


def test_bounds_include_their_last_value() -> None:
    loaded = config.parse("media: {workers: 2, port: 65534}\nlimits: {participants: 50}")
    assert (loaded.media.port, loaded.limits.participants, loaded.rooms[0].capacity) == (65534, 50, 50)


def test_any_free_port_may_be_asked_for_more_than_once() -> None:
    loaded = config.parse("http: {listeners: [{port: 0}, {port: 0}]}\nadmin: {port: 0}\nmedia: {port: 0, workers: 4}")
    assert loaded.admin.port == 0


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("1500ms", 1.5)]
)
def test_durations_have_units(written: str, seconds: float) -> None:
    assert config.parse(f"rooms: [{{name: a, idle_timeout: {written}}}]").rooms[0].idle_timeout == seconds


@pytest.mark.parametrize(("written", "bits"), [("128k", 128_000), ("2.5M", 2_500_000), ("64000", 64_000)])
def test_bitrates_have_units(written: str, bits: int) -> None:
    rule = config.parse(f"rooms: [{{name: a, max_bitrate: {{camera: {written}}}}}]").rooms[0]
    assert rule.max_bitrate.camera == bits
    assert rule.max_bitrate.of(config.Source.CAMERA) == bits


@pytest.mark.parametrize(
    ("written", "size"), [("64KiB", 65536), ("2MiB", 2 << 20), ("70000", 70000), ("70000 B", 70000)]
)
def test_sizes_have_units(written: str, size: int) -> None:
    assert config.parse(f"limits: {{message: {written}}}").limits.message == size


@pytest.mark.parametrize("written", ["-5m", "5", "5 m m", "5µs", "1e3s", "٣s", ".inf", "9999999999999s", "[]", "true"])
def test_other_durations_are_refused(written: str) -> None:
    assert len(problems(f"rooms: [{{name: a, idle_timeout: {written}}}]")) == 1


def test_the_first_rule_that_matches_counts() -> None:
    rule = config.parse("rooms: [{name: 'khoa-?'}, {name: 'phong [1-3]'}]").rooms
    assert rule[0].matches("khoa-a")
    assert not rule[0].matches("khoa-ab")
    assert not rule[0].matches("Khoa-a")
    assert rule[1].matches("phong 2")


# --- files and secrets -----------------------------------------------------------------------------------------------


def secret_file(folder: Path, content: bytes = SECRET.encode() + b"\n", mode: int = 0o600) -> str:
    path = folder / "province.key"
    path.write_bytes(content)
    path.chmod(mode)
    return "keys: [{id: province, secret_file: province.key}]"


def test_files_are_relative_to_the_folder_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(secret_file(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    key = config.load("../c.yaml").key("province")
    assert key is not None
    assert key.secret == SECRET.encode()  # without its line feed
    assert key.secret_file is not None
    assert key.secret_file.is_absolute()


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_a_secret_that_everyone_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    [problem] = problems(secret_file(tmp_path, mode=mode), folder=tmp_path)
    assert problem.startswith("1:36: keys.0.secret_file: this file can be read by everyone on this machine: chmod o=")


def test_a_secret_may_be_read_by_the_group(tmp_path: Path) -> None:
    config.parse(secret_file(tmp_path, mode=0o640), folder=tmp_path)


def test_a_secret_that_systemd_has_brought_is_taken_in_place_of_its_file(tmp_path: Path) -> None:
    """The file belongs to root, and may not be there to be read at all."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "keys_a.key").write_text(SECRET)
    (credentials / "keys_a.key").chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    loaded = config.parse("keys: [{id: a, secret_file: keys/a.key}]", folder=tmp_path, environ=environ)
    assert loaded.keys[0].secret == SECRET.encode()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "b.key").write_text(SECRET[::-1])
    (tmp_path / "keys" / "b.key").chmod(0o600)
    loaded = config.parse("keys: [{id: a, secret_file: keys/b.key}]", folder=tmp_path, environ=environ)
    assert loaded.keys[0].secret == SECRET[::-1].encode(), "of others the file itself counts"


def test_a_secret_in_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "province.key", 0o600)
    text = "keys: [{id: province, secret_file: province.key}]"
    assert problems(text, folder=tmp_path) == ["1:36: keys.0.secret_file: cannot be read: not a regular file"]


CANARY = "canary-of-a-secret-that-nobody-may-see-anywhere"


@pytest.mark.parametrize(
    "text",
    [
        f"keys: [{{id: a, secret: {CANARY}}}]",
        f"keys: [{{id: a, key: {CANARY}}}]",
        f"keys: [{{id: a, secret_file: {CANARY}}}]",
        f"keys: [{{id: a, secret_env: {CANARY}}}]",
        f"keys: [{{id: '{CANARY} ', secret_env: A}}]",
        f"keys: [{{id: a, default_role: '{CANARY}!', secret_env: A}}]",
        f"keys: [{CANARY}]",
        f"keys: {CANARY}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str) -> None:
    assert CANARY not in "".join(problems(text))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as error:
            config.load(path)
        assert str(error.value) == f"{path}:1:1: cannot be read: {reason}"


def test_an_oversize_file_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "c.yaml").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(ConfigError, match="more than 256 KiB"):
        config.load(tmp_path / "c.yaml")


# --- reloading -------------------------------------------------------------------------------------------------------


def test_a_reload_knows_what_needs_a_restart() -> None:
    old = config.parse("keys: [{id: a, secret_env: A}]", environ={"A": SECRET})
    new = config.parse(
        "keys: [{id: a, secret_env: A}]\nmedia: {port: 9000}\nlimits: {sections: 9}\nhttp: {tls: {key: /etc/passwd}}",
        environ={"A": SECRET[::-1]},
    )
    assert list(config.changes(old, new)) == [
        ("http.tls.key", "live"),
        ("media.port", "restart"),
        ("keys", "live"),  # its secret
        ("limits.sections", "live"),
    ]
    assert list(config.changes(new, new)) == []


# --- anything at all -------------------------------------------------------------------------------------------------

leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("5m"))
known = sorted({name for model in models() for name in model.model_fields})
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(known) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(known), trees, max_size=4))
@example({"revoked": "\U00010000"})  # two surrogates, as JSON writes it and YAML reads it
@example({"revoked": "\0"})
@example({"http": {"tls": {"certificate": "\U00010000", "key": "\0"}}})
def test_any_tree_is_a_configuration_or_a_list_of_problems(tree: dict[str, object]) -> None:
    text = json.dumps(tree)  # JSON is YAML, but for what it says about numbers: that is part of the fun
    try:
        config.parse(text)
    except ConfigError as error:
        assert all(problem.line == 1 and problem.column >= 1 for problem in error.problems)  # noqa: PT017 - either outcome is right


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="abc:-[]{}&*!|>'\"%@`#,? \n\t\0é", max_size=60).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_list_of_problems(text: bytes) -> None:
    try:
        config.parse(text)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right


def test_where_commands_are_taken_is_known_though_the_rest_of_the_file_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("admin: {control: run/control, port: many}\nlimits: {sections: many}\ncolour: red\n")
    assert config.control_path(file) == tmp_path / "run/control"
    file.write_text("limits: {}")
    assert config.control_path(file) is None
    for text in ("[", "- a"):
        file.write_text(text)
        with pytest.raises(ConfigError):
            config.control_path(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.control_path(tmp_path / "none.yaml")


def test_the_outlook_tells_what_needs_a_restart_until_there_was_one() -> None:
    first = config.parse("limits: {sections: 9}")
    second = config.parse("limits: {sections: 10}\nmedia: {port: 9000}")
    assert config.outlook(first, first, second) == ["limits.sections changed", "media.port needs a restart"]
    assert config.outlook(first, second, second) == ["media.port needs a restart"]
    assert config.outlook(first, second, first) == ["limits.sections changed"]


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("https://portal.example.vn/hook?of=d4e", True),
        ("https://10.0.0.9:8443/", True),
        ("http://127.0.0.1:9000/hook", True),
        ("http://localhost/", True),
        ("http://portal.example.vn/hook", False),
        ("https://user:word@portal.example.vn/", False),
        ("https://portal.example.vn/#part", False),
        ("https://portal.example.vn:port/", False),
        ("https:///hook", False),
        ("ftp://portal.example.vn/", False),
        ("https://portal.example.vn/a b", False),
        ("https://portal.example.vn/" + "x" * 2048, False),
    ],
)
def test_names_of_people_go_to_no_address_in_the_clear(url: str, right: bool) -> None:
    found = problems(f"webhooks: {{urls: ['{url}']}}\ncolour: red")
    assert (len(found) == 1) is right, found


def test_the_key_of_webhooks_is_one_that_there_is() -> None:
    keys = "keys: [{id: province, secret_env: S}, {id: portal, secret_env: S}]\n"
    environ = {"S": SECRET}
    (problem,) = problems(keys + "webhooks: {key: portl}", environ=environ)
    assert problem == "2:17: webhooks.key: no key 'portl'; did you mean 'portal'?"
    for text, id in (("", "province"), ("webhooks: {key: portal}", "portal")):
        key = config.parse(keys + text, environ=environ).webhook_key
        assert key is not None
        assert key.id == id
    (problem,) = problems("webhooks: {urls: ['https://a.vn/', 'https://a.vn/']}")
    assert problem.endswith("webhooks.urls.1: is listed twice")


def test_the_connector_finds_its_addresses_whatever_else_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "d4e-sfu.yaml"
    file.write_text("limits: {rooms: many}\nkeys: [{id: a, secret_file: gone}]\nwebhooks: {urls: ['https://a.vn/']}\n")
    assert config.webhooks(file).urls == ("https://a.vn/",)
    file.write_text("webhooks: {urls: ['ftp://a.vn/']}\n")
    assert config.webhooks(file).urls == ()
    file.write_text("a: [")
    with pytest.raises(ConfigError):
        config.webhooks(file)
