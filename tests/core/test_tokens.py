"""Tokens: what is accepted, and forty-odd ways of being refused, each by the rule that is meant for it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import statistics
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from livekit import api

from d4e_sfu import config as configuration
from d4e_sfu import keyfiles
from d4e_sfu.config import Key, Source
from d4e_sfu.core import tokens
from d4e_sfu.errors import Unauthorized

NOW = 1_800_000_000.0
SECRET = "province-secret-of-more-than-32-bytes"
OTHER_SECRET = "portal-secret-of-more-than-32-bytes!!"
CONFIG = configuration.parse(
    "keys: [{id: province, secret_env: SECRET}, {id: portal, secret_env: OTHER}]",
    environ={"SECRET": SECRET, "OTHER": OTHER_SECRET},
)
GOOD = {
    "iss": "province",
    "sub": "bs.lan",
    "nbf": int(NOW),
    "exp": int(NOW) + 3600,
    "video": {"roomJoin": True, "room": "clinic"},
}


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def sign(claims: object, *, header: object = None, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token made by hand: PyJWT would refuse to make most of these. Texts are taken as they are."""
    signed = f"{part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    mac = hmac.new(secret.encode(), signed.encode(), digest).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def claims(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in (GOOD | changed).items() if value is not ...}


def video(**changed: Any) -> dict[str, Any]:
    return claims(video={**claims()["video"], **changed})


def header(**members: Any) -> dict[str, Any]:
    return {"alg": "HS256", "typ": "JWT", **members}


def twice(claim: str) -> str:
    """The claims with one of them given twice, the second time as an attacker would like it."""
    return json.dumps(claims())[:-1] + f", {claim}}}"


def test_a_good_token_is_accepted() -> None:
    grants = tokens.verify(sign(claims()), CONFIG, now=NOW)
    assert (grants.key, grants.identity, grants.room, grants.room_join) == ("province", "bs.lan", "clinic", True)
    assert grants.role is None
    assert grants.expires == NOW + 3600


# Keys of which we know the public half alone, made for this run.
ES256, OTHER_ES256 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
EDDSA = ed25519.Ed25519PrivateKey.generate()


def jwk(private: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm(ECAlgorithm.SHA256) if isinstance(private, ec.EllipticCurvePrivateKey) else OKPAlgorithm()
    return {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid, **more}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def trusting(id: str, data: bytes, **settings: Any) -> Key:
    key = Key(id=id, **settings)
    key._public = keyfiles._jwk_set(data)
    return key


RETIRED = Key(id="old", accept_until="2027-01-15T08:00:00Z").holding(SECRET.encode())  # type: ignore[arg-type]
MINISTRY = trusting("ministry", key_set(jwk(ES256, "2026", alg="ES256", use="sig"), jwk(EDDSA, "2027")))
CONFIG = CONFIG.model_copy(update={"keys": (*CONFIG.keys, MINISTRY, RETIRED)})


def foreign(private: Any = ES256, algorithm: str = "ES256", kid: Any = "2026", **changed: Any) -> str:
    """As the ministry signs."""
    headers = {} if kid is ... else {"kid": kid}
    return jwt.encode(claims(iss="ministry", **changed), private, algorithm=algorithm, headers=headers)


def forged(signature: bytes, **members: Any) -> str:
    signed = f"{part({'alg': 'ES256', 'typ': 'JWT', 'kid': '2026', **members})}.{part(claims(iss='ministry'))}"
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def der(token: str) -> str:
    """The signature as X.509 has it, not as RFC 7518 §3.4."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    written = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    return f"{signed}.{base64.urlsafe_b64encode(written).decode().rstrip('=')}"


PEM = ES256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
REVOKED_BY_ID = foreign(jti="visit-1")
REVOKED_BY_HASH = sign(claims(sub="was.robbed"))
REVOKED_ES256 = foreign(sub="was.robbed")
CONFIG._revoked = frozenset({"visit-1", *map(tokens.token_id, (REVOKED_BY_HASH, REVOKED_ES256))})


def twin(token: str) -> str:
    """The same claims under another signature that is as right: of r and s, ECDSA takes r and n - s as well. Whoever
    holds a token can make it."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2 §2.4.2)
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    return f"{signed}.{base64.urlsafe_b64encode(other).decode().rstrip('=')}"


REFUSED = [
    # public keys
    ("the public key as a secret", sign(claims(iss="ministry"), secret=PEM, header=header(kid="2026")), "algorithm"),
    ("none, with a kid", forged(b"x", alg="none"), "algorithm"),
    ("HS256 of a public key", forged(b"x" * 32, alg="HS256"), "algorithm"),
    ("another hash", forged(b"x" * 96, alg="ES384"), "algorithm"),
    ("Ed25519's kid with ES256", foreign(kid="2027"), "algorithm"),
    ("P-256's kid with EdDSA", foreign(EDDSA, "EdDSA"), "algorithm"),
    ("no kid", foreign(kid=...), "unknown_key"),
    ("unknown kid", foreign(kid="2025"), "unknown_key"),
    ("kid that is the issuer", foreign(kid="ministry"), "unknown_key"),
    ("kid that is a list", forged(b"x" * 64, kid=["2026"]), "unknown_key"),
    ("kid that is a path", forged(b"x" * 64, kid="../../dev/null"), "unknown_key"),
    ("somebody else's P-256 key", foreign(OTHER_ES256), "signature"),
    ("r and s of zero", forged(bytes(64)), "signature"),
    (
        "r and s of the order",
        forged(bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2),
        "signature",
    ),
    ("signature as in X.509", der(foreign()), "signature"),
    ("zeros for Ed25519", forged(bytes(64), alg="EdDSA", kid="2027"), "signature"),
    ("half a signature", forged(b"x" * 32), "signature"),
    ("a key of its own", forged(b"x" * 64, jwk=jwk(OTHER_ES256, "2026")), "header"),
    ("an address of keys", forged(b"x" * 64, jku="https://evil.example/jwks"), "header"),
    ("public key's algorithm at a secret", jwt.encode(claims(), ES256, algorithm="ES256"), "algorithm"),
    ("public key's kid at a secret", sign(claims(), header=header(kid="2026")), "header"),
    ("expired, of a public key", foreign(exp=int(NOW) - 3600), "expired"),
    # keys and tokens that were taken back
    ("a key that is over", sign(claims(iss="old")), "key_retired"),
    ("revoked by its id", REVOKED_BY_ID, "revoked"),
    ("revoked by its hash", REVOKED_BY_HASH, "revoked"),
    ("revoked, and signed otherwise", twin(REVOKED_ES256), "revoked"),
    # form
    ("empty", "", "token_form"),
    ("one part", "abc", "token_form"),
    ("two parts", ".".join(sign(claims()).split(".")[:2]), "token_form"),
    ("four parts", sign(claims()) + ".x", "token_form"),
    ("line feed at the end", sign(claims()) + "\n", "token_form"),
    ("standard alphabet", sign(claims())[:-1] + "+", "token_form"),
    ("not ASCII", sign(claims())[:-1] + "é", "token_form"),
    ("half a surrogate pair", "\ud800.\ud800.\ud800", "token_form"),
    ("one megabyte", sign(claims(metadata="x" * 1_000_000)), "token_size"),
    ("claims are a list", sign([claims()]), "token_form"),
    ("claims are not JSON", sign("{"), "token_form"),
    ("claims are not UTF-8", sign("\ud800"), "token_form"),
    ("nested a thousand deep", sign('{"a":' + "[" * 5000 + "]" * 5000 + "}"), "token_form"),
    ("NaN", sign(json.dumps(claims(exp=float("nan")))), "token_form"),
    ("five thousand digits", sign(json.dumps(claims())[:-1] + ', "x": ' + "9" * 5000 + "}"), "token_form"),
    ("header is no object", sign(claims(), header='"HS256"'), "token_form"),
    # algorithm and header
    ("alg none, unsigned", f"{part(header(alg='none'))}.{part(claims())}.", "token_form"),
    ("alg none, with a signature", sign(claims(), header=header(alg="none")), "algorithm"),
    ("alg None", sign(claims(), header=header(alg="None")), "algorithm"),
    ("alg nOnE", sign(claims(), header=header(alg="nOnE")), "algorithm"),
    ("alg null", sign(claims(), header=header(alg=None)), "algorithm"),
    ("alg is a list", sign(claims(), header=header(alg=["HS256"])), "algorithm"),
    ("alg missing", sign(claims(), header={"typ": "JWT"}), "algorithm"),
    ("alg RS256", sign(claims(), header=header(alg="RS256")), "algorithm"),
    ("alg ES256", sign(claims(), header=header(alg="ES256")), "algorithm"),
    ("alg HS512, rightly signed", sign(claims(), header=header(alg="HS512"), digest="sha512"), "algorithm"),
    ("alg hs256", sign(claims(), header=header(alg="hs256")), "algorithm"),
    ("alg given twice", sign(claims(), header='{"alg":"none","alg":"HS256"}'), "duplicate_claim"),
    ("kid is a path", sign(claims(), header=header(kid="../../dev/null")), "header"),
    ("kid is SQL", sign(claims(), header=header(kid="' UNION SELECT 'x")), "header"),
    ("kid of another key", sign(claims(), header=header(kid="portal")), "header"),
    ("jku", sign(claims(), header=header(jku="https://evil.example/jwks")), "header"),
    ("x5u", sign(claims(), header=header(x5u="https://evil.example/x")), "header"),
    ("jwk", sign(claims(), header=header(jwk={"kty": "oct", "k": "AAAA"})), "header"),
    ("crit", sign(claims(), header=header(crit=["exp"])), "header"),
    ("b64 false", sign(claims(), header=header(b64=False, crit=["b64"])), "header"),
    ("typ of another use", sign(claims(), header=header(typ="at+jwt")), "header"),
    # signature and key
    ("wrong secret", sign(claims(), secret=OTHER_SECRET), "signature"),
    ("another digest", sign(claims(), digest="sha384"), "signature"),
    ("signature cut", sign(claims())[:-4], "signature"),
    ("claims changed after signing", sign(claims()).replace(part(claims()), part(claims(sub="other"))), "signature"),
    ("unknown key", sign(claims(iss="nobody")), "unknown_key"),
    (
        "unknown key, signed with our stand-in",
        sign(claims(iss="x"), secret=tokens._NOBODY.secret.decode()),
        "unknown_key",
    ),
    ("no issuer", sign(claims(iss=...)), "unknown_key"),
    ("issuer is a list", sign(claims(iss=["province"])), "unknown_key"),
    ("issuer given twice", sign(twice('"iss": "portal"')), "duplicate_claim"),
    # time
    ("no exp", sign(claims(exp=...)), "expiry_missing"),
    ("exp null", sign(claims(exp=None)), "time_type"),
    ("exp is text", sign(claims(exp=str(int(NOW) + 60))), "time_type"),
    ("exp is a fraction", sign(claims(exp=NOW + 60.5)), "time_type"),
    ("exp is true", sign(claims(exp=True)), "time_type"),
    ("exp is 2^63", sign(claims(exp=2**63)), "time_type"),
    ("exp in milliseconds", sign(claims(exp=int(NOW) * 1000)), "time_type"),
    ("exp below zero", sign(claims(exp=-1)), "time_type"),
    ("exp 1e400", sign(json.dumps(claims()).replace(str(int(NOW) + 3600), "1e400")), "time_type"),
    ("exp given twice", sign(twice('"exp": 9999999999')), "duplicate_claim"),
    ("expired", sign(claims(exp=int(NOW) - 60)), "expired"),
    ("not yet valid", sign(claims(nbf=int(NOW) + 61)), "not_before"),
    ("nbf is text", sign(claims(nbf="0")), "time_type"),
    # claims
    ("for someone else", sign(claims(aud="d4e-sfu-backup")), "audience"),
    ("no video grant", sign(claims(video=...)), "no_video_grant"),
    ("video grant is true", sign(claims(video=True)), "no_video_grant"),
    ("identity is a number", sign(claims(sub=7)), "claim_type"),
    ("identity too long", sign(claims(sub="ă" * 200)), "claim_size"),
    ("identity with a line feed", sign(claims(sub="a\nlevel=error")), "claim_text"),
    ("name with an escape", sign(claims(name="\x1b[2J")), "claim_text"),
    ("name with half a surrogate pair", sign(json.dumps(claims(name="\ud800"))), "claim_text"),
    ("room is a list", sign(video(room=["clinic"])), "claim_type"),
    ("room given twice", sign(json.dumps(claims())[:-2] + ', "room": "other"}}'), "duplicate_claim"),
    ("roomJoin is 1", sign(video(roomJoin=1)), "claim_type"),
    ("roomJoin is text", sign(video(roomJoin="true")), "claim_type"),
    ("canPublish is text", sign(video(canPublish="false")), "claim_type"),
    ("sources are text", sign(video(canPublishSources="camera")), "claim_type"),
    ("sources are numbers", sign(video(canPublishSources=[1])), "claim_type"),
    ("metadata is an object", sign(claims(metadata={"a": 1})), "claim_type"),
    ("metadata too long", sign(claims(metadata="x" * 8193)), "claim_size"),
    ("attributes are a list", sign(claims(attributes=["a"])), "claim_type"),
    ("an attribute is a number", sign(claims(attributes={"a": 1})), "claim_type"),
    ("65 attributes", sign(claims(attributes={str(n): "" for n in range(65)})), "claim_size"),
    ("attributes too long together", sign(claims(attributes={"a": "x" * 5000, "b": "x" * 5000})), "claim_size"),
    ("attribute's name with half a surrogate pair", sign(json.dumps(claims(attributes={"\udfff": ""}))), "claim_text"),
    ("d4e is text", sign(claims(d4e="doctor")), "claim_type"),
    ("role is a list", sign(claims(d4e={"role": ["doctor"]})), "role_form"),
    ("role is a path", sign(claims(d4e={"role": "../doctor"})), "role_form"),
    ("role is empty", sign(claims(d4e={"role": ""})), "role_form"),
]


@pytest.mark.parametrize(("token", "rule"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_bad_token_is_refused_by_its_rule(token: str, rule: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        tokens.verify(token, CONFIG, now=NOW)
    assert refusal.value.rule == rule
    expected = {"expired": tokens.EXPIRED, "not_before": tokens.NOT_YET_VALID}.get(rule, tokens.NOT_ACCEPTED)
    assert str(refusal.value) == expected
    assert refusal.value.status == 401
    assert refusal.value.detail == ""


def test_the_table_is_not_short() -> None:
    assert len(REFUSED) >= 40


@pytest.mark.parametrize(
    ("since_expiry", "accepted"), [(0, True), (59.999, True), (60, False)], ids=["at once", "within", "after"]
)
def test_the_leeway_is_a_minute_after_expiry(since_expiry: float, accepted: bool) -> None:
    token = sign(claims())
    now = NOW + 3600 + since_expiry
    if accepted:
        tokens.verify(token, CONFIG, now=now)
    else:
        with pytest.raises(Unauthorized, match="expired"):
            tokens.verify(token, CONFIG, now=now)


@pytest.mark.parametrize(("before", "accepted"), [(60, True), (60.001, False)])
def test_the_leeway_is_a_minute_before_validity(before: float, accepted: bool) -> None:
    token = sign(claims())
    if accepted:
        tokens.verify(token, CONFIG, now=NOW - before)
    else:
        with pytest.raises(Unauthorized, match="not yet valid"):
            tokens.verify(token, CONFIG, now=NOW - before)


def test_the_time_of_the_machine_is_not_asked() -> None:
    """Both tokens would fail against a real clock: one is from 1970, the other from 2200."""
    for then in (1000.0, 7_300_000_000.0):
        tokens.verify(sign(claims(nbf=int(then), exp=int(then) + 1, iat=int(then) + 40)), CONFIG, now=then)


def test_tri_states_mean_what_their_absence_means() -> None:
    grants = tokens.verify(sign(claims()), CONFIG, now=NOW)
    assert grants.publish == frozenset(Source)
    assert (grants.subscribe, grants.data) == (True, True)
    assert (grants.update_own_metadata, grants.hidden, grants.room_admin) == (False, False, False)
    silent = tokens.verify(sign(video(canPublish=False)), CONFIG, now=NOW)
    assert (silent.publish, silent.data, silent.subscribe) == (frozenset(), False, True)
    chatting = tokens.verify(sign(video(canPublish=False, canPublishData=True)), CONFIG, now=NOW)
    assert chatting.data
    null = tokens.verify(sign(video(canPublish=None, canSubscribe=None)), CONFIG, now=NOW)
    assert (null.publish, null.subscribe) == (frozenset(Source), True)


@pytest.mark.parametrize(
    ("listed", "sources"),
    [
        ([], set(Source)),
        (None, set(Source)),
        (["microphone"], {Source.MICROPHONE}),
        (["CAMERA", "screen_share"], {Source.CAMERA, Source.SCREEN_SHARE}),
        (["hologram"], set()),
    ],
)
def test_sources_are_restricted_by_a_list_that_is_not_empty(listed: object, sources: set[Source]) -> None:
    assert tokens.verify(sign(video(canPublishSources=listed)), CONFIG, now=NOW).publish == sources


def test_canpublish_false_wins_over_a_list_of_sources() -> None:
    token = sign(video(canPublish=False, canPublishSources=["camera"]))
    assert tokens.verify(token, CONFIG, now=NOW).publish == frozenset()


def test_the_identity_may_come_from_jti() -> None:
    assert tokens.verify(sign(claims(sub=..., jti="tablet-7")), CONFIG, now=NOW).identity == "tablet-7"


def test_a_kind_that_is_not_known_is_standard() -> None:
    assert tokens.verify(sign(claims(kind="agent")), CONFIG, now=NOW).kind == "agent"
    assert tokens.verify(sign(claims(kind="hologram")), CONFIG, now=NOW).kind == "standard"


def test_the_longest_token_is_still_read() -> None:
    """Bounds include their last value: 16 KiB of token, 8 KiB of metadata."""
    tokens.verify(sign(claims(metadata="x" * tokens.MAX_METADATA)), CONFIG, now=NOW)
    padded = next(
        token for filling in range(11_900, 12_300) if len(token := sign(claims(iat="x" * filling))) >= tokens.MAX_TOKEN
    )
    assert len(padded) == tokens.MAX_TOKEN
    tokens.verify(padded, CONFIG, now=NOW)


def test_a_header_may_name_the_key_and_leave_out_the_type() -> None:
    for allowed in ({"alg": "HS256"}, header(kid="province"), header(typ="jwt")):
        tokens.verify(sign(claims(), header=allowed), CONFIG, now=NOW)


def test_a_key_without_its_secret_signs_nothing() -> None:
    empty = Key(id="province")
    with pytest.raises(ValueError, match="secret"):
        tokens.mint(empty, identity="a", room="b", role=None, now=NOW)
    config = CONFIG.model_copy(update={"keys": (empty,)})
    with pytest.raises(Unauthorized) as refusal:
        tokens.verify(sign(claims(), secret=""), config, now=NOW)
    assert refusal.value.rule == "unknown_key"


def test_what_mint_makes_verify_takes() -> None:
    key = CONFIG.keys[0]
    token = tokens.mint(
        key,
        identity="bs.lan",
        room="clinic",
        role="doctor",
        now=NOW,
        ttl=60,
        name="Bác sĩ Lan",
        metadata="{}\n",
        attributes={"ward": "nhi"},
        video={"roomAdmin": True, "canPublishSources": ["camera"]},
    )
    assert dataclasses.asdict(dataclasses.replace(tokens.verify(token, CONFIG, now=NOW), attributes={})) == {
        "key": "province",
        "identity": "bs.lan",
        "name": "Bác sĩ Lan",
        "metadata": "{}\n",
        "attributes": {},
        "kind": "standard",
        "role": "doctor",
        "not_before": int(NOW),
        "expires": NOW + 60,
        "room": "clinic",
        "room_join": True,
        "room_admin": True,
        "publish": frozenset({Source.CAMERA}),
        "subscribe": True,
        "data": True,
        "update_own_metadata": False,
        "hidden": False,
        "room_create": False,
        "room_list": False,
        "id": tokens.token_id(token),
        "first": tokens.token_id(token),
    }
    assert tokens.verify(token, CONFIG, now=NOW).attributes == {"ward": "nhi"}


def test_a_token_of_the_stock_server_sdk_is_accepted() -> None:
    """It reads the machine's clock when it signs, and so does this test."""
    grants = api.VideoGrants(room_join=True, room="clinic", can_publish_sources=["microphone"], hidden=True)
    token = (
        api.AccessToken("province", SECRET)
        .with_identity("bs.lan")
        .with_name("Bác sĩ Lan")
        .with_metadata("m")
        .with_attributes({"a": "b"})
        .with_kind("agent")
        .with_grants(grants)
        .to_jwt()
    )
    accepted = tokens.verify(token, CONFIG, now=time.time())
    assert (accepted.identity, accepted.name, accepted.metadata) == ("bs.lan", "Bác sĩ Lan", "m")
    assert (accepted.kind, accepted.hidden) == ("agent", True)
    assert accepted.publish == {Source.MICROPHONE}


def test_a_servers_token_of_the_stock_sdk_names_nobody() -> None:
    token = api.AccessToken("province", SECRET).with_grants(api.VideoGrants(room_admin=True, room="clinic")).to_jwt()
    accepted = tokens.verify(token, CONFIG, now=time.time())
    assert (accepted.identity, accepted.role, accepted.room_join, accepted.room_admin) == ("", None, False, True)


def test_the_stock_verifier_takes_what_mint_makes() -> None:
    token = tokens.mint(CONFIG.keys[0], identity="bs.lan", room="clinic", role="doctor", now=time.time())
    claims = api.TokenVerifier("province", SECRET).verify(token)
    assert (claims.identity, claims.video and claims.video.room) == ("bs.lan", "clinic")


def test_a_secret_shows_nowhere() -> None:
    key = CONFIG.keys[0]
    assert key.secret == SECRET.encode()
    shown = f"{CONFIG!r} {key!r} {CONFIG.model_dump_json(warnings=False)} {key.model_dump()}"
    assert SECRET not in shown
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in shown


@pytest.mark.long
def test_an_unknown_key_costs_the_time_of_a_wrong_signature() -> None:
    """S17 of an attacker's list: key ids must not be found out by timing. 2,000 tries each, interleaved."""
    known, unknown = sign(claims(), secret=OTHER_SECRET), sign(claims(iss="provincf"), secret=OTHER_SECRET)
    took: dict[str, list[int]] = {known: [], unknown: []}
    for _ in range(2000):
        for token, times in took.items():
            start = time.perf_counter_ns()
            with pytest.raises(Unauthorized):
                tokens.verify(token, CONFIG, now=NOW)
            times.append(time.perf_counter_ns() - start)
    assert statistics.median(took[known]) == pytest.approx(statistics.median(took[unknown]), rel=0.05)
