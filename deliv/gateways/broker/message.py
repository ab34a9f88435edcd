"""What a work message says: a job and a verb, never a state. The state is in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JOB_ID_LENGTH = 36


class MalformedMessage(ValueError):
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
        """Read a body; MalformedMessage when it is not a JSON object with `job_id` and `verb`."""
        try:
            members = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(f"not JSON: {error}") from error
        if not isinstance(members, dict):
            raise MalformedMessage("not a JSON object")
        job_id, verb = members.pop("job_id", None), members.pop("verb", None)
        usable = isinstance(job_id, str) and job_id.isascii() and job_id.isprintable()
        if not usable or not 0 < len(job_id) <= JOB_ID_LENGTH:
            raise MalformedMessage("no usable job_id")
        if not isinstance(verb, str) or not verb:
            raise MalformedMessage("no usable verb")
        return cls(routing=verb, job_id=job_id, payload=members)


def encode(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
