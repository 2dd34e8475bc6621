"""`d4e-sfu serve` with a switch to break it: on SIGUSR1 the first worker's thread panics, and the log tells after how
many milliseconds the process took notice. The panic comes from a build of the engine for the laboratory; no other has
it.

    python -m tests.hostile.fragile serve --config FILE
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import Any

from d4e_sfu.__main__ import main
from d4e_sfu.drivers import engine

FIRST = "worker-0"
log = logging.getLogger("d4e_sfu.fragile")  # of others only warnings are written


class FragileDriver(engine.EngineDriver):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._panicked = 0.0
        if self.name == FIRST:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._panic)

    def _panic(self) -> None:
        worker: Any = self._worker
        self._panicked = time.monotonic()
        worker.panic_for_test()

    def _replace(self, reason: str, transport: int | None = None) -> None:
        log.info("noticed after=%.3f", time.monotonic() - self._panicked)
        super()._replace(reason, transport)


if __name__ == "__main__":
    engine.EngineDriver = FragileDriver  # type: ignore[misc,assignment]
    sys.exit(main())
