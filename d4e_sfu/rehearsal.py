"""`serve --rehearse`: does this release start with that configuration, beside the one that serves?

The same settings, keys and certificate, but for where it listens: loopback, on ports that the kernel picks. So nothing
that runs is touched, and no one from outside comes in. It starts everything, looks whether it is ready, and ends. What
only shows on the real addresses (one that this machine has not, a port that is taken) it cannot know; the doctor looks
at those.
"""

from __future__ import annotations

import asyncio
import logging

from d4e_sfu.config import Config, MediaAddress
from d4e_sfu.errors import EX_CONFIG, EX_FAILURE, EX_OK
from d4e_sfu.server import Server

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


def run(config: Config) -> int:
    """0: ready; 1: it starts and does not become ready; 78: it does not start. What is wrong is in the log."""
    return asyncio.run(_rehearse(elsewhere(config)))


def elsewhere(config: Config) -> Config:
    """The configuration, listening where nobody else does."""
    here = {"address": LOOPBACK, "port": 0}
    listeners = tuple(each.model_copy(update=here) for each in config.http.listeners)
    media = {"port": 0, "addresses": (MediaAddress(listen=LOOPBACK),)}
    return config.model_copy(
        update={
            "http": config.http.model_copy(update={"listeners": listeners}),
            # What is rehearsed did not happen: it is in no log, and nobody is told.
            "audit": type(config.audit)(),
            "webhooks": type(config.webhooks)(),
            "admin": config.admin.model_copy(update={**here, "control": None}),
            "media": config.media.model_copy(update=media),
        }
    )


async def _rehearse(config: Config) -> int:
    try:
        server = await Server.start(config)
    except OSError as error:
        log.critical("cannot start: %s", error)
        return EX_CONFIG
    reasons = server.not_ready()
    await server.stop()
    for reason in reasons:
        log.critical("not ready: %s", reason)
    return EX_FAILURE if reasons else EX_OK
