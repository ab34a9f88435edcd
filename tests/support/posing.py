"""Calling deliv back as the stager does: its certificate, a code, an access token of any kind.

caller = Caller(stack)
caller.report(caller.staged(job_id))                        # what the stager itself would say
caller.report(fields, token=caller.minted(aud="other"))     # by the issuer's own key
"""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from joserfc import jws
from joserfc.jwk import ECKey

from support.running_stack import Answer, Stack, until

STAGER = "stager"


class Caller:
    """Whoever holds the stager's certificate, and the issuer's keys as well."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @cached_property
    def token(self) -> str:
        """A good one, from the issuer."""
        return str(self.asked_for()["access_token"])

    @cached_property
    def claims(self) -> dict[str, Any]:
        payload = self.token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return claims

    def asked_for(self, user: str = STAGER) -> dict[str, Any]:
        """What the issuer answers to a request for a token."""
        who = self._stack.user(user)
        form = {"grant_type": "client_credentials", "client_id": STAGER}
        command = ["curl", "--silent", "--show-error", "--max-time", "20"]
        command += ["--capath", self._stack.ca, "--cert", who.cert, "--key", who.key]
        command += ["--data", urlencode(form), f"{self._stack.testbed['issuer_url']}/token"]
        done = subprocess.run(
            command, capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}, timeout=30
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def keys(self) -> list[ECKey]:
        """The issuer's private keys, the one that signs last."""
        entries = json.loads((self._stack.directory / "issuer" / "keys.json").read_bytes())
        return [ECKey.import_key(entry["key"]) for entry in entries]

    def minted(
        self, *, signer: ECKey | None = None, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A token with other claims than a good one's; a claim of None is left out."""
        key = self.keys()[-1]
        claims = {k: v for k, v in {**self.claims, **changes}.items() if v is not None}
        head = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid, **(header or {})}
        return jws.serialize_compact(head, json.dumps(claims), signer or key, algorithms=["ES256"])

    def staged(self, job_id: str) -> dict[str, str]:
        """What the stager would report of a job that it has staged."""
        row = until(lambda: self._staging(job_id), f"the stager has staged {job_id}")
        archive = self._stack.testbed["gridftp"]["archive"]
        return {
            "job_id": row["job_id"],
            "product_id": row["product_id"],
            "authcode": row["authcode"],
            "success": "true",
            "staged_to": archive["url"].split("/")[2],
            "path": str(self._stack.staged_copy(job_id) / row["name"]),
            "size": str(row["size"]),
            "checksum": row["checksum"],
        }

    def report(
        self,
        fields: dict[str, str],
        token: str | None = "",
        *,
        user: str = STAGER,
        authorization: str | None = None,
        document: Path | None = None,
    ) -> Answer:
        """The callback's answer; without `token` a good one goes with it, with None none.

        With a `document` its JSON is sent instead of the fields.
        """
        who = self._stack.user(user)
        options = ["--cert", who.cert, "--key", who.key]
        if document is None:
            options += ["--data", urlencode(fields)]
        else:
            options += [
                "--data-binary",
                f"@{document}",
                "--header",
                "Content-Type: application/json",
            ]
        if token is not None:
            authorization = authorization or f"Bearer {token or self.token}"
        if authorization is not None:
            options += ["--header", f"Authorization: {authorization}"]
        return self._stack.curl("/doneStaging", *options, user=None)

    def _staging(self, job_id: str) -> dict[str, Any] | None:
        path = self._stack.directory / "stager" / "stager.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as register:
            register.row_factory = sqlite3.Row
            row = register.execute(
                "SELECT * FROM stagings WHERE job_id = ? AND state = 'STAGED'",
                (self._stack.staging_id(job_id),),
            ).fetchone()
        return dict(row) if row else None


def unsigned(**header: Any) -> str:
    """The beginning of a token without a signature that means anything."""
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{encoded}.{'A' * 8}.{'A' * 86}"
