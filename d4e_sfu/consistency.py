"""What is wrong with settings only when they are seen together: roles that do not exist, rules that nothing reaches,
ports taken twice.

Pure: it sees a `Config` whose every value is right by itself, and opens no file. `config.py` asks.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import itertools
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from d4e_sfu.document import Location

if TYPE_CHECKING:
    from d4e_sfu.config import Config

Finding = tuple[Location, str]
"""Where, and what is wrong there."""


def findings(config: Config, *, known_roles: Collection[str]) -> Iterator[Finding]:
    """`known_roles` are those that the operator wrote, including any that are wrong in themselves."""
    yield from _roles(config, known_roles)
    yield from _rooms(config)
    yield from _listeners(config)
    yield from _media(config)
    yield from _webhooks(config)


def unsigned(config: Config) -> Iterator[Finding]:
    """What only shows when the secrets have been read: webhooks that nobody can sign."""
    if config.webhooks.urls and config.keys and config.webhook_key is None:
        yield ("webhooks", "key"), "needs a key with a secret: others cannot sign what is told"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A hint to append to a message, or nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _roles(config: Config, known: Collection[str]) -> Iterator[Finding]:
    named = [(("keys", index), key.default_role) for index, key in enumerate(config.keys)]
    named += [(("rooms", index), rule.default_role) for index, rule in enumerate(config.rooms)]
    for entry, role in named:
        if role is not None and role not in known:
            hint = did_you_mean(role, known) or f"; known: {', '.join(sorted(known))}"
            yield (*entry, "default_role"), f"no role {role!r}{hint}"


def _rooms(config: Config) -> Iterator[Finding]:
    for index, rule in enumerate(config.rooms):
        earlier = next((other for other in config.rooms[:index] if _covers(other.name, rule.name)), None)
        if earlier is not None:
            yield (
                ("rooms", index, "name"),
                f"never used: {earlier.name!r} above matches all of it; put the narrower first",
            )
        if rule.capacity > config.limits.participants:
            where = ("rooms", index, "capacity") if "capacity" in rule.model_fields_set else ("limits", "participants")
            yield where, f"room {rule.name!r} has capacity {rule.capacity}, this server {config.limits.participants}"


def _covers(pattern: str, name: str) -> bool:
    """Every room that `name` matches, `pattern` matches. May miss a case, never claims one.

    A `*` in the pattern swallows whatever the name's own wildcards stand for; its other wildcards would not.
    """
    return pattern == name or (not re.search(r"[?[]", pattern) and fnmatch.fnmatchcase(name, pattern))


def _listeners(config: Config) -> Iterator[Finding]:
    tls = config.http.tls
    sockets: list[tuple[Location, str, int]] = []
    for index, listener in enumerate(config.http.listeners):
        sockets.append((("http", "listeners", index, "port"), listener.address, listener.port))
        if listener.media and not listener.tls:
            yield ("http", "listeners", index, "media"), "needs tls: true; TURN and HTTPS share the port behind it"
        if listener.tls and not (tls.certificate and tls.key):
            yield ("http", "listeners", index, "tls"), "needs http.tls.certificate and http.tls.key"
    # A clash is told where a port was written, so admin comes last only if it was.
    at_end = "port" in config.admin.model_fields_set
    sockets.insert(len(sockets) if at_end else 0, (("admin", "port"), config.admin.address, config.admin.port))
    for (first, address, port), (where, other_address, other_port) in itertools.combinations(sockets, 2):
        if port == other_port != 0 and _overlap(address, other_address):
            yield (
                where,
                f"port {port} is already taken by {'admin' if first[0] == 'admin' else 'the listener'} on {address}",
            )


def _overlap(one: str, other: str) -> bool:
    a, b = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if a.version != b.version:
        return False  # the event loop sets IPV6_V6ONLY: :: and 0.0.0.0 live side by side
    return a == b or a.is_unspecified or b.is_unspecified


def _webhooks(config: Config) -> Iterator[Finding]:
    for index, url in enumerate(config.webhooks.urls):
        if url in config.webhooks.urls[:index]:
            yield ("webhooks", "urls", index), "is listed twice"
    named = config.webhooks.key
    if named is not None and config.key(named) is None:
        yield ("webhooks", "key"), f"no key {named!r}{did_you_mean(named, [key.id for key in config.keys])}"


def _media(config: Config) -> Iterator[Finding]:
    last = config.media.port + config.media.workers - 1
    if config.media.port and last > 65535:
        where = ("media", "port") if "port" in config.media.model_fields_set else ("media", "workers")
        yield where, f"{config.media.workers} workers need the ports {config.media.port} to {last}, over 65535"
    listening = [address.listen for address in config.media.addresses]
    for index, listen in enumerate(listening):
        if listen in listening[:index]:
            yield ("media", "addresses", index), f"{listen} is listed twice"
