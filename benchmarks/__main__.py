"""`make bench`: every figure, one benchmark after the other, each a process of its own; rows in `results/bench.json`.

`python -m benchmarks NAME …` runs some of them. They share two cores with their own load, so nothing else should run.
With `--short` those that take long show in a minute that they still run; nothing is recorded then.
"""

from __future__ import annotations

import subprocess
import sys

# In lines by subject: what a packet costs, what a person costs, what a browser sees.
ALL = (
    "forwarding", "yardstick", "ciphers", "latency", "workers", "rooms", "buffers",
    "worker_death",
    "idle", "offer", "allocator", "estimator", "joins", "memory", "churn",
    "socket_cut", "first_frame", "attacks", "idle_connections", "tcp_443",
)  # fmt: skip


def main() -> int:
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    names = [argument for argument in sys.argv[1:] if argument not in options] or list(ALL)
    unknown = (set(names) - set(ALL)) | (set(options) - {"--short"})
    if unknown:
        print(f"unknown benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    failed = []
    for n, name in enumerate(names, 1):
        print(f"[{n}/{len(names)}] {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
