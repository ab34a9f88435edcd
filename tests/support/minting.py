"""Access tokens with exactly what a test wants in them, and the keys that sign them.

token = minted(claims(aud="somebody else"))          # by the issuer's own key
keys = published("rsa", "ec")                        # the JWK Set it publishes
"""

from __future__ import annotations

import hmac
import json
import time
from functools import lru_cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, RSAKey
from joserfc.util import json_b64encode, urlsafe_b64encode

from deliv import config

ISSUER, AUDIENCE, SCOPE = "https://tokens.example.org", "https://deliv.example.org", "report"
THUMBPRINT = "r" * 43
EVERY = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256"]
CURVES = {"ec": "P-256", "ec384": "P-384", "ec521": "P-521"}


@lru_cache
def key(kid: str) -> RSAKey | ECKey:
    """The same key for the same id, since making one takes time; EC by its name, else RSA."""
    made = (
        JWKRegistry.generate_key("EC", CURVES[kid], {"kid": kid})
        if kid in CURVES
        else JWKRegistry.generate_key("RSA", 2048, {"kid": kid})
    )
    assert isinstance(made, RSAKey | ECKey)
    return made


def public(owner: str, **changes: object) -> dict[str, Any]:
    """A key as its issuer publishes it."""
    whole = {**key(owner).as_dict(private=False), "use": "sig", **changes}
    return {name: value for name, value in whole.items() if value is not None}


def published(*kids: str) -> bytes:
    return json.dumps({"keys": [public(kid) for kid in kids]}).encode()


def claims(**changes: object) -> dict[str, Any]:
    """A good token's claims, changed; a change to None takes the claim away."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "stager",
        "client_id": "stager",
        "jti": "7",
        "iat": now,
        "exp": now + 600,
        "scope": f"openid {SCOPE}",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def minted(content: Any = None, *, kid: str = "rsa", signer: Any = None, **header: object) -> str:
    """A signed token; `header` changes its header parameters, one of None takes it away."""
    head = {"alg": "ES256" if kid == "ec" else "RS256", "typ": "at+jwt", "kid": kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    payload = json.dumps(claims() if content is None else content)
    registry = jws.JWSRegistry(algorithms=EVERY, strict_check_header=False)
    return jws.serialize_compact(head, payload, signer or key(kid), registry=registry)


def unsigned(content: Any, signature: bytes = b"", **header: object) -> str:
    """A token with any header and signature, whether they make sense or not."""
    payload = urlsafe_b64encode(json.dumps(content).encode())
    parts = (json_b64encode(header), payload, urlsafe_b64encode(signature))
    return b".".join(parts).decode()


def with_secret(secret: bytes, **header: object) -> str:
    """A token with an HMAC in place of a signature, by whatever secret."""
    text = unsigned(claims(), b"", alg="HS256", typ="at+jwt", **header).rstrip(".")
    digest = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(digest).decode()}"


def expected(**changes: Any) -> config.CallbackToken:
    good = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "scope": SCOPE,
        "jwks_url": config.HttpsUrl(f"{ISSUER}/jwks"),
    }
    return config.CallbackToken(**(good | changes))
