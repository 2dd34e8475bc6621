"""Every error that someone outside can see, sorted by who is to blame.

The client's fault is a `ClientError`: a status (before the WebSocket upgrade) or close code (after it), a sentence that
he can act on, and for our log the rule that he broke. The operator's is a `ConfigError`: file, line, column, key, fix.
Ours is any other exception: it becomes a stack trace in the log, a counter, and `OUR_FAULT` for the client.
A media packet never raises any of these: there an error is a drop reason.
"""

# ruff: noqa: N818 - each is named by what happened; that it is an error is seen where it is raised.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

EX_OK: Final = 0
EX_FAILURE: Final = 1
EX_USAGE: Final = 2
EX_CONFIG: Final = 78
"""sysexits.h, "configuration error": restarting does not help (systemd: RestartPreventExitStatus=78)."""

OUR_FAULT: Final = "Something went wrong on the server. Please try again."
"""All that a client learns of our own faults."""


NOT_ACCEPTED: Final = "The token is not accepted."
"""All that a stranger learns of why."""


class ClientError(Exception):
    """Someone outside sent what we do not accept; `str(error)` is the sentence for him.

    `rule` is for our log and metrics alone: snake_case words of our own, from a closed set. `detail` is for the log
    alone: bounded, never a token, a name or an address. Subclasses set what the sentence travels in. Not raised for
    what is merely late or lost.
    """

    status: ClassVar[int] = 400
    close_code: ClassVar[int] = 1008  # RFC 6455 §7.4.1: policy violation

    def __init__(self, sentence: str, *, rule: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.rule = rule
        self.detail = detail


class BadRequest(ClientError):
    """Malformed: a message, query or SDP that no correct client sends."""

    status = 400
    close_code = 1007  # RFC 6455 §7.4.1: data not consistent with the type of the message


class Unprocessable(BadRequest):
    """Well formed, and not what can be done here."""

    status = 422


class WrongType(BadRequest):
    """A body of a kind that is not taken here."""

    status = 415


class TooLarge(ClientError):
    """Over a cap of ours, by size or by number."""

    status = 413
    close_code = 1009  # RFC 6455 §7.4.1: message too big


class Unauthorized(ClientError):
    """The token. Its sentence is one of three: expired, not yet valid, not accepted; the rule says which check."""

    status = 401


class Forbidden(ClientError):
    """Known, and not allowed to do this; asking again does not help."""

    status = 403


class NotFound(ClientError):
    """Nothing and nobody of this name is here, at least now."""

    status = 404


class RoomNotFound(NotFound):
    """No rule of the configuration allows a room of this name."""


class NotHere(ClientError):
    """Well asked, and nothing that this server does."""

    status = 501


class NotNow(ClientError):
    """Well asked, by someone who may; the state of things, or a setting, stands against it."""

    status = 412


class NothingYet(ClientError):
    """There is nothing that could be given; `retry_after` seconds later there may be."""

    status = 409

    def __init__(self, sentence: str, *, rule: str, retry_after: float) -> None:
        super().__init__(sentence, rule=rule)
        self.retry_after = retry_after


class Full(ClientError):
    """The room or the server is full; asking later may help."""

    status = 503
    close_code = 1013  # IANA WebSocket close codes: try again later
    retry_after = 5.0
    """Seconds after which asking again makes sense; as in `TooMany`."""


class TooMany(ClientError):
    """He asks too often; the same request is welcome `retry_after` seconds later."""

    status = 429
    close_code = 1013

    def __init__(self, sentence: str, *, rule: str, retry_after: float) -> None:
        super().__init__(sentence, rule=rule)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file. Lines and columns count from 1; `key` is dotted, empty for the file."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}"


class ConfigError(Exception):
    """Everything wrong in a configuration, at once, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))
