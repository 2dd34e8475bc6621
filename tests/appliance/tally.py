"""The last line of `make test-appliance`: how many tests passed, and how many did not."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.acceptance import Outcome, junit, python_id


def main(path: str) -> None:
    outcomes = list(junit(Path(path), python_id).values())
    passed = outcomes.count(Outcome.PASSED)
    # What was skipped proves nothing, so here it counts as failed.
    print(f"{passed} passed, {len(outcomes) - passed} failed")


if __name__ == "__main__":
    main(sys.argv[1])
