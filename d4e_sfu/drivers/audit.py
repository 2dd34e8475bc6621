"""The tamper-evident audit log: who joined, left, was refused, what was done by whom, and what an operator changed.

JSON lines, a file a month, each record sealed over the one before it (core/chain.py). People and rooms are pseudonyms
made with the log's own secret: whoever holds it can look one up (`d4e-sfu audit pseudonym`), nobody else. Each minute a
signed checkpoint goes to our log, hence to journald, so that even a cut is seen. What could not be written is counted,
and said in a gap record; until then nothing is done that has to be recorded (`require`). Never on the media path.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from d4e_sfu.core.chain import Chain, Report, position, verify
from d4e_sfu.errors import ClientError, Full, TooMany

CHECKPOINT_SECONDS: Final = 60.0
# A privileged act needs room for its record, and for those of everyone else who does something meanwhile.
RESERVE: Final = 64 * 1024
# The last record is found in the last bytes of a file; one is a few hundred.
TAIL: Final = 64 * 1024

log = logging.getLogger(__name__)
checkpoints_log = logging.getLogger(f"{__name__}.checkpoint")
checkpoints_log.setLevel(logging.INFO)  # whatever else is kept quiet

_CHECKPOINT: Final = re.compile(r"checkpoint seq=([0-9]{1,15}) head=([0-9a-f]{64}) at=(\S+) signature=(\S{86}==)")


class Secret:
    """One secret, three keys: for seals, for pseudonyms, and to sign checkpoints (RFC 5869, expand alone)."""

    def __init__(self, secret: bytes) -> None:
        self.seals = _derived(secret, b"seals")
        self._names = _derived(secret, b"pseudonyms")
        self._signing = Ed25519PrivateKey.from_private_bytes(_derived(secret, b"checkpoints"))

    @property
    def public(self) -> str:
        """With this, and without the secret, anyone can tell that a checkpoint is genuine."""
        return base64.b64encode(self._signing.public_key().public_bytes_raw()).decode()

    def pseudonym(self, kind: str, name: str) -> str:
        return f"{kind}:{hmac.new(self._names, f'{kind}:{name}'.encode(), hashlib.sha256).hexdigest()[:16]}"

    def sign(self, text: str) -> str:
        return base64.b64encode(self._signing.sign(text.encode())).decode()

    def is_ours(self, text: str, signature: str) -> bool:
        try:
            self._signing.public_key().verify(base64.b64decode(signature), text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.new(secret, b"d4e-sfu audit " + purpose + b"\x01", hashlib.sha256).digest()


class Point(NamedTuple):
    seq: int
    head: str
    file: int


class Audit:
    """The log of one running server."""

    def __init__(
        self, folder: Path, secret: Secret, *, keep: float, version: str, wall: Callable[[], float] = time.time
    ) -> None:
        """Raises OSError where the folder cannot be written, or another server writes there."""
        self.records = 0
        self.lost = 0
        """All that could not be written; those since the last gap record are `_missing`."""
        self._missing = 0
        self._folder = folder
        self._secret = secret
        self._keep = keep
        self._wall = wall
        self._told = 0  # the last checkpoint's record
        self._floods: Counter[str] = Counter()
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = -1
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            flaw = self._resume()
        except BlockingIOError:
            self.close()
            raise OSError(f"audit.folder {folder}: another server writes there") from None
        except BaseException:
            self.close()
            raise
        if flaw:
            log.error("the audit log ended in something else than a record: %s", flaw)
            self.record("gap", reason=flaw)
        before = self._version()
        if before not in ("", version):
            self.record("upgrade", reason=f"{before} to {version}")
        self.record("start", version=version)

    def record(self, event: str, *, actor: str = "server", reason: str = "", **facts: str | int) -> bool:
        """False: it could not be written. That is counted, and whoever must not act without it asks `require` first."""
        if self._missing and not self._close_gap():
            self._lose()
            return False
        if not self._write({"event": event, "actor": actor, "reason": reason, **facts}):
            self._lose()
            return False
        return True

    def require(self) -> None:
        """Raises Full where what comes next could not be recorded."""
        free = 0
        with contextlib.suppress(OSError):
            status = os.statvfs(self._folder)
            free = status.f_bavail * status.f_frsize
        if free < RESERVE or (self._missing and not self._close_gap()):
            raise Full(
                "This has to be recorded, and the disk of the audit log is full: it was not done.", rule="audit_full"
            )

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        """`boundary.Announcer`: what of it is for this log."""
        who = {"room": self.room(str(facts.get("room_name", "")))}
        if "participant" in facts:
            who["participant"] = str(facts["participant"])
        actor, reason = self.person(str(facts.get("identity", ""))), str(facts.get("reason", ""))
        match event:
            case "participant_joined":
                self.record("join", actor=actor, role=str(facts["role"]), **who)
            case "participant_left":
                self.record("leave", actor=actor, reason=reason, **who)
            case "join_refused":
                self.record("refusal", actor=actor, reason=str(facts["rule"]), what="join", **who)
            case "moderated":
                by = str(facts["by_identity"])
                moderator = self.person(by) if by else str(facts["by"])
                whom = {"target": actor} if "identity" in facts else {}
                self.record("moderation", actor=moderator, what=str(facts["action"]), **whom, **who)

    def refused(self, what: str, error: ClientError, identity: str, room: str) -> None:
        """Before anything began. A flood is counted, and recorded once a minute (`tell_floods`)."""
        if isinstance(error, TooMany):
            self._floods[error.rule] += 1
            return
        actor = self.person(identity) if identity else "unknown"
        where = {"room": self.room(room)} if room else {}
        self.record("refusal", actor=actor, reason=error.rule, what=what, **where)

    def tell_floods(self) -> None:
        for rule, count in self._floods.items():
            self.record("refusals", actor="unknown", reason=rule, count=count)
        self._floods.clear()

    def person(self, identity: str) -> str:
        return self._secret.pseudonym("person", identity)

    def room(self, name: str) -> str:
        return self._secret.pseudonym("room", name)

    def point(self) -> Point | None:
        """Where a checkpoint is due; None where nothing has happened since the last."""
        if self._chain.seq == self._told:
            return None
        self._told = self._chain.seq
        return Point(self._chain.seq, self._chain.head, os.dup(self._file))

    def checkpoint(self, point: Point) -> None:
        """Brings it to the disk and then to our log, signed. For a thread: it waits as long as the disk takes."""
        try:
            os.fdatasync(point.file)
        except OSError as error:
            log.error("no checkpoint: %s", error)
            return
        finally:
            os.close(point.file)
        text = f"checkpoint seq={point.seq} head={point.head} at={_stamp(self._wall())}"
        checkpoints_log.info("%s signature=%s", text, self._secret.sign(text))

    def stop(self) -> None:
        self.tell_floods()
        self.record("stop")
        if (point := self.point()) is not None:
            self.checkpoint(point)
        self.close()

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    # --- files -------------------------------------------------------------------------------------------------------

    def _resume(self) -> str:
        """Goes on after the last record that is there. Returns what was not as it should be, to be recorded."""
        found = segments(self._folder)
        self._chain = Chain(self._secret.seals)
        self._month = found[-1].stem.removeprefix("audit-") if found else _month(self._wall())
        self._open()
        flaw = ""
        for segment in reversed(found):
            tail = _tail(segment)
            if segment == found[-1] and not tail.endswith(b"\n") and tail:
                # What was being written when the machine lost its power.
                torn = len(tail) - tail.rfind(b"\n") - 1
                os.ftruncate(self._file, os.fstat(self._file).st_size - torn)
                flaw = "torn"
            claimed, foreign = _last(tail)
            flaw = "unreadable" if foreign else flaw
            if claimed is not None:
                self._chain = Chain(self._secret.seals, seq=claimed[0], head=claimed[1])
                break
        return flaw

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        path = self._folder / f"audit-{self._month}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _write(self, facts: dict[str, str | int]) -> bool:
        now = self._wall()
        if (month := _month(now)) > self._month:
            self._month = month
            self._open()
            self._expire(now)
        line = self._chain.seal({"at": _stamp(now), **facts})
        data = line.encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
        except OSError:
            return False
        if written < len(data):  # the disk took a part of it
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            return False
        self._chain.accept(line)
        self.records += 1
        return True

    def _lose(self) -> None:
        if not self._missing:
            log.error("the audit log cannot be written: calls go on, privileged acts are refused")
        self._missing += 1
        self.lost += 1

    def _close_gap(self) -> bool:
        """What is missing is said, as soon as something can be said again."""
        if not self._write({"event": "gap", "actor": "server", "reason": "disk", "lost": self._missing}):
            return False
        log.warning("the audit log is written again lost=%d", self._missing)
        self._missing = 0
        return True

    def _expire(self, now: float) -> None:
        """Months whose last day is over for longer than is kept. That they are gone is a record of its own."""
        for segment in segments(self._folder)[:-1]:
            if now - segment.stat().st_mtime < self._keep:
                return
            last, _ = _last(_tail(segment))
            if last is None or not self._write(
                {"event": "expired", "actor": "server", "reason": "age", "through": last[0], "head": last[1]}
            ):
                return
            segment.unlink()

    def _version(self) -> str:
        """Which release wrote the last start, among the last records."""
        with (self._folder / f"audit-{self._month}.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - (1 << 20), 0))
            found = re.findall(r'"event":"start"[^\n]*"version":"([^"\n]*)"', file.read().decode(errors="replace"))
        return found[-1] if found else ""


def _month(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m")


def _stamp(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _tail(segment: Path) -> bytes:
    with segment.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
        return file.read()


def _last(tail: bytes) -> tuple[tuple[int, str] | None, bool]:
    """Number and seal of the last record in it, and whether whole lines that are none come after it."""
    lines = tail[: tail.rfind(b"\n") + 1].decode(errors="replace").split("\n")[:-1]
    for behind, line in enumerate(reversed(lines)):
        if (claimed := position(line)) is not None:
            return claimed, behind > 0
    return None, bool(lines)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("audit-????-??.jsonl"))


# --- verification ----------------------------------------------------------------------------------------------------


def examine(folder: Path, secret: Secret, journal: Iterable[str]) -> Report:
    """The whole log, against the checkpoints among these lines (of `journalctl`). Raises OSError."""
    found: dict[int, str] = {}
    forged = []
    for line in journal:
        match = _CHECKPOINT.search(line)
        if match is None:
            continue
        if secret.is_ours(match[0].rpartition(" signature=")[0], match[4]):
            found[int(match[1])] = match[2]
        else:
            forged.append(f"the checkpoint of record {match[1]} at {match[3]} is not signed by this log's secret")
    report = verify(secret.seals, _lines(folder), found)
    report.problems.extend(forged)
    if report.records == 0:  # the first that a server does is to write one
        report.problems.append(f"{folder} holds no record: none was written there, or all were removed")
    return report


def _lines(folder: Path) -> Iterator[tuple[str, str]]:
    for segment in segments(folder):
        with segment.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield f"{segment.name}:{number}", line.removesuffix("\n")
