"""Documents exist in both languages, chapter by chapter, and what they point at is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d4e_sfu.config import Config
from d4e_sfu.core import tokens
from tests.conftest import SECRET
from tests.lab.server import TOP

NAMES = ("install", "upgrade", "runbooks", "configuration", "security", "capacity", "apps", "keys", "webhooks")
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
            assert name in variables or name.endswith(("_total", "_waiting")), (page, name)  # else a metric


# What the page for developers has in each language, and what makes a program of it.
PROGRAMS = {
    "python": ([sys.executable], "sign.py", "{}\nimport sys\nprint(token(*sys.argv[1:]), end='')\n"),
    "java": (
        ["java"],
        "Token.java",
        "class Token {{ {} public static void main(String[] a) throws Exception {{"
        " System.out.print(token(a[0], a[1], a[2], a[3], a[4], a[5])); }} }}",
    ),
    "php": (["php"], "token.php", "<?php {} echo token(...array_slice($argv, 1));"),
}


def example(language: str) -> str:
    pages = [(TOP / "docs" / each / "apps.md").read_text() for each in ("en", "vi")]
    (english,), (vietnamese,) = (re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S) for page in pages)
    assert english == vietnamese
    return str(english)


@pytest.mark.parametrize("language", [each for each, (command, *_) in PROGRAMS.items() if shutil.which(command[0])])
def test_a_token_of_each_language_is_accepted(language: str, config: Config, tmp_path: Path) -> None:
    command, name, frame = PROGRAMS[language]
    (tmp_path / name).write_text(frame.format(example(language)))
    person = 'bác sĩ "Lan" \\ 7'
    arguments = [config.keys[0].id, SECRET, "ward 7", "dr.lan", person, "doctor"]
    # An interpreter of Java takes the encoding of its arguments from there.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    made = subprocess.run(
        [*command, str(tmp_path / name), *arguments], capture_output=True, text=True, check=True, env=environment
    )
    grants = tokens.verify(made.stdout, config, now=time.time())
    assert (grants.room, grants.identity, grants.name, grants.role) == ("ward 7", "dr.lan", person, "doctor")


def test_the_tokens_of_all_languages_say_the_same() -> None:
    for language in (*PROGRAMS, "csharp"):
        text = example(language)
        for word in ("iss", "sub", "name", "nbf", "exp", "3600", "video", "roomJoin", "room", "d4e", "role", "HS256"):
            assert re.search(rf"\b{word}\b", text), (language, word)
        assert len(text.splitlines()) <= 12
