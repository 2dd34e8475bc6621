"""`d4e-sfu support-bundle`: what somebody who helps has to see, in one archive, without anything of a person in it.

The log names people and rooms by ids of one call; addresses of clients, tokens and whatever looks like one are masked
all the same, because a trace or a line of another program may hold them. Secrets are not read. Look through it before
it is sent: it is plain text.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from d4e_sfu.config import Config
from d4e_sfu.drivers import probes

LOG_LINES: Final = 5000
MAX_BYTES: Final = 8 << 20

# What goes, in this order. Of addresses only those of this machine stay: they are the operator's.
_MASKS: Final = (
    ("token", re.compile(r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]+){0,2}")),
    (
        "secret",
        re.compile(
            r"(?i)((?:token|secret|password|authorization|bearer|pwd|ufrag|access_token)[\"']?\s*[=:]\s*"
            r"(?:(?:bearer|basic|digest)\s+)?|\bbearer\s+)(?:\"[^\"]*\"|'[^']*'|\S+)"
        ),
    ),
    ("mail", re.compile(r"[^\s@<>()\"',:;=]{1,64}@[^\s@<>()\"',:;=]{1,255}\.[^\W\d_]{2,}")),
    ("address", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")),
    ("address", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}[0-9A-Fa-f:.]*[0-9A-Fa-f](?![\w:])")),
    ("address", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:)+:(?:[0-9A-Fa-f]{1,4}:?)*(?![\w:])")),
    # Of a telephone, however it is grouped, or of an identity card.
    ("number", re.compile(r"(?<![\w.:-])(?:\+84[ .-]?\d{2,3}|0\d{2,3})[ .-]?\d{3,4}[ .-]?\d{3,4}(?!\d)")),
)
_CLOCK: Final = re.compile(r"\d{2}:\d{2}:\d{2}")


def masked(text: str, *, stays: frozenset[str] = frozenset()) -> str:
    """Without tokens, mail addresses, telephone numbers, and addresses other than those that stay."""

    def of(kind: str, match: re.Match[str]) -> str:
        found = match[0]
        if found in stays or _CLOCK.fullmatch(found):
            return found
        kept = match[1] if kind == "secret" else ""
        return f"{kept}<{kind}>"

    for kind, pattern in _MASKS:
        text = pattern.sub(lambda match, kind=kind: of(kind, match), text)  # type: ignore[misc]
    return text


def write(target: Path, config: Config, *, findings: object, version: str, log: str | None = None) -> None:
    """The archive, readable by its owner alone. `log`: instead of the journal's."""
    stays = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1", *_ours(config)})
    parts = dict(_parts(config, findings=findings, version=version, log=_journal() if log is None else log))
    target.touch(mode=0o600)
    target.chmod(0o600)  # where it was there already
    with tarfile.open(target, "w:gz") as archive:
        for name, text in parts.items():
            content = masked(text, stays=stays).encode()[-MAX_BYTES:]
            member = tarfile.TarInfo(f"d4e-sfu-support/{name}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
            archive.addfile(member, io.BytesIO(content))


def _ours(config: Config) -> Iterator[str]:
    yield from (each.address for each in config.http.listeners)
    for address in config.media.addresses:
        yield from (address.listen, *address.announced)


def _parts(config: Config, *, findings: object, version: str, log: str) -> Iterator[tuple[str, str]]:
    facts = {"d4e-sfu": version, "python": platform.python_version(), "kernel": platform.release()}
    yield "version.json", json.dumps(facts, indent=1)
    yield "doctor.json", json.dumps(findings, ensure_ascii=False, indent=1)
    # Names of files and of keys, and no secret: those are no part of the model.
    yield "config.json", json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=1, default=str)
    metrics: Mapping[str, float] = probes.metrics(config) or {}
    yield "metrics.txt", "".join(f"{name} {value:g}\n" for name, value in metrics.items())
    yield "log.txt", log


def _journal() -> str:
    if shutil.which("journalctl") is None:
        return "no journal\n"
    words = ["journalctl", "--unit", probes.UNIT, "--lines", str(LOG_LINES), "--no-pager", "--output", "short-iso"]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S603 - ours
