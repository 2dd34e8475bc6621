"""The YAML that a settings file may be: small, plain, and each value with its place."""

from __future__ import annotations

import time

import pytest

from d4e_sfu.document import MAX_BYTES, MAX_DEPTH, Document, DocumentError


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (b"", (1, 1, "the file is empty")),
        (b"# only a remark\n", (1, 1, "the file is empty")),
        (b"- a", (1, 1, "expected settings (key: value), not a list")),
        (b"word", (1, 1, "expected settings (key: value), not a single value")),
        (b"a:\n\tb: 1", (2, 1, "a tab: YAML is indented with spaces only")),
        (b"a: 1\n\tb: 2", (2, 1, "a tab: YAML is indented with spaces only")),
        (b"a: 1\n---\nb: 2", (2, 1, "a second document (---): one file is one configuration")),
        (b"a: &x 1\nb: *x", (2, 4, "aliases (*x) are not supported: write it out")),
        (b"a: !!python/name:os.system x", (1, 4, "tags ('tag:yaml.org,2002:python/name:os.system') are not supported")),
        (b"a: !x [1]", (1, 4, "tags ('!x') are not supported")),
        ("a: 1\nb: \u00e9".encode("latin-1"), (2, 4, "byte 0xe9 is not UTF-8: save the file as UTF-8")),
        ("a: 1".encode("utf-16"), (1, 1, "byte 0xff is not UTF-8: save the file as UTF-8")),
        (b"a: 1\nb: \x00", (2, 4, "the character U+0000 is not allowed")),
        (b"a: 1\nb: \x1b[2J", (2, 4, "the character U+001B is not allowed")),
        (b"a: " + b"[" * 100, (1, 4 + MAX_DEPTH - 1, f"nested more than {MAX_DEPTH} levels deep")),
        (b"x" * (MAX_BYTES + 1), (1, 1, "more than 256 KiB is not a settings file")),
        (b"a: 'b", (1, 6, "not valid YAML: found unexpected end of stream while scanning a quoted scalar")),
        (b"a: [1, 2\nb: 3", (2, 2, "not valid YAML: expected ',' or ']', but got ':' while parsing a flow sequence")),
    ],
)
def test_what_is_no_document_is_told_where(text: bytes, flaw: tuple[int, int, str]) -> None:
    with pytest.raises(DocumentError) as error:
        Document(text)
    assert error.value.flaw == flaw


def test_a_billion_laughs_are_none() -> None:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(DocumentError, match="aliases"):
        Document("\n".join(lines).encode())


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "{" * 200_000, "? " * 100_000, "- " * 100_000, "a: &x " + "!!" * 100_000]
)
def test_depth_and_noise_cost_little(text: str) -> None:
    start = time.process_time()
    with pytest.raises(DocumentError):
        Document(text.encode())
    assert time.process_time() - start < 1.0


def test_values_are_those_of_yaml_1_2() -> None:
    """`no` is Norway and `1:30` is not ninety: YAML 1.1 would have it otherwise."""
    text = b"""
a: no
b: on
c: 1:30
d: 0x1f
e: 2026-01-01
f: ~
g:
h: true
i: 'true'
j: -12
k: 1.50
l: 99999999999999999999
m: .inf
yes: 1
"""
    assert Document(text).plain() == {
        "a": "no",
        "b": "on",
        "c": "1:30",
        "d": "0x1f",
        "e": "2026-01-01",
        "f": None,
        "g": None,
        "h": True,
        "i": "true",
        "j": -12,
        "k": 1.5,
        "l": "99999999999999999999",
        "m": ".inf",
        "yes": 1,
    }


def test_a_byte_order_mark_is_no_matter() -> None:
    assert Document("a: 1".encode("utf-8-sig")).plain() == {"a": 1}


def test_a_key_given_twice_is_a_flaw_and_the_first_counts() -> None:
    document = Document(b"a: {b: 1, c: 2, b: 3}\na: 4\n? [x]\n: 5")
    assert document.plain() == {"a": {"b": 1, "c": 2}}
    assert sorted(document.flaws) == [
        (1, 17, "'b' is already given at line 1"),
        (2, 1, "'a' is already given at line 1"),
        (3, 3, "a key must be a word, not a list"),
    ]


def test_a_key_that_cannot_be_read_is_spelled_in_the_place_that_names_it() -> None:
    document = Document(b'roles: {"doc\\ntor": 1}')
    assert document.dotted(("roles", "d\ufeffoctor", "publish")) == "roles.'d\\ufeffoctor'.publish"
    assert document.dotted(("roles", "doc\ntor")) == "roles.'doc\\ntor'"
    assert document.dotted(("roles", "bác sĩ")) == "roles.bác sĩ"
    assert len(document.dotted(("roles", "x" * 10_000))) < 80


def test_places_are_those_of_the_text_whatever_was_dropped() -> None:
    document = Document(b"rooms:\n  - name: a\n  - name: b\n")
    assert document.position(("rooms", 1, "name")) == (3, 11)
    assert document.position(("rooms", 1, "name"), key=True) == (3, 5)
    assert document.position(("rooms", 2)) is None
    assert document.drop(("rooms", 0))
    assert not document.drop(("rooms", 7))
    assert not document.drop(("roles", "x"))
    assert not document.drop(())
    assert document.plain() == {"rooms": [{"name": "b"}]}
    assert document.position(("rooms", 0, "name")) == (3, 11)
    assert document.dotted(("rooms", 0, "name")) == "rooms.1.name"
    assert document.keys(()) == ["rooms"]
    assert document.keys(("rooms",)) == []
