"""Every type of value in a configuration can be read."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import inspect

from deliv.config import READERS, Config


def custom(kind: object, seen: set[int]) -> Iterator[type]:
    """The types below `kind` that msgspec leaves to the reader."""
    if isinstance(kind, inspect.CustomType):
        yield kind.cls
    if not isinstance(kind, inspect.Type | inspect.Field) or id(kind) in seen:
        return
    seen.add(id(kind))
    for name in kind.__struct_fields__:
        value = getattr(kind, name)
        for part in value if isinstance(value, tuple) else (value,):
            yield from custom(part, seen)


def test_each_type_has_a_reader_and_each_reader_a_type() -> None:
    assert set(custom(inspect.type_info(Config), set())) == set(READERS)
