"""How often each of many may do something: exact numbers, and a table that does not grow."""

from __future__ import annotations

import pytest

from d4e_sfu.config import Rate
from d4e_sfu.core import rates
from d4e_sfu.core.rates import Rates

RATE = Rate(per_second=2, burst=5)


def test_a_burst_at_once_and_then_as_often_as_the_rate_says() -> None:
    table = Rates(RATE)
    waits = [table.take("an", now=0.0) for _ in range(7)]
    assert waits == [0, 0, 0, 0, 0, 0.5, 0.5], "a refused one does not count"
    assert table.take("an", now=0.49) == pytest.approx(0.01)
    assert table.take("an", now=0.5) == 0
    assert table.take("an", now=0.5) == pytest.approx(0.5)
    assert [table.take("an", now=100.0) for _ in range(6)] == [0, 0, 0, 0, 0, 0.5], "no more than a burst is saved up"


def test_each_name_has_its_own() -> None:
    table = Rates(RATE)
    for _ in range(10):
        table.take("an", now=0.0)
    assert table.take("binh", now=0.0) == 0


def test_a_flood_of_names_does_not_grow_the_table_and_forgets_those_that_came_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "MAX_NAMES", 100)
    table = Rates(RATE)
    for _ in range(10):
        table.take("an", now=0.0)
    for n in range(1000):
        table.take(str(n), now=0.0)
        assert table.take("an", now=0.0) > 0, "who keeps coming is not forgotten"
        assert len(table) <= 100
    assert [table.take("999", now=0.0) for _ in range(5)][-1] > 0
    assert table.take("0", now=0.0) == 0
