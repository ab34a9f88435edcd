"""A call's parameters, strictly: form-encoded or JSON, UTF-8, each known and given once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from deliv.errors import DelivError, InvalidRequest

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MAX_FIELDS = 32
MAX_VALUE = 8192  # characters; what a parameter may be in particular is checked further on


class UnsupportedMediaType(DelivError):
    status = 415


@dataclass(frozen=True, kw_only=True)
class Accepts:
    """The parameters of a call: `required` must be there and not be empty.

    In JSON they are strings; of those in `plain` the value may also be true, false or a number.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    def check(self, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        """The pairs as a dict; InvalidRequest names the first thing that is wrong."""
        values: dict[str, str] = {}
        for name, value in pairs:
            if name not in self.required + self.optional:
                raise InvalidRequest(f"unknown parameter {name[:64]!r}; allowed: {self._allowed()}")
            if len(value) > MAX_VALUE:
                raise InvalidRequest(f"the parameter {name} is longer than {MAX_VALUE} characters")
            if name in values:
                raise InvalidRequest(f"the parameter {name} is given more than once")
            values[name] = value
        for name in self.required:
            if not values.get(name):
                state = "empty" if name in values else "missing"
                raise InvalidRequest(f"the parameter {name} is {state}")
        return values

    def _allowed(self) -> str:
        return ", ".join(self.required + self.optional)


def from_query(query: str) -> list[tuple[str, str]]:
    return _form(query)


def from_body(content_type: str, body: bytes, plain: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """The parameters in a request's body, by its Content-Type (none counts as a form).

    `plain` as in Accepts. What is null in JSON counts as not given.
    """
    kind = content_type.partition(";")[0].strip().lower() or FORM
    if kind not in {FORM, JSON}:
        raise UnsupportedMediaType(f"Content-Type {kind[:64]!r} is not read here: {FORM} or {JSON}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from error
    return _form(text) if kind == FORM else _json(text, plain)


def _form(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    try:
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest("a parameter is not UTF-8 behind its percent-encoding") from error
    except ValueError as error:
        # not its words, which quote what was sent: that may be a code
        form = f"NAME=VALUE&NAME=VALUE, {MAX_FIELDS} at most"
        raise InvalidRequest(f"the parameters are not well-formed: {form}") from error


def _json(text: str, plain: tuple[str, ...]) -> list[tuple[str, str]]:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {_problem(text, error)}") from error
    if not isinstance(pairs, _Pairs):
        raise InvalidRequest("the body must be a JSON object of parameters")
    given = [(name, value) for name, value in pairs if value is not None]
    return [(name, _text(name, value, name in plain)) for name, value in given]


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a name given twice is seen."""


def _problem(text: str, error: Exception) -> str:
    """In our own words: the library's are about itself."""
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark"
    if isinstance(error, json.JSONDecodeError):
        return f"see line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number in it is none of JSON's, or too long"


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _text(name: str, value: object, plain: bool) -> str:
    if plain and isinstance(value, bool):
        return "true" if value else "false"
    if plain and isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"the parameter {name[:64]!r} must be a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the parameter {name[:64]!r} is not valid Unicode") from error
    return value


def boolean(values: Mapping[str, str], name: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[values[name].lower()]
    except KeyError as error:
        raise InvalidRequest(f"{name} must be true or false") from error


def checksum(values: Mapping[str, str], name: str) -> str | None:
    """ADLER32:HEX, when given; upper-case algorithm, eight lower-case hex digits."""
    text = values.get(name)
    if not text:
        return None
    match = re.fullmatch(r"(?i:adler32):([0-9A-Fa-f]{1,8})", text)
    if not match:
        raise InvalidRequest(f"{name} must be ADLER32:HEX with up to eight hexadecimal digits")
    return f"ADLER32:{match[1].lower():0>8}"


def size(values: Mapping[str, str], name: str) -> int | None:
    """A number of bytes, when given."""
    text = values.get(name)
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise InvalidRequest(f"{name} must be a number of bytes")
    return int(text)
