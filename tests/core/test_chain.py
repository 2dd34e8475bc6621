"""The chain of the audit log against whoever has its file and not its key: edits, removals, swaps, cuts, all seeded."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from d4e_sfu.core.chain import Chain, Report, position, verify

KEY = b"k" * 32
RECORDS = 10_000
EVERY = 700  # a checkpoint; the last is of record 9,800


def written(count: int) -> tuple[list[str], dict[int, str]]:
    chain, lines, checkpoints = Chain(KEY), [], {}
    for number in range(count):
        line = chain.seal({"event": "join", "actor": f"person:{number % 97:04x}", "reason": ""})
        chain.accept(line)
        lines.append(line)
        if chain.seq % EVERY == 0:
            checkpoints[chain.seq] = chain.head
    return lines, checkpoints


def read(lines: list[str], checkpoints: dict[int, str] | None = None, *, key: bytes = KEY) -> Report:
    return verify(key, ((str(at), line) for at, line in enumerate(lines, 1)), checkpoints or {})


def test_what_was_written_is_right_and_each_line_is_json() -> None:
    lines, checkpoints = written(1500)
    report = read(lines, checkpoints)
    assert (report.problems, report.records, report.first, report.last, report.younger) == ([], 1500, 1, 1500, 100)
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 1501))
    assert position(lines[6]) == (7, json.loads(lines[6])["mac"])


def test_another_key_finds_every_record_wrong() -> None:
    lines, _ = written(20)
    assert len(read(lines, key=b"x" * 32).problems) == 20


def test_an_edit_is_told_at_its_line_and_nowhere_else() -> None:
    lines, _ = written(20)
    lines[6] = lines[6].replace("join", "left")
    assert read(lines).problems == ["7: record 7 was changed, or what stood before it was"]


def test_a_genuine_record_of_another_history_does_not_fit() -> None:
    """As a backup that was put back would have: the same key, the same number, another past."""
    lines, _ = written(20)
    chain, others = Chain(KEY), []
    for number in range(20):
        others.append(chain.seal({"event": "leave" if number == 3 else "join", "reason": ""}))
        chain.accept(others[-1])
    assert read(others).problems == []
    assert read([*lines[:9], others[9], *lines[10:]]).problems == [
        "10: record 10 was changed, or what stood before it was",
        "11: record 11 was changed, or what stood before it was",
    ]


def test_a_record_that_could_not_be_written_leaves_the_chain_where_it_was() -> None:
    chain = Chain(KEY)
    chain.seal({"event": "lost"})
    line = chain.seal({"event": "kept"})
    chain.accept(line)
    assert read([line]).problems == []


def test_a_chain_goes_on_where_it_was_left() -> None:
    first, second = Chain(KEY), None
    lines = []
    for _ in range(3):
        lines.append(first.seal({"event": "join"}))
        first.accept(lines[-1])
    seq, head = position(lines[-1]) or (0, "")
    second = Chain(KEY, seq=seq, head=head)
    lines.append(second.seal({"event": "start"}))
    assert read(lines).problems == []


def test_a_beginning_that_was_let_go_after_its_time_is_no_removal() -> None:
    lines, checkpoints = written(1500)
    assert read(lines[1000:], checkpoints).problems == ["records 1 to 1000 are missing at the beginning"]
    seq, head = position(lines[-1]) or (0, "")
    chain = Chain(KEY, seq=seq, head=head)
    gone = position(lines[999]) or (0, "")
    expired = chain.seal({"event": "expired", "through": gone[0], "head": gone[1]})
    assert read([*lines[1000:], expired], checkpoints).problems == []
    assert read([*lines[1001:], expired], checkpoints).problems == ["records 1 to 1001 are missing at the beginning"]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param("", id="nothing more"),
        pytest.param(',"through":"x","head":1', id="no number"),
        pytest.param(",[", id="no JSON"),
        pytest.param(f',"x":{"[" * 99_999}', id="deeper than is read"),
    ],
)
def test_a_first_line_that_anyone_may_have_written_is_told_and_no_end_of_the_examination(facts: str) -> None:
    lines, _ = written(3)
    forged = f'{{"seq":2,"event":"expired"{facts},"mac":"{"0" * 64}"}}'
    problems = read([forged, lines[2]]).problems
    assert "records 1 to 1 are missing at the beginning" in problems


# --- 1,000 times -----------------------------------------------------------------------------------------------------


def edit(lines: list[str], chance: random.Random) -> bool:
    """One character, anywhere in one record. Whether it must be found."""
    at = chance.randrange(len(lines))
    line = lines[at]
    where = chance.randrange(len(line))
    lines[at] = line[:where] + chance.choice([c for c in "0123456789abcdefxyz" if c != line[where]]) + line[where + 1 :]
    return True


def delete(lines: list[str], chance: random.Random) -> bool:
    """A run of records inside the chain."""
    first = chance.randrange(len(lines) - 10)
    del lines[first : first + chance.randrange(1, 9)]
    return True


def swap(lines: list[str], chance: random.Random) -> bool:
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return True


def cut(lines: list[str], chance: random.Random) -> bool:
    """The end; it must be found if it reaches behind the last checkpoint."""
    left = chance.choice([chance.randrange(1, len(lines)), chance.randrange(len(lines) - 2 * EVERY, len(lines))])
    del lines[left:]
    return left < RECORDS // EVERY * EVERY


def damaged(times: int) -> Counter[str]:
    lines, checkpoints = written(RECORDS)
    last = max(checkpoints)
    chance = random.Random(6)
    kinds: list[Callable[[list[str], random.Random], bool]] = [edit, delete, swap, cut]
    found: Counter[str] = Counter()
    for turn in range(times):
        kind = kinds[turn % len(kinds)]
        mine = list(lines)
        must = kind(mine, chance)
        report = read(mine, checkpoints)
        assert bool(report.problems) == must, f"{kind.__name__} in turn {turn}: {report.problems[:3]}"
        if must:
            found[kind.__name__] += 1
        else:
            assert report.younger == len(mine) - last, "what a cut could have taken is counted"
            found["younger cut"] += 1
    return found


def test_twenty_random_manipulations_of_ten_thousand_records_are_found() -> None:
    found = damaged(20)
    assert (found["edit"], found["delete"], found["swap"]) == (5, 5, 5)
    assert found["cut"] > 0


@pytest.mark.long
def test_a_thousand_random_manipulations_of_ten_thousand_records_are_found() -> None:
    found = damaged(1000)
    print(dict(found))
    assert (found["edit"], found["delete"], found["swap"]) == (250, 250, 250)
    assert found["cut"] + found["younger cut"] == 250
    assert min(found["cut"], found["younger cut"]) >= 10


def test_the_end_of_a_line_belongs_to_it() -> None:
    lines, _ = written(3)
    assert re.fullmatch(r'\{"seq":2,.*"mac":"[0-9a-f]{64}"\}', lines[1])
    for spoiled in (lines[1] + " ", " " + lines[1], lines[1][:-1], lines[1] + "x", ""):
        assert read([lines[0], spoiled, lines[2]]).problems
