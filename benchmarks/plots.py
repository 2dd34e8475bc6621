"""Pictures of figures, written beside the rows that they show: `results/*.svg`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

from benchmarks.results import FOLDER, machine, rows

matplotlib.use("svg")
# Text stays text and ids stay the same, so that a new picture differs only where the figures do.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "d4e-sfu", "font.size": 10})

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

ENGINE, LIMIT = "#0b6e4f", "#8a8d91"
ROW = re.compile(r"limit_by_engine_(gcm|cm)_(\d+)_(\d+)")


def cost_by_subscribers() -> None:
    """CPU time per outgoing packet of the engine and of the limit, from the rows of `bench.json`."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows("bench.json"):
        if (name := ROW.fullmatch(row["name"])) and name[3] == "1100":
            found.setdefault(name[1], []).append((int(name[2]), row["engine_ns"] / 1e3, row["limit_ns"] / 1e3))
    axes = _axes("CPU time per outgoing packet (1,100 bytes, one system call per 64)", "subscribers", "µs")
    for profile, style in (("gcm", "-"), ("cm", "--")):
        points = sorted(found.get(profile, []))
        for column, who, colour in ((1, "engine", ENGINE), (2, "limit", LIMIT)):
            values = [point[column] for point in points]
            label = f"{who}, {'AES-GCM' if profile == 'gcm' else 'AES-CM with HMAC-SHA1'}"
            axes.plot([point[0] for point in points], values, style, marker="o", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sorted({point[0] for points in found.values() for point in points}))
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save("cost-by-subscribers.svg")


def latency(without: Sequence[Sequence[float]], through: Sequence[Sequence[float]]) -> None:
    """Two histograms of (upper edge in microseconds, count): the path without the server, and through it."""
    axes = _axes("Time from publisher to subscriber (50 subscribers, 250 packets/s)", "µs", "share of packets")
    for counts, label, colour in ((without, "without the server", LIMIT), (through, "through it", ENGINE)):
        total = sum(count for _, count in counts)
        edges = [edge for edge, _ in counts]
        axes.step(edges, [count / total for _, count in counts], where="pre", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save("latency.svg")


def run(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], marks: Sequence[tuple[float, str]], name: str
) -> None:
    """One run of a scenario: what was sampled over its time, one below the other, and its steps."""
    if not series:
        return
    _, stacked = pyplot.subplots(
        len(series), figsize=(8, 1 + 2.2 * len(series)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (label, points) in zip(stacked[:, 0], series.items(), strict=True):
        axes.plot([at for at, _ in points], [value for _, value in points], color=ENGINE, linewidth=1)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        for at, _ in marks:
            axes.axvline(at, color=LIMIT, linewidth=0.7, linestyle=":")
    for at, sentence in marks:
        stacked[0, 0].annotate(
            sentence[:60], (at, 1), xycoords=("data", "axes fraction"), rotation=25, fontsize=6, color=LIMIT
        )
    stacked[0, 0].set_title(title, loc="left", fontsize=11, pad=40)
    stacked[-1, 0].set_xlabel("seconds")
    _save(name)


def _axes(title: str, x: str, y: str) -> Axes:
    _, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(f"{x}\n{machine()}", fontsize=9)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return axes


def _save(name: str) -> None:
    metadata: dict[str, Any] = {"Date": None}
    pyplot.savefig(FOLDER / name, metadata=metadata)
    pyplot.close()
    print(f"{FOLDER.name}/{name}", flush=True)
