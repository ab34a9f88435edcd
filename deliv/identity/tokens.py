"""OAuth2 access tokens: JWTs by RFC 9068, checked strictly. The only user of joserfc.

    checker = TokenChecker(config.stager.callback.token)
    kid = checker.key_id(token)        # names a key of the issuer's; nothing is verified yet
    checker.check(token, keys, thumbprint=identity.thumbprint)

The algorithms are those of the configuration, whatever the token says, and a key is used with its
own kind of algorithm only. TokenRefused says what is wrong, never what the token holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from joserfc import jws, jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey
from joserfc.registry import HeaderParameter
from joserfc.util import base64_to_int

from deliv import config
from deliv.errors import TokenRefused

TYPES = frozenset({"at+jwt", "application/at+jwt"})
RSA_BITS = 2048
MOST_KEYS = 64
LONGEST_KID = 256
PARAMETERS = ("kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y")
# What joserfc raises when JSON has other types than it expects, or is too deep.
MALFORMED = (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
INSUFFICIENT_SCOPE = "insufficient_scope"

PublicKey = RSAKey | ECKey


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token that was accepted: whom it was issued to, and its own id, for the audit log."""

    client_id: str
    subject: str
    token_id: str


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The public keys an issuer signs with, by `kid`; `unused` says what is wrong with others."""

    by_id: Mapping[str, PublicKey]
    unused: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: bytes) -> Keys:
        """Read a JWK Set (RFC 7517); ValueError when it is none, or has no usable key."""
        try:
            entries = json.loads(document)["keys"]
        except MALFORMED as error:
            raise ValueError("not a JWK Set") from error
        if not isinstance(entries, list) or len(entries) > MOST_KEYS:
            raise ValueError(f"not a JWK Set of at most {MOST_KEYS} keys")
        found: dict[str, PublicKey] = {}
        unused = []
        for number, entry in enumerate(entries):
            try:
                kid, key = _read_key(entry, found)
            except MALFORMED as error:
                unused.append(f"keys[{number}]: {error}")
            else:
                found[kid] = key
        if not found:
            raise ValueError(f"no key to verify with: {'; '.join(unused) or 'it is empty'}"[:500])
        return cls(by_id=found, unused=tuple(unused))


class TokenChecker:
    """Checks tokens against what the configuration requires of them."""

    def __init__(self, expected: config.CallbackToken) -> None:
        self._expected = expected
        self._registry = _Registry(expected.algorithms)

    def key_id(self, token: str) -> str:
        """The `kid` of the key that a token says it is signed with.

        TokenRefused when its form or its header is not acceptable: then no key is looked up.
        """
        try:
            header = jws.extract_compact(token.encode("ascii"), registry=self._registry).headers()
            self._registry.check_header(header)
            self._registry.get_alg(header["alg"])
        except MALFORMED as error:
            _refuse(error)
        if str(header.get("typ")).lower() not in TYPES:
            raise TokenRefused("the token is not an access token: its typ is not at+jwt")
        kid = header.get("kid")
        if not kid or len(kid) > LONGEST_KID:
            raise TokenRefused("the token does not name the key that it is signed with (kid)")
        return str(kid)

    def check(self, token: str, keys: Keys, *, thumbprint: str, now: float | None = None) -> Token:
        """The token, when everything about it is right; TokenRefused otherwise.

        `thumbprint` is that of the client certificate that the token came with; `now` in seconds
        since the epoch.
        """
        key = keys.by_id.get(self.key_id(token))
        if key is None:
            raise TokenRefused("the token is signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(token, key, registry=self._registry).claims
            required = _Claims(  # by RFC 9068, section 2.2
                now=int(time.time() if now is None else now),
                leeway=int(self._expected.clock_skew),
                iss={"essential": True, "value": self._expected.issuer},
                aud={"essential": True, "value": self._expected.audience},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                jti={"essential": True},
                client_id={"essential": True},
            )
            required.validate(claims)
        except MALFORMED as error:
            _refuse(error)
        bound_to = claims.get("cnf")  # RFC 8705, section 3.1
        if bound_to is None and self._expected.bound:
            raise TokenRefused("the token is not bound to a certificate (cnf)")
        if bound_to is not None:
            # Another kind of binding can't be checked, so it is refused
            if not isinstance(bound_to, dict) or bound_to.keys() != {"x5t#S256"}:
                raise TokenRefused("the token is bound to something else than a certificate (cnf)")
            if bound_to["x5t#S256"] != thumbprint:
                raise TokenRefused("the token is bound to another certificate")
        scope = claims.get("scope")
        if not isinstance(scope, str) or self._expected.scope not in scope.split(" "):
            raise TokenRefused(
                f"the token lacks the scope {self._expected.scope}", code=INSUFFICIENT_SCOPE
            )
        return Token(client_id=claims["client_id"], subject=claims["sub"], token_id=claims["jti"])


class _Registry(jws.JWSRegistry):
    """Refuses a token with any critical header parameter, and ignores unknown other ones."""

    max_header_length = 4096  # some issuers send their certificates in it
    max_payload_length = 16384

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)
        self.header_registry = {
            "alg": HeaderParameter("Algorithm", "str", required=True),
            "kid": HeaderParameter("Key ID", "str"),
            "typ": HeaderParameter("Type", "str"),
            "crit": HeaderParameter("Critical", "none"),
        }


class _Claims(jwt.JWTClaimsRegistry):
    def validate_client_id(self, value: object) -> None:
        """As joserfc checks `sub`."""
        if not isinstance(value, str) or not value:
            raise ValueError("the claim client_id is not a name")


def _refuse(error: Exception) -> NoReturn:
    """TokenRefused, which names claims of a token and never what they hold."""
    if isinstance(error, ExpiredTokenError):
        reason = "the token has expired"
    elif isinstance(error, MissingClaimError):
        reason = f"the token lacks {error.claim}"
    elif isinstance(error, ClaimError):
        reason = f"the token's {error.claim} is not what it should be: {error.description}"
    elif isinstance(error, JoseError):
        reason = f"the token can't be accepted: {error.error.replace('_', ' ')}"
    else:
        reason = "the token is malformed"
    raise TokenRefused(reason) from error


def _read_key(entry: Any, known: Collection[str]) -> tuple[str, PublicKey]:
    """A `kid` and its key for verifying signatures; one of MALFORMED when the entry is none."""
    kid, use = entry.get("kid"), entry.get("use", "sig")
    if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID:
        raise ValueError("it has no kid")
    if kid in known:
        raise ValueError("its kid is another key's")
    if use != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise ValueError("it is not for signatures")
    if "d" in entry:
        raise ValueError("a private key, published")
    if entry.get("kty") == "RSA" and base64_to_int(entry["n"]).bit_length() < RSA_BITS:
        raise ValueError(f"its RSA key has fewer than {RSA_BITS} bits")
    key = JWKRegistry.import_key({name: entry[name] for name in PARAMETERS if name in entry})
    if not isinstance(key, RSAKey | ECKey):
        raise ValueError("it is neither RSA nor elliptic-curve")
    return kid, key
