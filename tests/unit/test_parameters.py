"""Parameters of calls: strict about names, encodings and shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import DelivError, InvalidRequest
from deliv.http.call.parameters import (
    FORM,
    JSON,
    Accepts,
    UnsupportedMediaType,
    boolean,
    checksum,
    from_body,
    size,
)

ACCEPTS = Accepts(required=("a",), optional=("b",))


def test_forms_and_json_say_the_same() -> None:
    form = ACCEPTS.check(from_body(FORM, b"a=x+y&b=%C3%A9"))
    document = ACCEPTS.check(from_body(f"{JSON}; charset=utf-8", '{"a": "x y", "b": "é"}'.encode()))
    assert form == document == {"a": "x y", "b": "é"}


def test_json_numbers_booleans_and_nulls() -> None:
    given = b'{"a": true, "b": 12, "c": null}'
    assert from_body(JSON, given, ("a", "b")) == [("a", "true"), ("b", "12")]
    with pytest.raises(InvalidRequest, match="'b' must be a string"):
        from_body(JSON, given, ("a",))


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (FORM, b"", "a is missing"),
        (FORM, b"b=1", "a is missing"),
        (FORM, b"a=", "a is empty"),
        (FORM, b"a=1&a=2", "more than once"),
        (FORM, b"a=1&c=2", "unknown parameter 'c'; allowed: a, b"),
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
        ACCEPTS.check(from_body(kind, body))
    assert complaint in str(caught.value)


def test_other_media_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="multipart/form-data"):
        from_body("multipart/form-data; boundary=x", b"")


@given(st.sampled_from([FORM, JSON]), st.binary(max_size=60))
def test_any_body_is_read_or_refused_clearly(kind: str, body: bytes) -> None:
    try:
        pairs = from_body(kind, body)
    except DelivError as error:
        assert 400 <= error.status < 500
    else:
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in pairs)


def test_booleans_sizes_and_checksums() -> None:
    assert boolean({"s": "True"}, "s") is True
    assert boolean({"s": "0"}, "s") is False
    assert size({"n": "12"}, "n") == 12
    assert size({}, "n") is None
    assert checksum({"c": "adler32:1F"}, "c") == "ADLER32:0000001f"
    assert checksum({"c": ""}, "c") is None


@pytest.mark.parametrize("value", ["maybe", "", "2"])
def test_other_words_are_not_booleans(value: str) -> None:
    with pytest.raises(InvalidRequest, match="true or false"):
        boolean({"s": value}, "s")


@pytest.mark.parametrize("value", ["-1", "1e3", "x", "٣", str(2**63), "9" * 5000])
def test_other_sizes_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="bytes"):
        size({"n": value}, "n")


@pytest.mark.parametrize("value", ["MD5:00", "ADLER32:", "ADLER32:xyz", "ADLER32:123456789", "12"])
def test_other_checksums_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="ADLER32:HEX"):
        checksum({"c": value}, "c")
