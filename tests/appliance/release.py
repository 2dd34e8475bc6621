"""Releases that never were: the wheel that was built, under another version, and perhaps broken on purpose."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.lab.server import TOP

Change = Callable[[str], str]


def wheel() -> Path:
    built = sorted((TOP / "dist").glob("d4e_sfu-*.whl"))
    assert len(built) == 1, f"one wheel in dist/, not {len(built)}: make wheel"
    return built[0]


def remade(version: str, folder: Path, changes: Mapping[str, Change] | None = None) -> Path:
    """The wheel as `version`, with some of its files rewritten. Each change must change something."""
    source = wheel()
    old = source.name.split("-")[1]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name.replace(f"d4e_sfu-{old}-", f"d4e_sfu-{version}-")
    changes = changes or {}
    records: list[str] = []
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            content = given.read(name)
            renamed = name.replace(f"d4e_sfu-{old}.dist-info", f"d4e_sfu-{version}.dist-info")
            if name.endswith(".dist-info/RECORD"):
                continue
            if name.endswith(".dist-info/METADATA"):
                content = content.replace(f"\nVersion: {old}\n".encode(), f"\nVersion: {version}\n".encode())
            if change := changes.get(name):
                changed = change(content.decode()).encode()
                assert changed != content, f"{name} is as it was"
                content = changed
            made.writestr(renamed, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{renamed},sha256={digest},{len(content)}")
        record = f"d4e_sfu-{version}.dist-info/RECORD"
        made.writestr(record, "\n".join([*records, f"{record},,"]) + "\n")
    return target


def bundle(of: Path, output: Path) -> Path:
    """The unpacked bundle of that wheel."""
    words = [sys.executable, str(TOP / "ansible/bundle.py"), "--wheel", str(of), "--output", str(output)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    archive = made.stdout.strip()
    return Path(archive.removesuffix(".tar"))
