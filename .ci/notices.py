"""Writes THIRD_PARTY.md to standard output: every Rust crate that is linked into the wheel's engine, with the licence
texts that its source carries. What the page bundles is told by the page's own build (web/dist/licenses.txt)."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parent.parent / "d4e_sfu/engine/Cargo.toml"
TARGET = "x86_64-unknown-linux-gnu"
TEXT = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)([-._].*)?$", re.IGNORECASE)
# Proc macros run in the compiler and leave none of their own code behind; they are listed all the same.
HEAD = """# Third-party code in the wheel

The compiled engine (`d4e_sfu/_engine.abi3.so`) links these Rust crates statically, AWS-LC among them, beside Rust's own
standard library (MIT OR Apache-2.0, the Rust project contributors). Where a crate offers a choice of licences that
includes Apache-2.0, it is used under Apache-2.0. The page's npm packages are listed in `d4e_sfu/web/dist/licenses.txt`.
Python dependencies are installed beside the wheel, not bundled in it. Written by `make notices`.
"""


def linked() -> list[dict[str, Any]]:
    """The crates that normal dependencies reach from the engine, as the wheel is built; sorted by name."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--no-default-features", "--features=python"]
    command += [f"--filter-platform={TARGET}", f"--manifest-path={MANIFEST}"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    packages = {package["id"]: package for package in metadata["packages"]}
    edges = {
        node["id"]: [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    root = metadata["resolve"]["root"]
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        for dependency in edges[waiting.pop()]:
            if dependency not in seen:
                seen.add(dependency)
                waiting.append(dependency)
    return sorted((packages[name] for name in seen), key=lambda package: (package["name"], package["version"]))


def texts(package: dict[str, Any]) -> list[str]:
    """The licence texts at the top of a crate's source, and of the C library that an -sys crate carries."""
    folder = Path(package["manifest_path"]).parent
    found = [*sorted(folder.iterdir())]
    if package["name"].endswith("-sys"):
        found += sorted((folder / package["name"].removesuffix("-sys")).glob("*"))
    return [path.read_text(errors="replace").strip() for path in found if path.is_file() and TEXT.match(path.name)]


def main() -> None:
    crates = linked()
    print(HEAD)
    print("| crate | version | licence |\n|---|---|---|")
    for crate in crates:
        print(f"| {crate['name']} | {crate['version']} | {crate['license']} |")
    by_text: dict[str, tuple[str, list[str]]] = {}
    for crate in crates:
        carried = texts(crate)
        if not carried:
            carried = [f"(The source carries no licence text; it declares {crate['license']}.)"]
        for text in carried:
            key = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            by_text.setdefault(key, (text, []))[1].append(f"{crate['name']} {crate['version']}")
    for text, users in by_text.values():
        print(f"\n## {', '.join(users)}\n\n~~~~text")
        print("\n".join(line.rstrip() for line in text.splitlines()))
        print("~~~~")


if __name__ == "__main__":
    main()
