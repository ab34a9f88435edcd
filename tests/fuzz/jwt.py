"""Access tokens, well signed and not, and the key sets of their issuer."""

from __future__ import annotations

import json
import time
from functools import cache
from random import Random
from typing import Any

from joserfc.util import urlsafe_b64encode
from support import minting

from deliv.errors import TokenRefused
from deliv.identity.tokens import Keys, TokenChecker
from fuzz.engine import Disagreement, Target
from fuzz.mutation import BYTES, CHARACTERS, Mutator

KIDS = ("ec", "rsa")
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, 1e308, float("nan"), float("inf"), "",
    "x", [], {}, [[]], ["x"],
    {"x": 1}, "\ud800", "é", "a" * 5000, minting.ISSUER, minting.AUDIENCE, minting.SCOPE,
    [minting.AUDIENCE], [minting.AUDIENCE, 1], {"x5t#S256": minting.THUMBPRINT}, {"x5t#S256": 1},
    "none", "HS256", "ES256", "RS256", "ec", "rsa", "at+jwt", "JWT", ["exp"],
)  # fmt: skip
CLAIMS = ("iss", "aud", "sub", "client_id", "jti", "iat", "exp", "nbf", "scope", "cnf", "x")
HEADER = ("alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "x5u", "zip", "enc")
MEMBERS = ("kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y", "d", "k")
SKEW = 61  # seconds; what the checker allows, and this run's own second


def resigned(random: Random) -> str:
    """Claims and header changed, and signed again by the issuer's key, or another one."""
    content = {**minting.claims(), **_some(random, CLAIMS)}
    header = {name: value for name, value in _some(random, HEADER).items() if random.random() < 0.5}
    head = {"alg": "ES256", "typ": "at+jwt", "kid": "ec", **header}
    return _signed(head, json.dumps(content).encode(), random.choice(("ec",) * 9 + ("stranger",)))


def garbled(random: Random) -> str:
    """A payload of broken JSON, well signed."""
    payload = _payloads().change(random, json.dumps(minting.claims()).encode())
    return _signed({"alg": "ES256", "typ": "at+jwt", "kid": "ec"}, payload, "ec")


def mutated(random: Random) -> str:
    return _tokens()(random)


def unsigned(random: Random) -> str:
    head = {"alg": "none", "typ": "at+jwt", "kid": "ec", **_some(random, HEADER)}
    return minting.unsigned(minting.claims(), random.randbytes(random.choice((0, 32, 64))), **head)


def check(token: str) -> None:
    """Whoever is let in has a token that says so, with the header and claims that were signed."""
    found = _checker().check(token, _keys(), thumbprint=minting.THUMBPRINT)
    signed, _, _ = token.rpartition(".")
    claims = _signed_claims.get(signed)
    if claims is None:
        raise Disagreement("this was not signed")
    now = time.time()
    right = (
        claims["iss"] == minting.ISSUER,
        claims["aud"] == minting.AUDIENCE or minting.AUDIENCE in claims["aud"],
        claims["exp"] > now - SKEW and claims["iat"] < now + SKEW,
        claims.get("nbf", 0) < now + SKEW,
        minting.SCOPE in claims["scope"].split(),
        claims.get("cnf") in (None, {"x5t#S256": minting.THUMBPRINT}),
        (found.client_id, found.subject) == (claims["client_id"], claims["sub"]),
    )
    if not all(right):
        raise Disagreement(f"{claims} should not be good: {right}")


def generated_keys(random: Random) -> bytes:
    entries: list[Any] = [dict(minting.public(random.choice(KIDS))) for _ in range(2)]
    changed = random.choice(entries)
    changed.update(_some(random, MEMBERS))
    if random.random() < 0.1:
        entries.append(random.choice(ODD))
    document = random.choice(({"keys": entries},) * 9 + (entries,))
    return json.dumps(document).encode()


def mutated_keys(random: Random) -> bytes:
    return Mutator([minting.published(*KIDS)], BYTES)(random)


def check_keys(document: bytes) -> None:
    """A key that is taken is one that was published, or at least a public one."""
    for key in Keys.parse(document).by_id.values():
        if key.is_private:
            raise Disagreement("a private key")


_signed_claims: dict[str, Any] = {}


def _signed(head: dict[str, Any], payload: bytes, signer: str) -> str:
    """By hand, since a library would refuse to sign some of it. The signature is ES256's."""
    parts = urlsafe_b64encode(json.dumps(head).encode()), urlsafe_b64encode(payload)
    text = b".".join(parts).decode()
    algorithm = _registry().get_alg("ES256")
    key = minting.key("ec") if signer == "ec" else minting.JWKRegistry.generate_key("EC", "P-256")
    if signer == "ec":
        _remember(text, payload)
    return f"{text}.{urlsafe_b64encode(algorithm.sign(text.encode(), key)).decode()}"


def _remember(text: str, payload: bytes) -> None:
    _signed_claims.clear()
    _signed_claims.update(_samples_signed())
    try:
        _signed_claims[text] = json.loads(payload)
    except ValueError:
        return


def _some(random: Random, names: tuple[str, ...]) -> dict[str, Any]:
    chosen = random.choices(names, k=random.choice((0, 1, 1, 1, 2, 3)))
    return {name: random.choice(ODD) for name in chosen}


@cache
def _samples() -> tuple[str, ...]:
    return tuple(minting.minted(kid=kid) for kid in KIDS)


@cache
def _samples_signed() -> dict[str, Any]:
    claims = minting.claims()
    return {sample.rpartition(".")[0]: {**claims} for sample in _samples()}


@cache
def _tokens() -> Mutator[str]:
    _signed_claims.update(_samples_signed())
    words = ("e30", "bnVsbA", "eyJhbGciOiJub25lIn0", "..", "=", "==", "-", "_")
    return Mutator(_samples(), (*CHARACTERS, *words))


@cache
def _payloads() -> Mutator[bytes]:
    return Mutator([json.dumps(minting.claims()).encode()], BYTES)


@cache
def _keys() -> Keys:
    return Keys.parse(minting.published(*KIDS))


@cache
def _checker() -> TokenChecker:
    return TokenChecker(minting.expected())


@cache
def _registry() -> Any:
    return minting.jws.JWSRegistry(algorithms=minting.EVERY, strict_check_header=False)


TARGETS = (
    Target(
        name="tokens",
        share=0.08,
        sources=(resigned, mutated, garbled, unsigned),
        check=check,
        refusals=(TokenRefused,),
    ),
    Target(
        name="key sets",
        share=0.02,
        sources=(generated_keys, mutated_keys),
        check=check_keys,
        refusals=(ValueError,),
    ),
)
