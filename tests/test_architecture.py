"""The walls: who may name whom, where each dependency has its one door, how files are called and how long they grow.

Each rule is a function from files to violations; it runs over the repository, and over small forbidden texts that prove
that it can fail.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

TOP = Path(__file__).parents[1]
Files = Mapping[str, str]
"""Path below the top, with slashes → text."""


def repository() -> dict[str, str]:
    folders = (TOP / folder for folder in ("d4e_sfu", "tests", "benchmarks", "config"))
    built = {"node_modules", "dist", "target", "__pycache__", "artefacts"}
    return {
        path.relative_to(TOP).as_posix(): path.read_text()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".pyi", ".rs", ".ts", ".css", ".html"} and not built & set(path.parts)
    }


# --- Python ----------------------------------------------------------------------------------------------------------

CORE = "d4e_sfu/core/"
DRIVERS = "d4e_sfu/drivers/"

# What is pure: no file, socket, clock, thread or entropy can be reached through any of these.
PURE = {
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "copy", "dataclasses", "enum", "functools",
    "hashlib", "heapq", "hmac", "ipaddress", "itertools", "json", "math", "operator", "random", "re", "string",
    "struct", "types", "typing", "unicodedata", "zlib",
}  # fmt: skip

# A dependency is a decision: each has one door, a file or a folder, and what has no entry here is not used.
DOORS: dict[str, set[str]] = {
    "aiohttp": {
        "drivers/signal.py",
        "drivers/websocket.py",
        "drivers/entrance.py",
        "drivers/http.py",
        "drivers/roomservice.py",
        "drivers/body.py",
        "drivers/whip.py",
        "drivers/pages.py",
        "drivers/admin.py",
        "drivers/control.py",
        "drivers/connector.py",
        "drivers/webhooks.py",
        "server.py",
    },
    "aiortc": {"drivers/dtls.py", "drivers/datachannel.py", "drivers/reassembly.py"},
    "OpenSSL": {"drivers/dtls.py"},
    "cryptography": {
        "drivers/dtls.py",
        "drivers/certificates.py",
        "drivers/audit.py",
        "drivers/examination.py",
        "drivers/probes.py",
    },
    "google": {
        "core/datapacket.py",
        "core/roomcalls.py",  # what every message is
        "core/sfu.py",
        "drivers/signal.py",
        "drivers/roomservice.py",
        "drivers/webhooks.py",
    },  # what is no protobuf; its JSON
    "ifaddr": {"drivers/engine.py", "drivers/probes.py"},
    "jwt": {"core/tokens.py", "keyfiles.py"},  # keyfiles: public keys, as it wants them
    "prometheus_client": {"drivers/metrics.py"},
    "pydantic": {"config.py", "mistakes.py", "settings/"},
    "pydantic_core": {"mistakes.py"},
    "uvloop": {"server.py"},
    "yaml": {"document.py"},
}
# The room protocol's messages are our message types: they have no door. The client and server SDKs beside them do not
# belong into a server.
MESSAGES = "livekit.protocol"

OURS: dict[str, set[str]] = {
    # What each may import of ours; of a folder, everything in it.
    "d4e_sfu/errors.py": set(),
    "d4e_sfu/document.py": set(),
    "d4e_sfu/consistency.py": {"d4e_sfu.document", "d4e_sfu.config"},  # config for its types alone
    "d4e_sfu/settings/": {"d4e_sfu.keyfiles", "d4e_sfu.settings"},
    "d4e_sfu/keyfiles.py": {"d4e_sfu.document", "d4e_sfu.config"},  # config for its types alone
    "d4e_sfu/config.py": {
        "d4e_sfu.document",
        "d4e_sfu.consistency",
        "d4e_sfu.errors",
        "d4e_sfu.keyfiles",
        "d4e_sfu.mistakes",
        "d4e_sfu.settings",
    },
    "d4e_sfu/mistakes.py": {"d4e_sfu.consistency", "d4e_sfu.document", "d4e_sfu.migration", "d4e_sfu.settings"},
    "d4e_sfu/migration.py": {"d4e_sfu.document"},
    CORE: {"d4e_sfu._engine", "d4e_sfu.config", "d4e_sfu.errors", "d4e_sfu.core"},
    DRIVERS: {"d4e_sfu._engine", "d4e_sfu.config", "d4e_sfu.errors", "d4e_sfu.core", "d4e_sfu.drivers"},
}
# A driver decides nothing, so it has no use for what decides.
DECIDERS = {f"d4e_sfu.core.{name}" for name in ("allocator", "negotiation", "policy", "speakers", "tokens")}


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names: of modules, and of what is taken from a package (which may be a module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python(files: Files, folder: str = "d4e_sfu/") -> Iterator[tuple[str, ast.Module]]:
    for path, text in files.items():
        if path.startswith(folder) and path.endswith(".py"):
            yield path, ast.parse(text)


def core_imports_only_what_is_pure(files: Files) -> Iterator[str]:
    for path, tree in python(files, CORE):
        for name in imported(tree):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names and top not in PURE:
                yield f"{path} imports {name}"


def core_waits_for_nothing(files: Files) -> Iterator[str]:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    for path, tree in python(files, CORE):
        for node in ast.walk(tree):
            if isinstance(node, waiting) or (isinstance(node, ast.comprehension) and node.is_async):
                yield f"{path}: {type(node).__name__}"


def core_touches_nothing_outside(files: Files) -> Iterator[str]:
    """Built-ins that need no import; and chance is a generator that is passed, not the module's own."""
    builtin = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint", "globals"}
    for path, tree in python(files, CORE):
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in builtin:
                yield f"{path}:{node.lineno}: {node.id}"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random":
                yield f"{path}:{node.lineno}: random.{node.attr}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "random.Random":
                yield f"{path}:{node.lineno}: makes its own generator"


def each_names_only_those_below(files: Files) -> Iterator[str]:
    for path, tree in python(files):
        allowed = next((names for prefix, names in OURS.items() if path.startswith(prefix)), None)
        if allowed is None:
            continue  # server.py and __main__.py put everything together
        for name in imported(tree):
            if name.startswith("d4e_sfu.") and not any(f"{name}.".startswith(f"{each}.") for each in allowed):
                yield f"{path} imports {name}"


def drivers_decide_nothing(files: Files) -> Iterator[str]:
    for path, tree in python(files, DRIVERS):
        yield from (f"{path} imports {name}" for name in sorted(DECIDERS.intersection(imported(tree))))


def each_dependency_has_one_door(files: Files) -> Iterator[str]:
    for path, tree in python(files):
        for name in imported(tree):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "d4e_sfu" or f"{name}.".startswith(f"{MESSAGES}."):
                continue
            if top == "livekit" and name == "livekit":
                continue  # the first half of `from livekit import protocol`
            if not path.removeprefix("d4e_sfu/").startswith(tuple(DOORS.get(top, ()))):
                yield f"{path} imports {name}"


def clocks_are_read_by_drivers_alone(files: Files) -> Iterator[str]:
    """`time` and `datetime` below the drivers would make a run that cannot be repeated."""
    may = (DRIVERS, "d4e_sfu/server.py", "d4e_sfu/__main__.py")
    for path, tree in python(files):
        clocks = {"time", "datetime"} & {name.partition(".")[0] for name in imported(tree)}
        if clocks and not path.startswith(may):
            yield f"{path} imports {', '.join(sorted(clocks))}"


# --- Rust ------------------------------------------------------------------------------------------------------------

ENGINE = "d4e_sfu/engine/src/"
NOUNS = {"transport", "publication", "subscription"}
MECHANISMS = {
    "bucket",
    "cache",
    "clock",
    "estimator",
    "legs",
    "losses",
    "nack",
    "now",
    "outlet",
    "pacer",
    "twcc",
    "sealed",
    "voices",
}
# `api` is values without behaviour: whoever names it depends on nothing that acts.
MAY_NAME: dict[str, set[str]] = {
    "api": set(),
    "wire": set(),
    "peer": {"wire"},
    **{mechanism: {"wire", "api", *MECHANISMS} for mechanism in MECHANISMS},
    **{noun: {"wire", "api", *MECHANISMS} for noun in NOUNS},
    "router": {"wire", "api", *MECHANISMS, *NOUNS},
    "driver": {"wire", "api", "now", "outlet", "router"},
    "front": {"wire", "bucket", "now", "outlet", "driver"},
    "python": {
        "wire",
        "api",
        "now",
        "outlet",
        "router",
        "driver",
        "front",
        "peer",
    },  # registers the peer's, in the laboratory
}
# What the thread and the bindings may know of the router: itself, what it counts, what it tells, whom it was busy with.
OF_THE_ROUTER = {"Router", "blame", "counters", "events", "fault"}


def rust(files: Files) -> Iterator[tuple[str, str, str]]:
    """Path, top module, and text without comments, texts and tests."""
    for path, text in files.items():
        if not path.startswith(ENGINE) or not path.endswith(".rs") or re.search(r"tests\.rs$|/tests/", path):
            continue
        text = re.sub(r'//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"', "", text, flags=re.DOTALL)
        text = re.sub(r"#\[cfg\(test\)\]\s*(?:pub )?mod \w+\s*\{.*", "", text, flags=re.DOTALL)
        yield path, PurePosixPath(path.removeprefix(ENGINE)).parts[0].removesuffix(".rs"), text


def named(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Top module and the word after it, of every path through the crate's root, however it is written."""
    parts = PurePosixPath(path.removeprefix(ENGINE)).with_suffix("").parts
    depth = len(parts) - (parts[-1] == "mod")
    roots = f"(?:crate::|(?:super::){{{depth}}})"
    for match in re.finditer(rf"(?<![\w:]){roots}(?:(\w+)(?:::(\w+|\{{[^}}]*\}}))?|\{{([^;]*)\}})", text):
        if match[1]:
            for word in re.findall(r"(?:^|[{,]\s*)(\w+)", match[2] or "") or [""]:
                yield match[1], word
        else:
            yield from ((word, "") for word in re.findall(r"(?:^|,)\s*(\w+)", re.sub(r"::\{[^}]*\}", "", match[3])))


def rust_tiers_name_only_those_below(files: Files) -> Iterator[str]:
    # The peer's program is a crate of its own: in its files `crate::` is the program, and the engine is `d4e_engine::`.
    program = set(re.findall(r"^mod (\w+);", files.get(f"{ENGINE}peer/main.rs", ""), flags=re.MULTILINE))
    for path, module, text in rust(files):
        if module == "lib":
            continue
        if module not in MAY_NAME:
            yield f"{path}: {module} belongs to no tier"
            continue
        within = program if PurePosixPath(path).stem in {"main", *program} and module == "peer" else set()
        others = {other for other, _ in named(path, text)} - within
        others.update(re.findall(r"\bd4e_engine::(\w+)", text))
        yield from (f"{path} names {other}" for other in sorted(others - MAY_NAME[module] - {module}))


def the_thread_knows_little_of_the_router(files: Files) -> Iterator[str]:
    for path, module, text in rust(files):
        if module in ("driver", "python"):
            through_crate = [word for other, word in named(path, text) if other == "router"]
            for word in (*through_crate, *re.findall(r"(?<![\w:])router::(\w+)", text)):
                if word not in OF_THE_ROUTER | {"self"}:
                    yield f"{path} names router::{word}"


# AWS-LC's C interface, where its safe one copies every packet.
CIPHER_DOOR = "wire/cm.rs"


def the_engine_is_sans_io(files: Files) -> Iterator[str]:
    """Below the thread: no clock, socket, file, thread or output, no PyO3 but in `api`, nothing unsafe."""
    outside = r"Instant::now|SystemTime|UdpSocket|TcpStream|std::(?:fs|env|process|thread)|\be?println!|\bdbg!"
    for path, module, text in rust(files):
        if module in ("driver", "front", "python", "peer", "lib"):
            continue
        yield from (f"{path}: {found}" for found in re.findall(outside, text))
        if module != "api" and "pyo3" in text:
            yield f"{path}: pyo3"
        if re.search(r"\bunsafe\b", text) and not path.endswith(CIPHER_DOOR):
            yield f"{path}: unsafe"


def api_is_values_without_behaviour(files: Files) -> Iterator[str]:
    """Functions only to construct a value from Python."""
    for path, module, text in rust(files):
        if module == "api":
            yield from (
                f"{path}: fn {name}" for name in re.findall(r"\bfn (\w+)", text) if name not in ("new", "__new__")
            )


def keys_come_from_a_handshake_alone(files: Files) -> Iterator[str]:
    """No setting, message or request can give the engine keys: the command is made in one place, after DTLS."""
    for path, text in files.items():
        if path.startswith("d4e_sfu/") and path.endswith(".py") and path != "d4e_sfu/drivers/associations.py":
            yield from (f"{path}: {found}" for found in re.findall(r"\bSetKeys\(|import SetKeys", text))


# --- every file ------------------------------------------------------------------------------------------------------

NOT_OUR_WORDS = {"manager", "helper", "util", "service", "context", "processor"}
CEILING = 700


def words(name: str) -> set[str]:
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return {word.removesuffix("s") for word in re.split(r"[^a-z]+", split)}


def nothing_is_called_by_an_empty_word(files: Files) -> Iterator[str]:
    defined = r"^\s*(?:pub(?:\([a-z]+\))? )?(?:class|struct|enum|trait|interface|mod) (\w+)"
    for path, text in files.items():
        for part in PurePosixPath(path).with_suffix("").parts:
            yield from (f"{path}: {word}" for word in sorted(words(part) & NOT_OUR_WORDS))
        if path.startswith("d4e_sfu/"):
            for name in re.findall(defined, text, flags=re.MULTILINE):
                yield from (f"{path}: {name}" for _ in words(name) & NOT_OUR_WORDS)


def no_file_hides_a_second_noun(files: Files) -> Iterator[str]:
    for path, text in files.items():
        lines = text.count("\n")
        if path.endswith((".py", ".rs", ".ts")) and lines > CEILING:
            yield f"{path}: {lines} lines, over {CEILING}"


def each_file_says_what_it_is(files: Files) -> Iterator[str]:
    for path, text in files.items():
        if path.endswith(".py") and text.strip() and not ast.get_docstring(ast.parse(text)):
            yield path
        if path.endswith(".rs") and text.strip() and not re.match(r"(?:#!\[.*\]\n|\s)*//!", text):
            yield path


def nothing_is_left_for_later(files: Files) -> Iterator[str]:
    later = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")  # written so that it does not find itself
    for path, text in files.items():
        yield from (f"{path}: {found}" for found in later.findall(text))


Rule = Callable[[Files], Iterator[str]]
RULES: list[Rule] = [
    core_imports_only_what_is_pure,
    core_waits_for_nothing,
    core_touches_nothing_outside,
    each_names_only_those_below,
    drivers_decide_nothing,
    each_dependency_has_one_door,
    clocks_are_read_by_drivers_alone,
    rust_tiers_name_only_those_below,
    the_thread_knows_little_of_the_router,
    the_engine_is_sans_io,
    api_is_values_without_behaviour,
    keys_come_from_a_handshake_alone,
    nothing_is_called_by_an_empty_word,
    no_file_hides_a_second_noun,
    each_file_says_what_it_is,
    nothing_is_left_for_later,
]


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return repository()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def test_the_repository_is_really_looked_at(files: Files) -> None:
    assert {"d4e_sfu/core/room.py", "d4e_sfu/engine/src/router.rs", "d4e_sfu/web/src/main.ts"} <= files.keys()
    assert {module for _, module, _ in rust(files)} >= {"api", "wire", "router", "transport", "driver", "peer"}


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "import time"),
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "from os import path"),
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "def f() -> None:\n    import socket"),
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "import asyncio"),
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "import logging"),
        (core_imports_only_what_is_pure, "d4e_sfu/core/room.py", "import secrets"),
        (core_waits_for_nothing, "d4e_sfu/core/room.py", "async def f() -> None: ..."),
        (core_waits_for_nothing, "d4e_sfu/core/room.py", "class A:\n    async def f(self) -> None: ..."),
        (core_touches_nothing_outside, "d4e_sfu/core/room.py", "open('x')"),
        (core_touches_nothing_outside, "d4e_sfu/core/room.py", "read = open"),
        (core_touches_nothing_outside, "d4e_sfu/core/room.py", "print(1)"),
        (core_touches_nothing_outside, "d4e_sfu/core/room.py", "import random\nx = random.random()"),
        (core_touches_nothing_outside, "d4e_sfu/core/room.py", "import random\nx = random.Random(1)"),
        (each_names_only_those_below, "d4e_sfu/core/room.py", "from d4e_sfu.drivers.signal import Signalling"),
        (each_names_only_those_below, "d4e_sfu/core/room.py", "from d4e_sfu import server"),
        (each_names_only_those_below, "d4e_sfu/core/room.py", "import d4e_sfu.document"),
        (each_names_only_those_below, "d4e_sfu/drivers/admin.py", "from d4e_sfu.server import Server"),
        (each_names_only_those_below, "d4e_sfu/config.py", "from d4e_sfu.core import policy"),
        (each_names_only_those_below, "d4e_sfu/core/room.py", "from d4e_sfu.settings.access import Key"),
        (each_names_only_those_below, "d4e_sfu/settings/limits.py", "from d4e_sfu.config import Config"),
        (each_names_only_those_below, "d4e_sfu/errors.py", "from d4e_sfu.config import Config"),
        (drivers_decide_nothing, "d4e_sfu/drivers/admin.py", "from d4e_sfu.core import policy"),
        (drivers_decide_nothing, "d4e_sfu/drivers/admin.py", "from d4e_sfu.core.tokens import verify"),
        (each_dependency_has_one_door, "d4e_sfu/core/policy.py", "import jwt"),
        (each_dependency_has_one_door, "d4e_sfu/core/policy.py", "from pydantic import BaseModel"),
        (each_dependency_has_one_door, "d4e_sfu/config.py", "from yaml import compose"),
        (each_dependency_has_one_door, "d4e_sfu/drivers/engine.py", "from aiohttp import web"),
        (each_dependency_has_one_door, "d4e_sfu/drivers/signal.py", "import aiortc.rtcpeerconnection"),
        (each_dependency_has_one_door, "d4e_sfu/drivers/signal.py", "from livekit import rtc"),
        (each_dependency_has_one_door, "d4e_sfu/drivers/signal.py", "from livekit.api import AccessToken"),
        (each_dependency_has_one_door, "d4e_sfu/drivers/signal.py", "import requests"),
        (clocks_are_read_by_drivers_alone, "d4e_sfu/config.py", "import time"),
        (clocks_are_read_by_drivers_alone, "d4e_sfu/core/tokens.py", "from datetime import datetime"),
        (rust_tiers_name_only_those_below, "wire/srtp.rs", "use crate::transport::Transport;"),
        (rust_tiers_name_only_those_below, "wire/codec/vp8.rs", "use crate::now::Now;"),
        (rust_tiers_name_only_those_below, "cache.rs", "use crate::publication::Publication;"),
        (rust_tiers_name_only_those_below, "cache.rs", "use super::router::Router;"),
        (
            rust_tiers_name_only_those_below,
            "transport.rs",
            "use crate::{\n    now::Now,\n    publication::Publication,\n};",
        ),
        (rust_tiers_name_only_those_below, "transport.rs", "let x = crate::subscription::Subscription::new();"),
        (rust_tiers_name_only_those_below, "transport/path.rs", "use super::super::subscription::Subscription;"),
        (rust_tiers_name_only_those_below, "subscription/mod.rs", "use super::transport::Transport;"),
        (rust_tiers_name_only_those_below, "router/tick.rs", "use crate::driver::Worker;"),
        (rust_tiers_name_only_those_below, "driver.rs", "use crate::transport::Transport;"),
        (rust_tiers_name_only_those_below, "peer/receiver.rs", "use crate::cache::Cache;"),
        (rust_tiers_name_only_those_below, "peer/receiver.rs", "use crate::api::Codec;"),
        (rust_tiers_name_only_those_below, "peer/endpoint.rs", "use d4e_engine::transport::Transport;"),
        (rust_tiers_name_only_those_below, "api.rs", "use crate::wire::seq::SeqNo;"),
        (rust_tiers_name_only_those_below, "novelty.rs", ""),
        (the_thread_knows_little_of_the_router, "driver.rs", "use crate::router::table::Table;"),
        (the_thread_knows_little_of_the_router, "driver/batch.rs", "use crate::router::{Router, forward};"),
        (the_thread_knows_little_of_the_router, "python.rs", "use crate::router::{self};\nrouter::forward::write();"),
        (the_engine_is_sans_io, "router.rs", "let now = Instant::now();"),
        (the_engine_is_sans_io, "transport.rs", "use std::net::UdpSocket;"),
        (the_engine_is_sans_io, "cache.rs", 'println!("{x}");'),
        (the_engine_is_sans_io, "router.rs", "use pyo3::prelude::*;"),
        (the_engine_is_sans_io, "wire/packet.rs", "unsafe { x }"),
        (api_is_values_without_behaviour, "api.rs", "impl Codec { pub fn clock_rate(self) -> u32 { 90_000 } }"),
        (keys_come_from_a_handshake_alone, "d4e_sfu/core/requests.py", "engine.submit([Command.SetKeys(1, p, r, s)])"),
        (nothing_is_called_by_an_empty_word, "d4e_sfu/core/room_manager.py", ""),
        (nothing_is_called_by_an_empty_word, "d4e_sfu/utils/sdp.py", ""),
        (nothing_is_called_by_an_empty_word, "d4e_sfu/core/room.py", "class RoomService:"),
        (nothing_is_called_by_an_empty_word, "router.rs", "pub(crate) struct PacketProcessor;"),
        (no_file_hides_a_second_noun, "d4e_sfu/core/room.py", "\n" * (CEILING + 1)),
        (no_file_hides_a_second_noun, "tests/core/test_negotiation.py", "\n" * (CEILING + 1)),
        (each_file_says_what_it_is, "d4e_sfu/core/room.py", "import re"),
        (each_file_says_what_it_is, "router.rs", "use std::mem;"),
        (nothing_is_left_for_later, "d4e_sfu/core/room.py", "# TO" + "DO: more"),
    ],
)
def test_the_rule_can_fail(rule: Rule, path: str, text: str) -> None:
    assert list(rule({ENGINE + path if path.endswith(".rs") else path: text}))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_is_proved(rule: Rule) -> None:
    [mark] = test_the_rule_can_fail.pytestmark  # type: ignore[attr-defined]
    assert rule in {case[0] for case in mark.args[1]}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("wire/srtp.rs", "//! Not like crate::transport.\nuse super::packet::Header; use crate::wire::seq::SeqNo;"),
        ("router/tick.rs", "use super::Router; use super::counters::Kind; use crate::{api::Event, transport::Path};"),
        ("driver/batch.rs", "use super::os; use crate::router::{Router, counters::Snapshot};"),
        ("cache.rs", "#[cfg(test)]\nmod tests { use crate::router::Router; }"),
    ],
)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    files = {ENGINE + path: text}
    assert list(rust_tiers_name_only_those_below(files)) == []
    assert list(the_thread_knows_little_of_the_router(files)) == []
