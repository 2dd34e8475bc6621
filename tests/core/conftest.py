"""The house of the core's tests."""

from __future__ import annotations

import pytest

from d4e_sfu.config import Config, Links
from tests.conftest import MintToken
from tests.core.house import House


@pytest.fixture
def house(config: Config, mint: MintToken) -> House:
    return House(config, mint)


@pytest.fixture
def unlimited(config: Config, mint: MintToken) -> House:
    """Where no link is estimated, so that no picture waits for one to tell what it carries."""
    return House(config.model_copy(update={"links": Links(start_bitrate=0)}), mint)
