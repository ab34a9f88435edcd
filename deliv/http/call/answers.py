"""Answers: msgspec structs, which are the source of deliv/http/openapi.yaml too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

NoError = Annotated[bool, Meta(extra_json_schema={"const": False})]


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object. A field that is UNSET is left out of it."""


class DoneAnswer(Answer, frozen=True, kw_only=True):
    """The answer to a call that changes something."""

    error: NoError = False
    msg: Annotated[str, Meta(min_length=1)]


def shown(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Those attributes of `row` that are not None; times in ISO 8601, UTC, in microseconds."""
    values = ((name, getattr(row, name)) for name in names)
    return {name: _plain(value) for name, value in values if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value
