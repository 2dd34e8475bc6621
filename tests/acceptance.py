"""`make acceptance`: reads the ledger (`acceptance.toml`) and the proofs that the last runs left, and judges one by the
other. It runs no test itself; what it reads was written by pytest, cargo and vitest under `build/proofs/`, and by the
benchmarks and `make test-long` under `benchmarks/results/`. The grammar of a proof stands at the head of the ledger.
"""

from __future__ import annotations

import json
import operator
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

TOP = Path(__file__).parent.parent
COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}
COMMAND_SECONDS = 60


class LedgerError(Exception):
    """The ledger itself is wrong: an unknown key, a missing sentence, an id twice."""


class State(Enum):
    OPEN = "open"
    DONE = "done"


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"
    SHORT = "short of its target"


@dataclass(frozen=True, slots=True)
class Entry:
    """One promise. `why` excuses a figure that is short of its target, and nothing else."""

    id: str
    says: str
    state: State
    proof: tuple[str, ...]
    missing: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one proof came to; `detail` is for the reader: a value with machine and commit, or what went wrong."""

    proof: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    entry: Entry
    findings: tuple[Finding, ...]
    faults: tuple[str, ...]


@dataclass(slots=True)
class Proofs:
    """Everything that the last runs left behind, by kind. Names map to the worst outcome seen under them."""

    python: dict[str, Outcome] = field(default_factory=dict)
    rust: dict[str, Outcome] = field(default_factory=dict)
    page: dict[str, Outcome] = field(default_factory=dict)
    rows: dict[str, Mapping[str, object]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # long test -> the commit at which it ran
    stale: Callable[[str], bool] = lambda commit: False

    @classmethod
    def load(cls, top: Path) -> Proofs:
        """Read `build/proofs/` and `benchmarks/results/` below `top`."""
        proofs = cls(stale=Staleness(top))
        for path in sorted((top / "benchmarks/results").glob("*.json")):
            for row in json.loads(path.read_text()):
                if "outcome" in row:  # a long test; a run of it in build/proofs/ is newer and wins below
                    proofs.python[row["name"]] = Outcome(row["outcome"])
                    proofs.kept[row["name"]] = row["commit"]
                else:
                    proofs.rows[row["name"]] = row
        folder = top / "build/proofs"
        for path in sorted(folder.glob("pytest*.xml")):
            # What a machine could not run says nothing against what was kept of one that could.
            ran = {
                name: outcome
                for name, outcome in junit(path, python_id).items()
                if outcome is not Outcome.SKIPPED or name.partition("[")[0] not in proofs.kept
            }
            proofs.python.update(ran)
            proofs.kept = {name: commit for name, commit in proofs.kept.items() if name not in ran}
        for path in sorted(folder.glob("page*.xml")):
            _merge(proofs.page, junit(path, lambda _class, name: name))
        for path in sorted(folder.glob("cargo*.txt")):
            _merge(proofs.rust, cargo(path.read_text()))
        return proofs

    def of(self, proof: str) -> Finding:
        """Judge one proof of the ledger."""
        kind, _, rest = proof.partition(": ")
        if kind == "cargo":
            return _judge(proof, (o for name, o in self.rust.items() if name == rest or name.startswith(rest + "::")))
        if kind == "page":
            return _judge(proof, (o for name, o in self.page.items() if rest in name))
        if kind == "bench":
            return self._figure(proof, rest)
        if kind == "command":
            return _command(proof, rest)
        same = re.compile(re.escape(proof) + r"(\[.*\])?$" if "::" in proof else re.escape(proof) + "::", re.DOTALL)
        names = [name for name in self.python if same.match(name)]
        finding = _judge(proof, (self.python[name] for name in names))
        kept = sorted({self.kept[name] for name in names if name in self.kept})
        notes = [f"make test-long at {commit}" + (", STALE" if self.stale(commit) else "") for commit in kept]
        return replace(finding, detail="; ".join(filter(None, [finding.detail, *notes])))

    def _figure(self, proof: str, text: str) -> Finding:
        parts = re.fullmatch(r"(.+) (<=|>=|==) ([0-9.]+) (\S.*)", text)
        if parts is None:
            raise LedgerError(f"{proof!r}: write it as 'bench: row name <= 2.5 unit'")
        name, sign, bound, unit = parts.groups()
        row = self.rows.get(name)
        if row is None:
            return Finding(proof, Outcome.NOT_RUN, "no such row in benchmarks/results/")
        value = float(str(row["value"]))
        detail = f"{value:g} {row['unit']}, {row['machine']}, {row['commit']}"
        if self.stale(str(row["commit"])):
            detail += ", STALE: d4e_sfu/ has changed since"
        if row["unit"] != unit:
            return Finding(proof, Outcome.FAILED, f"{detail}: the ledger counts in {unit}")
        if COMPARE[sign](value, float(bound)):
            return Finding(proof, Outcome.PASSED, detail)
        return Finding(proof, Outcome.SHORT, detail + (f" ({row['why']})" if row.get("why") else ""))


class Staleness:
    """Whether a figure was measured before the last change to `d4e_sfu/`. Unknown commits are stale."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._last = self._git("log", "-1", "--format=%H", "--", "d4e_sfu").stdout.strip()
        self._known: dict[str, bool] = {}

    def __call__(self, commit: str) -> bool:
        if commit not in self._known:
            # `+`: measured with changes that were in no commit yet, so nobody can say what was measured.
            included = self._git("merge-base", "--is-ancestor", self._last or "HEAD", commit).returncode == 0
            self._known[commit] = commit.endswith("+") or not included
        return self._known[commit]

    def _git(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=self._top, capture_output=True, text=True, check=False)


def ledger(text: str) -> list[Entry]:
    """Parse the ledger; raises LedgerError on anything that a reader could misunderstand."""
    known = {"id", "says", "state", "proof", "missing", "why"}
    entries: list[Entry] = []
    for table in tomllib.loads(text).get("entry", []):
        name = table.get("id", "?")
        if unknown := table.keys() - known:
            raise LedgerError(f"{name}: unknown {', '.join(sorted(unknown))}")
        if not table.get("id") or not table.get("says", "").strip():
            raise LedgerError(f"{name}: an entry needs an id and a sentence")
        if any(entry.id == name for entry in entries):
            raise LedgerError(f"{name}: twice")
        try:
            state = State(table.get("state"))
        except ValueError:
            raise LedgerError(f"{name}: state is open or done, not {table.get('state')!r}") from None
        entry = Entry(
            name,
            table["says"].strip(),
            state,
            tuple(table.get("proof", ())),
            table.get("missing", "").strip(),
            table.get("why", "").strip(),
        )
        if state is State.OPEN and not entry.missing:
            raise LedgerError(f"{name}: open, and does not say what is missing")
        if state is State.DONE and entry.missing:
            raise LedgerError(f"{name}: done, and yet something is missing")
        entries.append(entry)
    if not entries:
        raise LedgerError("the ledger is empty")
    return entries


def judge(entry: Entry, proofs: Proofs) -> Verdict:
    """Hold one entry to its proofs. An open entry has no faults; what it has so far is shown."""
    if entry.state is State.OPEN:
        return Verdict(entry, tuple(proofs.of(p) for p in entry.proof if not p.startswith("command:")), ())
    findings = tuple(proofs.of(proof) for proof in entry.proof)
    faults = [
        f"{finding.proof}: {finding.outcome.value}" + (f" ({finding.detail})" if finding.detail else "")
        for finding in findings
        if finding.outcome is not Outcome.PASSED and not (finding.outcome is Outcome.SHORT and entry.why)
    ]
    if not entry.proof:
        faults.append("done without a proof")
    return Verdict(entry, findings, tuple(faults))


def python_id(classname: str, name: str) -> str:
    """`tests.core.test_x.TestX`, `test_y`, of JUnit, in pytest's words: `tests/core/test_x.py::TestX::test_y`."""
    parts = classname.split(".")
    module = next((i for i, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return "::".join(["/".join(parts[: module + 1]) + ".py", *parts[module + 1 :], name])


def junit(path: Path, name_of: Callable[[str, str], str]) -> dict[str, Outcome]:
    """Outcomes in a JUnit file. A test that passed and whose teardown failed has failed."""
    outcomes: dict[str, Outcome] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = Outcome.PASSED
        if case.find("skipped") is not None:
            outcome = Outcome.SKIPPED
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = Outcome.FAILED
        _merge(outcomes, {name_of(case.get("classname", ""), case.get("name", "")): outcome})
    return outcomes


def cargo(text: str) -> dict[str, Outcome]:
    """Outcomes in what `cargo test` printed."""
    words = {"ok": Outcome.PASSED, "FAILED": Outcome.FAILED, "ignored": Outcome.SKIPPED}
    outcomes: dict[str, Outcome] = {}
    for line in text.splitlines():
        if match := re.match(r"test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", line):
            _merge(outcomes, {match[1]: words[match[2]]})
    return outcomes


def report(verdicts: Sequence[Verdict], write: Callable[[str], object] = print) -> int:
    """Print every entry with its proofs; returns the number of entries with faults."""
    for verdict in verdicts:
        entry = verdict.entry
        mark = "BROKEN" if verdict.faults else entry.state.value
        write(f"{mark:6}  {entry.id}: {entry.says}")
        for finding in verdict.findings:
            write(
                f"          {finding.outcome.value}: {finding.proof}"
                + (f"  [{finding.detail}]" if finding.detail else "")
            )
        if entry.missing:
            write(f"          missing: {entry.missing}")
        if entry.why:
            write(f"          why: {entry.why}")
        for fault in verdict.faults:
            write(f"          FAULT {fault}")
    broken = [verdict.entry.id for verdict in verdicts if verdict.faults]
    still_open = [verdict.entry.id for verdict in verdicts if verdict.entry.state is State.OPEN]
    if still_open:
        write(f"\nopen: {', '.join(still_open)}")
    if broken:
        write(f"\nbroken: {', '.join(broken)}")
    done = len(verdicts) - len(still_open) - len(broken)
    write(
        f"\nacceptance: {len(verdicts)} promises, {done} done and proved, {len(still_open)} open, {len(broken)} broken"
    )
    return len(broken)


def main() -> int:
    try:
        entries = ledger((TOP / "tests/acceptance.toml").read_text())
        proofs = Proofs.load(TOP)
        verdicts = [judge(entry, proofs) for entry in entries]
    except LedgerError as error:
        print(f"tests/acceptance.toml: {error}", file=sys.stderr)
        return 2
    return 1 if report(verdicts) else 0


def _merge(into: dict[str, Outcome], more: Mapping[str, Outcome]) -> None:
    """The same test may run in two feature sets, or be reported twice: failed beats skipped beats passed."""
    rank = [Outcome.PASSED, Outcome.SKIPPED, Outcome.FAILED]
    for name, outcome in more.items():
        into[name] = max(into.get(name, Outcome.PASSED), outcome, key=rank.index)


def _judge(proof: str, outcomes: Iterable[Outcome]) -> Finding:
    seen = list(outcomes)
    for bad in (Outcome.FAILED, Outcome.SKIPPED):
        if bad in seen:
            return Finding(proof, bad, f"{seen.count(bad)} of {len(seen)}" if len(seen) > 1 else "")
    if not seen:
        return Finding(proof, Outcome.NOT_RUN)
    return Finding(proof, Outcome.PASSED, f"{len(seen)} tests" if len(seen) > 1 else "")


def _command(proof: str, command: str) -> Finding:
    try:
        run = subprocess.run(command, shell=True, cwd=TOP, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        return Finding(proof, Outcome.FAILED, f"not over after {COMMAND_SECONDS} s")
    if run.returncode:
        return Finding(proof, Outcome.FAILED, f"ended with {run.returncode}")
    return Finding(proof, Outcome.PASSED)


if __name__ == "__main__":
    sys.exit(main())
