"""The doctor's judgement: a machine that is well, and one fault at a time."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from d4e_sfu.config import parse
from d4e_sfu.core.diagnosis import Facts, Loop, Port, State, Trouble, diagnose
from d4e_sfu.core.firewall import form

WELL = Facts(
    running=True,
    ports=(Port("tcp", "0.0.0.0", 443, "d4e-sfu"), Port("udp", "10.0.0.5", 7882, "d4e-sfu")),
    local=("10.0.0.5",),
    listening=("10.0.0.5",),
    announced=("203.0.113.7", "10.0.0.5"),
    host="sfu.example.vn",
    resolved=("203.0.113.7",),
    loops=(Loop("10.0.0.5", 7882, 20, 20),),
    clock_synchronised=True,
    clock_offset=0.002,
    certificate=(),
    mtu={"eth0": 1500},
    buffer=16 << 20,
    cpu_flags=frozenset({"aes", "pclmulqdq"}),
    cores=4,
    workers=2,
    free={"/": 50 << 30},
    files=(),
    front="ours",
    exposure=0.2,
)
TOLD = (Trouble("It is so. Fix: do that.", "Như vậy. Cách sửa: làm thế này."),)

# The faults of the promise, and some more: how the machine is, which check names it, a word of the fix.
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "port": ({"ports": (Port("tcp", "0.0.0.0", 443, "nginx"),)}, "port", "nginx"),
    "nat": ({"announced": ("10.0.0.5",)}, "nat", "announce: [203.0.113.7, 10.0.0.5]"),
    "clock": ({"clock_offset": -42.0}, "clock", "host_ntp_servers"),
    "chain": ({"chain": TOLD}, "chain", "do that"),
    "expiry": ({"expiry": TOLD}, "expiry", "do that"),
    "mtu": ({"mtu": {"eth0": 1200}}, "mtu", "ip link set eth0 mtu 1500"),
    "dns": ({"resolved": (), "front": None}, "dns", "name server"),
    "disk": ({"free": {"/": 3 << 20}}, "disk", "old releases"),
    "permission": ({"files": TOLD}, "permissions", "do that"),
    "buffer": ({"buffer": 212992}, "buffer", "rmem_max"),
    "proxy": ({"front": "CN=inspection box"}, "proxy", "http.trusted_proxies"),
    "wrong address": ({"listening": ("10.0.0.9",)}, "address", "under listen"),
    "clock alone": ({"clock_synchronised": False}, "clock", "host_ntp_servers"),
    "not started again": ({"ports": (Port("tcp", "0.0.0.0", 443, ""),)}, "port", "systemctl restart"),
    "udp": ({"loops": (Loop("10.0.0.5", 7882, 20, 0),)}, "udp", "nft list ruleset"),
    "certificate": ({"certificate": TOLD}, "certificate", "do that"),
    "nobody answers": ({"front": ""}, "proxy", "open TCP 443"),
    "cpu": ({"cpu_flags": frozenset({"sse2"})}, "cpu", "host"),
    "workers": ({"workers": 9}, "cpu", "one for each core"),
    "hardening": ({"exposure": 1.1}, "hardening", "drop-ins"),
}


def test_a_machine_that_is_well_has_every_check_good() -> None:
    findings = diagnose(WELL)
    assert {finding.state for finding in findings} == {State.GOOD}
    assert [finding.check for finding in findings] == [
        "address", "port", "dns", "nat", "proxy", "udp", "clock", "certificate", "chain", "expiry", "mtu", "buffer",
        "cpu", "disk", "permissions", "hardening",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_alone_with_its_fix_in_both_languages(fault: str) -> None:
    change, check, fix = FAULTS[fault]
    bad = [finding for finding in diagnose(replace(WELL, **change)) if finding.state is State.BAD]
    assert [finding.check for finding in bad] == [check]
    assert fix in bad[0].en.partition("Fix: ")[2] or fix in bad[0].en
    assert "Fix: " in bad[0].en
    assert "Cách sửa: " in bad[0].vi


def test_a_proxy_that_is_trusted_is_no_fault() -> None:
    behind = replace(WELL, front="CN=proxy", resolved=("10.0.0.2",), trusted_proxies=1)
    assert {finding.state for finding in diagnose(behind)} == {State.GOOD}


def test_what_is_not_known_is_neither_good_nor_bad() -> None:
    """Each fact taken away alone, and all of them: nothing is called bad for it."""
    # Of these nothing is a fact as well: clients are then told the machine's own addresses, and no proxy is trusted.
    for name in {field.name for field in fields(Facts)} - {"announced"}:
        default = getattr(Facts(), name)
        assert not [each for each in diagnose(replace(WELL, **{name: default})) if each.state is State.BAD], name
    nothing = {finding.check: finding.state for finding in diagnose(Facts())}
    assert State.BAD not in nothing.values()
    assert sum(state is State.UNKNOWN for state in nothing.values()) >= 12


def test_the_firewall_form_lists_every_way_in_and_no_other() -> None:
    config = parse("""
http: {listeners: [{address: 127.0.0.1, port: 7880}, {address: 0.0.0.0, port: 8443}]}
media: {workers: 2, port: 7000, addresses: [{listen: 10.0.0.5, announce: [203.0.113.7]}]}
""")
    for language, people in (("en", "stations and phones"), ("vi", "máy trạm và điện thoại")):
        text = form(config, host="sfu.example.vn", language=language)
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if people in line]
        assert [(row[1], row[2], row[4]) for row in rows] == [
            ("TCP", "8443", "sfu.example.vn"),
            ("UDP", "7000", "203.0.113.7"),
            ("UDP", "7001", "203.0.113.7"),
        ]
        assert "7880" not in text
        assert "127.0.0.1:7881" in text
        assert "TCP 80: " in text
        assert "ACME" in text
