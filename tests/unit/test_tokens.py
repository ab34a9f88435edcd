"""Access tokens: each claim, each header parameter, each confusion of keys, and any text at all."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.minting import (
    AUDIENCE,
    ISSUER,
    SCOPE,
    THUMBPRINT,
    claims,
    expected,
    key,
    minted,
    public,
    published,
    unsigned,
    with_secret,
)

from deliv.errors import TokenRefused
from deliv.identity.tokens import Keys, Token, TokenChecker

KEYS = Keys.parse(published("rsa", "ec"))
CHECKER = TokenChecker(expected())


def refusal(token: str, *, keys: Keys = KEYS, **settings: Any) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        TokenChecker(expected(**settings)).check(token, keys, thumbprint=THUMBPRINT)
    return caught.value


def accepted(token: str, *, keys: Keys = KEYS, **settings: Any) -> Token:
    return TokenChecker(expected(**settings)).check(token, keys, thumbprint=THUMBPRINT)


def signed_by(kid: str, algorithm: str) -> str:
    return minted(kid=kid, alg=algorithm)


# --- good ones


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [
        *(("rsa", algorithm) for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS512")),
        *(("ec", "ES256"), ("ec384", "ES384"), ("ec521", "ES512")),
    ],
)
def test_every_algorithm_that_is_allowed(kid: str, algorithm: str) -> None:
    keys = Keys.parse(published(kid))
    token = signed_by(kid, algorithm)
    assert accepted(token, keys=keys, algorithms=(algorithm,)).client_id == "stager"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_type_of_access_tokens(typ: str) -> None:
    assert accepted(minted(typ=typ)) == Token(client_id="stager", subject="stager", token_id="7")


def test_one_of_several_audiences() -> None:
    accepted(minted(claims(aud=["somebody else", AUDIENCE])))


def test_more_than_it_needs() -> None:
    accepted(minted(claims(name="Stager", scope=f"{SCOPE} admin"), x5t="abc"))


# --- claims


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat", "sub", "jti", "client_id"])
def test_a_claim_that_is_missing(claim: str) -> None:
    assert str(refusal(minted(claims(**{claim: None})))) == f"the token lacks {claim}"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example.org"},
        {"iss": f"{ISSUER}/"},
        {"iss": ISSUER.upper()},
        {"iss": [ISSUER]},
        {"aud": "https://other.example.org"},
        {"aud": []},
        {"aud": [AUDIENCE, 1]},
        {"aud": {AUDIENCE: 1}},
        {"aud": f"{AUDIENCE} "},
        {"sub": 1},
        {"sub": ""},
        {"jti": 1},
        {"client_id": 1},
        {"client_id": ""},
        {"exp": "soon"},
        {"exp": True},
        {"exp": [1]},
        {"exp": -1},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"iat": "then"},
        {"nbf": "then"},
    ],
)
def test_a_claim_that_is_wrong(changes: dict[str, object]) -> None:
    error = refusal(minted(claims(**changes)))
    assert error.challenge == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("scope", [None, "", f"{SCOPE}s", f"x{SCOPE}", [SCOPE], 1, SCOPE.upper()])
def test_without_the_scope(scope: object) -> None:
    error = refusal(minted(claims(scope=scope)))
    assert error.challenge == 'Bearer error="insufficient_scope"'


@pytest.mark.parametrize(
    ("claim", "offset", "good"),
    [
        ("exp", -50, True),
        ("exp", -70, False),
        ("nbf", 50, True),
        ("nbf", 70, False),
        ("iat", 50, True),
        ("iat", 70, False),
    ],
)
def test_clocks_may_differ_by_a_minute(claim: str, offset: int, good: bool) -> None:
    now = int(time.time())
    token = minted(claims(**{claim: now + offset}))
    try:
        CHECKER.check(token, KEYS, thumbprint=THUMBPRINT, now=now)
    except TokenRefused:
        assert not good
    else:
        assert good


def test_an_expired_one_is_refused_as_such() -> None:
    assert str(refusal(minted(claims(exp=1)))) == "the token has expired"


@pytest.mark.parametrize("content", [None, [], 1, "text", [["iss", ISSUER]]])
def test_claims_that_are_no_object(content: object) -> None:
    refusal(minted(json.loads(json.dumps(content)) if content is not None else "null"))


# --- certificates


def test_bound_to_the_certificate_it_came_with() -> None:
    accepted(minted(claims(cnf={"x5t#S256": THUMBPRINT})), bound=True)


@pytest.mark.parametrize(
    "cnf",
    [
        {"x5t#S256": "s" * 43},
        {"x5t#S256": ""},
        {"x5t#S256": None},
        {"x5t#S256": THUMBPRINT, "jkt": "x"},
        {"jkt": "x"},
        {},
        [],
        THUMBPRINT,
        0,
    ],
)
@pytest.mark.parametrize("bound", [True, False])
def test_bound_to_something_else(cnf: object, bound: bool) -> None:
    assert "bound to" in str(refusal(minted(claims(cnf=cnf)), bound=bound))


def test_not_bound_where_it_must_be() -> None:
    assert "not bound" in str(refusal(minted(), bound=True))


# --- header


@pytest.mark.parametrize(
    "typ", [None, "", "JWT", "jwt", "at+jwt;x=1", "dpop+jwt", "text/at+jwt", 1]
)
def test_another_type(typ: object) -> None:
    refusal(unsigned(claims(), b"x" * 256, alg="RS256", kid="rsa", typ=typ))


@pytest.mark.parametrize("kid", [None, "", "k" * 257, 1, ["rsa"], {}])
def test_a_key_that_is_not_named(kid: object) -> None:
    refusal(unsigned(claims(), b"x" * 256, alg="RS256", kid=kid, typ="at+jwt"))


def test_an_unknown_key() -> None:
    assert "does not publish" in str(refusal(minted(kid="stranger")))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp", 1, {"exp": 1}])
def test_anything_critical(crit: object) -> None:
    header = {"alg": "RS256", "kid": "rsa", "typ": "at+jwt", "crit": crit, "exp": 1, "b64": False}
    refusal(unsigned(claims(), b"x" * 256, **header))


# --- keys and algorithms that don't belong together


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 1, ["RS256"], {}])
@pytest.mark.parametrize("signature", [b"", b"x" * 256])
def test_no_algorithm(algorithm: object, signature: bytes) -> None:
    refusal(unsigned(claims(), signature, alg=algorithm, kid="rsa", typ="at+jwt"))


@pytest.mark.parametrize("form", ["PEM", "DER"])
@pytest.mark.parametrize("algorithms", [("RS256",), ("HS256",)])
def test_the_public_key_as_a_shared_secret(form: Any, algorithms: Any) -> None:
    """Whoever reads the JWK Set has it: it must not count as the secret of an HMAC.

    Not even were HMAC allowed, which the configuration does not let it be.
    """
    secret = key("rsa").as_bytes(form, private=False)
    refusal(with_secret(secret, kid="rsa"), algorithms=algorithms)
    refusal(with_secret(secret.strip(), kid="rsa"), algorithms=algorithms)
    refusal(with_secret(json.dumps(public("rsa")).encode(), kid="rsa"), algorithms=algorithms)


@pytest.mark.parametrize(
    ("claimed", "kid", "algorithm"),
    [("ec", "rsa", "RS256"), ("rsa", "ec", "ES256"), ("rsa", "other", "RS256")],
)
def test_one_keys_id_and_anothers_signature(claimed: str, kid: str, algorithm: str) -> None:
    refusal(minted(signer=key(kid), kid=claimed, alg=algorithm))


@pytest.mark.parametrize("algorithm", ["RS384", "PS384", "ES384", "HS256", "EdDSA", "RS1"])
def test_an_algorithm_that_is_not_configured(algorithm: str) -> None:
    refusal(unsigned(claims(), b"x" * 256, alg=algorithm, kid="rsa", typ="at+jwt"))


def test_an_algorithm_is_not_switched() -> None:
    """RS256 and PS256 are both allowed and use the same kind of key."""
    head, payload, signature = signed_by("rsa", "PS256").split(".")
    other = signed_by("rsa", "RS256").split(".")[0]
    refusal(f"{other}.{payload}.{signature}")
    refusal(f"{head}.{payload}.{signed_by('rsa', 'RS256').split('.')[2]}")


def test_a_key_for_one_algorithm_is_for_no_other() -> None:
    keys = Keys.parse(json.dumps({"keys": [public("rsa", alg="PS256")]}).encode())
    accepted(signed_by("rsa", "PS256"), keys=keys)
    refusal(signed_by("rsa", "RS256"), keys=keys)


def test_a_curve_that_is_not_the_algorithms() -> None:
    keys = Keys.parse(json.dumps({"keys": [public("ec384", kid="ec")]}).encode())
    refusal(minted(kid="ec"), keys=keys)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_in_the_token_itself_is_ignored(name: str) -> None:
    value: Any = public("mine") if name == "jwk" else "https://mine.example.org/jwks"
    value = [base64.b64encode(b"x").decode()] if name == "x5c" else value
    refusal(minted(signer=key("mine"), kid="rsa", **{name: value}))


# --- any text at all


def test_no_character_can_be_changed() -> None:
    """ES256, whose signature is short; in base64url some last characters are equal to others."""
    token = minted(kid="ec")
    for place, character in enumerate(token):
        for other in {"A", "B", "_", "-", "9", "=", ".", "\n", " ", "é"} - {character}:
            refusal(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize("extra", [".", " ", "\n", "=", "A", ".A", "\x00", "é"])
def test_nothing_can_be_added(extra: str) -> None:
    token = minted(kid="ec")
    refusal(token + extra)
    refusal(extra + token)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", "e30.e30.", "e30.e30.e30", "W10.W10.W10"],
)
def test_fragments(token: str) -> None:
    refusal(token)


def test_too_large() -> None:
    refusal(minted(claims(filler="x" * 16384)))
    refusal(minted(filler="x" * 4096))


def test_nested_too_deep() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 12000).rstrip(b"=").decode()
    head, _, signature = minted().split(".")
    refusal(f"{head}.{deep}.{signature}")
    refusal(f"{deep[:4000]}.{deep}.{signature}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty", "zip", "enc"])
CLAIMS = st.sampled_from([*claims(), "nbf", "cnf"])


@given(st.text(max_size=200) | st.from_regex(r"[\w.-]{0,200}"))
def test_any_text_is_refused(text: str) -> None:
    refusal(text)


@given(st.dictionaries(NAMES, JSON | st.sampled_from(["RS256", "rsa", "at+jwt"])), JSON)
def test_any_header_without_a_signature_is_refused(header: dict[str, Any], content: Any) -> None:
    refusal(unsigned(content, b"x" * 256, **header))


@given(st.dictionaries(CLAIMS, JSON, min_size=1))
def test_signed_claims_of_any_kind_are_accepted_or_refused(changes: dict[str, Any]) -> None:
    """Accepted only when each of the claims that count is what it is in a good token."""
    content = {**claims(), **changes}
    try:
        CHECKER.check(minted(content, kid="ec"), KEYS, thumbprint=THUMBPRINT)
    except TokenRefused:
        return
    assert content["iss"] == ISSUER
    assert content["aud"] == AUDIENCE or AUDIENCE in content["aud"]
    assert SCOPE in content["scope"].split(" ")
    assert content["exp"] > time.time() - 61
    assert content.get("cnf") is None


# --- the JWK Set


def jwks(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_unusable_keys_are_skipped_and_named() -> None:
    weak = {"kty": "RSA", "kid": "weak", "n": "y" * 171, "e": "AQAB"}
    keys = Keys.parse(
        jwks(
            public("rsa"),
            public("ec", kid="rsa"),
            weak,
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            {"kty": "AKP", "kid": "new kind", "pub": "x"},
            public("ec", kid="for encryption", use="enc"),
            public("ec", kid="signs", use=None, key_ops=["sign"]),
            key("ec").as_dict(private=True, kid="private"),
            public("ec", kid=None),
            public("ec", kid="off the curve", x="AAAA"),
            public("ec", kid="good", key_ops=["verify"], x5c=["whatever"], ext=True),
            "text",
            None,
            [],
            {},
        )
    )
    assert keys.by_id.keys() == {"rsa", "good"}
    assert len(keys.unused) == 13


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": 1}',
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [{}]}',
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        jwks(*[{"kty": "oct", "k": "x"}] * 65),
    ],
)
def test_what_is_no_jwk_set(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JWK Set|no key to verify with"):
        Keys.parse(document)


@given(st.lists(st.dictionaries(st.sampled_from([*public("rsa"), "crv", "x", "y"]), JSON)))
def test_any_jwk_set_is_read_or_refused(entries: list[dict[str, Any]]) -> None:
    try:
        keys = Keys.parse(jwks(*entries, public("ec")))
    except ValueError:
        return
    assert "ec" in keys.by_id
