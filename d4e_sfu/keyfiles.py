"""Files that settings name, and the secrets in them: read once, bounded, or refused with a sentence.

Called by `config.py` alone, which knows where in the text each is named. What a secret is for is not known here;
nothing of one is ever in a message.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from d4e_sfu.document import Location

if TYPE_CHECKING:
    from d4e_sfu.config import Audit, Config, Key

MIN_SECRET_BYTES: Final = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash."""
MAX_SECRET_BYTES: Final = 4096


def unreadable(config: Config) -> Iterator[tuple[Location, str]]:
    """Certificates that cannot be read."""
    for name, path in (("certificate", config.http.tls.certificate), ("key", config.http.tls.key)):
        if path is not None:
            try:
                contents(path, 0)
            except OSError as error:
                yield ("http", "tls", name), f"cannot be read: {error.strerror or error}"


def read_secrets(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[Location, str]]:
    """Reads the secrets into their keys. Says neither what was read nor which file: a secret may be pasted there."""
    for index, key in enumerate(config.keys):
        if any(key.id == other.id for other in config.keys[:index]):
            yield ("keys", index, "id"), "is already the id of another key"
        if (key.secret_file is None) == (key.secret_env is None):
            yield ("keys", index), "needs one of secret_file and secret_env"
            continue
        name = "secret_file" if key.secret_file is not None else "secret_env"
        yield from _secret_of(key, ("keys", index, name), environ)
    audit = config.audit
    if (audit.folder is None) != (audit.secret_file is None):
        yield ("audit",), "needs both folder and secret_file"
    elif audit.secret_file is not None:
        yield from _secret_of(audit, ("audit", "secret_file"), environ)


def _secret_of(holder: Key | Audit, where: Location, environ: Mapping[str, str]) -> Iterator[tuple[Location, str]]:
    try:
        secret = _secret_in(holder.secret_file, getattr(holder, "secret_env", None), environ)
    except OSError as error:
        yield where, f"cannot be read: {error.strerror or error}"
        return
    except ValueError as error:
        yield where, str(error)
        return
    if len(secret) < MIN_SECRET_BYTES:
        yield where, f"{len(secret)} bytes are too few for a secret: at least {MIN_SECRET_BYTES}"
    holder._secret = secret


def _secret_in(path: Path | None, variable: str | None, environ: Mapping[str, str]) -> bytes:
    if path is not None:
        file = _credential(path, environ)
        secret = contents(file, MAX_SECRET_BYTES)
        if file.stat().st_mode & stat.S_IROTH:
            raise ValueError("this file can be read by everyone on this machine: chmod o= it, and make a new secret")
    else:
        written = environ.get(variable or "")
        if written is None:
            raise ValueError("this environment variable is not set")
        secret = os.fsencode(written)
    if len(secret) > MAX_SECRET_BYTES:
        raise ValueError(f"more than {MAX_SECRET_BYTES} bytes is not a secret")
    secret = secret.strip()
    # PyJWT signs with none of these, and whoever points at one has the wrong file.
    if secret.startswith((b"-----BEGIN ", b"ssh-", b"ecdsa-sha2-")):
        raise ValueError("this is a certificate or a private key, not a secret for tokens")
    return secret


def _credential(path: Path, environ: Mapping[str, str]) -> Path:
    """systemd's copy of `…/keys/NAME` (LoadCredential=keys:…/keys), where there is one: the file itself is root's."""
    copy = Path(environ.get("CREDENTIALS_DIRECTORY", "")) / f"{path.parent.name}_{path.name}"
    return copy if "CREDENTIALS_DIRECTORY" in environ and copy.is_file() else path


def contents(path: Path, at_most: int) -> bytes:
    """At most one byte more than that, so that the reader sees the excess. Never waits on a pipe or device."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read(at_most + 1)
