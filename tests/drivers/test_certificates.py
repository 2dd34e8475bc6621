"""Certificates: what is made, for whom it is good, who may read it."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from d4e_sfu.drivers import certificates
from d4e_sfu.drivers.certificates import development, dtls_certificate, https, local_addresses


def test_the_dtls_certificate_is_new_each_time_and_says_nothing_about_the_server() -> None:
    (key, first), (_, second) = dtls_certificate(), dtls_certificate()
    assert isinstance(key.curve, ec.SECP256R1)
    assert first.public_key() == key.public_key()
    assert first.serial_number != second.serial_number
    assert first.subject != second.subject
    assert not list(first.extensions)
    assert first.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)
    assert first.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_the_development_certificate_is_for_this_machine_and_its_owner(tmp_path: Path) -> None:
    certificate, key = development(tmp_path / "certs", ["10.1.2.3", "station.example"])
    assert [path.stat().st_mode & 0o777 for path in (certificate, key)] == [0o600, 0o600]
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "station.example"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {"127.0.0.1", "::1", "10.1.2.3", *local_addresses()} <= addresses
    assert loaded.not_valid_after_utc - loaded.not_valid_before_utc < timedelta(days=398)
    https(certificate, key)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
def test_tls_is_1_2_or_newer(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Two endpoints in memory; the client would take anything."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        client.minimum_version = client.maximum_version = version
    server = https(*development(tmp_path))
    server.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the version that is refused, and not its hashes
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)

    def shake() -> None:
        waiting = set(ends)
        for _ in range(10):
            for end in list(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    waiting.discard(end)
        assert not waiting

    if version == ssl.TLSVersion.TLSv1_2:
        shake()
        assert ends[0].version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)unsupported.protocol"):
            shake()


def test_the_development_certificate_stays_until_it_no_longer_fits(tmp_path: Path) -> None:
    certificate, _ = development(tmp_path)
    first = certificate.read_bytes()
    development(tmp_path)
    assert certificate.read_bytes() == first
    development(tmp_path, ["10.9.9.9"])
    second = certificate.read_bytes()
    assert second != first
    development(tmp_path)
    assert certificate.read_bytes() == second, "it is good for more than was asked"


def test_a_development_certificate_that_is_broken_old_or_open_to_others_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = development(tmp_path)
    for damage in (
        lambda: certificate.write_text("nonsense"),
        lambda: key.write_text("nonsense"),
        lambda: key.unlink(),
        lambda: key.chmod(0o644),
    ):
        before = certificate.read_bytes()
        damage()
        development(tmp_path)
        assert certificate.read_bytes() != before
        https(certificate, key)
        assert key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(certificates, "_DEVELOPMENT_DAYS", 20)
    certificate.unlink()
    development(tmp_path)
    before = certificate.read_bytes()
    development(tmp_path)
    assert certificate.read_bytes() != before


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = development(tmp_path / "a")
    _, other = development(tmp_path / "b")
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        https(certificate, other)
    with pytest.raises(FileNotFoundError):
        https(tmp_path / "nowhere.crt", other)


async def test_https_is_served_with_it(tmp_path: Path) -> None:
    certificate, key = development(tmp_path)

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=https(certificate, key))
    await site.start()
    port = runner.addresses[0][1]
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with ClientSession() as session:
        async with session.get(f"https://localhost:{port}/", ssl=trusting) as response:
            assert await response.text() == "hello"
        async with session.get(f"https://127.0.0.1:{port}/", ssl=trusting) as response:
            assert response.status == 200
    await runner.cleanup()


def test_local_addresses_are_addresses() -> None:
    for address in local_addresses():
        ipaddress.ip_address(address)


def test_the_command_line_prints_the_two_paths(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "d4e_sfu.drivers.certificates", str(tmp_path), "10.1.1.1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "development.crt"), str(tmp_path / "development.key")]
