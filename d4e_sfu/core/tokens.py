"""A signed token → grants: the one door to PyJWT.

Who may do what is not decided here (`core/policy.py`); this says only what a key holder has signed, or refuses. Claims
follow the access token of the room protocol, so that tokens of stock server SDKs work; `d4e` is ours. First step of a
join.

PyJWT checks the signature and nothing else: it would read a clock for the times, take the last of two equal claims, and
pass on whatever type a claim has.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn

import jwt

from d4e_sfu.config import Config, Key, Source
from d4e_sfu.errors import NOT_ACCEPTED as NOT_ACCEPTED
from d4e_sfu.errors import Unauthorized

EXPIRED: Final = "The token has expired."
NOT_YET_VALID: Final = "The token is not yet valid."

LEEWAY: Final = 60.0
"""Seconds by which the clocks of signer and server may differ (RFC 7519 §4.1.4: no more than a few minutes)."""
MAX_TOKEN: Final = 16 * 1024
"""Characters. The largest useful one carries MAX_METADATA in base64url."""
MAX_METADATA: Final = 8 * 1024
"""Bytes of metadata, and of all attributes together: everyone in the room receives them."""
MAX_NAME: Final = 256
"""Bytes of an identity, a name or the name of a room."""
MAX_ATTRIBUTES: Final = 64
SIGNED_SECONDS: Final = 300
"""For so long a webhook's signature is good; each time that it is sent it is signed anew."""
LAST_TIME: Final = 253_402_300_799
"""The last second of the year 9999 (RFC 3339); later is a mistake of units."""

_ALGORITHM: Final = "HS256"
_NOBODY: Final = Key(id="nobody").holding(b"nobody holds this secret to sign")
"""Tokens of unknown keys are checked against it, so that they take as long to refuse as wrongly signed ones."""
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)  # RFC 7515 §7.1
_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_KINDS: Final = frozenset({"standard", "ingress", "egress", "sip", "agent", "connector", "bridge"})


@dataclass(frozen=True, slots=True)
class Grants:
    """What a token grants, tri-states resolved to what their absence means."""

    key: str
    """Id of the key that signed it."""
    identity: str
    """Empty in a token of a server, which stands for nobody in a room: the policy asks for one to join."""
    name: str
    metadata: str
    attributes: Mapping[str, str]
    kind: str
    """standard, ingress, egress, sip, agent, connector or bridge: shown to others, decides nothing."""
    role: str | None
    """`d4e: {role}`, unchecked: the policy knows which roles exist."""
    not_before: float
    """Seconds since the Unix epoch, as `expires`; 0 where the token does not say. Signers write when they signed."""
    expires: float
    room: str
    """May be empty, as `room_join` may be false: the policy asks for both."""
    room_join: bool
    room_admin: bool
    publish: frozenset[Source]
    subscribe: bool
    data: bool
    update_own_metadata: bool
    hidden: bool
    room_create: bool = False
    room_list: bool = False
    id: str = ""
    """Its `jti`, else what `token_id` says; a refreshed token keeps that of the first."""
    first: str = ""
    """What `token_id` says of it, or in a refreshed token (`d4e: {first}`) of that with which it began."""


def verify(token: str, config: Config, *, now: float) -> Grants:
    """The grants of a token that one of the configured keys has signed and that is valid at `now` (Unix seconds).

    Raises `Unauthorized`, whose sentence says expired, not yet valid or not accepted, and whose rule says which check.
    """
    if len(token) > MAX_TOKEN:
        _refuse("token_size")
    if _COMPACT.fullmatch(token) is None:
        _refuse("token_form")
    header_part, claims_part, _ = token.split(".")
    header, claims = _json_object(header_part), _json_object(claims_part)
    key = _signer(token, header, claims, config)
    not_before, expires = _checked_times(claims, now=now)
    # RFC 7519 §4.1.3: whoever does not find itself in `aud` must refuse, and this server has no name to find there.
    if "aud" in claims:
        _refuse("audience")
    if key.accept_until is not None and now >= key.accept_until:
        _refuse("key_retired")
    digest = token_id(token)
    grants = _grants(claims, key=key, digest=digest, not_before=not_before, expires=expires)
    if digest in config.revoked_tokens or is_revoked(grants, config):
        _refuse("revoked")
    return grants


def is_revoked(grants: Grants, config: Config) -> bool:
    """Whether the token that they are from, or the one with which it began, has been taken back."""
    return not config.revoked_tokens.isdisjoint((grants.id, grants.first))


def token_id(token: str) -> str:
    """What stands for a token where it is revoked: SHA-256 of what is signed in it, in hexadecimal.

    Not of the signature: of one of ECDSA whoever holds the token makes another that is as right.
    """
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


def mint(
    key: Key,
    *,
    identity: str,
    room: str,
    role: str | None,
    now: float,
    ttl: float = 6 * 3600,
    name: str = "",
    metadata: str = "",
    attributes: Mapping[str, str] | None = None,
    kind: str = "standard",
    video: Mapping[str, bool | str | Sequence[str]] | None = None,
    id: str = "",
    first: str = "",
) -> str:
    """A token for one participant; `video` adds to `roomJoin` and `room`. `now` in Unix seconds, `ttl` in seconds."""
    if not key.can_sign:
        raise ValueError("a key without its secret cannot sign")
    claims: dict[str, Any] = {
        "iss": key.id,
        "sub": identity,
        "nbf": int(now),
        "exp": int(now + ttl),
        "video": {"roomJoin": True, "room": room, **(video or {})},
    }
    optional = {"jti": id, "name": name, "metadata": metadata, "attributes": dict(attributes or {})}
    claims |= {claim: value for claim, value in optional.items() if value}
    if kind != "standard":
        claims["kind"] = kind
    if ours := {name: value for name, value in (("role", role), ("first", first or None)) if value is not None}:
        claims["d4e"] = ours
    return jwt.encode(claims, key.secret, algorithm=_ALGORITHM)


def sign_body(key: Key, body: str, *, now: float) -> str:
    """The token that goes with a webhook: whoever holds the key sees that it is ours, whole and of today."""
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    claims = {"iss": key.id, "nbf": int(now), "exp": int(now) + SIGNED_SECONDS, "sha256": digest}
    return jwt.encode(claims, key.secret, algorithm=_ALGORITHM)


def _refuse(rule: str, sentence: str = NOT_ACCEPTED) -> NoReturn:
    raise Unauthorized(sentence, rule=rule)


# --- form and signature ----------------------------------------------------------------------------------------------


def _json_object(part: str) -> dict[str, Any]:
    """One part of the token. RFC 7519 §4 lets us refuse a claim given twice: two readers could see two tokens."""
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_such_number)
    except (binascii.Error, ValueError, RecursionError):
        _refuse("token_form")
    if not isinstance(value, dict):
        _refuse("token_form")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("duplicate_claim")
    return members


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # RFC 8259 §6: NaN and Infinity are not permitted


def _signer(token: str, header: dict[str, Any], claims: dict[str, Any], config: Config) -> Key:
    """The key that has really signed this. The algorithm is the key's, whatever the header says."""
    key_id = claims.get("iss")
    key = (config.key(key_id) if isinstance(key_id, str) else None) or _NOBODY
    # RFC 8725 §3.1, §3.10: `alg` must be the key's, and nothing in a header may lead to a key (jku, x5u, jwk, a foreign
    # kid) or ask for what we do not know (crit, b64, zip).
    kid = header.get("kid", key_id)
    if key.public:
        public = key.public.get(kid) if isinstance(kid, str) else None
        if public is None:
            _refuse("unknown_key")
        algorithm, secret = public
    else:
        if not key.can_sign:  # made without its secret: anyone could sign with an empty one
            key = _NOBODY
        algorithm, secret = _ALGORITHM, key.secret
        if kid != key_id:
            _refuse("header")
    if header.get("alg") != algorithm:
        _refuse("algorithm")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.upper() != "JWT" or not header.keys() <= {"alg", "typ", "kid"}:
        _refuse("header")
    try:
        jwt.PyJWS().decode(token, secret, algorithms=[algorithm])
    except jwt.PyJWTError:
        _refuse("unknown_key" if key is _NOBODY else "signature")
    if key is _NOBODY:
        _refuse("unknown_key")
    return key


def _checked_times(claims: dict[str, Any], *, now: float) -> tuple[float, float]:
    """`nbf`, and `exp`, which must be there: a token without an end could never be taken back."""
    if "exp" not in claims:
        _refuse("expiry_missing")
    expires, not_before = _time(claims["exp"]), _time(claims.get("nbf", 0))
    if now >= expires + LEEWAY:
        _refuse("expired", EXPIRED)
    if now < not_before - LEEWAY:
        _refuse("not_before", NOT_YET_VALID)
    return float(not_before), float(expires)


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LAST_TIME:
        _refuse("time_type")
    return value


# --- claims ----------------------------------------------------------------------------------------------------------


def _grants(claims: dict[str, Any], *, key: Key, digest: str, not_before: float, expires: float) -> Grants:
    video = claims.get("video")
    if not isinstance(video, dict):
        _refuse("no_video_grant")
    can_publish = _flag(video, "canPublish", absent=True)
    kind = _text(claims, "kind", MAX_NAME)
    ours = claims.get("d4e")
    if not isinstance(ours, dict | None):
        _refuse("claim_type")
    return Grants(
        key=key.id,
        id=_text(claims, "jti", MAX_NAME) or digest,
        first=_text(ours or {}, "first", MAX_NAME) or digest,
        identity=_text(claims, "sub", MAX_NAME) or _text(claims, "jti", MAX_NAME),
        name=_text(claims, "name", MAX_NAME),
        metadata=_text(claims, "metadata", MAX_METADATA, lines=True),
        attributes=_attributes(claims),
        kind=kind if kind in _KINDS else "standard",
        role=_role(ours or {}),
        not_before=not_before,
        expires=expires,
        room=_text(video, "room", MAX_NAME),
        room_join=_flag(video, "roomJoin", absent=False),
        room_admin=_flag(video, "roomAdmin", absent=False),
        publish=_sources(video) if can_publish else frozenset(),
        subscribe=_flag(video, "canSubscribe", absent=True),
        data=_flag(video, "canPublishData", absent=can_publish),
        update_own_metadata=_flag(video, "canUpdateOwnMetadata", absent=False),
        hidden=_flag(video, "hidden", absent=False),
        room_create=_flag(video, "roomCreate", absent=False),
        room_list=_flag(video, "roomList", absent=False),
    )


def _text(claims: Mapping[str, Any], name: str, at_most: int, *, lines: bool = False) -> str:
    """A text claim, empty when absent. `lines`: control characters may be in it."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse("claim_type")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair; protobuf and logs cannot
        _refuse("claim_text")
    if size > at_most:
        _refuse("claim_size")
    if not lines and any(unicodedata.category(character) == "Cc" for character in value):
        _refuse("claim_text")
    return value


def _flag(video: Mapping[str, Any], name: str, *, absent: bool) -> bool:
    value = video.get(name)
    if value is None:
        return absent
    if not isinstance(value, bool):
        _refuse("claim_type")
    return value


def _sources(video: Mapping[str, Any]) -> frozenset[Source]:
    """An empty list restricts nothing; a list of none but unknown sources leaves nothing."""
    names = video.get("canPublishSources")
    if names is None or names == []:
        return frozenset(Source)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        _refuse("claim_type")
    wanted = {name.lower() for name in names}
    return frozenset(source for source in Source if source.value in wanted)


def is_name(text: str) -> bool:
    """What a token may say in one line: a name of a person, or of an attribute."""
    return len(text.encode()) <= MAX_NAME and not any(unicodedata.category(each) == "Cc" for each in text)


def _attributes(claims: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = claims.get("attributes")
    if attributes is None:
        return MappingProxyType({})
    if not isinstance(attributes, dict):
        _refuse("claim_type")
    # A name is a text like any other: it can hold half a surrogate pair too.
    named = {_text({"": name}, "", MAX_NAME): _text(attributes, name, MAX_METADATA, lines=True) for name in attributes}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in named.items())
    if len(named) > MAX_ATTRIBUTES or size > MAX_METADATA:
        _refuse("claim_size")
    return MappingProxyType(named)


def _role(ours: Mapping[str, Any]) -> str | None:
    role = ours.get("role")
    if role is None:
        return None
    if not isinstance(role, str) or _ROLE.fullmatch(role) is None:
        _refuse("role_form")
    return role
