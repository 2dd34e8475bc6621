"""What an operator wants of the server beside calls: its audit log, webhooks, how it ends, what tests may do to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import PrivateAttr, StrictBool, StrictInt

from d4e_sfu.settings.setting import Settings, live, restart
from d4e_sfu.settings.values import FilePath, KeyId, Seconds, WebhookUrl


class Audit(Settings):
    """Who joined, left and was refused, what was done by whom: a log in which a change is seen."""

    folder: Annotated[FilePath | None, restart("Where it is kept; null = no such log.")] = None
    secret_file: Annotated[
        FilePath | None, restart("File that holds its secret, at least 32 bytes: for seals, pseudonyms, checkpoints.")
    ] = None
    keep: Annotated[Seconds, restart("How long a month is kept after its end.", ge=86_400, le=20 * 366 * 86_400)] = (
        365 * 86_400.0
    )

    _secret: bytes = PrivateAttr(b"")

    @property
    def secret(self) -> bytes:
        """At least 32 bytes where there is a folder. Never in `repr`, `model_dump` or an error."""
        return self._secret


class Webhooks(Settings):
    """Servers outside that are told what happens in rooms; `d4e-sfu connector` sends it."""

    urls: Annotated[
        tuple[WebhookUrl, ...], live("Addresses that are told, each everything; none = nobody.", max_length=8)
    ] = ()
    key: Annotated[KeyId | None, live("Id of the key that signs what is told; null = the first that can.")] = None
    socket: Annotated[FilePath, restart("Unix socket of the connector.")] = Path("/run/d4e-sfu-connector/socket")
    folder: Annotated[
        FilePath | None, restart("Where what is not told yet is kept while the server restarts; null = it is lost.")
    ] = None
    queue: Annotated[StrictInt, live("Events that may wait; what comes then is dropped.", ge=1, le=100_000)] = 10_000
    give_up: Annotated[
        Seconds, live("So old an event is not tried again; those of its room wait behind it.", ge=1, le=7 * 86_400)
    ] = 3600.0


class Trial(Settings):
    """What only a server for tests should allow."""

    simulate: Annotated[
        StrictBool,
        live("Clients may ask for failures of their own connection, as the `simulateScenario` of their SDKs does."),
    ] = False


class Drain(Settings):
    """Before the server ends: no new rooms, and calls that run may end by themselves."""

    timeout: Annotated[Seconds, live("`d4e-sfu drain`: they have at most this long.", le=86_400)] = 1800.0
    on_stop: Annotated[
        Seconds, live("SIGTERM: they have at most this long; 0 = everyone is asked to join again at once.", le=86_400)
    ] = 0.0
    spread: Annotated[
        Seconds,
        live(
            "The end of that time, over which those who are still there are asked to join again, room by room.",
            le=3600,
        ),
    ] = 10.0
