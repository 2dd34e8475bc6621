"""Keys: public ones from a file, rotation with a grace period, tokens taken back. Refusals: test_tokens.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d4e_sfu import config as configuration
from d4e_sfu import keyfiles
from d4e_sfu.core import tokens
from d4e_sfu.errors import ConfigError, Unauthorized
from tests.conftest import WALL, MintToken
from tests.core.house import House
from tests.core.test_tokens import (
    CONFIG,
    EDDSA,
    ES256,
    MINISTRY,
    NOW,
    OTHER_ES256,
    SECRET,
    claims,
    foreign,
    jwk,
    key_set,
    sign,
)

ENVIRON = {"SECRET": SECRET}


def load(folder: Path, text: str) -> configuration.Config:
    return configuration.parse(text, folder=folder, environ=ENVIRON)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(folder, text)
    (only,) = error.value.problems
    return f"{only.key}: {only.message}"


@pytest.mark.parametrize(("private", "algorithm", "kid"), [(ES256, "ES256", "2026"), (EDDSA, "EdDSA", "2027")])
def test_a_token_of_a_public_key_is_accepted(private: Any, algorithm: str, kid: str) -> None:
    grants = tokens.verify(foreign(private, algorithm, kid), CONFIG, now=NOW)
    assert (grants.key, grants.identity, grants.room) == ("ministry", "bs.lan", "clinic")


def test_a_reload_reads_the_file_again(tmp_path: Path) -> None:
    file, text = tmp_path / "jwks.json", "keys: [{id: ministry, public_keys: jwks.json}]"
    file.write_bytes(key_set(jwk(ES256, "2026")))
    before = load(tmp_path, text)
    tokens.verify(foreign(), before, now=NOW)
    file.write_bytes(key_set(jwk(OTHER_ES256, "2026")))
    after = load(tmp_path, text)
    with pytest.raises(Unauthorized):
        tokens.verify(foreign(), after, now=NOW)
    tokens.verify(foreign(OTHER_ES256), after, now=NOW)
    assert [change.key for change in configuration.changes(before, after)] == ["keys"]
    assert [change.key for change in configuration.changes(after, load(tmp_path, text))] == []


POINT = jwk(ES256, "2026")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no JWK set"),
        (b"[]", "is no JWK set"),
        (b"[" * 10_000, "is no JWK set"),
        (b'{"keys": 7}', "needs 1 to 32 keys"),
        (key_set(), "needs 1 to 32 keys"),
        (key_set(*[jwk(ES256, str(number)) for number in range(33)]), "needs 1 to 32 keys"),
        (b" " * (keyfiles.MAX_JWK_SET + 1), "more than 65536 bytes"),
        (key_set(7), "keys[0]: is no JWK"),
        (key_set({**POINT, "d": "AAAA"}), "keys[0]: this is a secret"),
        (key_set({"kty": "oct", "k": "AAAA", "kid": "1"}), "keys[0]: this is a secret"),
        (key_set({**POINT, "kid": ""}), "keys[0]: needs a kid"),
        (key_set({key: value for key, value in POINT.items() if key != "kid"}), "keys[0]: needs a kid"),
        (key_set({**POINT, "kid": "x" * 129}), "keys[0]: needs a kid"),
        (key_set({**POINT, "crv": "P-384"}), "keys[0]: expected kty EC with crv P-256"),
        (key_set({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "1"}), "keys[0]: expected kty EC"),
        (key_set({**POINT, "alg": "ES384"}), "keys[0]: alg and use"),
        (key_set({**POINT, "alg": "HS256"}), "keys[0]: alg and use"),
        (key_set({**POINT, "use": "enc"}), "keys[0]: alg and use"),
        (key_set({**POINT, "y": POINT["x"]}), "keys[0]: is no public key of its curve"),
        (key_set({**POINT, "x": 7}), "keys[0]: is no public key of its curve"),
        (key_set({**jwk(EDDSA, "1"), "x": "AAAA"}), "keys[0]: is no public key of its curve"),
        (key_set(POINT, jwk(EDDSA, "2026")), "keys[1]: the kid is another key's"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_in_the_file_is_told_with_the_number_of_the_key(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "jwks.json").write_bytes(data)
    found = problem(tmp_path, "keys: [{id: ministry, public_keys: jwks.json}]")
    assert found.startswith(f"keys.0.public_keys: {said}")


def test_a_key_is_one_thing(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(key_set(POINT))
    for more in ("public_keys: jwks.json, secret_env: SECRET", "default_role: doctor"):
        assert "needs one of secret_file, secret_env and public_keys" in problem(tmp_path, f"keys: [{{id: a, {more}}}]")
    assert "cannot be read" in problem(tmp_path, "keys: [{id: a, public_keys: gone.json}]")


def test_who_knows_only_the_public_half_signs_nothing(tmp_path: Path, mint: MintToken) -> None:
    with pytest.raises(ValueError, match="secret"):
        tokens.mint(MINISTRY, identity="a", room="b", role=None, now=NOW)
    (tmp_path / "jwks.json").write_bytes(key_set(POINT))
    public, told = "keys: [{id: m, public_keys: jwks.json}", "webhooks: {urls: ['https://a.vn/']}"
    assert "needs a key with a secret" in problem(tmp_path, f"{public}]\n{told}")
    key = load(tmp_path, f"{public}, {{id: s, secret_env: SECRET}}]\n{told}").webhook_key
    assert key is not None
    assert key.id == "s"


def test_who_came_with_a_public_keys_token_gets_no_other_and_stays() -> None:
    roles = {"keys": (MINISTRY.model_copy(update={"default_role": "doctor"}),)}
    house = House(
        CONFIG.model_copy(update=roles),
        lambda identity, *_, **__: foreign(sub=identity, nbf=int(WALL), exp=int(WALL) + 600),
    )
    an = house.join("an", room="clinic")
    an.connect()
    house.sfu.tick(now=400.0)
    assert an.client.take("refresh_token") == []
    assert an.client.closed is None


# --- rotation --------------------------------------------------------------------------------------------------------


def test_an_old_key_is_accepted_until_its_time_and_the_new_one_beside_it() -> None:
    config = configuration.parse(
        "keys:\n"
        "  - {id: new, secret_env: SECRET}\n"
        "  - {id: province, secret_env: SECRET, accept_until: '2027-01-15T15:00:00+07:00'}\n",
        environ=ENVIRON,
    )
    until = config.keys[1].accept_until
    assert until == 1_800_000_000
    valid = {"nbf": int(until) - 3600, "exp": int(until) + 3600}
    tokens.verify(sign(claims(**valid)), config, now=until - 0.001)
    with pytest.raises(Unauthorized) as refused:
        tokens.verify(sign(claims(**valid)), config, now=until)
    assert (refused.value.rule, str(refused.value)) == ("key_retired", tokens.NOT_ACCEPTED)
    tokens.verify(sign(claims(iss="new", **valid)), config, now=until)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T23:59:59Z", 1_709_251_199),
        ("2026-12-31T17:00:00+07:00", 1_798_711_200),
        ("2026-12-31T17:00:00-00:30", 1_798_738_200),
        ("2026-12-31", None),
        ("2026-12-31T17:00:00", None),
        ("2026-13-31T17:00:00Z", None),
        ("2025-02-29T00:00:00Z", None),
        ("2026-12-31T24:00:00Z", None),
        ("2026-12-31T17:00:00+99:00", None),
        ("1969-12-31T23:59:59Z", None),
    ],
)
def test_a_time_has_its_zone(written: str, seconds: int | None) -> None:
    text = f"keys: [{{id: a, secret_env: SECRET, accept_until: '{written}'}}]"
    if seconds is None:
        assert "is not a time such as" in problem(Path(), text)
    else:
        assert configuration.parse(text, environ=ENVIRON).keys[0].accept_until == seconds


def test_a_time_needs_no_quotes() -> None:
    text = "keys: [{id: a, secret_env: SECRET, accept_until: 1970-01-01T00:00:00Z}]"
    assert configuration.parse(text, environ=ENVIRON).keys[0].accept_until == 0


# --- revocation ------------------------------------------------------------------------------------------------------


def test_a_token_is_taken_back_by_its_hash_or_its_id_and_others_are_not(tmp_path: Path) -> None:
    token, named = sign(claims()), sign(claims(jti="visit-9"))
    (tmp_path / "revoked").write_text(f"# lost\n\n{tokens.token_id(token).upper()}  # a tablet\nvisit-9\n")
    config = load(tmp_path, "keys: [{id: province, secret_env: SECRET}]\nrevoked: revoked")
    for each in (token, named):
        with pytest.raises(Unauthorized) as refused:
            tokens.verify(each, config, now=NOW)
        assert (refused.value.rule, str(refused.value)) == ("revoked", tokens.NOT_ACCEPTED)
    tokens.verify(sign(claims(sub="another")), config, now=NOW)
    tokens.verify(sign(claims(jti="visit-8")), config, now=NOW)
    (tmp_path / "revoked").write_text("")
    again = load(tmp_path, "keys: [{id: province, secret_env: SECRET}]\nrevoked: revoked")
    tokens.verify(token, again, now=NOW)


@pytest.mark.parametrize("id", ["AB" * 32, "ab" * 32, "visit#9"])
def test_an_id_of_any_form_can_be_taken_back(tmp_path: Path, id: str) -> None:
    """One that looks like a hash is no hash, and a mark in the middle of one begins no comment."""
    (tmp_path / "revoked").write_text(f"{id} # a tablet\n")
    config = load(tmp_path, "keys: [{id: province, secret_env: SECRET}]\nrevoked: revoked")
    with pytest.raises(Unauthorized) as refused:
        tokens.verify(sign(claims(jti=id)), config, now=NOW)
    assert refused.value.rule == "revoked"
    tokens.verify(sign(claims(jti="visit")), config, now=NOW)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (sign(claims()), "line 1 is a token itself"),
        ("a\nb c\n", "line 2 is neither"),
        ("x" * 257, "line 1 is neither"),
        ("x\n" * (keyfiles.MAX_REVOKED // 2 + 1), "more than 1048576 bytes"),
        (b"\xff", "is no text"),
    ],
    ids=["token", "words", "long", "huge", "bytes"],
)
def test_what_is_wrong_in_the_list_is_told_by_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    (tmp_path / "revoked").write_bytes(text.encode() if isinstance(text, str) else text)
    assert problem(tmp_path, "revoked: revoked").startswith(f"revoked: {said}")


def test_a_token_that_was_made_from_one_that_is_taken_back_is_taken_back_too(house: House) -> None:
    """Who is in a room is given a fresh one every five minutes."""
    an = house.join("an")
    an.connect()
    fresh, first = str(an.client.last("refresh_token")), house.mint("an")
    config = house.sfu._config.model_copy()
    grants = tokens.verify(fresh, config, now=WALL)
    assert fresh != first
    assert grants.id == tokens.token_id(first)
    config._revoked = frozenset({grants.id})
    with pytest.raises(Unauthorized):
        tokens.verify(fresh, config, now=WALL)
