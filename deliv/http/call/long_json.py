"""A JSON object with one long array, which is read item by item: never are all in memory at once.

The text is, once; each item and each other value is cut out of it, up to a length, and read alone.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

from deliv.errors import InvalidRequest
from deliv.http.call.parameters import Pairs

SPACE = re.compile(r"[ \t\n\r]*")
LONGEST_VALUE = 64 * 2**10  # characters
LONGEST_ITEM = 8 * 2**10
AT_ONCE = 1000  # items, between which other work goes on


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_constant=_refuse_constant)


class JsonArray:
    """An array in a JSON text, which begins behind `start`; it can be gone through repeatedly."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self.end = start  # behind it, when it was gone through

    def __iter__(self) -> Iterator[object]:
        text, place = self._text, _skip(self._text, self._start)
        more = text[place : place + 1] != "]"
        while more:
            value, place = _value(text, place, LONGEST_ITEM)
            yield value
            place = _skip(text, place)
            more = text[place : place + 1] == ","
            if more:
                place = _skip(text, place + 1)
        self.end = _expect(text, place, "]")


async def read(text: str, name: str, most: int) -> tuple[Pairs, JsonArray | None]:
    """The object's other values, and its array `name`, which may have `most` items.

    InvalidRequest; after this the array is known to be JSON.
    """
    others, array = Pairs(), None
    place = _skip(text, _expect(text, _skip(text, 0), "{"))
    more = text[place : place + 1] != "}"
    while more:
        key, place = _value(text, place, LONGEST_VALUE)
        if not isinstance(key, str):
            raise _invalid(place)
        place = _skip(text, _expect(text, _skip(text, place), ":"))
        if key == name and text[place : place + 1] == "[":
            if array is not None:
                raise InvalidRequest(f"the parameter {name} is given more than once")
            array = JsonArray(text, place + 1)
            await _count(array, name, most)
            place = array.end
        else:
            value, place = _value(text, place, LONGEST_VALUE)
            if key == name and value is not None:
                raise InvalidRequest(f"the parameter {name} must be an array")
            others.append((key, value))
        place = _skip(text, place)
        more = text[place : place + 1] == ","
        if more:
            place = _skip(text, place + 1)
    if _skip(text, _expect(text, place, "}")) != len(text):
        raise _invalid(place + 1)
    return others, array


async def _count(array: JsonArray, name: str, most: int) -> None:
    for number, _ in enumerate(array, 1):
        if number > most:
            raise InvalidRequest(f"there are more than {most} {name}")
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


def _value(text: str, place: int, longest: int) -> tuple[object, int]:
    """The value that begins there, and where it ends."""
    try:
        value, length = DECODER.raw_decode(text[place : place + longest])
    except (ValueError, RecursionError) as error:
        raise _invalid(place) from error
    return value, place + length


def _skip(text: str, place: int) -> int:
    """Behind white space."""
    match = SPACE.match(text, place)
    return match.end() if match else place


def _expect(text: str, place: int, sign: str) -> int:
    if text[place : place + 1] != sign:
        raise _invalid(place)
    return place + 1


def _invalid(place: int) -> InvalidRequest:
    return InvalidRequest(
        f"the body is not valid JSON, or a value in it is too long: see character {place + 1}"
    )
