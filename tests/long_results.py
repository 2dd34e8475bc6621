"""Keeps what `make test-long` came to, beside the measured figures: `benchmarks/results/test-long.json`, one row per
test, with machine and commit, so that the ledger can rest on a run that is too long to repeat for every change."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import FOLDER, commit, machine
from tests.acceptance import TOP, Outcome, junit, python_id


def main(path: str) -> None:
    kept = FOLDER / "test-long.json"
    # What this run left out stays as it was, with its commit; a test that is gone leaves no row.
    before = json.loads(kept.read_text()) if kept.exists() else []
    rows: dict[str, dict[str, object]] = {row["name"]: row for row in before if _is_there(row["name"])}
    facts = {"machine": machine(), "commit": commit(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    tests: dict[str, list[Outcome]] = {}
    for name, outcome in junit(Path(path), python_id).items():
        tests.setdefault(name.partition("[")[0], []).append(outcome)
    for name, outcomes in tests.items():
        # The worst of its seeds and cases speaks for a test.
        worst = max(outcomes, key=[Outcome.PASSED, Outcome.SKIPPED, Outcome.FAILED].index)
        if worst is Outcome.SKIPPED and name in rows:
            continue  # this machine cannot: that leaves what another came to as it was
        rows[name] = {"name": name, "outcome": worst.value, "cases": len(outcomes), **facts}
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps([rows[name] for name in sorted(rows)], indent=1) + "\n")
    print(f"{kept}: {len(rows)} long tests")


def _is_there(name: str) -> bool:
    file, _, test = name.partition("::")
    return (TOP / file).exists() and f"def {test.rpartition('::')[2]}(" in (TOP / file).read_text()


if __name__ == "__main__":
    main(sys.argv[1])
