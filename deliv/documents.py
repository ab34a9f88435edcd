"""YAML files as typed documents: no key is given twice, and an unknown one, or an unknown one of
several values, names the likely one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

T = TypeVar("T")

# PyYAML lets through what goes wrong inside an explicit tag such as `!!int`, or too deep.
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
UNKNOWN = re.compile(
    r"(?:Object contains unknown (?P<what>field) `|Invalid enum value ['\"])(?P<given>.*?)[`'\"]"
    r"(?: - at (?P<of_key>`key` in )?`(?P<path>\$.*)`)?",
    re.DOTALL,
)


class _Repeated(Exception):
    """A key that is given twice; the message names its line."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for written, _ in node.value:
            key = self.construct_object(written, deep=True)
            if key in keys:
                line = written.start_mark.line + 1
                raise _Repeated(f"line {line}: a key that is given twice: {key}")
            keys.append(key)
        return super().construct_mapping(node, deep)


def parse(text: str, kind: type[T], dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """The document as `kind`, a msgspec.Struct; ValueError names the place that is wrong."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except _Repeated as error:
        raise ValueError(str(error)) from error
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
    given, path = found["given"], found["path"] or "$"
    place = _kind(kind, path)
    known = _known((*get_args(place), None)[0] if found["of_key"] else place)
    close = get_close_matches(given, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    what = "key" if found["what"] or found["of_key"] else "value"
    return f"unknown {what} {given!r} at {path}: {hint}"


def _kind(kind: Any, path: str) -> Any:
    """The type at a path like `$.rules[0]`; None when there is no such path."""
    for name, index in re.findall(r"\.(\w+)|(\[[^]]*\])", path):
        if index:  # of a list, or a mapping's value
            inner = get_args(kind) or (None,)
            kind = inner[-1 if get_origin(kind) is Mapping else 0]
        else:
            kind = _fields(kind).get(name)
        while get_origin(kind) in {Annotated, Union, UnionType}:  # STRUCT | None
            kind = get_args(kind)[0]
    return kind


def _known(kind: Any) -> list[str]:
    """The keys of a struct, or the values of an enum or a Literal; none of anything else."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(one.value) for one in kind]
    return list(_fields(kind))


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a struct with their types; none of anything else."""
    fields = msgspec.structs.fields(kind) if isinstance(kind, type(msgspec.Struct)) else ()
    return {field.encode_name: field.type for field in fields}
