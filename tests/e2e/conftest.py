"""What end-to-end tests share: a server and a browser of its own for each; or, where starting these would take longer
than the tests themselves, one of both for a module (which then is `pytest.mark.asyncio(loop_scope="module")`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.lab.browser import chromium
from tests.lab.server import Server, running


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that must end without a traceback in its log."""
    async with running(tmp_path) as server:
        yield server


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def emptied_browser(one_browser: Browser) -> AsyncIterator[Browser]:
    """The module's browser, without what the test before left open."""
    yield one_browser
    for context in one_browser.contexts:
        await context.close()
