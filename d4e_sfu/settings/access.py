"""Who may sign tokens, and what the people whom they name may do at most."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import PrivateAttr, StrictBool, StrictInt

from d4e_sfu.keyfiles import MIN_SECRET_BYTES, PublicKey
from d4e_sfu.settings.setting import Settings, live
from d4e_sfu.settings.values import FilePath, KeyId, Moment, RoleName, Variable


class Source(StrEnum):
    """What a publication shows, as in `TrackSource` of the room protocol."""

    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


class Key(Settings):
    """Whoever holds the secret, or the private half of one of the public keys, can sign tokens for any room."""

    id: Annotated[KeyId, live("Name of the key: the `iss` of its tokens.")]
    secret_file: Annotated[
        FilePath | None, live("File that holds the secret, at least 32 bytes. Relative to the folder of this file.")
    ] = None
    secret_env: Annotated[Variable | None, live("Environment variable that holds the secret, instead of a file.")] = (
        None
    )
    public_keys: Annotated[
        FilePath | None, live("JWK set (RFC 7517) of ES256 and EdDSA public keys, instead of a secret. Read at reload.")
    ] = None
    accept_until: Annotated[
        Moment | None, live("Its tokens are accepted until then, such as 2026-12-31T17:00:00+07:00; null = always.")
    ] = None
    default_role: Annotated[RoleName | None, live("Role of tokens that name none, where the room has none either.")] = (
        None
    )

    _secret: bytes = PrivateAttr(b"")
    _public: Mapping[str, PublicKey] = PrivateAttr(default_factory=dict)

    def holding(self, secret: bytes) -> Self:
        """The same key, with its secret."""
        key = self.model_copy()
        key._secret = secret
        return key

    @property
    def secret(self) -> bytes:
        """At least 32 bytes; empty where only others sign. Never in `repr`, `model_dump` or an error."""
        return self._secret

    @property
    def public(self) -> Mapping[str, PublicKey]:
        """By `kid`; empty for a key with a secret."""
        return self._public

    @property
    def can_sign(self) -> bool:
        return len(self._secret) >= MIN_SECRET_BYTES


class Role(Settings):
    """What a participant may do at most; a right is the token's grant AND this."""

    publish: Annotated[frozenset[Source], live("Sources that may be sent.")] = frozenset()
    subscribe: Annotated[StrictBool, live("May receive what others publish.")] = True
    data: Annotated[StrictBool, live("May send chat and data.")] = False
    moderate: Annotated[StrictBool, live("May mute and remove others, and change their rights and names.")] = False
    hidden: Annotated[StrictBool, live("May be in the room without being shown.")] = False
    update_own_metadata: Annotated[StrictBool, live("May change the own name, metadata and attributes.")] = False
    priority: Annotated[
        StrictInt, live("Whose voice stays where a link cannot carry all: the higher.", ge=0, le=100)
    ] = 0


_STAFF = frozenset(Source)
DEFAULT_ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "doctor": Role(publish=_STAFF, data=True, update_own_metadata=True),
        "health-worker": Role(publish=_STAFF, data=True, update_own_metadata=True),
        "patient": Role(publish=frozenset({Source.CAMERA, Source.MICROPHONE}), data=True),
        "observer": Role(),
        "moderator": Role(publish=_STAFF, data=True, moderate=True, update_own_metadata=True),
    }
)
