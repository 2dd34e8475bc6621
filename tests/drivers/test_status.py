"""What the status page is told: the right figures, no more than an hour of them, and what needs attention."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from d4e_sfu.drivers.metrics import Metrics, Sources
from d4e_sfu.drivers.status import INTERVAL, SAMPLES, SERIES, Status
from tests.drivers.test_metrics import NOTHING, Worker, room


@dataclass
class Recorded:
    records: int = 5
    lost: int = 0


def status(sources: Sources = NOTHING, *, dead: int = 0, lag: float = 0.0, kept: Metrics | None = None) -> Status:
    return Status(sources, kept or Metrics(sources), dead=lambda: dead, lag=lambda: lag, now=0.0)


def series(of: Status, name: str) -> list[float]:
    return of.view(now=0.0, today=0.0)["series"][name]  # type: ignore[index, no-any-return]


def test_rates_are_of_the_time_between_two_samples() -> None:
    worker = Worker("worker-0", {"bytes_sent_video": 1_000, "packets_sent_video": 10, "nacks_received": 3})
    one = status(replace(NOTHING, workers=lambda: [worker], rooms=lambda: [room("doctor", "patient")]))
    one.sample(10.0)
    worker.counters = {
        "bytes_sent_video": 1_000_000, "bytes_sent_audio": 1_000, "bytes_received_rtcp": 500, "packets_sent_video": 110,
        "nacks_received": 5, "nacks_sent": 99, "packets_received_video": 77,
    }  # fmt: skip
    one.sample(20.0)
    assert series(one, "sent")[1] == 8 * 1_000_000 / 10
    assert series(one, "received")[1] == 8 * 500 / 10
    assert series(one, "asked_again") == [0.3, 0.02]
    assert series(one, "people") == [2.0, 2.0]


def test_a_worker_that_was_replaced_begins_from_zero() -> None:
    worker = Worker("worker-0", {"bytes_sent_video": 9_000_000})
    one = status(replace(NOTHING, workers=lambda: [worker]))
    one.sample(10.0)
    worker.counters, worker.deaths = {"bytes_sent_video": 2_000}, 1
    one.sample(20.0)
    assert series(one, "sent")[1] == 8 * 2_000 / 10


def test_an_hour_is_kept_and_no_more() -> None:
    one = status()
    for number in range(SAMPLES + 40):
        one.sample(INTERVAL * number)
    assert {name: len(series(one, name)) for name in SERIES} == dict.fromkeys(SERIES, SAMPLES)
    assert SAMPLES * INTERVAL == 3600


def test_memory_is_that_of_this_process() -> None:
    one = status()
    one.sample(10.0)
    assert 10e6 < series(one, "memory")[0] < 10e9


@pytest.mark.parametrize(
    ("concern", "sources", "more"),
    [
        (None, {}, {}),
        ("worker_dead", {}, {"dead": 1}),
        ("draining", {"draining": lambda: True}, {}),
        ("full", {"rooms": lambda: [room(*["patient"] * 500)]}, {}),
        ("busy", {"workers": lambda: [Worker("worker-0", {}, gauges={"busy_ratio": 0.81})]}, {}),
        (None, {"workers": lambda: [Worker("worker-0", {}, gauges={"busy_ratio": 0.79})]}, {}),
        ("late", {}, {"lag": 0.3}),
        ("certificate", {"certificate_ends": lambda: 1000.0 + 13 * 86_400}, {}),
        (None, {"certificate_ends": lambda: 1000.0 + 15 * 86_400}, {}),
        ("audit_lost", {"audit": lambda: Recorded(lost=1)}, {}),
        (None, {"audit": lambda: Recorded()}, {}),
    ],
)
def test_what_needs_attention_is_named(concern: str | None, sources: dict[str, object], more: dict[str, float]) -> None:
    one = status(replace(NOTHING, **sources), **more)  # type: ignore[arg-type]
    one.sample(10.0)
    assert one.view(now=10.0, today=1000.0)["concerns"] == ([concern] if concern else [])


def test_a_reload_that_was_refused_needs_attention_until_one_is_accepted() -> None:
    kept = Metrics(NOTHING)
    one = status(kept=kept)
    for accepted, concerns in ((False, ["reload_refused"]), (True, [])):
        kept.reloaded(accepted=accepted)
        assert one.view(now=1.0, today=0.0)["concerns"] == concerns


def test_joins_are_told_by_what_became_of_them_and_nobody_is_named() -> None:
    kept = Metrics(NOTHING)
    kept.joins.update(connected=7, failed=2, full=1, unauthorized=3)
    sources = replace(NOTHING, rooms=lambda: [room("surgeon")])
    told = status(sources, kept=kept).view(now=60.0, today=0.0)
    assert told["joins"] == {"connected": 7, "failed": 2, "refused": 4}
    assert told["seconds"] == 60
    text = json.dumps(told)
    assert "person-0" not in text
    assert "surgeon" not in text
