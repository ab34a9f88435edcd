"""config/deliv.example.yaml is what its first paragraph says: complete, and the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from deliv import config
from deliv.config import Config, Section
from deliv.model.error_classes import ErrorClass

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"


def section(kind: Any) -> type[Section] | None:
    """The section among a key's types; a mapping's values are not this key's sections."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def keys(kind: type[Section], path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every key of the schema by its dotted path, sections left out."""
    for field in msgspec.structs.fields(kind):
        below = None if field.name == "retries" else section(field.type)
        if below:
            yield from keys(below, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", field


KEYS = dict(keys(Config))
OPTIONAL = [
    path
    for path, field in KEYS.items()
    if field.default is not msgspec.NODEFAULT and path != "retries"
]


@pytest.fixture(scope="module")
def text() -> str:
    return EXAMPLE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text: str) -> Any:
    return yaml.safe_load(text)


def value(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[key]
    return document


def test_it_loads() -> None:
    assert config.load(EXAMPLE).rest.public_url == "https://deliv.example.org:8443"


@pytest.mark.parametrize("path", KEYS)
def test_every_key_of_the_schema_stands_in_it(document: Any, path: str) -> None:
    value(document, path)


@pytest.mark.parametrize("path", OPTIONAL)
def test_an_optional_key_shows_its_default(path: str) -> None:
    loaded: Any = config.load(EXAMPLE)
    for name in path.split("."):
        loaded = getattr(loaded, name)
    assert loaded == KEYS[path].default


@pytest.mark.parametrize("error_class", ErrorClass)
def test_the_retries_are_the_defaults(error_class: ErrorClass) -> None:
    """There is none of those that are never a job's fault."""
    example = config.load(EXAMPLE)
    default = msgspec.structs.replace(example, retries={})
    excused = {ErrorClass.UNREACHABLE, ErrorClass.DESTINATION_FULL}
    assert (error_class in example.retries) == (error_class not in excused)
    assert example.retry(error_class) == default.retry(error_class)


def test_every_section_is_explained(text: str) -> None:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line and line[0] not in " #":
            assert lines[number - 1].startswith("#"), f"no comment above {line!r}"
