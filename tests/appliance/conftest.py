"""One machine for the whole life of an installation: the tests of a file are its chapters, in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance import release
from tests.appliance.controller import Controller
from tests.appliance.machine import Machine, booted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.appliance)


@pytest.fixture(scope="session", autouse=True)
def an_end_by_a_signal_cleans_up() -> None:
    """As Ctrl-C does: what was booted is powered off. Background jobs ignore SIGINT, so that is given back."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="session")
def bundle(bundles: Path) -> Path:
    return release.bundle(release.wheel(), bundles)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with booted() as machine:
        yield machine


@pytest.fixture(scope="module")
def controller(bundle: Path, machine: Machine) -> Controller:
    return Controller(bundle, machine)
