"""The ledger tool is held to its own promise: each way in which a `done` could be untrue makes it fail."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance import TOP, LedgerError, Outcome, Proofs, Staleness, cargo, judge, ledger, report
from tests.appliance.tally import tally

DONE = '[[entry]]\nid = "a.b"\nsays = "It works."\nproof = {proof}\nstate = "done"\n'


def broken(text: str, proofs: Proofs) -> tuple[int, str]:
    lines: list[str] = []
    return report([judge(entry, proofs) for entry in ledger(text)], lines.append), "\n".join(lines)


def done(*proof: str, **more: str) -> str:
    return DONE.format(proof=list(proof)) + "".join(f'{key} = "{value}"\n' for key, value in more.items())


def row(value: float, **more: object) -> dict[str, object]:
    return {"name": "cost", "value": value, "unit": "µs", "machine": "m", "commit": "c", **more}


def test_a_done_entry_whose_proofs_passed_is_accepted() -> None:
    proofs = Proofs(
        python={"tests/test_x.py::test_y[1]": Outcome.PASSED, "tests/test_x.py::test_y[2]": Outcome.PASSED},
        rust={"wire::stun::tests::vector": Outcome.PASSED},
        page={"device check shows a level": Outcome.PASSED},
        rows={"cost": row(2.4)},
    )
    text = done(
        "tests/test_x.py::test_y",
        "tests/test_x.py",
        "cargo: wire::stun",
        "page: device check",
        "bench: cost <= 2.5 µs",
        "command: true",
    )
    count, printed = broken(text, proofs)
    assert count == 0
    assert "1 done and proved" in printed
    assert "2.4 µs, m, c" in printed


@pytest.mark.parametrize(
    ("proof", "proofs"),
    [
        pytest.param((), Proofs(), id="no proof at all"),
        pytest.param(("tests/test_x.py::test_y",), Proofs(), id="never run"),
        pytest.param(
            ("tests/test_x.py::test_y",), Proofs(python={"tests/test_x.py::test_y": Outcome.SKIPPED}), id="skipped"
        ),
        pytest.param(
            ("tests/test_x.py::test_y",), Proofs(python={"tests/test_x.py::test_y": Outcome.FAILED}), id="failed"
        ),
        pytest.param(
            ("tests/test_x.py::test_y",),
            Proofs(python={"tests/test_x.py::test_y[1]": Outcome.PASSED, "tests/test_x.py::test_y[2]": Outcome.FAILED}),
            id="one parameter failed",
        ),
        pytest.param(
            ("tests/test_x.py::test_y",),
            Proofs(python={"tests/test_x.py::test_yes": Outcome.PASSED}),
            id="a longer name is another test",
        ),
        pytest.param(("cargo: a::b",), Proofs(rust={"a::bc": Outcome.PASSED}), id="a longer Rust name is another test"),
        pytest.param(("cargo: a::b",), Proofs(rust={"a::b": Outcome.SKIPPED}), id="ignored Rust test"),
        pytest.param(("page: chat",), Proofs(page={"chat arrives": Outcome.FAILED}), id="failed on the page"),
        pytest.param(("bench: cost <= 2.5 µs",), Proofs(), id="never measured"),
        pytest.param(("bench: cost <= 2.5 µs",), Proofs(rows={"cost": row(2.6)}), id="short of its target"),
        pytest.param(
            ("bench: cost <= 2.5 µs",),
            Proofs(rows={"cost": row(2.4, target="<= 9", met=True, unit="ms")}),
            id="another unit",
        ),
        pytest.param(("command: false",), Proofs(), id="a command that fails"),
    ],
)
def test_a_done_entry_is_broken_by(proof: tuple[str, ...], proofs: Proofs) -> None:
    count, printed = broken(done(*proof), proofs)
    assert count == 1
    assert "BROKEN  a.b" in printed


def test_the_row_cannot_weaken_the_target_of_the_ledger() -> None:
    count, _ = broken(done("bench: cost <= 2.5 µs"), Proofs(rows={"cost": row(3, target="<= 9", met=True)}))
    assert count == 1


def test_a_why_excuses_a_figure_and_nothing_else() -> None:
    text = done("bench: cost <= 2.5 µs", why="two cores, shared")
    assert broken(text, Proofs(rows={"cost": row(2.6)}))[0] == 0
    assert broken(text, Proofs())[0] == 1
    assert broken(done("tests/test_x.py::test_y", why="no time"), Proofs())[0] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ('[[entry]]\nid = "a"\nsays = "It."\nstate = "open"\n', "what is missing"),
        ('[[entry]]\nid = "a"\nsays = "It."\nstate = "done"\nmissing = "half"\n', "yet something is missing"),
        ('[[entry]]\nid = "a"\nsays = "It."\nstate = "nearly"\n', "nearly"),
        ('[[entry]]\nid = "a"\nsays = " "\nstate = "done"\n', "sentence"),
        ('[[entry]]\nid = "a"\nsays = "It."\nstate = "done"\nprof = []\n', "unknown prof"),
        (done("command: true") * 2, "twice"),
    ],
)
def test_a_ledger_that_could_be_misread_is_refused(text: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says):
        ledger(text)


def test_a_bound_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(LedgerError, match="row name"):
        Proofs(rows={"cost": row(1)}).of("bench: cost under 2")


def test_an_open_entry_breaks_nothing_and_is_shown_with_what_is_missing() -> None:
    count, printed = broken(
        '[[entry]]\nid = "a.b"\nsays = "It."\nproof = ["tests/x.py"]\nstate = "open"\nmissing = "the engine"\n',
        Proofs(),
    )
    assert count == 0
    assert "missing: the engine" in printed
    assert "open: a.b" in printed


def test_what_the_runners_leave_behind_is_read(tmp_path: Path) -> None:
    (tmp_path / "build/proofs").mkdir(parents=True)
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "build/proofs/pytest.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.core.test_room" name="test_one[a::b]"/>'
        '<testcase classname="tests.core.test_room.TestX" name="test_two"><skipped/></testcase>'
        '<testcase classname="tests.core.test_room" name="test_three"><failure/></testcase>'
        '<testcase classname="tests.core.test_room" name="test_four"/>'
        '<testcase classname="tests.core.test_room" name="test_four"><error>teardown</error></testcase>'
        '<testcase classname="tests.boot.test_units" name="test_kept"><skipped/></testcase>'
        '<testcase classname="tests.boot.test_units" name="test_kept_and_failed"><failure/></testcase>'
        "</testsuite></testsuites>"
    )
    (tmp_path / "build/proofs/cargo-engine.txt").write_text("test a::b ... ok\ntest a::c ... ignored, slow\n")
    (tmp_path / "build/proofs/cargo-peer.txt").write_text("test a::b ... FAILED\ntest a::d - should panic ... ok\n")
    (tmp_path / "benchmarks/results/test-long.json").write_text(
        json.dumps(
            [
                {"name": name, "outcome": "passed", "machine": "m", "commit": "c"}
                for name in (
                    "tests/e2e/test_long.py::test_soak",
                    "tests/boot/test_units.py::test_kept",
                    "tests/boot/test_units.py::test_kept_and_failed",
                )
            ]
        )
    )
    proofs = Proofs.load(tmp_path)
    assert proofs.of("tests/core/test_room.py::test_one").outcome is Outcome.PASSED
    assert proofs.of("tests/core/test_room.py::TestX::test_two").outcome is Outcome.SKIPPED
    assert proofs.of("tests/core/test_room.py::test_three").outcome is Outcome.FAILED
    assert proofs.of("tests/core/test_room.py::test_four").outcome is Outcome.FAILED
    assert proofs.of("tests/core/test_room.py").outcome is Outcome.FAILED
    assert proofs.of("tests/e2e/test_long.py::test_soak").outcome is Outcome.PASSED
    assert "make test-long at c, STALE" in proofs.of("tests/e2e/test_long.py::test_soak").detail
    skipped_here = proofs.of("tests/boot/test_units.py::test_kept")
    assert skipped_here.outcome is Outcome.PASSED, "a machine that could not run it says nothing against one that could"
    assert "make test-long at c" in skipped_here.detail
    assert proofs.of("tests/boot/test_units.py::test_kept_and_failed").outcome is Outcome.FAILED
    assert proofs.of("cargo: a::b").outcome is Outcome.FAILED
    assert proofs.of("cargo: a::c").outcome is Outcome.SKIPPED
    assert proofs.of("cargo: a::d").outcome is Outcome.PASSED


def test_the_last_line_of_a_tally_counts_apart_what_was_skipped_and_says_why(tmp_path: Path) -> None:
    cases = '<testcase classname="tests.boot.test_x" name="test_one"/>'
    (tmp_path / "whole.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert tally(tmp_path / "whole.xml") == "1 passed, 0 failed"
    cases += (
        '<testcase classname="tests.boot.test_x" name="test_two"><failure/></testcase>'
        '<testcase classname="tests.boot.test_x" name="test_three"><skipped message="it takes root"/></testcase>'
        '<testcase classname="tests.boot.test_x" name="test_four"><skipped message="it takes root"/></testcase>'
    )
    (tmp_path / "part.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert tally(tmp_path / "part.xml") == "1 passed, 1 failed, 2 skipped (it takes root)"


def test_a_doc_test_line_or_a_summary_is_no_test() -> None:
    assert cargo("running 3 tests\ntest result: ok. 3 passed; 0 failed\n") == {}


def test_a_value_older_than_the_last_change_to_the_server_is_stale(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def commit(path: str) -> str:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        with (tmp_path / path).open("a") as file:
            file.write("x")
        git("add", path)
        git("commit", "-q", "-m", path)
        return git("rev-parse", "--short=12", "HEAD")

    git("init", "-q")
    before = commit("d4e_sfu/a.py")
    changed = commit("d4e_sfu/b.py")
    after = commit("README.md")
    stale = Staleness(tmp_path)
    assert stale(before)
    assert not stale(changed)
    assert not stale(after)
    assert stale(changed + "+")
    assert stale("unknown")

    proofs = Proofs(rows={"cost": row(1, commit=before)}, stale=stale)
    assert "STALE" in proofs.of("bench: cost <= 2.5 µs").detail
    assert "STALE" not in Proofs(rows={"cost": row(1, commit=after)}, stale=stale).of("bench: cost <= 2.5 µs").detail


def test_the_ledger_of_this_project_can_be_read_and_covers_every_part() -> None:
    entries = ledger((TOP / "tests/acceptance.toml").read_text())
    assert {entry.id.split(".")[0] for entry in entries} >= {
        "repository", "ledger", "peer", "engine", "join", "policy", "page", "eyes", "figure", "proof",
        "codecs", "rtp", "workers", "told", "screen", "hard", "limit", "reach",
    }  # fmt: skip
    assert len(entries) >= 120


def test_every_attack_of_the_tables_has_an_entry() -> None:
    """Tables 3a and 3b. There is no U4; U29 attacks a relay (TURN), and there is none; S9 is under `clients`."""
    attacks = {*(f"u{n}" for n in range(1, 31)), *(f"s{n}" for n in range(1, 18))} - {"u4", "u29", "s9"}
    ids = {entry.id for entry in ledger((TOP / "tests/acceptance.toml").read_text())}
    assert {f"hard.{attack}" for attack in attacks} <= ids
