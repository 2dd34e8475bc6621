"""`d4e-sfu config migrate`: a configuration in words of before → the same in those of now, comments and all.

A key that was renamed is refused by `config.py` with its new name; here the file is rewritten, key by key, and nothing
else of it is touched. `RENAMED` is the one list of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from d4e_sfu.document import Document, Location

RENAMED: Final[Mapping[tuple[str, ...], str]] = {
    # Where, `*` for each item of a list → what the last word is called now.
    ("webhooks", "connector"): "socket",  # it names no connector, but where one listens
}


class Renaming(NamedTuple):
    line: int
    old: str
    """Dotted, as written."""
    new: str


def migrate(text: bytes) -> tuple[bytes, list[Renaming]]:
    """The text with its keys renamed, and what was. Raises `DocumentError` where it is no YAML.

    A key whose new name stands beside it is left alone: which of the two is meant is for its writer to say.
    """
    document = Document(text)
    lines = text.decode().splitlines(keepends=True)
    done = []
    found = [(document.position(where, key=True), where) for old in RENAMED for where in _places(document, (), old)]
    # From the end, so that what stands before it in the same line stays where it was.
    for position, where in sorted(((at, where) for at, where in found if at is not None), reverse=True):
        new = RENAMED[_pattern(where)]
        if document.position((*where[:-1], new)) is not None:
            continue
        (line, column), old = position, str(where[-1])
        row = lines[line - 1]
        if not row.startswith(old, column - 1):
            continue  # in quotes, or escaped: its writer had a reason
        lines[line - 1] = row[: column - 1] + new + row[column - 1 + len(old) :]
        done.append(Renaming(line, document.dotted(where), new))
    return "".join(lines).encode(), done[::-1]


def renamed(where: Location) -> str:
    """What to say of the setting at this place, if it was renamed; else nothing."""
    new = RENAMED.get(_pattern(where))
    return f"is called {new} now: d4e-sfu config migrate rewrites the file" if new else ""


def _pattern(where: Location) -> tuple[str, ...]:
    return tuple("*" if isinstance(part, int) else part for part in where)


def _places(document: Document, within: Location, left: tuple[str, ...]) -> Iterator[Location]:
    """Where this pattern stands in the text."""
    if not left:
        yield within
        return
    if left[0] != "*":
        if document.position((*within, left[0])) is not None:
            yield from _places(document, (*within, left[0]), left[1:])
        return
    index = 0
    while document.position((*within, index)) is not None:
        yield from _places(document, (*within, index), left[1:])
        index += 1
