"""What the estimator costs: microseconds of a transport-wide feedback (parsed, looked up, estimated) about 26 packets,
and of the 26 packets themselves; see `benchmarks/limit/estimator.rs`. Rows in `results/bench.json`.

`python -m benchmarks.estimator`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.load import SERVER_CORE
from benchmarks.results import SHORT, record

ENGINE = Path(__file__).parent.parent / "d4e_sfu/engine"
RUNS, SECONDS = (1, 10) if SHORT else (7, 600)
"""Seconds of the stream, not of the clock."""


def main() -> None:
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--example", "estimator"]
    # The features of the peer's build, so that nothing is compiled twice.
    subprocess.run([*command, "--features", "peer", "--manifest-path", str(ENGINE / "Cargo.toml")], check=True)
    program = str(ENGINE / "target/release/examples/estimator")
    command = ["taskset", "-c", str(SERVER_CORE), program, str(RUNS), str(SECONDS)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    record("bench.json", "estimator_feedback_us", found["feedback"], "µs", "<= 20", packets=26)
    record("bench.json", "estimator_sent_us", found["sent"], "µs", packets=26)


if __name__ == "__main__":
    main()
