"""What a consultation must survive: the rows of the matrix, each an experiment that returns figures.

`ROWS` are virtual (a function of a `Run`, seeds 1 to 20, the worst counts); `BROWSERS` run in real Chromium through the
relay, five times, and the median counts. `make matrix` runs them all; test_rows.py holds those that are held already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tests.lab.scenario import Run
from tests.matrix import blame, browsers, liar, rfc8867, rooms, weak

ROWS: Final[dict[str, Callable[[Run], None]]] = {
    "narrow": weak.narrow,
    "bursts": weak.bursts,
    "one-leg": weak.one_leg,
    "reorder": weak.reorder,
    "rfc8867-5.1": rfc8867.variable_capacity,
    "rfc8867-5.2": rfc8867.several_flows,
    "rfc8867-5.3": rfc8867.congested_feedback,
    "cubic": rfc8867.against_cubic,
    "meeting": rooms.meeting,
    "narrow-join": rooms.narrow_join,
    "liar": liar.liar,
    "blame": blame.blame,
}
BROWSERS: Final[dict[str, Callable[[Run], Awaitable[None]]]] = {
    "fall": browsers.fall,
    "lossy": browsers.lossy,
    "gone": browsers.gone,
}
