"""`make bundle`: everything that an installation without the internet needs, in one signed folder and its archive.

    d4e-sfu-VERSION/
      d4e  ansible/  systemd/  config/  certs/  docs/  README.md  LICENSE  NOTICE  THIRD_PARTY.md
      VERSION         the release
      wheels.tar      the server and what it needs, with a requirements.txt that holds the hash of each; pip too
      apt.tar         Debian packages of the servers, a folder that apt reads, signed
      controller.tar  the same for the machine that runs Ansible
      SHA256SUMS      of every other file; SHA256SUMS.sig is its signature (ssh-keygen -Y, namespace d4e-sfu-bundle)
      signer.pub      whose signature it is; compare it with what you were given by another way

Runs on Debian 12, x86_64, where apt and pip reach their registries. What was downloaded stays in build/, so that a
second bundle is made in seconds. It is not part of the server, and imports nothing of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TOP = Path(__file__).parent.parent
NAMESPACE = "d4e-sfu-bundle"

# What the roles and a control node want. Their dependencies come with them.
SERVER_PACKAGES = ("certbot", "chrony", "iproute2", "nftables", "procps", "prometheus", "prometheus-node-exporter")
CONTROLLER_PACKAGES = ("ansible-core", "openssh-client", "python3-cryptography", "sshpass")

SHIPPED = ("systemd", "config/d4e-sfu.yaml", "certs/authority.py", "certs/README.md", "docs", "README.md", "LICENSE",
           "NOTICE", "THIRD_PARTY.md")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    version = _version(options.wheel)
    folder: Path = options.output / f"d4e-sfu-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "VERSION").write_text(f"{version}\n")
    _ship(folder)
    _archive(folder / "wheels.tar", _wheels(options.wheel, options.cache / "wheels"), "wheels")
    for name, packages in (("apt", SERVER_PACKAGES), ("controller", CONTROLLER_PACKAGES)):
        _archive(folder / f"{name}.tar", _packages(packages, options.cache / name), name)
    _sign(folder, options.key or options.cache / "signing-key")
    archive = options.output / f"{folder.name}.tar"
    _archive(archive, folder, folder.name)
    print(archive)


def _version(wheel: Path) -> str:
    match = re.fullmatch(r"d4e_sfu-([^-]+)-.+\.whl", wheel.name)
    if match is None:
        raise SystemExit(f"bundle.py: {wheel} is not a wheel of d4e-sfu. Fix: make wheel")
    return match[1]


def _ship(folder: Path) -> None:
    """What git knows of ansible/ and of the others, and nothing that someone left lying there."""
    known = _run("git", "ls-files", "--cached", "--others", "--exclude-standard", "ansible", *SHIPPED, cwd=TOP)
    for name in known.splitlines():
        if (TOP / name).is_file() and name != "ansible/bundle.py":
            target = folder / ("d4e" if name == "ansible/d4e" else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target)


def _wheels(wheel: Path, cache: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    names = [TOP / "requirements/runtime.txt", TOP / "requirements/installer.txt"]
    wanted = hashlib.sha256(b"".join(name.read_bytes() for name in names)).hexdigest()
    stamp = cache / ".complete"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        for name in names:
            _run(*pip, "download", "--require-hashes", "--only-binary", ":all:", "--requirement", str(name),
                 "--dest", str(cache))  # fmt: skip
        stamp.write_text(wanted)
    for old in cache.glob("d4e_sfu-*.whl"):
        old.unlink()
    shutil.copy2(wheel, cache)
    hashed = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"d4e-sfu=={_version(wheel)} \\\n    --hash=sha256:{hashed}\n"
    (cache / "requirements.txt").write_text((TOP / "requirements/runtime.txt").read_text() + ours)
    return cache


def _packages(names: Sequence[str], cache: Path) -> Path:
    """These and all that they need, whatever is installed here, as a folder that apt reads."""
    stamp = cache / ".complete"
    if stamp.exists() and stamp.read_text() == " ".join(names):
        return cache
    if shutil.which("apt-ftparchive") is None or shutil.which("gpg") is None:
        raise SystemExit("bundle.py: apt-ftparchive or gpg is missing. Fix: apt-get install apt-utils gnupg")
    shutil.rmtree(cache, ignore_errors=True)
    (cache / "partial").mkdir(parents=True)
    nothing = cache / "status"
    nothing.write_text("")
    _run("apt-get", "--quiet", "--quiet", "--yes", "--download-only", "--no-install-recommends",
         "-o", f"Dir::Cache::archives={cache}", "-o", f"Dir::State::status={nothing}", "-o", "Debug::NoLocking=1",
         "-o", "APT::Sandbox::User=root", "install", *names)  # fmt: skip
    for left in (nothing, cache / "lock"):
        left.unlink(missing_ok=True)
    (cache / "partial").rmdir()
    (cache / "Packages").write_text(_run("apt-ftparchive", "packages", ".", cwd=cache))
    release = _run("apt-ftparchive", "-o", "APT::FTPArchive::Release::Origin=d4e-sfu", "release", ".", cwd=cache)
    (cache / "Release").write_text(release)
    home = cache / ".gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes"]
    # Nobody keeps it: what vouches for the folder is the signature over SHA256SUMS, apt only wants one of its own.
    _run(*gpg, "--passphrase", "", "--quick-generate-key", "d4e-sfu bundle", "ed25519", "sign", "never")
    _run(*gpg, "--clearsign", "--output", str(cache / "InRelease"), str(cache / "Release"))
    _run(*gpg, "--export", "--output", str(cache / "d4e-sfu.gpg"))
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    shutil.rmtree(home, ignore_errors=True)
    stamp.write_text(" ".join(names))
    return cache


def _sign(folder: Path, key: Path) -> None:
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "d4e-sfu bundle", "-f", str(key))
        print(f"bundle.py: a new signing key: {key}; keep it, or name yours with --key", file=sys.stderr)
    public = key.with_name(key.name + ".pub").read_text().split()
    (folder / "signer.pub").write_text(f"d4e-sfu {' '.join(public[:2])}\n")
    sums = folder / "SHA256SUMS"
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in _files(folder)
    ]
    sums.write_text("".join(lines))
    _run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums))


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _archive(archive: Path, folder: Path, name: str) -> None:
    """The same files give the same archive: no owner and no time of this machine. Not compressed: its parts are."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name == ".complete":
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = 0
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tarfile.open(archive, "w") as tar:
        tar.add(folder, name, filter=plain)


def _run(*words: str, cwd: Path | None = None) -> str:
    made = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if made.returncode:
        raise SystemExit(f"bundle.py: {' '.join(words[:4])} …: {made.stderr.strip() or made.stdout.strip()}")
    return made.stdout


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bundle.py", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, default=TOP / "dist", metavar="FOLDER")
    parser.add_argument("--cache", type=Path, default=TOP / "build/bundle", metavar="FOLDER")
    parser.add_argument("--key", type=Path, metavar="FILE", help="an SSH key to sign with; one of its own unless given")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
