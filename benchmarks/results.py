"""Where measured figures go: `benchmarks/results/*.json`, written by benchmarks and by nothing else.

A file holds rows `{name, value, unit, target?, met?, runs, spread, machine, commit, at, why?, …}`; what a benchmark has
to say besides stands in fields of its own. A row is replaced by name, so one benchmark can be repeated without the
others; its machine and commit are its own. `make acceptance` and the README's tables read these files. What a
benchmark measures in its `--short` form is shown and not written.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SHORT = "--short" in sys.argv
FOLDER = Path(__file__).parent / "results"
_COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def record(
    file: str,
    name: str,
    runs: Sequence[float],
    unit: str,
    target: str = "",
    *,
    pick: Callable[[Sequence[float]], float] = statistics.median,
    why: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Write one row: the median of `runs` (or what else `pick` makes of them), compared with `target` (`"<= 2.5"`) if
    there is one; returns and prints it.

    `why` explains a target that is missed; it is kept in the row and shown by `make acceptance`. `more` are fields of
    this row alone.
    """
    value = round(float(pick(runs)), 4)
    verdict: dict[str, Any] = {}
    if target:
        sign, bound = target.split()
        verdict = {"target": target, "met": bool(_COMPARE[sign](value, float(bound)))}
    row: dict[str, Any] = {
        "name": name,
        "value": value,
        "unit": unit,
        **verdict,
        "runs": [round(run, 4) for run in runs],
        "spread": [round(min(runs), 4), round(max(runs), 4)],
        "machine": machine(),
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }
    if why:
        row["why"] = why
    if not SHORT:
        others = [other for other in rows(file) if other["name"] != name]
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / file).write_text(json.dumps(sorted([*others, row], key=lambda r: str(r["name"])), indent=1) + "\n")
    said = f" target {target}: {'met' if row['met'] else 'MISSED'}" if target else ""
    print(f"{name}: {value} {unit} [{row['spread'][0]}, {row['spread'][1]}]{said}", flush=True)
    return row


def rows(file: str) -> list[dict[str, Any]]:
    """What has been recorded in `file` so far."""
    path = FOLDER / file
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found


def machine() -> str:
    """CPU model, cores and kernel: enough to know whether two figures may be compared."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def commit() -> str:
    """The commit that was measured; `+` marks a tree with changes under `d4e_sfu/` that are not in it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", "d4e_sfu") else "") if head else "unknown"


def _git(*arguments: str) -> str:
    top = Path(__file__).parent.parent
    done = subprocess.run(["git", *arguments], cwd=top, capture_output=True, text=True, check=False)
    return done.stdout.strip()
