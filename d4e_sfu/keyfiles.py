"""Files that settings name, and the secrets in them: read once, bounded, or refused with a sentence.

Called by `config.py` alone, which knows where in the text each is named. What a secret is for is not known here;
nothing of one is ever in a message.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jwt

from d4e_sfu.document import Location

if TYPE_CHECKING:
    from d4e_sfu.config import Audit, Config, Key

MIN_SECRET_BYTES: Final = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash."""
MAX_SECRET_BYTES: Final = 4096
MAX_JWK_SET: Final = 64 * 1024
MAX_JWKS: Final = 32
MAX_KID: Final = 128
MAX_REVOKED: Final = 1 << 20
MAX_TOKEN_ID: Final = 256

_ALGORITHMS: Final = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}  # RFC 7518 §3.4, RFC 8037 §3.1
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_COMMENT: Final = re.compile(r"(^|\s)#.*")


class PublicKey(NamedTuple):
    """One that others sign with, and the one algorithm with which they do."""

    algorithm: str
    key: Any
    """As PyJWT wants it."""


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
        named = [each for each in (key.secret_file, key.secret_env, key.public_keys) if each is not None]
        if len(named) != 1:
            yield ("keys", index), "needs one of secret_file, secret_env and public_keys"
            continue
        if key.public_keys is not None:
            try:
                key._public = _jwk_set(contents(key.public_keys, MAX_JWK_SET))
            except OSError as error:
                yield ("keys", index, "public_keys"), f"cannot be read: {error.strerror or error}"
            except ValueError as error:
                yield ("keys", index, "public_keys"), str(error)
            continue
        name = "secret_file" if key.secret_file is not None else "secret_env"
        yield from _secret_of(key, ("keys", index, name), environ)
    audit = config.audit
    if (audit.folder is None) != (audit.secret_file is None):
        yield ("audit",), "needs both folder and secret_file"
    elif audit.secret_file is not None:
        yield from _secret_of(audit, ("audit", "secret_file"), environ)


def read_revoked(config: Config) -> Iterator[tuple[Location, str]]:
    """A token a line; `#` at the beginning or behind a space, and what follows, is for people."""
    if config.revoked is None:
        return
    try:
        text = contents(config.revoked, MAX_REVOKED).decode()
    except OSError as error:
        yield ("revoked",), f"cannot be read: {error.strerror or error}"
        return
    except UnicodeDecodeError:
        yield ("revoked",), "is no text"
        return
    if len(text) > MAX_REVOKED:
        yield ("revoked",), f"more than {MAX_REVOKED} bytes: leave out tokens that have expired"
        return
    found = set()
    for number, line in enumerate(text.splitlines(), start=1):
        word = _COMMENT.sub("", line).strip()
        if word.count(".") == 2 and word.startswith("eyJ"):
            # What a file says that many may read must not be what opens a room.
            yield ("revoked",), f"line {number} is a token itself: d4e-sfu token-id prints what stands for it"
        elif len(word) > MAX_TOKEN_ID or " " in word:
            yield ("revoked",), f"line {number} is neither a SHA-256 nor a jti"
        elif word:
            found.add(word)
            if _SHA256.fullmatch(word):  # a jti may look like one, and is another in other letters
                found.add(word.lower())
    config._revoked = frozenset(found)


def _jwk_set(data: bytes) -> Mapping[str, PublicKey]:
    """RFC 7517 §5. Each key has its own name and one algorithm, and is public: anything else is a mistake of the file,
    not something to be skipped. Raises ValueError."""
    if len(data) > MAX_JWK_SET:
        raise ValueError(f"more than {MAX_JWK_SET} bytes is no key set of ours")
    try:
        listed = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('is no JWK set: {"keys": […]}') from None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_JWKS:
        raise ValueError(f"needs 1 to {MAX_JWKS} keys")
    found: dict[str, PublicKey] = {}
    for number, jwk in enumerate(listed):
        try:
            kid, key = _public_key(jwk)
        except ValueError as error:
            raise ValueError(f"keys[{number}]: {error}") from None
        if kid in found:
            raise ValueError(f"keys[{number}]: the kid is another key's")
        found[kid] = key
    return MappingProxyType(found)


def _public_key(jwk: object) -> tuple[str, PublicKey]:
    if not isinstance(jwk, dict):
        raise ValueError("is no JWK")
    if "d" in jwk or "k" in jwk:
        raise ValueError("this is a secret: only public keys belong here")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KID:
        raise ValueError("needs a kid")
    # RFC 8725 §3.1: a key is for one algorithm, and it is the key that says which.
    algorithm = _ALGORITHMS.get((str(jwk.get("kty")), str(jwk.get("crv"))))
    if algorithm is None:
        raise ValueError("expected kty EC with crv P-256, or kty OKP with crv Ed25519")
    if jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        raise ValueError(f"alg and use, where they are given, are {algorithm} and sig")
    try:
        return kid, PublicKey(algorithm, jwt.PyJWK.from_dict(jwk, algorithm).key)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError("is no public key of its curve") from None


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
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in it, or half of a surrogate pair
        raise OSError("not the name of a file") from None
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read(at_most + 1)
