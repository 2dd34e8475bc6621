"""`make bench`: every figure, one benchmark after the other, each a process of its own; rows in `results/bench.json`.

`python -m benchmarks NAME …` runs some of them. They share two cores with their own load, so nothing else should run.
"""

from __future__ import annotations

import subprocess
import sys

ALL = ("forwarding", "latency", "idle", "offer", "socket_cut", "first_frame")


def main() -> int:
    names = sys.argv[1:] or list(ALL)
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"unknown benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    failed = []
    for n, name in enumerate(names, 1):
        print(f"[{n}/{len(names)}] {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
