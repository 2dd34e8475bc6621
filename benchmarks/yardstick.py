"""The limit against a second opinion: a loop in C with ciphers of its own, which is kept outside this repository. Its
folder is named by the environment variable `YARDSTICK`, or lies at `../shared/yardstick`; it needs Debian's libssl-dev
and liburing-dev. Both send datagrams of one size to the same kind of targets, on the same core, in turn.

GCM is held to its AVX-512 cipher (`-cr 2`) where the processor has that, else to OpenSSL's (`-cr 1`); CM to OpenSSL's
(`-cr 7`).
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.forwarding import build, limit
from benchmarks.load import SERVER_CORE
from benchmarks.results import SHORT, record

RUNS = 1 if SHORT else 11
SUBSCRIBERS, SIZE = 100, 1_100
HEADER, TAGS = 24, {"gcm": 16, "cm": 10}
AVX512 = {"avx512f", "avx512bw", "vaes", "vpclmulqdq"}
LIFE = 900  # seconds after which its sink ends by itself


def main() -> int:
    folder = Path(os.environ.get("YARDSTICK", Path(__file__).parents[2] / "shared/yardstick"))
    if not (folder / "sfu.c").exists():
        print(f"no yardstick at {folder}: set YARDSTICK to its folder; its rows stay as they are", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as made:
        tools = compiled(folder, Path(made))
        if tools is None:
            return 1
        build()
        with sink(tools):
            # Its own AVX-512 code is the bound; where it cannot run, OpenSSL's.
            compare(tools, "gcm", 2 if processor() >= AVX512 else 1, ">= 0.9")
            compare(tools, "cm", 7, ">= 1.0")
    return 0


def compiled(folder: Path, made: Path) -> Path | None:
    """The yardstick's two programs, or a sentence about what is missing."""
    gcc = ["gcc", "-O3", "-march=native", "-w"]
    for name, libraries in (("sink", ()), ("sfu", ("-luring", "-lcrypto", "-lpthread"))):
        done = subprocess.run([*gcc, str(folder / f"{name}.c"), "-o", str(made / name), *libraries], check=False)
        if done.returncode:
            print("the yardstick does not compile: apt-get install libssl-dev liburing-dev", file=sys.stderr)
            return None
    return made


@contextmanager
def sink(tools: Path) -> Iterator[None]:
    """The sockets that it sends to; without them its figure is wrong."""
    process = subprocess.Popen([str(tools / "sink"), "0", "0", str(LIFE)])
    try:
        time.sleep(0.2)
        assert process.poll() is None, "the yardstick's sink has ended: is port 20000 taken?"
        yield
    finally:
        process.terminate()
        process.wait()


def compare(tools: Path, profile: str, cipher: int, target: str) -> None:
    """One row: yardstick / limit, the median over runs."""
    ours, theirs = [], []
    for _ in range(RUNS):
        theirs.append(yardstick(tools, profile, cipher))
        found = limit("--profile", profile, "--size", SIZE, "--subscribers", SUBSCRIBERS, "--alone")
        ours.append(statistics.median(found["limit"]))
        print(f"  ns per packet: limit {ours[-1]:.0f}, yardstick -cr {cipher} {theirs[-1]:.0f}", flush=True)
    record(
        "bench.json",
        f"yardstick_by_limit_{profile}",
        [their / our for their, our in zip(theirs, ours, strict=True)],
        "ratio",
        target,
        cipher=f"-cr {cipher}",
        limit_ns=statistics.median(ours),
        yardstick_ns=statistics.median(theirs),
    )


def yardstick(tools: Path, profile: str, cipher: int) -> float:
    """Nanoseconds per outgoing packet, as it prints them."""
    command = ["taskset", "-c", str(SERVER_CORE), str(tools / "sfu"), "-l", "lo", "-ip", "127.1.0.1", "-pmtu", "3"]
    load = {"-N": SUBSCRIBERS, "-cr": cipher, "-io": 2, "-s": SIZE - HEADER - TAGS[profile]}
    words = [str(word) for pair in load.items() for word in pair]
    done = subprocess.run([*command, *words], check=True, stdout=subprocess.PIPE, text=True)
    found = re.search(r"(\d+) ns/out .* errs=0$", done.stdout.strip())
    assert found, f"the yardstick says: {done.stdout}"
    return float(found[1])


def processor() -> set[str]:
    """What the processor can do, by the kernel's names."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


if __name__ == "__main__":
    sys.exit(main())
