"""Parameters of calls: strict about names, encodings and shapes."""

from __future__ import annotations

import json
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import DelivError, InvalidRequest
from deliv.http.call.errors import UnsupportedMediaType
from deliv.http.call.parameters import (
    FORM,
    JSON,
    MAX_ITEMS,
    Parameters,
    Reader,
    decode,
    from_body,
    from_query,
)
from deliv.http.handlers.cancellation import CancelParameters
from deliv.http.handlers.retry import RetryParameters
from deliv.http.types import read_boolean, read_checksum, read_size


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


Number = Annotated[int, Reader(parse=lambda name, text: int(text), literal=True)]


class Given(Parameters, frozen=True, kw_only=True):
    a: str
    b: str | None = None


class Wide(Parameters, frozen=True, kw_only=True):
    number: Number = 7
    colour: Colour | None = None
    names: list[str] = msgspec.field(default_factory=list)
    numbers: list[Number] = msgspec.field(default_factory=list)
    needed: list[str]


def test_forms_and_json_say_the_same() -> None:
    form = decode(Given, from_body(FORM, b"a=x+y&b=%C3%A9", Given))
    body = '{"a": "x y", "b": "é"}'.encode()
    document = decode(Given, from_body(f"{JSON}; charset=utf-8", body, Given))
    assert form == document == Given(a="x y", b="é")
    assert form == decode(Given, from_query("a=x+y&b=%C3%A9", Given))


def test_each_type_is_read() -> None:
    form = b"number=12&colour=red&names=x&numbers=1&names=&numbers=2&needed=y"
    body = (
        b'{"number": 12, "colour": "red", "names": ["x", ""], "numbers": [1, "2"], "needed": ["y"]}'
    )
    expected = Wide(number=12, colour=Colour.RED, names=["x", ""], numbers=[1, 2], needed=["y"])
    assert decode(Wide, from_body(FORM, form, Wide)) == expected
    assert decode(Wide, from_body(JSON, body, Wide)) == expected
    assert decode(Wide, from_query("needed=z", Wide)) == Wide(needed=["z"])


def test_what_is_null_in_json_is_not_given() -> None:
    body = b'{"needed": ["y"], "number": null, "names": null}'
    assert decode(Wide, from_body(JSON, body, Wide)) == Wide(needed=["y"])


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"needed": "y"}', "needed must be an array"),
        (b'{"needed": ["y", 1]}', r"'needed\[1\]' must be a string"),
        (b'{"needed": {"a": "b"}}', "needed must be an array"),
        (b'{"needed": []}', "needed is empty"),
        (b"{}", "needed is missing"),
        (b'{"needed": ["y"], "needed": ["z"]}', "needed is given more than once"),
        (b'{"needed": ["y"], "colour": "green"}', "colour must be one of red, blue"),
        (b'{"needed": [%s]}' % b",".join([b'"y"'] * (MAX_ITEMS + 1)), "at most 1000"),
    ],
)
def test_bad_lists_and_values_are_named(body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        decode(Wide, from_body(JSON, body, Wide))


def test_json_numbers_and_booleans_are_only_for_types_that_take_them() -> None:
    with pytest.raises(InvalidRequest, match="'b' must be a string"):
        from_body(JSON, b'{"a": "x", "b": 12}', Given)
    assert from_body(JSON, b'{"needed": ["x"], "number": true}', Wide)["number"] == "true"


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (FORM, b"", "a is missing"),
        (FORM, b"b=1", "a is missing"),
        (FORM, b"a=", "a is empty"),
        (FORM, b"a=1&a=2", "more than once"),
        (FORM, b"a=1&c=2", "unknown parameter 'c'; allowed: a, b"),
        (FORM, b"a=1&0123456789abcdef0123456789abcdef=2", "unknown parameter; allowed: a, b"),
        (FORM, b'{"a":"secret-code","b":"rc=5"}', "unknown parameter; allowed: a, b"),
        (JSON, b'{"a": "1", "c": 5, "d": null}', "unknown parameter 'c'; allowed: a, b"),
        (FORM, b"a=%ff", "not UTF-8"),
        (FORM, b"a=\xff", "not UTF-8"),
        (FORM, b"a", "not well-formed"),
        (FORM, b"&".join(b"a=1" for _ in range(40)), "not well-formed"),
        (JSON, b"", "not valid JSON"),
        (JSON, b'{"a": "1"', "not valid JSON"),
        (JSON, b"[" * 5000, "not valid JSON: it is nested too deeply"),
        (JSON, b'{"a" 1}', "not valid JSON: see line 1, column 6"),
        (JSON, "\ufeff{}".encode(), "not valid JSON: it begins with a byte order mark"),
        (JSON, b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON: a number in it"),
        (JSON, b"[]", "JSON object"),
        (JSON, b'"a"', "JSON object"),
        (JSON, b'{"a": "1", "a": "2"}', "more than once"),
        (JSON, b'{"a": {"b": 1}}', "must be a string"),
        (JSON, b'{"a": 1.5}', "must be a string"),
        (JSON, b'{"a": NaN}', "not valid JSON"),
        (JSON, b'{"a": "\\ud800"}', "not valid Unicode"),
    ],
)
def test_bad_bodies_are_named(kind: str, body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_body(kind, body, Given)
    assert complaint in str(caught.value)


def test_other_media_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="multipart/form-data"):
        from_body("multipart/form-data; boundary=x", b"", Given)


@given(st.sampled_from([FORM, JSON]), st.binary(max_size=60))
def test_any_body_is_read_or_refused_clearly(kind: str, body: bytes) -> None:
    try:
        values = from_body(kind, body, Given)
    except DelivError as error:
        assert 400 <= error.status < 500
    else:
        assert all(isinstance(name, str) and isinstance(text, str) for name, text in values.items())


def test_booleans_sizes_and_checksums() -> None:
    assert read_boolean("s", "True") is True
    assert read_boolean("s", "0") is False
    assert read_size("n", "12") == 12
    assert read_size("n", "") is None
    assert read_checksum("c", "adler32:1F") == "ADLER32:0000001f"
    assert read_checksum("c", "") is None


@pytest.mark.parametrize("text", ["maybe", "", "2"])
def test_other_words_are_not_booleans(text: str) -> None:
    with pytest.raises(InvalidRequest, match="true or false"):
        read_boolean("s", text)


@pytest.mark.parametrize("text", ["-1", "1e3", "x", "٣", str(2**63), "9" * 5000])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="bytes"):
        read_size("n", text)


@pytest.mark.parametrize("text", ["MD5:00", "ADLER32:", "ADLER32:xyz", "ADLER32:123456789", "12"])
def test_other_checksums_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ADLER32:HEX"):
        read_checksum("c", text)


class OneOf(Parameters, frozen=True, kw_only=True):
    alternatives = MappingProxyType({"a": (), "many": (), "b": ("with_b",)})
    a: str | None = None
    many: list[str] | None = None
    b: str | None = None
    with_b: str | None = None


@pytest.mark.parametrize("query", ["a=1", "many=1", "many=1&many=2", "b=1", "b=1&with_b=2"])
def test_one_of_the_alternatives_is_enough(query: str) -> None:
    decode(OneOf, from_query(query, OneOf))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", "the parameter a is missing, or many, or b"),
        ("with_b=1", "the parameter a is missing"),
        ("a=", "the parameter a is empty"),
        ("a=1&b=1", "a and b do not go together"),
        ("a=1&with_b=1", "a and with_b do not go together"),
        ("many=1&a=1", "do not go together"),
    ],
)
def test_exactly_one_of_the_alternatives_is_given(query: str, wanted: str) -> None:
    with pytest.raises(InvalidRequest, match=wanted):
        from_query(query, OneOf)
    document = {name: value[0] for name, value in parse_qs(query, keep_blank_values=True).items()}
    if "many" in document:
        document["many"] = [document["many"]]
    with pytest.raises(InvalidRequest, match=wanted):
        from_body(JSON, json.dumps(document).encode(), OneOf)


def test_an_empty_list_is_none_of_them() -> None:
    with pytest.raises(InvalidRequest, match="many is empty"):
        from_body(JSON, b'{"many": []}', OneOf)


@pytest.mark.parametrize("kind", [CancelParameters, RetryParameters])
@pytest.mark.parametrize(
    ("content_type", "body"), [(FORM, b"job_ids=a&job_ids="), (JSON, b'{"job_ids": ["a", ""]}')]
)
def test_an_empty_id_among_several_is_refused(
    kind: type[Parameters], content_type: str, body: bytes
) -> None:
    with pytest.raises(InvalidRequest, match="job_ids: an id is empty"):
        decode(kind, from_body(content_type, body, kind))
