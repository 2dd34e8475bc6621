"""Certificates: the one of DTLS, made in memory at every start, and those of HTTPS, loaded from files.

`python -m d4e_sfu.drivers.certificates FOLDER [HOST …]` makes a development certificate, for a try-out on the local
network: browsers warn about it once. An operator brings his own files and names them in the configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

# Above it browsers refuse a certificate for HTTPS, even one that the user has accepted (CA/Browser Forum, 398 days).
_DEVELOPMENT_DAYS = 365
_RENEW_DAYS = 30
_LOCAL = ("localhost", "127.0.0.1", "::1")


def dtls_certificate() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A self-signed ECDSA P-256 certificate (RFC 8827 §6.5); what vouches for it is its fingerprint in the answer.

    It is told to who joins within a day, and lives as long as their associations: valid for a year. Its name says
    nothing.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _self_signed(key, secrets.token_hex(16), days=365)


def https(certificate: Path, key: Path) -> ssl.SSLContext:
    """The context of a TLS listener, from a PEM chain and its PEM key.

    Raises OSError (`ssl.SSLError` included) when a file cannot be read or the two do not belong together.
    """
    return Https(certificate, key).context


class Https:
    """The context of all HTTPS listeners. A new pair goes into it while it serves: open connections keep theirs."""

    def __init__(self, certificate: Path, key: Path, *, also: Callable[[bytes, bytes], None] | None = None) -> None:
        """`also` is given each pair as PEM, before it is served, and may raise OSError where it cannot serve it."""
        self.context = _context()
        self._also = also
        self.load(certificate, key)

    def load(self, certificate: Path, key: Path) -> None:
        """Raises OSError where the pair is not right, and then serves what it served before."""
        seen = _stamps(certificate, key)  # before it is read: what is replaced meanwhile is read again
        # Read once: what is tried is what is served, though the files may be replaced in between.
        pair = certificate.read_bytes(), key.read_bytes()
        with _memory(pair[0]) as chain, _memory(pair[1]) as private:
            # An empty passphrase, or OpenSSL would ask for one on the terminal.
            _context().load_cert_chain(chain, private, password="")
            if self._also is not None:
                self._also(*pair)
            self.context.load_cert_chain(chain, private, password="")
        self._files, self._seen = (certificate, key), seen

    def renew(self) -> bool:
        """Whether files were replaced under their names, and are served now. As `load`, but raises once for each."""
        seen = _stamps(*self._files)
        if seen == self._seen:
            return False
        self._seen = seen
        self.load(*self._files)
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _stamps(*paths: Path) -> list[tuple[int, int, int] | None]:
    return [_stamp(path) for path in paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _memory(content: bytes) -> Iterator[str]:
    """A file of the kernel's, in memory alone: OpenSSL's chains come from files by name."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def development(folder: Path, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
    """`development.crt` and `development.key` in `folder`, for this machine's names and addresses and for `hosts`.

    A pair that is good for all of these, and for 30 days more, stays as it is. Both files are readable by their
    owner only. Returns their paths: certificate, key.
    """
    certificate, key = folder / "development.crt", folder / "development.key"
    names = list(dict.fromkeys([*_LOCAL, *local_addresses(), *hosts]))
    if _usable(certificate, key, names):
        return certificate, key
    folder.mkdir(parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem)
    signed = _self_signed(private, "d4e-sfu development", days=_DEVELOPMENT_DAYS, names=names)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def ends(certificate: Path | None) -> float | None:
    """When the first certificate of that file expires, in seconds since 1970; None where there is none to read."""
    try:
        pem = certificate.read_bytes() if certificate is not None else b""
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None


def local_addresses() -> list[str]:
    """This machine's addresses towards the networks that it has a route to; nothing is sent to find out."""
    found = []
    # 192.0.2.0/24 and 2001:db8::/32 are for documentation (RFC 5737, RFC 3849).
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found


def _usable(certificate: Path, key: Path, names: Iterable[str]) -> bool:
    try:
        https(certificate, key)
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        known = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    covered = set(known.get_values_for_type(x509.DNSName))
    covered |= {str(address) for address in known.get_values_for_type(x509.IPAddress)}
    lasts = loaded.not_valid_after_utc - datetime.now(UTC) > timedelta(days=_RENEW_DAYS)
    private = all(path.stat().st_mode & 0o077 == 0 for path in (certificate, key))
    return lasts and private and covered >= set(names)


def _self_signed(
    key: ec.EllipticCurvePrivateKey, common_name: str, *, days: int, names: Sequence[str] = ()
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clients whose clock is behind
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m d4e_sfu.drivers.certificates", description=development.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("host", nargs="*", help="another name or address of this machine")
    options = parser.parse_args(arguments)
    certificate, key = development(options.folder, options.host)
    print(f"{certificate}\n{key}")


if __name__ == "__main__":
    main()
