"""What several tests need: a configuration with a key, and tokens signed by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from d4e_sfu.config import Config, Key
from d4e_sfu.core import tokens

SECRET = "a secret of thirty-two bytes, or more"
KEY = Key(id="test", default_role="doctor").holding(SECRET.encode())
WALL = 1_700_000_000.0  # Unix seconds: the day on which these tests happen

MintToken = Callable[..., str]


@pytest.fixture
def config() -> Config:
    return Config(keys=(KEY,))


@pytest.fixture
def mint() -> MintToken:
    """A token for one participant of room "ward", valid at `WALL`."""

    def token(identity: str, role: str | None = None, *, room: str = "ward", now: float = WALL, **more: Any) -> str:
        return tokens.mint(KEY, identity=identity, room=room, role=role, now=now, **more)

    return token
