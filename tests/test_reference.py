"""The reference of the settings is what the models say, in both languages."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
import yaml

from tests.lab.server import TOP


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", TOP / ".ci/reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", ["en", "vi"])
def test_the_reference_is_what_the_models_say(reference: ModuleType, language: str) -> None:
    assert (TOP / f"docs/{language}/configuration.md").read_text() == reference.page(language), "make reference"


def test_every_setting_of_the_example_is_in_it_with_its_meaning(reference: ModuleType) -> None:
    keys = {setting.key for setting in reference.settings()}
    assert {"http.listeners[].port", "roles.NAME.publish", "rooms[].max_bitrate.camera", "limits.data.burst"} <= keys
    example = yaml.safe_load((TOP / "config/d4e-sfu.yaml").read_text())
    assert {key.partition(".")[0].partition("[")[0] for key in keys} == set(example)
    assert all(setting.meaning and setting.reload for setting in reference.settings())


def test_every_meaning_is_translated(reference: ModuleType) -> None:
    words = yaml.safe_load((TOP / "docs/vi/settings.yaml").read_text())
    meanings = {setting.meaning for setting in reference.settings()}
    assert sorted(meanings - set(words)) == [], "to be said in docs/vi/settings.yaml"
    assert sorted(set(words) - meanings) == [], "no longer said in English"
