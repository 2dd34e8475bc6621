"""The house of the core's tests."""

from __future__ import annotations

import pytest

from d4e_sfu.config import Config
from tests.conftest import MintToken
from tests.core.house import House


@pytest.fixture
def house(config: Config, mint: MintToken) -> House:
    return House(config, mint)
