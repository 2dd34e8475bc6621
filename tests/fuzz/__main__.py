"""Coverage-guided fuzzing: `make fuzz`, for hours, or `make test-fuzz`, a minute for all targets together.

Rust targets are built by the stable toolchain, with LLVM's coverage pass (`-Cpasses=sancov-module`) and libFuzzer,
which the crate `libfuzzer-sys` compiles from its source with any C++ compiler; Python targets run under atheris, which
is libFuzzer as well. So one loop drives all: the committed corpus is replayed, then mutated; one target at a time.

    python -m tests.fuzz --seconds 60             all targets within so long, from the committed corpus alone
    python -m tests.fuzz --forever                every target in turn, keeping what is found under build/fuzz/
    python -m tests.fuzz router --forever         one target
    python -m tests.fuzz router --run FILE        one input again, with its trace
    python -m tests.fuzz --minimise               what build/fuzz/ holds that adds coverage, into the committed corpus
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
TOP = HERE.parent.parent
CRATE = HERE / "engine"
BUILD = TOP / "d4e_sfu/engine/target/fuzz"
KEPT = TOP / "build/fuzz"
SANCOV = ["level=4", "inline-8bit-counters", "pc-table", "trace-compares"]
# One turn of a target in an endless run.
TURN = 600
# Of the committed corpus, for one target.
MAX_UNITS = {True: 200, False: 48}  # of Rust, of Python: to replay them must leave most of the time
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    rust: bool
    max_len: int
    """Bytes of one input."""
    reach: int = 0
    """Edges that must be taken at least. A corpus that the code has left behind stops at the first check of its target,
    and all is well for ever."""
    weight: int = 1
    """Its share of the time for all, against those of the others."""

    def command(self) -> list[str]:
        if self.rust:
            return [str(BUILD / host() / "release" / self.name)]
        return [sys.executable, "-m", "tests.fuzz.guided", self.name]

    @property
    def corpus(self) -> Path:
        return HERE / "corpus" / self.name


TARGETS = [
    Target("stun", True, 1_500, reach=180),
    Target("front", True, 1_500, reach=100),
    Target("rtp", True, 1_500, reach=105),
    Target("rtcp", True, 1_500, reach=380),
    Target("vp8", True, 64, reach=55),
    Target("h264", True, 512, reach=90),
    Target("vp9", True, 128, reach=85),
    Target("av1", True, 256, reach=25),
    Target("dependency", True, 1_024, reach=160),
    Target("srtp", True, 512, reach=220),
    Target("router", True, 2_048, reach=2_700, weight=4),
    Target("sdp", False, 16_384, reach=430),
    Target("signalling", False, 8_192, reach=900),
    Target("tokens", False, 2_048, reach=90),
    Target("settings", False, 4_096, reach=230),
]


def host() -> str:
    """The toolchain's own target: naming it keeps the coverage flags away from build scripts."""
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^host: (\S+)$", told, re.MULTILINE)
    assert found
    return found[1]


def build() -> None:
    flags = ["--cfg=fuzzing", "-Cpasses=sancov-module"]
    flags += [f"-Cllvm-args=-sanitizer-coverage-{word}" for word in SANCOV]
    command = ["cargo", "build", "--locked", "--quiet", "--release", "--bins", f"--target={host()}"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(BUILD), "RUSTFLAGS": " ".join(flags)}
    subprocess.run(command, cwd=CRATE, env=environment, check=True)


@dataclass(frozen=True, slots=True)
class Run:
    target: Target
    seconds: float
    log: str
    code: int

    @property
    def failed(self) -> bool:
        return self.code != 0 or self.edges < self.target.reach

    @property
    def edges(self) -> int:
        """How many edges of the code it has taken, by libFuzzer's last words."""
        return int(self._last[1]) if self._last else 0

    def row(self) -> str:
        """The target, how often it ran, what it covered, in one line."""
        if self.code != 0 or not self._last:
            return f"{self.target.name:<11} FAILED after {self.seconds:.0f} s"
        runs, edges, features, units, size = self._last
        covered = f"{edges:>5} edges  {features:>6} features  {units} units {size}"
        shallow = f"  FAILED: it should reach {self.target.reach} edges" if self.failed else ""
        return f"{self.target.name:<11} {int(runs):>10,} runs  {covered}{shallow}"

    @property
    def _last(self) -> tuple[str, ...]:
        words = re.findall(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", self.log, re.MULTILINE)
        return tuple(words[-1]) if words else ()


def fuzz(target: Target, folders: Sequence[Path], *, seconds: int, seed: int = 0) -> Run:
    """Replays all folders, then mutates for so long; what is new goes to the first of them. Seed 0: any."""
    crashes = KEPT / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-max_len={target.max_len}", f"-artifact_prefix={crashes}/{target.name}-"]
    # A step that takes a second is a way to hold everyone; ten, because the machine may be busy.
    flags += [f"-seed={seed}", "-timeout=10", "-rss_limit_mb=1024", "-len_control=20"]
    # libFuzzer learns the constants of comparisons of four and eight bytes, not of two (0xbede): near misses count too.
    flags += ["-use_value_profile=1"] if target.rust and target.name != "router" else []
    dictionary = HERE / "dictionary" / f"{target.name}.dict"
    flags += [f"-dict={dictionary}"] if dictionary.exists() else []
    begun = time.monotonic()
    done = execute([*target.command(), *map(str, folders), *flags])
    return Run(target, time.monotonic() - begun, done.stdout, done.returncode)


def execute(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=TOP, check=False, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def tell_failure(run: Run) -> None:
    """The trace, without libFuzzer's progress before it, and how to see it again."""
    lines = [line for line in run.log.splitlines() if not re.match(r"#\d+\s", line)]
    print("\n".join(lines[-60:]))
    found = re.findall(r"Test unit written to (\S+)", run.log)
    if found:
        print(f"again: {sys.executable} -m tests.fuzz {run.target.name} --run {found[-1]}")


def shares(seconds: int, targets: Sequence[Target]) -> list[int]:
    """Whole seconds for each, as libFuzzer wants them; none gets nought."""
    whole = sum(target.weight for target in targets)
    return [max(1, seconds * target.weight // whole) for target in targets]


def short(targets: Sequence[Target], *, seconds: int, proof: Path | None) -> bool:
    """So many seconds for all of them, from the committed corpus. True when all is well."""
    runs = []
    for target, share in zip(targets, shares(seconds, targets), strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            # The same seed, so that a red run is red again; new inputs are the long form's to find.
            run = fuzz(target, [Path(scratch), target.corpus], seconds=share, seed=1)
        print(run.row(), flush=True)
        if run.failed:
            tell_failure(run)
        runs.append(run)
    if proof is not None:
        suite = ElementTree.Element("testsuite", name="fuzz", tests=str(len(runs)))
        for run in runs:
            case = ElementTree.SubElement(
                suite, "testcase", classname="tests.fuzz", name=run.target.name, time=f"{run.seconds:.3f}"
            )
            if run.failed:
                ElementTree.SubElement(case, "failure", message=run.row())
        proof.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(suite).write(proof)
    return not any(run.failed for run in runs)


def forever(targets: Sequence[Target]) -> None:
    """In turn until interrupted; a failure is kept and told, and the others go on."""
    failures, begun = 0, time.monotonic()
    while True:
        for target in targets:
            kept = KEPT / target.name
            kept.mkdir(parents=True, exist_ok=True)
            run = fuzz(target, [kept, target.corpus], seconds=TURN)
            if run.failed:
                failures += 1
                tell_failure(run)
            print(f"{(time.monotonic() - begun) / 60:6.0f} min  {failures} failures  {run.row()}", flush=True)


def minimise(targets: Sequence[Target]) -> None:
    """The smallest set that covers as much as the committed corpus and build/fuzz/ together; what is too much for the
    repository is thinned out evenly over all sizes, because the short inputs are the simple ones."""
    for target in targets:
        with tempfile.TemporaryDirectory() as scratch:
            kept = [str(folder) for folder in (KEPT / target.name, target.corpus) if folder.is_dir()]
            flags = ["-set_cover_merge=1", f"-max_len={target.max_len}"]
            done = execute([*target.command(), *flags, scratch, *kept])
            found = sorted(Path(scratch).iterdir(), key=lambda path: path.stat().st_size)
            if done.returncode or not found:
                raise SystemExit(done.stdout[-4_000:])
            chosen, most = found, MAX_UNITS[target.rust]
            while len(chosen) > most or sum(path.stat().st_size for path in chosen) > MAX_BYTES:
                step = len(chosen) / min(most, len(chosen) * 9 // 10)
                chosen = [chosen[int(n * step)] for n in range(int(len(chosen) / step))]
            target.corpus.mkdir(parents=True, exist_ok=True)
            for old in target.corpus.iterdir():
                old.unlink()
            for path in chosen:
                (target.corpus / path.name[:16]).write_bytes(path.read_bytes())
        print(f"{target.name:<11} {len(chosen)} of {len(found)} units", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(each.name for each in TARGETS))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seconds", type=int, help="for all targets together, from the committed corpus")
    what.add_argument("--forever", action="store_true", help="in turn, until interrupted")
    what.add_argument("--run", type=Path, metavar="FILE", help="one input again")
    what.add_argument("--minimise", action="store_true", help="write the committed corpus anew")
    parser.add_argument("--proof", type=Path, help="a JUnit file to write, with --seconds")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - {each.name for each in TARGETS}
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets = [each for each in TARGETS if not arguments.targets or each.name in arguments.targets]
    if any(target.rust for target in targets):
        build()
    os.nice(5)  # Whoever else is here goes first.
    if arguments.run is not None:
        for target in targets:
            sys.exit(subprocess.run([*target.command(), str(arguments.run)], cwd=TOP, check=False).returncode)
    if arguments.minimise:
        minimise(targets)
    elif arguments.forever:
        try:
            forever(targets)
        except KeyboardInterrupt:
            print()
    elif not short(targets, seconds=arguments.seconds, proof=arguments.proof):
        sys.exit(1)


if __name__ == "__main__":
    main()
