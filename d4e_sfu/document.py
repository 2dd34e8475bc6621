"""A YAML text → plain values of which each knows its line and column.

The only door to PyYAML. It accepts the part of YAML that a settings file needs: one document of mappings, lists and
scalars, `true`/`false`, decimal numbers and `null` as in YAML 1.2, so that `no`, `on` and `1:30` stay text. Aliases
(which can blow up a file a billionfold), tags and deep nesting are refused, a key given twice is a problem. It knows
nothing of what the settings mean: that is `config.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import yaml

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 12
"""Levels of nesting; the settings need six."""

Location = Sequence[str | int]
"""The way to a value: keys of mappings and indices of lists."""


class Flaw(NamedTuple):
    """Something wrong at a place in the text; lines and columns count from 1."""

    line: int
    column: int
    message: str


class DocumentError(Exception):
    """The text is not such a document at all, so there is nothing to look into."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


class Document:
    """`plain()` is the values, `position()` says where one of them is, `drop()` forgets one."""

    def __init__(self, text: bytes) -> None:
        """Raises `DocumentError`; what is wrong but not fatal is in `flaws`."""
        self.flaws: list[Flaw] = []
        root = _compose(_decode(text))
        if root is None:
            raise DocumentError(Flaw(1, 1, "the file is empty"))
        if not isinstance(root, yaml.MappingNode):
            raise DocumentError(_at(root.start_mark, f"expected settings (key: value), not {_kind(root)}"))
        self._root = root
        self._index: dict[int, int] = {}  # of an item, by identity, in its list as written
        self._look_for_flaws(root)

    def plain(self) -> object:
        return _plain(self._root)

    def position(self, location: Location, *, key: bool = False) -> tuple[int, int] | None:
        """Line and column of the value (or of its key) at this location, None if the text has no such place."""
        found = self._find(location)
        if found is None:
            return None
        key_node, node = found
        mark = key_node.start_mark if key and key_node is not None else node.start_mark
        return mark.line + 1, mark.column + 1

    def dotted(self, location: Location) -> str:
        """`rooms.2.name`, counting as the text does, whatever was dropped; what cannot be seen in a key is spelled."""
        parts = []
        for end, part in enumerate(location, start=1):
            found = self._find(location[:end]) if isinstance(part, int) else None
            name = str(self._index.get(id(found[1]), part) if found else part)
            parts.append(name if name.isprintable() and len(name) <= 60 else _bounded(name))
        return ".".join(parts)

    def keys(self, location: Location) -> list[str]:
        """Of the mapping at this location; none if there is no mapping."""
        found = self._find(location)
        return [key.value for key, _ in found[1].value] if found and isinstance(found[1], yaml.MappingNode) else []

    def drop(self, location: Location) -> bool:
        """Forget what is at this location. Later items of a list move up, here and in `position()` alike."""
        parent = self._find(location[:-1])
        if not location or parent is None:
            return False
        node, last = parent[1], location[-1]
        if isinstance(node, yaml.MappingNode):
            kept = [pair for pair in node.value if pair[0].value != last]
        elif isinstance(node, yaml.SequenceNode) and isinstance(last, int):
            kept = [item for index, item in enumerate(node.value) if index != last]
        else:
            return False
        dropped = len(kept) < len(node.value)
        node.value = kept
        return dropped

    def _find(self, location: Location) -> tuple[yaml.ScalarNode | None, yaml.Node] | None:
        key: yaml.ScalarNode | None = None
        node: yaml.Node = self._root
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == part), None)
                if pair is None:
                    return None
                key, node = pair
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                key, node = None, node.value[part]
            else:
                return None
        return key, node

    def _look_for_flaws(self, node: yaml.Node) -> None:
        """Finds keys that are given twice or are no plain word, and drops them. Depth is bounded by `_compose`."""
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._index[id(item)] = index
                self._look_for_flaws(item)
        if not isinstance(node, yaml.MappingNode):
            return
        seen: dict[str, int] = {}
        kept = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.flaws.append(_at(key.start_mark, f"a key must be a word, not {_kind(key)}"))
                continue
            if key.value in seen:
                self.flaws.append(
                    _at(key.start_mark, f"{_bounded(key.value)} is already given at line {seen[key.value]}")
                )
                continue
            seen[key.value] = key.start_mark.line + 1
            kept.append((key, value))
            self._look_for_flaws(value)
        node.value = kept


class _Loader(yaml.SafeLoader):
    """Composes nodes with marks; constructs nothing. SafeLoader's recursion is bounded here, its resolvers replaced."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own protocol: a class attribute, extended below
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise DocumentError(_at(event.start_mark, f"aliases (*{event.anchor}) are not supported: write it out"))
        if getattr(event, "tag", None) is not None:
            raise DocumentError(_at(event.start_mark, f"tags ({_bounded(event.tag)}) are not supported"))
        if self._depth >= MAX_DEPTH:
            raise DocumentError(_at(event.start_mark, f"nested more than {MAX_DEPTH} levels deep"))
        self._depth += 1
        try:
            return super().compose_node(parent, index)  # type: ignore[arg-type]
        finally:
            self._depth -= 1


# YAML 1.2 §10.3.2 (core schema), decimal only; the length of a number is bounded before int() sees it.
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", ["t", "f"]),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]{1,18}$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"^[-+]?[0-9]{1,18}\.[0-9]{1,18}$", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern, re.ASCII), _first)


def _decode(text: bytes) -> str:
    if len(text) > MAX_BYTES:
        raise DocumentError(Flaw(1, 1, f"more than {MAX_BYTES // 1024} KiB is not a settings file"))
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8", "replace")
        flaw = _at_index(before, len(before), f"byte 0x{text[error.start]:02x} is not UTF-8: save the file as UTF-8")
        raise DocumentError(flaw) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            raise DocumentError(Flaw(1, 1, "not valid YAML")) from None
        raise DocumentError(_at(mark, _wording(text, mark, error))) from None
    except yaml.reader.ReaderError as error:
        flaw = _at_index(text, error.position, f"the character U+{ord(text[error.position]):04X} is not allowed")
        raise DocumentError(flaw) from None


def _wording(text: str, mark: yaml.Mark, error: yaml.MarkedYAMLError) -> str:
    line = text.split("\n")[mark.line] if mark.line <= text.count("\n") else ""
    if "\t" in line[: mark.column + 1]:
        return "a tab: YAML is indented with spaces only"
    if error.context and "single document" in error.context:
        return "a second document (---): one file is one configuration"
    said = f"{error.problem} {error.context}" if error.context else f"{error.problem}"
    return f"not valid YAML: {said}"


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    text: str = node.value
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool":
            return text == "true"
        case "int":
            return int(text)
        case "float":
            return float(text)
        case _:
            return text


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _bounded(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")


def _at(mark: Any, message: str) -> Flaw:
    return Flaw(mark.line + 1, mark.column + 1, message)


def _at_index(text: str, index: int, message: str) -> Flaw:
    return Flaw(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index), message)
