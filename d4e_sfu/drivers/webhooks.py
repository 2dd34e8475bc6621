"""Webhooks, the server's half: what happens in rooms is queued, signed and handed to the connector, which sends it.

The server may have no network of its own, so it speaks HTTP over a Unix socket to `d4e-sfu connector` and to nothing
else: `POST /deliver` with the address, the body and its signature; the answer says what the address answered. When and
in which order is `core/outbox.py`'s. What is not delivered when the server ends is kept in a file, if there is a folder
for it; what was under way then may arrive twice, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
from google.protobuf import json_format
from livekit.protocol import webhook

from d4e_sfu.config import Config
from d4e_sfu.core.outbox import DROPS, Delivery, Event, Outbox

log = logging.getLogger(__name__)

# The connector gives an address ten seconds, after two for a place.
PATIENCE: Final = 15.0
LAST_MOMENT: Final = 1.0
FILE: Final = "webhooks.json"
MAX_KEPT: Final = 64 << 20  # bytes of that file; bodies are escaped in it

Sign = Callable[[str], str]
"""Body → the value of the header `Authorization`, good for the next minutes."""


class Webhooks:
    """One for the process, from `start` to `stop`; without addresses it does nothing."""

    def __init__(
        self,
        config: Config,
        *,
        sign: Sign,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.outbox = Outbox(chance=chance or random.SystemRandom())
        self._config = config
        self._started_with = config
        self._sign = sign
        self._wall = wall
        self._clock = clock
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._reachable = True
        self._ending = False

    @property
    def drops(self) -> dict[str, int]:
        return {reason: self.outbox.drops[reason] for reason in DROPS}

    def start(self) -> None:
        self._restore()
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """What is under way has a moment; what has no answer by then is kept, and may arrive twice."""
        self._ending = True
        self._news.set()
        if self._running is not None:
            await self._running
        self._keep()

    def reconfigure(self, config: Config) -> None:
        self._config = config
        self.outbox.retain(config.webhooks.urls)
        self._news.set()

    def report(self, make: Callable[[], webhook.WebhookEvent]) -> None:
        """`boundary.Announcer.report`."""
        settings = self._config.webhooks
        if not settings.urls:
            return
        event = make()
        event.id, event.created_at = f"EV_{uuid.uuid4().hex}", int(self._wall())
        event.num_dropped = self.outbox.untold
        body = json_format.MessageToJson(event, indent=None)
        self._put(Event(event.id, event.room.sid, body, self._clock()), list(settings.urls))

    def _put(self, event: Event, urls: list[str]) -> None:
        if not self.outbox.put(event, urls, at_most=self._config.webhooks.queue) and self.outbox.untold == 1:
            log.error("webhooks are dropped: %d wait already", len(self.outbox))
        self._news.set()

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        # How many there are at once is the outbox's to say: what waited here would have less than the connector's time.
        connector = aiohttp.UnixConnector(str(self._started_with.webhooks.socket), limit=0)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while not self._ending:
                self._news.clear()
                for delivery in self.outbox.take(now=self._clock()):
                    task = asyncio.create_task(self._deliver(session, delivery))
                    self._deliveries.add(task)
                    task.add_done_callback(self._deliveries.discard)
                due = self.outbox.next_due()
                wait = None if due is None else max(0.0, due - self._clock())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._news.wait()
            if self._deliveries:
                await asyncio.wait(self._deliveries, timeout=LAST_MOMENT)
            for task in self._deliveries:
                task.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        arrived = False
        try:
            arrived = await self._sent(session, delivery)
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._tell(reachable=False, why=type(error).__name__)
        except Exception:
            log.exception("webhook failed")  # ours; it is tried again like any other
        now = self._clock()
        self.outbox.settle(delivery, arrived=arrived, give_up=self._config.webhooks.give_up, now=now)
        self._news.set()

    async def _sent(self, session: aiohttp.ClientSession, delivery: Delivery) -> bool:
        body = delivery.event.body
        request = {"url": delivery.url, "authorization": self._sign(body), "body": body}
        async with session.post("http://connector/deliver", json=request) as response:
            said = await response.json() if response.status == 200 else {}
        self._tell(reachable=True)
        status = said.get("status") if isinstance(said, dict) else None
        arrived = isinstance(status, int) and 200 <= status < 300
        if not arrived:
            log.info(
                "webhook refused address=%d status=%s error=%s",
                self._config.webhooks.urls.index(delivery.url) if delivery.url in self._config.webhooks.urls else -1,
                status,
                said.get("error") if status is None else None,
            )
        return arrived

    def _tell(self, *, reachable: bool, why: str = "") -> None:
        """Once, not for each that waits."""
        if reachable != self._reachable:
            log.log(logging.INFO if reachable else logging.WARNING, "connector reachable=%s %s", reachable, why)
        self._reachable = reachable

    # --- over a restart ----------------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path | None:
        folder = self._started_with.webhooks.folder
        return None if folder is None else folder / FILE

    def _keep(self) -> None:
        waiting = list(self.outbox.waiting())
        if not waiting:
            return
        if self._file is None:
            log.warning("webhooks lost=%d: there is no webhooks.folder", len(waiting))
            return
        now = self._clock()
        kept = [
            {"id": event.id, "room": event.room, "body": event.body, "age": now - event.at, "urls": urls}
            for event, urls in waiting
        ]
        new = self._file.with_suffix(".new")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump({"at": self._wall(), "events": kept}, file)
            new.replace(self._file)
        except OSError as error:
            log.error("webhooks lost=%d: %s", len(waiting), error)

    def _restore(self) -> None:
        """What the server before has left. Its file is ours, and yet it is taken for what it may be: cut, or older."""
        if self._file is None or not self._file.exists():
            return
        try:
            if self._file.stat().st_size > MAX_KEPT:
                raise ValueError("it is too large")
            kept = json.loads(self._file.read_text())
            since = max(0.0, self._wall() - float(kept["at"]))
            before = self._clock() - since
            found = [
                (Event(str(e["id"]), str(e["room"]), str(e["body"]), before - float(e["age"])), list(e["urls"]))
                for e in kept["events"]
            ]
            self._file.unlink()
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("webhooks of before cannot be read: %s", error)
            return
        for event, urls in found:
            self._put(event, [url for url in self._config.webhooks.urls if url in urls])
        log.info("webhooks restored=%d", len(self.outbox))
