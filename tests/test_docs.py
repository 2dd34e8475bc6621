"""Documents exist in both languages, chapter by chapter, and what they point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.server import TOP

NAMES = ("install", "upgrade", "runbooks", "configuration", "security", "capacity")
PAGES = [TOP / "docs" / language / f"{name}.md" for language in ("en", "vi") for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_document_has_the_same_chapters_and_tables_in_both_languages(name: str) -> None:
    english, vietnamese = ((TOP / "docs" / language / f"{name}.md").read_text() for language in ("en", "vi"))
    for mark in (r"^#+ ", r"^\|", r"^- ", r"^```", r"^\d+\. "):
        assert len(re.findall(mark, english, re.MULTILINE)) == len(re.findall(mark, vietnamese, re.MULTILINE)), mark
    assert english != vietnamese
    assert re.search(r"[ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹđ]", vietnamese)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    for link in links:
        assert (page.parent / link).resolve().exists(), link


def test_what_documents_tell_people_to_type_is_there() -> None:
    wrapper = (TOP / "ansible/d4e").read_text()
    variables = {
        name
        for role in (TOP / "ansible/roles").iterdir()
        for name in re.findall(r"^(\w+):", (role / "defaults/main.yml").read_text(), re.MULTILINE)
    }
    for page in PAGES:
        text = page.read_text()
        for command in re.findall(r"\./d4e ([a-z]+)", text):
            assert re.search(rf"^\s*(?:\w+ \| )*{command}(?: \| \w+)*\)", wrapper, re.MULTILINE), (page, command)
        for name in re.findall(r"`((?:d4e_sfu|host|monitoring|backup)_[a-z_]+)[:`]", text):
            assert name in variables or name.endswith("_total"), (page, name)  # else a metric
