"""What is wrong with a certificate, each fault made on purpose; and the authority, which makes none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from d4e_sfu.__main__ import main
from d4e_sfu.drivers.examination import Finding, examine
from tests.lab.server import TOP

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOST = "sfu.example.vn"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Signed:
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def sign(
    name: str,
    by: Signed | None = None,
    *,
    names: tuple[str, ...] = (),
    ca: bool = False,
    days: tuple[int, int] = (-30, 335),
    key: Key | None = None,
) -> Signed:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)


ROOT = sign("root", ca=True, days=(-1000, 3000))
MIDDLE = sign("middle", ROOT, ca=True, days=(-500, 1500))
LEAF = sign("leaf", MIDDLE, names=(HOST, "*.other.vn"))
CHAIN = LEAF.pem + MIDDLE.pem


def rules(certificate: bytes, key: bytes = LEAF.key_pem, *hosts: str, authorities: bytes = ROOT.pem) -> list[str]:
    return [each.rule for each in examine(certificate, key, hosts=hosts or (HOST,), now=NOW, authorities=authorities)]


def test_a_good_pair_has_nothing_wrong() -> None:
    assert rules(CHAIN) == []
    assert rules(CHAIN, LEAF.key_pem, "ward.other.vn", authorities=b"") == []


def short(days: tuple[int, int]) -> bytes:
    return sign("leaf", MIDDLE, names=(HOST,), days=days, key=LEAF.key).pem + MIDDLE.pem


FAULTS: dict[str, Callable[[], list[str]]] = {
    "certificate_unreadable": lambda: rules(b"not a certificate"),
    "key_unreadable": lambda: rules(CHAIN, b"not a key"),
    "key_encrypted": lambda: rules(
        CHAIN,
        LEAF.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
    ),
    "key_of_another": lambda: rules(CHAIN, ROOT.key_pem),
    "chain_broken": lambda: rules(LEAF.pem + ROOT.pem),
    "chain_missing": lambda: rules(LEAF.pem, authorities=b""),
    "chain_untrusted": lambda: rules(LEAF.pem),
    "name_missing": lambda: rules(CHAIN, LEAF.key_pem, "a.ward.other.vn"),
    "names_missing": lambda: rules(sign("leaf", MIDDLE, key=LEAF.key).pem + MIDDLE.pem),
    "not_yet_valid": lambda: rules(short((1, 100))),
    "expired": lambda: rules(short((-100, -1))),
    "expires_soon": lambda: rules(short((-100, 13))),
    "too_long": lambda: rules(short((-1, 900))),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_each_fault_is_named_and_no_other(rule: str) -> None:
    assert FAULTS[rule]() == [rule]


def test_a_chain_that_begins_with_its_authority_is_out_of_order() -> None:
    assert "chain_order" in rules(MIDDLE.pem + LEAF.pem)


def test_a_short_rsa_key_is_weak() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    pair = sign("leaf", MIDDLE, names=(HOST,), key=weak)
    assert rules(pair.pem + MIDDLE.pem, pair.key_pem) == ["weak_key"]


def test_each_sentence_is_there_in_both_languages_with_what_to_do() -> None:
    found: list[Finding] = []
    for certificate, key in ((b"", b""), (LEAF.pem + ROOT.pem, b""), (short((-100, -1)), ROOT.key_pem)):
        found += examine(certificate, key, hosts=["x.vn"], now=NOW)
    assert len(found) >= 6
    assert all("Fix: " in each.en and "Cách sửa: " in each.vi for each in found)


def authority(*words: str) -> str:
    script = str(TOP / "certs/authority.py")
    return subprocess.run([sys.executable, script, *words], check=True, capture_output=True, text=True).stdout


def test_the_authority_of_a_closed_network_signs_what_passes_and_renews_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    assert authority("init", str(folder), "--permit", "example.vn").startswith("made ")
    before = (folder / "ca.crt").read_bytes()
    assert authority("init", str(folder)).startswith("kept ")
    assert (folder / "ca.crt").read_bytes() == before
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}

    assert authority("issue", str(folder), HOST, "10.0.0.5").startswith("issued ")
    assert authority("issue", str(folder), HOST).startswith("kept ")
    assert authority("issue", str(folder), HOST, "new.example.vn").startswith("issued ")
    certificate, key = folder / f"{HOST}.crt", folder / f"{HOST}.key"
    found = examine(
        certificate.read_bytes(),
        key.read_bytes(),
        hosts=(HOST, "new.example.vn"),
        now=datetime.now(UTC),
        authorities=before,
    )
    assert found == []


def test_a_pair_of_an_authority_that_was_made_anew_or_that_is_half_written_is_signed_again(tmp_path: Path) -> None:
    authority("init", str(tmp_path))
    authority("issue", str(tmp_path), HOST)
    assert authority("issue", str(tmp_path), HOST).startswith("kept ")
    key = tmp_path / f"{HOST}.key"
    key.write_bytes((tmp_path / "ca.key").read_bytes())
    assert authority("issue", str(tmp_path), HOST).startswith("issued ")
    for part in ("ca.crt", "ca.key"):
        (tmp_path / part).unlink()
    authority("init", str(tmp_path))
    assert authority("issue", str(tmp_path), HOST).startswith("issued ")
    pair = (tmp_path / f"{HOST}.crt").read_bytes(), key.read_bytes()
    assert examine(*pair, hosts=(HOST,), now=datetime.now(UTC), authorities=(tmp_path / "ca.crt").read_bytes()) == []


def test_the_command_says_what_is_wrong_in_the_language_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority("init", str(tmp_path))
    authority("issue", str(tmp_path), HOST)
    pair = ["tls", "check", "--certificate", str(tmp_path / f"{HOST}.crt"), "--key", str(tmp_path / f"{HOST}.key")]
    assert main([*pair, "--host", HOST]) == 0
    assert main([*pair, "--host", "other.vn", "--lang", "en"]) == 78
    assert "name_missing: The certificate is not for other.vn" in capsys.readouterr().err
    assert main([*pair, "--host", "other.vn", "--lang", "vi"]) == 78
    assert "Chứng thư không dành cho other.vn" in capsys.readouterr().err
    assert main(["tls", "check", "--certificate", str(tmp_path / "none"), "--key", str(tmp_path / "none")]) == 78
