"""The chain of the audit log: each record is sealed with a key over itself and the seal before it.

Whoever lacks the key can neither change a record, nor take one out, nor move one, without the seal of it or of the next
being wrong. He can cut the end off: that is what checkpoints are for, seals that were written down elsewhere. Pure:
text in, text out. Files, the clock and signatures are drivers/audit.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

GENESIS: Final = "0" * 64
"""The seal before the first record."""

_LINE: Final = re.compile(r'(\{"seq":([0-9]{1,15}),.*),"mac":"([0-9a-f]{64})"\}')


class Chain:
    """Where it stands: the number of the last record, and its seal."""

    def __init__(self, key: bytes, *, seq: int = 0, head: str = GENESIS) -> None:
        self.seq = seq
        self.head = head
        self._key = key

    def seal(self, facts: Mapping[str, object]) -> str:
        """The next record, one line. Nothing has happened to the chain until `accept`: writing it may fail."""
        text = json.dumps({"seq": self.seq + 1, **facts}, separators=(",", ":"))
        return f'{text[:-1]},"mac":"{_seal(self._key, self.head, text)}"}}'

    def accept(self, line: str) -> None:
        """The line that `seal` gave is where it belongs."""
        self.seq, self.head = self.seq + 1, line[-66:-2]


def _seal(key: bytes, before: str, text: str) -> str:
    return hmac.new(key, f"{before}\n{text}".encode(), hashlib.sha256).hexdigest()


def position(line: str) -> tuple[int, str] | None:
    """Number and seal that a line claims for itself; None if it is no record."""
    match = _LINE.fullmatch(line)
    return None if match is None else (int(match[2]), match[3])


@dataclass(slots=True)
class Report:
    records: int = 0
    first: int = 0
    last: int = 0
    younger: int = 0
    """Records after the last checkpoint: a cut among them would not be seen."""
    problems: list[str] = field(default_factory=list)


def verify(key: bytes, lines: Iterable[tuple[str, str]], checkpoints: Mapping[int, str]) -> Report:
    """`lines` are places (for the report) and records, in order; `checkpoints` seals by number, from elsewhere."""
    report = Report()
    say = report.problems.append
    head = GENESIS
    beginning: tuple[str, str] | None = None  # text and seal of a first record that is not number 1
    expired: dict[int, str] = {}  # number → seal, of records that were let go after their time
    kept: dict[int, str] = {}
    for place, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            say(f"{place}: is no record")
            continue
        text, seq, mac = f"{match[1]}}}", int(match[2]), match[3]
        if report.records == 0:
            report.first = seq
            if seq != 1:
                beginning = text, mac
        elif seq != report.last + 1:
            say(f"{place}: record {seq} follows record {report.last}")
        if (report.records or seq == 1) and not hmac.compare_digest(mac, _seal(key, head, text)):
            say(f"{place}: record {seq} was changed, or what stood before it was")
        elif (gone := _expired(text)) is not None:
            expired[gone[0]] = gone[1]
        if seq in checkpoints:
            kept[seq] = mac
        report.records, report.last, head = report.records + 1, seq, mac
    if beginning is not None:
        before = expired.get(report.first - 1)
        if before is None or _seal(key, before, beginning[0]) != beginning[1]:
            say(f"records 1 to {report.first - 1} are missing at the beginning")
    for seq, seal in sorted(checkpoints.items()):
        if seq > report.last:
            say(f"records {report.last + 1} to {seq} are missing at the end: a checkpoint has seen them")
        elif seq >= max(report.first, 1) and kept.get(seq) != seal:
            say(f"record {seq} is not the one that a checkpoint has seen")
    report.younger = max(report.last - max(checkpoints, default=0), 0)
    return report


def _expired(text: str) -> tuple[int, str] | None:
    if '"event":"expired"' not in text:
        return None
    try:
        facts = json.loads(text)
        return int(facts["through"]), str(facts["head"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # the first line of what is left has not been checked yet: anyone may have written it
