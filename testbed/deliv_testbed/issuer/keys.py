"""The keys that sign: one at a time, the earlier ones published while their tokens are valid."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from deliv_testbed.pki import write

ALGORITHM = "ES256"
SKEW = 60.0  # seconds; who checks a token may have a slower clock


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """`since`: it signs from then on, in seconds since the epoch."""

    key: ECKey
    since: float

    @property
    def public(self) -> Mapping[str, object]:
        return self.key.as_dict(private=False, use="sig", alg=ALGORITHM)


class KeyRing:
    """Kept in one file, so that a restart invalidates nothing. `lifetime` of tokens in seconds."""

    def __init__(
        self,
        path: Path,
        *,
        lifetime: float,
        rotate_every: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._lifetime = lifetime
        self._rotate_every = rotate_every
        self._clock = clock
        self._keys = [
            SigningKey(key=ECKey.import_key(entry["key"]), since=entry["since"])
            for entry in (json.loads(path.read_bytes()) if path.exists() else ())
        ]
        if not self._keys:
            self.rotate()

    def rotate(self) -> None:
        """Sign with a new key from now on, and drop those whose last tokens have expired."""
        now = self._clock()
        key = ECKey.generate_key("P-256", auto_kid=True)
        successors = [*(known.since for known in self._keys[1:]), now]
        pairs = zip(self._keys, successors, strict=False)  # the first key has no predecessor
        kept = [known for known, until in pairs if until + self._lifetime + SKEW > now]
        self._keys = [*kept, SigningKey(key=key, since=now)]
        entries = [{"key": one.key.as_dict(private=True), "since": one.since} for one in self._keys]
        write(self._path, json.dumps(entries).encode(), mode=0o600)

    def jwks(self) -> dict[str, object]:
        """The JWK Set (RFC 7517) of all keys by which a token may be checked now."""
        return {"keys": [known.public for known in self._keys]}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """An access token (RFC 9068) with these claims."""
        if self._clock() - self._keys[-1].since > self._rotate_every:
            self.rotate()
        key = self._keys[-1].key
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": key.kid}
        return jwt.encode(header, dict(claims), key, algorithms=[ALGORITHM])
