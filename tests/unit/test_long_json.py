"""A long array in a JSON object is read item by item."""

from __future__ import annotations

import asyncio
import json

import pytest

from deliv.errors import InvalidRequest
from deliv.http.call.long_json import LONGEST_ITEM, JsonArray, read
from deliv.http.call.parameters import Pairs


def got(text: str, most: int = 1000) -> tuple[Pairs, JsonArray | None]:
    return asyncio.run(read(text, "files", most))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("indent", [None, 2])
def test_values_and_items_wherever_the_array_is(place: int, indent: int | None) -> None:
    pairs = [("a", "x"), ("b", [1, "]"])]
    pairs.insert(place, ("files", [{"name": "]},{"}, 7, []]))
    others, array = got(json.dumps(dict(pairs), indent=indent))
    assert others == [("a", "x"), ("b", [1, "]"])]
    assert array is not None
    assert list(array) == list(array) == [[("name", "]},{")], 7, []]


def test_none_and_an_empty_one_are_told_apart() -> None:
    assert got("{}") == ([], None)
    assert got('{"files": null}') == ([("files", None)], None)
    _, array = got(' { "files" : [ ] } ')
    assert array is not None
    assert list(array) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"files"', '{"files":', '{"files": [', '{"files": [1', '{"files": [1}',
        '{"files": [1,]}', '{"files": [,1]}', '{"files": [1 2]}', '{"files": [1]]}',
        '{"files": [1]} x', '{"files": [1],}', '{"files": [NaN]}', "{1: 2}", '{"a": 1 "b": 2}',
        '{"a" 1}', '\ufeff{"files": [1]}', '{"files": [' + "[" * 5000 + "]" * 5000 + "]}",
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        got(text)


def test_a_second_array_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="files is given more than once"):
        got('{"files": [1], "files": [2]}')


def test_what_is_no_array_is_named() -> None:
    with pytest.raises(InvalidRequest, match="files must be an array"):
        got('{"files": "a"}')


def test_more_items_than_allowed_are_refused() -> None:
    text = json.dumps({"files": [0] * 11})
    got(text, most=11)
    with pytest.raises(InvalidRequest, match="more than 10 files"):
        got(text, most=10)


def test_an_item_has_a_length() -> None:
    fits = json.dumps({"files": ["x" * (LONGEST_ITEM - 2)]})
    got(fits)
    with pytest.raises(InvalidRequest, match="too long"):
        got(fits.replace('"x', '"xx'))
