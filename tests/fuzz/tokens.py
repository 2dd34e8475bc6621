"""Tokens: any text, and any header and claims under a right signature, which no mutation would find. Only Unauthorized
may come of it, with one of its three sentences; what is granted was signed, and is as small as it must be.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from d4e_sfu.config import Config, Key
from d4e_sfu.core import policy, tokens
from d4e_sfu.errors import ClientError, Unauthorized

KEY = Key(id="test", default_role="doctor").holding(b"a secret of thirty-two bytes, or more")
CONFIG = Config(keys=(KEY,))
WALL = 1_700_000_000.0
SENTENCES = {tokens.EXPIRED, tokens.NOT_YET_VALID, tokens.NOT_ACCEPTED}


def once(data: bytes) -> None:
    """A header and claims separated by NUL are signed; anything else is a token as it stands."""
    header, separator, claims = data.partition(b"\0")
    if separator:
        signed = _text(header or b'{"alg":"HS256","typ":"JWT"}') + "." + _text(claims)
        token = signed + "." + _signature(signed)
    else:
        token = data.decode("latin-1")
    try:
        grants = tokens.verify(token, CONFIG, now=WALL)
    except Unauthorized as error:
        _refused(str(error))
        return
    signed, _, signature = token.rpartition(".")
    assert base64.urlsafe_b64decode(signature + "==")[:32] == base64.urlsafe_b64decode(_signature(signed) + "==")
    assert len(token) <= tokens.MAX_TOKEN
    assert max(len(each.encode()) for each in (grants.identity, grants.name, grants.room)) <= tokens.MAX_NAME
    assert len(grants.metadata.encode()) <= tokens.MAX_METADATA
    assert sum(len(k.encode()) + len(v.encode()) for k, v in grants.attributes.items()) <= tokens.MAX_METADATA
    assert not any(character in grants.identity + grants.name + grants.room for character in "\r\n\0\x1b")
    assert grants.expires + tokens.LEEWAY > WALL
    try:
        rights = policy.rights(CONFIG, grants)
        policy.room_policy(CONFIG, grants.room)
    except ClientError:
        return
    assert grants.identity, "a server's token names nobody, and does not join"
    assert rights.publish <= grants.publish, "more than was signed"


def _refused(sentence: str) -> None:
    assert sentence in SENTENCES


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _signature(signed: str) -> str:
    return _text(hmac.new(KEY.secret, signed.encode("latin-1"), hashlib.sha256).digest())
