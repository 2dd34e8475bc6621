"""What is wrong with a certificate and its key, before a browser says so: `d4e-sfu tls check`, and the doctor.

It reads what it is given and a clock that it is given; it opens no connection. Each finding is a rule by name and a
sentence with what to do, in both languages. An authority that is private is no fault; that browsers do not know it is
for the operator to say (`authorities`).
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

EXPIRES_SOON: Final = timedelta(days=14)
LONGEST: Final = timedelta(days=398)
"""CA/Browser Forum, Baseline Requirements §6.3.2: browsers refuse what is valid for longer, if a public authority signed
it. Apple's refuse it from 825 days on whoever signed it."""
LONGEST_PRIVATE: Final = timedelta(days=825)


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    en: str
    vi: str
    fatal: bool = True
    """Browsers refuse the pair; otherwise they will, or may."""


def examine(
    certificate: bytes, key: bytes, *, hosts: Sequence[str], now: datetime, authorities: bytes = b""
) -> list[Finding]:
    """Everything that is wrong with a PEM chain and its PEM key, for these names and addresses, at this time.

    `authorities`: PEM roots that clients trust; with them a chain must end in one.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        chain = []
    if not chain:
        return [
            Finding(
                "certificate_unreadable",
                "The certificate file holds no PEM certificate. Fix: convert it (openssl x509 -in FILE -out server.crt).",
                "Tệp chứng thư không chứa chứng thư PEM. Cách sửa: chuyển đổi (openssl x509 -in FILE -out server.crt).",
            )
        ]
    return [
        *_key(chain[0], key),
        *_order(chain),
        *_end(chain, authorities),
        *_names(chain[0], hosts),
        *_times(chain, now),
        *_strength(chain),
    ]


def first_name(certificate: bytes) -> str | None:
    """Of the leaf: the first name in it that is one, and no pattern."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    return next((name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*")), None)


def unreadable(file: str, reason: str) -> Finding:
    return Finding(
        "file_unreadable",
        f"{file}: {reason}. Fix: put the file there, or correct http.tls.",
        f"{file}: {reason}. Cách sửa: đặt tệp vào đó, hoặc sửa http.tls.",
    )


def _key(leaf: x509.Certificate, pem: bytes) -> Iterator[Finding]:
    try:
        private: PrivateKeyTypes = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        yield Finding(
            "key_encrypted",
            "The private key is encrypted, and nobody is there at a restart. Fix: openssl pkey -in FILE -out server.key.",
            "Khóa riêng được mã hóa, khi khởi động lại không có ai nhập mật khẩu. Cách sửa: openssl pkey -in FILE "
            "-out server.key.",
        )
        return
    except ValueError:
        yield Finding(
            "key_unreadable",
            "The key file holds no PEM private key. Fix: name the key that the request was made with.",
            "Tệp khóa không chứa khóa riêng PEM. Cách sửa: chỉ đúng tệp khóa đã dùng để tạo yêu cầu chứng thư.",
        )
        return
    if _spki(private.public_key()) != _spki(leaf.public_key()):
        yield Finding(
            "key_of_another",
            "The private key belongs to another certificate. Fix: name the key that this certificate was requested with; "
            "the file must begin with the server's own certificate.",
            "Khóa riêng thuộc về chứng thư khác. Cách sửa: chỉ đúng tệp khóa của chứng thư này; tệp chứng thư phải bắt "
            "đầu bằng chứng thư của chính máy chủ.",
        )


def _spki(public: object) -> bytes:
    assert isinstance(
        public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    )
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _order(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    if _is_authority(chain[0]) and len(chain) > 1:
        yield Finding(
            "chain_order",
            "The file begins with an authority. Fix: put the server's certificate first, then the one that signed it.",
            "Tệp bắt đầu bằng chứng thư của cơ quan cấp. Cách sửa: đặt chứng thư máy chủ trước, sau đó là chứng thư đã "
            "ký nó.",
        )
        return
    for number, (lower, upper) in enumerate(itertools.pairwise(chain), start=1):
        if not _signed(lower, upper):
            yield Finding(
                "chain_broken",
                f"Certificate {number} was not signed by the one after it ({_name(upper)}). Fix: put the chain in order, "
                "leaf first, and leave out what does not belong to it.",
                f"Chứng thư thứ {number} không do chứng thư đứng sau ({_name(upper)}) ký. Cách sửa: sắp xếp chuỗi, chứng "
                "thư máy chủ đứng đầu, bỏ chứng thư không liên quan.",
            )


def _end(chain: Sequence[x509.Certificate], authorities: bytes) -> Iterator[Finding]:
    last = chain[-1]
    if not authorities:
        if len(chain) == 1 and last.issuer != last.subject:
            yield Finding(
                "chain_missing",
                f"The chain is missing: browsers may not find who signed it ({last.issuer.rfc4514_string()}). Fix: append "
                "the authority's intermediate certificate to the file.",
                f"Thiếu chuỗi chứng thư: trình duyệt có thể không tìm thấy bên ký ({last.issuer.rfc4514_string()}). Cách "
                "sửa: nối chứng thư trung gian của cơ quan cấp vào tệp.",
            )
        return
    roots = x509.load_pem_x509_certificates(authorities)
    if not any(last == root or _signed(last, root) for root in roots):
        yield Finding(
            "chain_untrusted",
            f"The chain ends with {_name(last)}, which none of the trusted authorities signed. Fix: append the missing "
            "intermediate certificate, or install the authority on the stations.",
            f"Chuỗi kết thúc ở {_name(last)}, không do cơ quan cấp tin cậy nào ký. Cách sửa: nối chứng thư trung gian còn "
            "thiếu, hoặc cài chứng thư gốc lên các máy trạm.",
        )


def _names(leaf: x509.Certificate, hosts: Sequence[str]) -> Iterator[Finding]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield Finding(
            "names_missing",
            "The certificate names no host (no subjectAltName); browsers do not look at its subject. Fix: request one "
            "with the server's name in subjectAltName.",
            "Chứng thư không có subjectAltName; trình duyệt không xét trường subject. Cách sửa: xin chứng thư mới có tên "
            "máy chủ trong subjectAltName.",
        )
        return
    dns = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    addresses = set(names.get_values_for_type(x509.IPAddress))
    for host in hosts:
        if not _covers(dns, addresses, host):
            known = ", ".join([*dns, *map(str, addresses)])[:200]
            yield Finding(
                "name_missing",
                f"The certificate is not for {host}, only for {known}. Fix: use one of these names, or request one for it.",
                f"Chứng thư không dành cho {host}, chỉ cho {known}. Cách sửa: dùng một trong các tên này, hoặc xin chứng "
                "thư có tên đó.",
            )


def _covers(dns: Sequence[str], addresses: Collection[object], host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in addresses
    except ValueError:
        host = host.lower().rstrip(".")
        # RFC 6125 §6.4.3: a star stands for one label, the first.
        return host in dns or f"*.{host.partition('.')[2]}" in dns


def _times(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Finding]:
    for each in chain:
        if now < each.not_valid_before_utc:
            yield Finding(
                "not_yet_valid",
                f"{_name(each)} is valid from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and it is "
                f"{now:%Y-%m-%d %H:%M}. Fix: set the clock (timedatectl), or wait.",
                f"{_name(each)} chỉ có hiệu lực từ {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, giờ máy là "
                f"{now:%Y-%m-%d %H:%M}. Cách sửa: chỉnh đồng hồ (timedatectl), hoặc chờ.",
            )
        elif now > each.not_valid_after_utc:
            yield Finding(
                "expired",
                f"{_name(each)} expired on {each.not_valid_after_utc:%Y-%m-%d}. Fix: renew it, then reload the server.",
                f"{_name(each)} đã hết hạn ngày {each.not_valid_after_utc:%Y-%m-%d}. Cách sửa: gia hạn, rồi nạp lại máy "
                "chủ.",
            )
        elif each.not_valid_after_utc - now < EXPIRES_SOON:
            yield Finding(
                "expires_soon",
                f"{_name(each)} expires on {each.not_valid_after_utc:%Y-%m-%d}. Fix: renew it now.",
                f"{_name(each)} sẽ hết hạn ngày {each.not_valid_after_utc:%Y-%m-%d}. Cách sửa: gia hạn ngay.",
                fatal=False,
            )
    lifetime = chain[0].not_valid_after_utc - chain[0].not_valid_before_utc
    if lifetime > LONGEST_PRIVATE:
        yield Finding(
            "too_long",
            f"It is valid for {lifetime.days} days; some browsers refuse more than {LONGEST_PRIVATE.days}. Fix: request "
            f"one for at most {LONGEST.days} days.",
            f"Thời hạn {lifetime.days} ngày; một số trình duyệt từ chối quá {LONGEST_PRIVATE.days} ngày. Cách sửa: xin "
            f"chứng thư tối đa {LONGEST.days} ngày.",
        )


def _strength(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for each in chain:
        public = each.public_key()
        if isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048:
            yield Finding(
                "weak_key",
                f"{_name(each)} has an RSA key of {public.key_size} bits; browsers want 2048. Fix: request a new one, "
                "ECDSA P-256 or RSA 2048.",
                f"{_name(each)} dùng khóa RSA {public.key_size} bit; trình duyệt yêu cầu 2048. Cách sửa: xin chứng thư mới, "
                "ECDSA P-256 hoặc RSA 2048.",
            )
        # What signs itself is trusted by its name, not by its signature.
        if each.issuer != each.subject and isinstance(each.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
            yield Finding(
                "weak_signature",
                f"{_name(each)} is signed with {each.signature_hash_algorithm.name}. Fix: request one signed with SHA-256.",
                f"{_name(each)} được ký bằng {each.signature_hash_algorithm.name}. Cách sửa: xin chứng thư ký bằng SHA-256.",
            )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return (certificate.subject.rfc4514_string() or "a certificate without a name")[:100]
