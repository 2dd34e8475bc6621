"""What libraries say: nothing at debug, and of what is worse neither addresses nor tokens."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from d4e_sfu.logs import configure, scrubbed


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("d4e_sfu")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    configure("debug", stream)
    yield stream
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


def test_our_own_loggers_follow_the_level_and_no_library_does(log: io.StringIO) -> None:
    for name in ("d4e_sfu.server", "aiortc.rtcsctptransport", "asyncio", "d4e_sfux"):
        logging.getLogger(name).debug("from 10.1.2.3")
    assert log.getvalue() == "DEBUG d4e_sfu.server from 10.1.2.3\n"


@pytest.mark.parametrize("name", ["aiohttp.server", "d4e_sfu.drivers.http"])
def test_of_what_a_library_warns_of_addresses_are_taken_out(log: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning("Error handling request from %s", "203.0.113.9")
    assert log.getvalue() == f"WARNING {name} Error handling request from <address>\n"


def test_of_a_stack_trace_too_ours_included(log: io.StringIO) -> None:
    try:
        raise ValueError("no route to 2001:db8::7 for eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJsYW4ifQ.c2ln")
    except ValueError:
        logging.getLogger("d4e_sfu.drivers.signal").exception("signalling failed")
    assert "test_of_a_stack_trace_too" in log.getvalue()
    assert "ValueError: no route to <address> for <token>" in log.getvalue()


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("('127.0.0.1', 40000)", "('<address>', 40000)"),
        ("[2001:db8::1]:443", "[<address>]:443"),
        ("It was 192.0.2.7. Or 2001:db8::7.", "It was <address>. Or <address>."),
        ("::ffff:192.0.2.1 and fe80::1%eth0", "<address> and <address>%eth0"),
        ("GET /rtc?access_token=abc.def&x=1", "GET /rtc?access_token=<token>&x=1"),
        ("Authorization: Bearer s3cr3t", "Authorization: Bearer <token>"),
        ("aiortc 1.16.0, at 12:30:45, std::vector, a::b::c", "aiortc 1.16.0, at 12:30:45, std::vector, a::b::c"),
        ("x" * 100_000 + ":" * 100_000, "x" * 100_000 + ":" * 100_000),
    ],
)
def test_addresses_and_tokens_are_known_from_what_looks_like_them(said: str, left: str) -> None:
    assert scrubbed(said) == left
