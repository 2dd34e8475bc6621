"""How long the event loop was held: nothing that comes from outside may hold it for longer than `HOLD`."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass

HOLD = 0.05  # seconds of CPU for which nothing may hold the event loop


@dataclass
class Longest:
    cpu: float = 0.0


class turning:  # noqa: N801
    """Measures the longest turn of the event loop, in CPU seconds of this thread (the machine may be busy)."""

    async def __aenter__(self) -> Longest:
        # As the server does at its start: an attack does not make it look through what a whole run of tests has left.
        gc.collect()
        gc.freeze()
        self._longest = Longest()
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self._longest

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        gc.unfreeze()

    async def _watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._longest.cpu = max(self._longest.cpu, now - before)
            before = now
