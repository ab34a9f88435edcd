"""What a work message says: a job and a verb, never a state. The state is in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JOB_ID_LENGTH = 36


class Malformed(ValueError):
    """A body that is no work message; the text says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """`routing` is the verb, such as "stage"; `payload` holds further JSON members."""

    routing: str
    job_id: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return encode({**self.payload, "job_id": self.job_id, "verb": self.routing})

    @classmethod
    def decode(cls, body: bytes) -> Message:
        """Read a body; Malformed when it is not a JSON object with `job_id` and `verb`."""
        members = _members(body)
        job_id, verb = members.pop("job_id", None), members.pop("verb", None)
        if not isinstance(job_id, str) or not _is_id(job_id):
            raise Malformed("no usable job_id")
        if not isinstance(verb, str) or not verb:
            raise Malformed("no usable verb")
        return cls(routing=verb, job_id=job_id, payload=members)


def encode(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _is_id(text: str) -> bool:
    return 0 < len(text) <= JOB_ID_LENGTH and text.isascii() and text.isprintable()


def _members(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Malformed("not a JSON object")
    return document
