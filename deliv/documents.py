"""YAML files as typed documents: no key is given twice, and an unknown one names the likely one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import yaml

T = TypeVar("T")

# PyYAML lets through what goes wrong inside an explicit tag such as `!!int`, or too deep.
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(\$.*)`)?", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"a key that is given twice: {twice[0]}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def parse(text: str, kind: type[T], dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """The document as `kind`, a msgspec.Struct; ValueError names the place that is wrong."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except NOT_YAML as error:
        raise ValueError(f"not YAML: {error}") from error
    try:
        return msgspec.convert(document, kind, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ValueError(_explained(str(error), kind)) from error


def _explained(message: str, kind: Any) -> str:
    found = UNKNOWN.fullmatch(message)
    if found is None:
        return message
    key, path = found[1], found[2] or "$"
    known = _keys(kind, path)
    close = get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown key {key!r} at {path}: {hint}"


def _keys(kind: Any, path: str) -> list[str]:
    """The keys of the struct at a path like `$.rules[0]`; none when there is no such path."""
    for name, index in re.findall(r"\.(\w+)|(\[[^]]*\])", path):
        if index:  # of a list, or a mapping's value
            inner = get_args(kind) or (None,)
            kind = inner[-1 if get_origin(kind) is Mapping else 0]
        else:
            kind = _fields(kind).get(name)
    return list(_fields(kind))


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a struct, also of `STRUCT | None`, with their types."""
    structs = [one for one in (kind, *get_args(kind)) if isinstance(one, type(msgspec.Struct))]
    fields = msgspec.structs.fields(structs[0]) if structs else ()
    return {field.encode_name: field.type for field in fields}
