"""The items of a call for many: an array in a JSON object, or a JSON object on each line."""

from __future__ import annotations

from typing import Generic, TypeVar

from deliv.errors import InvalidRequest
from deliv.http.call import parameters
from deliv.http.call.errors import UnsupportedMediaType
from deliv.http.call.parameters import JSON, Pairs, Parameters

NDJSON = "application/x-ndjson"
Item = TypeVar("Item", bound=Parameters)


class Items(Generic[Item]):
    """At most `most`; each is read when it is asked for. InvalidRequest, UnsupportedMediaType.

    In JSON they are the array `name`. Empty lines are none.
    """

    def __init__(
        self, kind: type[Item], name: str, most: int, content_type: str, body: bytes
    ) -> None:
        self._kind = kind
        given, text = parameters.media_type(content_type), parameters.decode_utf8(body)
        self._lines = given == NDJSON
        self._raw: list[object]
        if self._lines:
            self._raw = [line for line in text.split("\n") if line.strip()]
        elif given == JSON:
            self._raw = _array(text, name)
        else:
            raise UnsupportedMediaType(
                f"Content-Type {given[:64]!r} is not read here: {JSON} or {NDJSON}"
            )
        if not self._raw:
            raise InvalidRequest(f"there are no {name} in the body")
        if len(self._raw) > most:
            raise InvalidRequest(f"{len(self._raw)} {name} are more than {most} in one call")

    def __len__(self) -> int:
        return len(self._raw)

    def read(self, place: int) -> Item:
        """InvalidRequest says what is wrong with this one."""
        raw = self._raw[place]
        if self._lines:
            raw = parameters.parse_json(str(raw), "the item")
        if not isinstance(raw, Pairs):
            raise InvalidRequest("the item must be a JSON object of parameters")
        return parameters.decode(self._kind, parameters.from_pairs(raw, self._kind))


def _array(text: str, name: str) -> list[object]:
    document = parameters.parse_json(text)
    if not isinstance(document, Pairs) or [key for key, _ in document] != [name]:
        raise InvalidRequest(f"the body must be a JSON object with {name} and nothing else")
    ((_, value),) = document
    if not isinstance(value, list) or isinstance(value, Pairs):
        raise InvalidRequest(f"{name} must be an array")
    return value
