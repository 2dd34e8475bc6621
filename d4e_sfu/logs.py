"""What reaches the log. Our own loggers follow the level that the operator asks for; those of libraries do not.

At debug libraries write down who connects from where, and headers with what is in them: they stay at warnings. Even of
those, and of every stack trace, addresses and tokens are taken out before a line is written.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import sys
from typing import Final, TextIO

OURS: Final = "d4e_sfu"
# What aiohttp says by a logger that we gave it.
_THEIRS: Final = frozenset({"d4e_sfu.drivers.http"})

# RFC 7515 §3.1: two objects in base64url, which begin with `{"`, and a signature; and whatever stands in a query.
_TOKEN: Final = re.compile(r"eyJ[\w-]*\.[\w-]*\.?[\w-]*|(?<=access_token=)[^&\s'\"]+|(?<=Bearer )[^\s'\"]+")
_QUAD: Final = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_FOUR: Final = re.compile(rf"(?<![\w.]){_QUAD}(?!\w|\.\w)")
_SIX: Final = re.compile(rf"(?<![\w:.])(?=[0-9A-Fa-f]*:)[0-9A-Fa-f:]{{2,39}}(?:{_QUAD})?(?![\w:]|\.\w)")


def configure(level: str, stream: TextIO | None = None) -> None:
    """`level` is a name such as `debug`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Discreet("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(level.upper())


def scrubbed(text: str) -> str:
    """Without addresses and tokens."""
    text = _TOKEN.sub("<token>", text)
    return _FOUR.sub("<address>", _SIX.sub(_six, text))


class _Discreet(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        ours = record.name.partition(".")[0] == OURS and record.name not in _THEIRS
        # Our own lines are written with this in mind, and tell on which address we listen.
        return text if ours and not record.exc_info else scrubbed(text)


def _six(found: re.Match[str]) -> str:
    """Times of day and names of C++ look like it."""
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "<address>"
