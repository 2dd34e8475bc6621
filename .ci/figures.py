"""Puts the measured figures into the README's table: `benchmarks/results/*.json` → README.md, between its two marks.
Nobody types a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one row per figure; machines are named once, below."""
    lines = ["| figure | median | spread | target | met | commit |", "|---|---|---|---|---|---|"]
    for row in rows:
        low, high = row["spread"]
        met = "yes" if row["met"] else "no" + (f": {row['why']}" if row.get("why") else "")
        spread = f"{low:g} – {high:g}"
        value = f"{row['value']:g} {row['unit']}"
        lines.append(f"| {row['name']} | {value} | {spread} | {row['target']} | {met} | {row['commit']} |")
    machines = sorted({row["machine"] for row in rows})
    return "\n".join([*lines, "", *(f"Measured on: {machine}." for machine in machines), ""])


def main() -> None:
    rows = [
        row
        for path in sorted((TOP / "benchmarks/results").glob("*.json"))
        for row in json.loads(path.read_text())
        if "target" in row
    ]
    readme = TOP / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(before + BEGIN + (table(rows) if rows else "Nothing has been measured yet.\n") + END + after)


if __name__ == "__main__":
    main()
