"""The settings: YAML → one frozen, validated `Config`, or every mistake in it at once with file, line and column.

The models are the one place where a setting is defined: its meaning, unit, default, bounds, and whether it can change
while the server runs (`live`) or needs a restart. They are in `settings/`, by area; `Config` puts them together, and
everyone else takes them from here. What they refuse is said by `mistakes.py`, YAML itself is `document.py`, and what
only shows when settings are seen together is `consistency.py`. Nothing here decides about people (`core/policy.py`) or
applies a change (`server.py`). A config change: `load` → `changes` → `sfu.reconfigure`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer, PrivateAttr, ValidationError

from d4e_sfu.consistency import findings, unsigned
from d4e_sfu.document import MAX_BYTES, Document, DocumentError, Location
from d4e_sfu.errors import ConfigError, Problem
from d4e_sfu.keyfiles import MIN_SECRET_BYTES, contents, read_revoked, read_secrets, unreadable
from d4e_sfu.mistakes import explain
from d4e_sfu.settings.access import DEFAULT_ROLES, Key, Role, Source
from d4e_sfu.settings.limits import DataLimits, Limits, Links, Rate, Rates
from d4e_sfu.settings.listening import Admin, Front, Http, Listener, Media, MediaAddress, Tls
from d4e_sfu.settings.operation import Audit, Drain, Trial, Webhooks
from d4e_sfu.settings.rooms import CodecName, MaxBitrate, RoomRule
from d4e_sfu.settings.setting import Reload, Settings, live, restart
from d4e_sfu.settings.values import FilePath, RoleName

__all__ = [
    "DEFAULT_ROLES",
    "MIN_SECRET_BYTES",
    "Admin",
    "Audit",
    "Change",
    "CodecName",
    "Config",
    "DataLimits",
    "Drain",
    "Front",
    "Http",
    "Key",
    "Limits",
    "Links",
    "Listener",
    "MaxBitrate",
    "Media",
    "MediaAddress",
    "Rate",
    "Rates",
    "Role",
    "RoomRule",
    "Source",
    "Tls",
    "Trial",
    "Webhooks",
    "changes",
    "control_path",
    "load",
    "outlook",
    "parse",
    "webhooks",
]


class Config(Settings):
    """Everything an operator can set."""

    http: Annotated[Http, restart("The page and the signalling.")] = Http()
    front: Annotated[Front, restart("Media by TCP, where UDP does not get through.")] = Front()
    admin: Annotated[Admin, restart("Health, metrics and room state.")] = Admin()
    media: Annotated[Media, restart("Audio and video: UDP.")] = Media()
    audit: Annotated[Audit, restart("The tamper-evident audit log.")] = Audit()
    webhooks: Annotated[Webhooks, live("What happens in rooms, told to servers outside.")] = Webhooks()
    drain: Annotated[Drain, live("How a server ends that people talk on.")] = Drain()
    keys: Annotated[
        tuple[Key, ...], live("Keys that may sign tokens; without one nobody can join.", max_length=64)
    ] = ()
    revoked: Annotated[
        FilePath | None,
        live("Refused tokens, one a line: SHA-256, or jti. Read at reload, which ends calls joined with one."),
    ] = None
    roles: Annotated[
        Mapping[RoleName, Role],
        AfterValidator(MappingProxyType),
        PlainSerializer(dict),
        live("Roles by name, replaced whole: a role that is not listed does not exist.", min_length=1, max_length=32),
    ] = Field(default_factory=lambda: DEFAULT_ROLES)
    rooms: Annotated[
        tuple[RoomRule, ...],
        live("Rules for rooms, the first match counts; a name without a match does not exist.", max_length=1000),
    ] = (RoomRule(name="*"),)
    rates: Annotated[Rates, live("How often someone may ask.")] = Rates()
    links: Annotated[Links, live("The links to clients.")] = Links()
    limits: Annotated[Limits, live("Bounds for what comes from outside.")] = Limits()
    testing: Annotated[Trial, live("What only a server for tests should allow.")] = Trial()

    _revoked: frozenset[str] = PrivateAttr(frozenset())

    @property
    def revoked_tokens(self) -> frozenset[str]:
        """SHA-256 in hexadecimal, and `jti`s."""
        return self._revoked

    @property
    def webhook_key(self) -> Key | None:
        """The key that signs webhooks."""
        named = self.webhooks.key
        return next((key for key in self.keys if key.can_sign and named in (None, key.id)), None)

    def key(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


# --- from a file to a Config -----------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in this file, with its secrets read. Raises `ConfigError` with everything that is wrong."""
    file = Path(path)
    try:
        data = contents(file, MAX_BYTES)
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    return parse(
        data, file=str(file), folder=file.absolute().parent, environ=os.environ if environ is None else environ
    )


def control_path(path: str | os.PathLike[str]) -> Path | None:
    """Where a server with this file takes commands, whatever else is wrong in it. Raises ConfigError."""
    return (_lenient(Path(path)) or Config()).admin.control


def webhooks(path: str | os.PathLike[str]) -> Webhooks:
    """Whom the connector may ask. Neither secrets nor what else is wrong in the file are its business."""
    return (_lenient(Path(path)) or Config()).webhooks


def _lenient(file: Path) -> Config | None:
    """All that is right in it; raises ConfigError where it is no YAML."""
    try:
        text = contents(file, MAX_BYTES)
        document = Document(text)
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    except DocumentError as error:
        raise ConfigError([Problem(str(file), *error.flaw[:2], "", error.flaw.message)]) from None
    return _validate(document, {"folder": file.absolute().parent}, lambda *_, **__: None)


def parse(
    text: bytes | str,
    *,
    file: str = "config.yaml",
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """As `load`, from a text; files that it names are looked for in `folder`."""
    try:
        document = Document(text.encode() if isinstance(text, str) else text)
    except DocumentError as error:
        raise ConfigError([Problem(file, error.flaw.line, error.flaw.column, "", error.flaw.message)]) from None
    problems = [Problem(file, flaw.line, flaw.column, "", flaw.message) for flaw in document.flaws]

    def report(location: Location, message: str, *, at_key: bool = False) -> None:
        line, column = document.position(_written(document, location), key=at_key) or (1, 1)
        problems.append(Problem(file, line, column, document.dotted(location), message))

    written_roles = document.keys(("roles",))
    config = _validate(document, {"folder": folder or Path()}, report)
    if config is not None:
        known = {*config.roles, *written_roles}
        for location, message in (
            *findings(config, known_roles=known),
            *unreadable(config),
            *read_secrets(config, environ or {}),
            *read_revoked(config),
            *unsigned(config),
        ):
            report(location, message)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _validate(document: Document, context: dict[str, Path], report: Callable[..., None]) -> Config | None:
    """A Config of all that is right, so that what is wrong elsewhere in the same file is found as well.

    The first look reports; then whatever was wrong is dropped and the rest looked at again, until it holds.
    """
    for attempt in range(32):
        try:
            return Config.model_validate(document.plain(), context=context)
        except ValidationError as error:
            # Backwards, so that dropping an item of a list does not move those still to be dropped.
            for details in reversed(error.errors(include_url=False)):
                location = _written(document, details["loc"])
                if attempt == 0:
                    at_key = details["type"] in ("extra_forbidden", "missing") or details["loc"][-1:] == ("[key]",)
                    missing = details["loc"][-1:] if details["type"] == "missing" else ()
                    report((*location, *missing), explain(details, Config), at_key=at_key)
                document.drop(location)
    return None


def _written(document: Document, location: Location) -> Location:
    """The longest part of a location that is in the text: pydantic adds names of its own below it."""
    location = tuple(location)
    while location and document.position(location) is None:
        location = location[:-1]
    return location


# --- reloading -------------------------------------------------------------------------------------------------------


class Change(NamedTuple):
    key: str
    reload: Reload


def changes(old: BaseModel, new: BaseModel, *, within: str = "") -> Iterator[Change]:
    """The settings that differ, dotted, and whether each can change while the server runs."""
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(after, BaseModel):
            yield from changes(before, after, within=f"{within}{name}.")
        elif before != after:
            assert isinstance(field.json_schema_extra, dict)
            yield Change(within + name, "live" if field.json_schema_extra["reload"] == "live" else "restart")


def outlook(started: Config, old: Config, new: Config) -> list[str]:
    """What a reload does, a line for each setting: whatever needs a restart is told until there was one."""
    live = [change.key for change in changes(old, new) if change.reload == "live"]
    if old.revoked_tokens != new.revoked_tokens and "revoked" not in live:
        live.append("revoked")  # the same file, with others in it
    waiting = [change.key for change in changes(started, new) if change.reload == "restart"]
    return [*(f"{key} changed" for key in live), *(f"{key} needs a restart" for key in waiting)]
