"""The parameters of a call: declared as a msgspec struct, read from a query, a form or JSON.

One mechanism for all three, and strict: UTF-8, each parameter known and given once, a list by
repeating its name (in JSON by an array). The structs are the source of deliv/http/openapi.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from deliv.errors import InvalidRequest
from deliv.http.call.errors import UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MAX_FIELDS = 32
MAX_ITEMS = 1000  # of a list
MAX_VALUE = 8192  # characters; each type has its own limits besides
# What does not look like a name may be a value, such as a one-time code: errors don't repeat it.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,30}")

Values = Mapping[str, str | list[str]]  # as given: the text of each parameter


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one call. Those without a default must be given and not be empty.

    The type of a field is `str`, a StrEnum, or annotated by a Reader, or a list of these. Where
    there are `alternatives`, exactly one of these is given, besides it only its companions.
    """

    alternatives: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a parameter's text becomes its value.

    `parse` takes the parameter's name and text and raises InvalidRequest; `literal`: in JSON it may
    be true, false or a whole number too.
    """

    parse: Callable[[str, str], Any]
    literal: bool = False


@dataclass(frozen=True, kw_only=True)
class Field:
    required: bool
    many: bool
    reader: Reader


P = TypeVar("P", bound=Parameters)


@cache
def fields(kind: type[Parameters]) -> dict[str, Field]:
    hints = get_type_hints(kind, include_extras=True)
    declared = {field.name: field.required for field in msgspec.structs.fields(kind)}
    found = {}
    for name, required in declared.items():
        parts = list(_parts(hints[name]))
        readers = [part for part in parts if isinstance(part, Reader)]
        enums = [p for p in parts if isinstance(p, type) and issubclass(p, StrEnum)]
        readers += [Reader(parse=partial(_member, enum)) for enum in enums]
        many = any(get_origin(part) is list for part in parts)
        found[name] = Field(
            required=required, many=many, reader=readers[0] if readers else Reader(parse=_text)
        )
    return found


def decode(kind: type[P], values: Values) -> P:
    """InvalidRequest names the first parameter that is wrong, and what is allowed."""
    read: dict[str, Any] = {}
    for name, field in fields(kind).items():
        given = values.get(name)
        if isinstance(given, list):
            read[name] = [field.reader.parse(name, text) for text in given]
        elif given is not None:
            read[name] = field.reader.parse(name, given)
    return kind(**read)


def from_query(query: str, kind: type[Parameters]) -> Values:
    return _checked(_form(query, kind), kind)


def from_body(content_type: str, body: bytes, kind: type[Parameters]) -> Values:
    """By its Content-Type; none counts as a form. What is null in JSON counts as not given."""
    given = media_type(content_type) or FORM
    if given not in {FORM, JSON}:
        raise UnsupportedMediaType(
            f"Content-Type {given[:64]!r} is not read here: {FORM} or {JSON}"
        )
    text = decode_utf8(body)
    if given == FORM:
        return _checked(_form(text, kind), kind)
    pairs = parse_json(text)
    if not isinstance(pairs, Pairs):
        raise InvalidRequest("the body must be a JSON object of parameters")
    return from_pairs(pairs, kind)


def _checked(pairs: Iterable[tuple[str, str | list[str]]], kind: type[Parameters]) -> Values:
    """Of parameters that are known."""
    known = fields(kind)
    values: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if any(len(text) > MAX_VALUE for text in ([value] if isinstance(value, str) else value)):
            raise InvalidRequest(f"the parameter {name} is longer than {MAX_VALUE} characters")
        if known[name].many and isinstance(value, str):
            value = [*values.pop(name, []), value]
        if name in values:
            raise InvalidRequest(f"the parameter {name} is given more than once")
        values[name] = value
    for name, field in known.items():
        if field.required and not values.get(name):
            state = "empty" if name in values else "missing"
            raise InvalidRequest(f"the parameter {name} is {state}")
    _check_alternatives(values, kind)
    return values


def _check_known(name: str, known: Iterable[str]) -> None:
    if name not in known:
        named = f" {name!r}" if NAME.fullmatch(name) else ""
        raise InvalidRequest(f"unknown parameter{named}; allowed: {', '.join(known)}")


def _check_alternatives(values: Values, kind: type[Parameters]) -> None:
    given = [name for name in kind.alternatives if name in values]
    if empty := next((name for name in given if not values[name]), None):
        raise InvalidRequest(f"the parameter {empty} is empty")
    if kind.alternatives and not given:
        first, *others = kind.alternatives
        also = "".join(f", or {name}" for name in others)
        raise InvalidRequest(f"the parameter {first} is missing{also}")
    for name in given:
        if extra := values.keys() - {name, *kind.alternatives[name]}:
            raise InvalidRequest(f"the parameters {name} and {min(extra)} do not go together")


def _form(text: str, kind: type[Parameters]) -> list[tuple[str, str]]:
    most = MAX_FIELDS + (MAX_ITEMS if any(field.many for field in fields(kind).values()) else 0)
    if not text:
        return []
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=most
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest("a parameter is not UTF-8 behind its percent-encoding") from error
    except ValueError as error:
        # not its words, which quote what was sent: that may be a code
        form = f"NAME=VALUE&NAME=VALUE, {most} at most"
        raise InvalidRequest(f"the parameters are not well-formed: {form}") from error
    for name, _ in pairs:
        _check_known(name, fields(kind))
    return pairs


class Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, so that a name given twice is seen."""


def from_pairs(pairs: Pairs, kind: type[Parameters]) -> Values:
    """Of a JSON object."""
    known = fields(kind)
    given: list[tuple[str, str | list[str]]] = []
    for name, value in pairs:
        if value is not None:
            _check_known(name, known)
            given.append((name, _json_value(name, value, known[name])))
    return _checked(given, kind)


def parse_json(text: str, what: str = "the body") -> object:
    """Objects in it are Pairs; InvalidRequest."""

    def refuse_constant(name: str) -> object:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        # in our own words: the library's are about itself
        if text.startswith("\ufeff"):
            problem = "it begins with a byte order mark"
        elif isinstance(error, json.JSONDecodeError):
            problem = f"see line {error.lineno}, column {error.colno}"
        elif isinstance(error, RecursionError):
            problem = "it is nested too deeply"
        else:
            problem = "a number in it is none of JSON's, or too long"
        raise InvalidRequest(f"{what} is not valid JSON: {problem}") from error


def decode_utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from error


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json_value(name: str, value: object, field: Field) -> str | list[str]:
    if field.many:
        if not isinstance(value, list) or isinstance(value, Pairs) or len(value) > MAX_ITEMS:
            raise InvalidRequest(
                f"the parameter {name} must be an array of at most {MAX_ITEMS} strings"
            )
        return [
            _json_text(f"{name}[{index}]", item, literal=field.reader.literal)
            for index, item in enumerate(value)
        ]
    return _json_text(name, value, literal=field.reader.literal)


def _json_text(name: str, value: object, *, literal: bool) -> str:
    if literal and isinstance(value, bool):
        return "true" if value else "false"
    if literal and isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"the parameter {name!r} must be a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the parameter {name!r} is not valid Unicode") from error
    return value


def _parts(hint: Any) -> Iterable[Any]:
    """A type and all that it is made of, annotations included."""
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _text(name: str, text: str) -> str:
    return text


def _member(enum: type[StrEnum], name: str, text: str) -> StrEnum:
    try:
        return enum(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} must be one of {', '.join(enum)}") from error
