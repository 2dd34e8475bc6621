"""Which library the engine's ciphers come from: AWS-LC (what it has), OpenSSL >= 3.5 and RustCrypto seal the same
packets through the calls that we would make; see `benchmarks/limit/ciphers`. They take turns in each round.

Builds OpenSSL from source the first time (minutes). Rows go to `results/ciphers.json`: nanoseconds per packet for each,
and the quickest of the other libraries beside the engine's own call.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.load import SERVER_CORE
from benchmarks.results import record

CRATE = Path(__file__).parent / "limit/ciphers"
OURS = "aws-lc"


def main() -> None:
    manifest = ["--manifest-path", str(CRATE / "Cargo.toml")]
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *manifest], check=True)
    command = ["taskset", "-c", str(SERVER_CORE), str(CRATE / "target/release/ciphers")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        found.setdefault((row["profile"], row["size"]), {})[row["library"]] = row["ns"]
    for (profile, size), libraries in found.items():
        for library, rounds in libraries.items():
            record("ciphers.json", f"cipher_{profile}_{size}_{library}", rounds, "ns")
        ours = libraries[OURS]
        others = [rounds for library, rounds in libraries.items() if not library.startswith("aws-lc")]
        ratios = [min(turn) / mine for mine, *turn in zip(ours, *others, strict=True)]
        record("ciphers.json", f"cipher_{profile}_{size}_best_other_by_ours", ratios, "ratio", ">= 0.9")


if __name__ == "__main__":
    main()
