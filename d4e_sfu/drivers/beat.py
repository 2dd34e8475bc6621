"""What the event loop does again and again, and how late it comes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


async def every(interval: float, act: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            act()
        except Exception:
            log.exception("timer failed")  # ours; the next turn may go well


class Lag:
    """How late the event loop comes to what is due: the sign of too much work, or of one thing that took too long."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._then: float | None = None

    def seen(self, now: float, *, interval: float) -> None:
        if self._then is not None:
            self._worst = max(self._worst, now - self._then - interval)
        self._then = now

    def take(self) -> float:
        """Seconds, the worst since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst
