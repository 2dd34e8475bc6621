"""An authority for a closed network: `init FOLDER` makes it, `issue FOLDER HOST …` signs a server's pair.

It runs where Ansible runs, needs Python 3.11 and `cryptography` (Debian 12's own will do) and nothing of
d4e-sfu. Browsers trust its certificates only where `ca.crt` was installed, and without trust there is no camera: give
that file to every station (docs/en/install.md). `ca.key` can speak for any name below `--permit`: keep the folder off
the network, with a copy in a safe. It signs nothing for networks that are not closed; there an authority that browsers
know, or ACME, is right.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
# Browsers refuse a server's certificate that is valid for longer (CA/Browser Forum, 398 days).
SERVER_DAYS = 365
RENEW_DAYS = 45
# Clocks in a closed network differ: valid from a day before.
SLACK = timedelta(days=1)


def init(folder: Path, name: str, permit: Sequence[str]) -> bool:
    """Make the authority, unless it is there. Returns whether it was made."""
    if (folder / "ca.crt").exists():
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if permit:
        # RFC 5280 §4.2.1.10: whoever steals the key can then speak for these names alone.
        builder = builder.add_extension(
            x509.NameConstraints(permitted_subtrees=[_name(each) for each in permit], excluded_subtrees=None),
            critical=True,
        )
    certificate = builder.sign(key, hashes.SHA384())
    _write(folder / "ca.key", _pem(key))
    _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return True


def issue(folder: Path, hosts: Sequence[str], *, now: datetime) -> bool:
    """Sign `HOST.crt` (leaf, then authority) and `HOST.key`, unless a pair for these names is good for long enough."""
    first = hosts[0]
    certificate, key = folder / f"{first}.crt", folder / f"{first}.key"
    names = [_name(host) for host in dict.fromkeys(hosts)]
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        signing = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except OSError as error:
        raise SystemExit(f"authority.py: {error.filename}: {error.strerror}. Fix: authority.py init {folder}") from None
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    if _good(certificate, key, authority, names, now):
        return False
    private = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first[:64])]),
            authority.subject,
            private.public_key(),
            SERVER_DAYS,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(signing, hashes.SHA384())
    )
    _write(key, _pem(private))
    chain = leaf.public_bytes(serialization.Encoding.PEM) + authority.public_bytes(serialization.Encoding.PEM)
    _write(certificate, chain, mode=0o644)
    return True


def _good(
    certificate: Path, key: Path, authority: x509.Certificate, names: Sequence[x509.GeneralName], now: datetime
) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        signer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    public = leaf.public_key()
    return (
        leaf.issuer == authority.subject
        # An authority that was made anew has the same name; and what the power cut in the middle is no pair.
        and signer.key_identifier == x509.SubjectKeyIdentifier.from_public_key(authority.public_key()).digest
        and isinstance(private, ec.EllipticCurvePrivateKey)
        and isinstance(public, ec.EllipticCurvePublicKey)
        and private.public_key().public_numbers() == public.public_numbers()
        and all(name in list(covered) for name in names)
        and _utc(leaf.not_valid_after) - now > timedelta(days=RENEW_DAYS)
    )


def _utc(naive: datetime) -> datetime:
    return naive.replace(tzinfo=UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.IPAddress(ipaddress.ip_network(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Whole or not at all, and never readable by others on the way."""
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    new.chmod(mode)
    new.replace(path)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(prog="authority.py", description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("init", help="make ca.crt and ca.key")
    made.add_argument("folder", type=Path)
    made.add_argument("--name", default="d4e-sfu private authority", help="as browsers show it")
    made.add_argument("--permit", action="append", default=[], help="a domain or network it may speak for; repeatable")
    signed = commands.add_parser("issue", help="sign HOST.crt and HOST.key")
    signed.add_argument("folder", type=Path)
    signed.add_argument("hosts", nargs="+", metavar="HOST", help="names and addresses; the first names the files")
    options = parser.parse_args(arguments)
    if options.command == "init":
        new = init(options.folder, options.name, options.permit)
        return f"{'made' if new else 'kept'} {options.folder / 'ca.crt'}"
    new = issue(options.folder, options.hosts, now=datetime.now(UTC))
    return f"{'issued' if new else 'kept'} {options.folder / (options.hosts[0] + '.crt')}"


if __name__ == "__main__":
    print(main())
