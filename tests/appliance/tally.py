"""The last line of `make test-appliance` and of its short form, `make test-boot`: how many passed, how many did not."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.acceptance import Outcome, junit, python_id


def tally(path: Path) -> str:
    """A test that was skipped has not passed: it is counted apart, with the reason."""
    outcomes = list(junit(path, python_id).values())
    passed, failed, skipped = (outcomes.count(each) for each in (Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED))
    told = f"{passed} passed, {failed} failed"
    if skipped:
        why = {each.get("message", "") for each in ElementTree.parse(path).iter("skipped")}
        told += f", {skipped} skipped ({'; '.join(sorted(why))})"
    return told


if __name__ == "__main__":
    print(tally(Path(sys.argv[1])))
