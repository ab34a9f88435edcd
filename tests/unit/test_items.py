"""Bodies of many items: an array in JSON, or an object on each line; each item is read apart."""

from __future__ import annotations

import json

import pytest

from deliv.errors import InvalidRequest
from deliv.http.call.errors import UnsupportedMediaType
from deliv.http.call.items import NDJSON, Items
from deliv.http.call.parameters import FORM, JSON
from deliv.http.handlers.submission import SubmitItem

GOOD = {"product_id": "005", "destination_path": "gsiftp://h/a", "label": "x"}


def items(body: bytes, content_type: str = NDJSON, most: int = 3) -> Items[SubmitItem]:
    return Items(SubmitItem, "transfers", most, content_type, body)


def test_lines_and_an_array_say_the_same() -> None:
    lines = items(b"\n".join([json.dumps(GOOD).encode()] * 2) + b"\r\n\n", f"{NDJSON}; charset=x")
    array = items(json.dumps({"transfers": [GOOD, GOOD]}).encode(), JSON)
    assert len(lines) == len(array) == 2
    assert lines.read(1) == array.read(1)
    assert (lines.read(0).product_id, lines.read(0).label) == ("005", "x")


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ("{", "the item is not valid JSON: see line 1"),
        ("[]", "must be a JSON object"),
        ("7", "must be a JSON object"),
        ('{"product_id": "005"}', "destination_path is missing"),
        ('{"product_id": 5, "destination_path": "gsiftp://h/a"}', "must be a string"),
        ('{"product_id": "a", "product_id": "a"}', "more than once"),
        (json.dumps(GOOD | {"more": "x"}), "unknown parameter 'more'"),
        (json.dumps(GOOD | {"destination_path": "/a"}), "must be a gsiftp"),
        (json.dumps(GOOD | {"label": "a b"}), "label must be 1 to 64"),
        (json.dumps(GOOD | {"label": "x" * 65}), "label must be 1 to 64"),
        (json.dumps(GOOD | {"label": ""}), "label must be 1 to 64"),
        (json.dumps(GOOD | {"idempotency_key": "é"}), "idempotency_key must be 1 to 255"),
    ],
)
def test_what_is_wrong_with_one_is_said_of_it_alone(item: str, wanted: str) -> None:
    good = json.dumps(GOOD)
    lines = items(f"{good}\n{item}\n{good}".encode())
    with pytest.raises(InvalidRequest, match=wanted):
        lines.read(1)
    assert lines.read(2) == lines.read(0)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"[]", "must be a JSON object with transfers and nothing else"),
        (b'{"transfers": [], "more": 1}', "nothing else"),
        (b'{"transfers": {}}', "must be an array"),
        (b'{"transfers": []}', "no transfers in the body"),
        (b'{"transfers": [{}, {}, {}, {}]}', "4 transfers are more than 3"),
        (b'{"transfers": [{}]', "the body is not valid JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_the_whole(body: bytes, wanted: str) -> None:
    with pytest.raises(InvalidRequest, match=wanted):
        items(body, JSON)


@pytest.mark.parametrize("body", [b"", b"\n \n"])
def test_no_lines_are_no_items(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no transfers"):
        items(body)


@pytest.mark.parametrize("content_type", [FORM, "", "text/csv"])
def test_other_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="application/json or application/x-ndjson"):
        items(b"{}", content_type)


def test_a_string_in_an_array_is_no_item() -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        items(json.dumps({"transfers": [json.dumps(GOOD)]}).encode(), JSON).read(0)
