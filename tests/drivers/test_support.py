"""What is sent to whoever helps holds nothing of a person: canaries of every kind go in, and none comes out."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from d4e_sfu.config import load
from d4e_sfu.core.tokens import mint
from d4e_sfu.drivers.support import masked, write

CANARIES = [
    "203.0.113.99", "10.20.30.40", "2001:db8:1:2::77", "fe80::1c2d:3e4f", "2001:db8:0:0:0:0:0:9",
    "lan.nguyen@benhvien.example.vn", "0912345678", "+84912345678", "s3cr3t-value-of-a-key", "opaque-1", "opaque-2",
    "b3BhcXVl", "of two words", "nguyễn.lan@bệnhviện.vn", "091 234 5678", "0912.345.678", "+84 912 345 678",
    "001099012345",
]  # fmt: skip
LINES = """\
2026-11-28T18:00:01+0700 host d4e-sfu[812]: INFO d4e_sfu.server participant_joined room=RM_a8k participant=PA_77x
2026-11-28T18:00:02+0700 host d4e-sfu[812]: ERROR aiohttp.access 203.0.113.99 - "GET /rtc?access_token={token} HTTP/1.1"
2026-11-28T18:00:03+0700 host d4e-sfu[812]: peer [2001:db8:1:2::77]:50000 fe80::1c2d:3e4f
2026-11-28T18:00:03+0700 host d4e-sfu[812]: 2001:db8:0:0:0:0:0:9 at 10.20.30.40:5000
2026-11-28T18:00:04+0700 host d4e-sfu[812]: mail lan.nguyen@benhvien.example.vn call 0912345678 or +84912345678
2026-11-28T18:00:04+0700 host d4e-sfu[812]: 091 234 5678, 0912.345.678; +84 912 345 678 001099012345
2026-11-28T18:00:04+0700 host d4e-sfu[812]: nguyễn.lan@bệnhviện.vn Authorization: Bearer opaque-1
2026-11-28T18:00:04+0700 host d4e-sfu[812]: authorization=Basic b3BhcXVl "bearer opaque-2"
2026-11-28T18:00:04+0700 host d4e-sfu[812]: "password": "of two words" took=0.123456789 at=1764354005.123456
2026-11-28T18:00:05+0700 host d4e-sfu[812]: secret=s3cr3t-value-of-a-key listening 192.0.2.5:443 127.0.0.1:7881
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s3cr3t-value-of-a-key" * 3)
    (tmp_path / "secret").chmod(0o600)
    path = tmp_path / "d4e-sfu.yaml"
    path.write_text(
        "keys: [{id: province, secret_file: secret}]\nmedia: {addresses: [{listen: 192.0.2.5}]}\nadmin: {port: 1}\n"
    )
    return path


def test_nothing_of_a_person_and_no_secret_is_in_the_archive(file: Path, tmp_path: Path) -> None:
    config = load(file)
    token = mint(
        config.keys[0], identity="dr.lan", room="ward-7", role="doctor", name="Lan", now=1.8e9, ttl=60, video={}
    )
    target = tmp_path / "support.tar.gz"
    write(target, config, findings=[{"check": "nat", "en": "10.20.30.40"}], version="1", log=LINES.format(token=token))
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        parts = {name: archive.extractfile(name) for name in archive.getnames()}
        texts = {name: part.read().decode() for name, part in parts.items() if part}
    assert {name.rpartition("/")[2] for name in texts} == {
        "version.json", "doctor.json", "config.json", "metrics.txt", "log.txt",
    }  # fmt: skip
    everything = "\n".join(texts.values())
    for canary in [*CANARIES, token, token.split(".")[1]]:
        assert canary not in everything, canary
    # And what is needed to help is still there.
    log = texts["d4e-sfu-support/log.txt"]
    assert "room=RM_a8k participant=PA_77x" in log
    assert "listening 192.0.2.5:443 127.0.0.1:7881" in log
    assert "2026-11-28T18:00:05+0700" in log
    assert "took=0.123456789 at=1764354005.123456" in log


@pytest.mark.parametrize("canary", CANARIES[:-1])
def test_the_log_really_held_what_was_masked(canary: str) -> None:
    assert canary in LINES
    assert canary not in masked(LINES)
