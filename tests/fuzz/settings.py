"""The configuration file: any text. Only ConfigError may come of it, and it points into the text; what is accepted is
accepted again, and differs from itself in nothing.
"""

from __future__ import annotations

from pathlib import Path

from d4e_sfu import config
from d4e_sfu.errors import ConfigError

NOWHERE = Path("/nonexistent")
ENVIRON = {"D4E_SECRET": "a secret of thirty-two bytes, or more"}


def once(data: bytes) -> None:
    try:
        first = config.parse(data, folder=NOWHERE, environ=ENVIRON)
    except ConfigError as error:
        _refused(error, data)
        return
    second = config.parse(data, folder=NOWHERE, environ=ENVIRON)
    assert not list(config.changes(first, second))


def _refused(error: ConfigError, data: bytes) -> None:
    assert error.problems
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 2
    for problem in error.problems:
        assert 1 <= problem.line <= lines, problem
        assert problem.column >= 1
        assert problem.message
        assert len(str(problem)) < 1000, "a long sentence"
        assert str(problem).isprintable(), repr(str(problem))
