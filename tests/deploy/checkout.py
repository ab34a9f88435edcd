"""Checkouts to build releases from: copies of this one, that a test changes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from deploy.fleet import CHECKOUT

SOURCES = ("deliv", "testbed", "requirements", "pyproject.toml", "README.md", "LICENSE")
SKIPPED = shutil.ignore_patterns("__pycache__")


def copy(directory: Path, original: Path = CHECKOUT) -> Path:
    """What a release is built from, as it is now: the original may change meanwhile."""
    for name in SOURCES:
        source = original / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=SKIPPED)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, directory / name)
    return directory


def version(checkout: Path) -> str:
    found = re.search(r'__version__ = "(.+)"', _module(checkout).read_text())
    assert found
    return found[1]


def set_version(checkout: Path, new: str) -> None:
    text = _module(checkout).read_text()
    _module(checkout).write_text(text.replace(version(checkout), new))


def add_migration(checkout: Path, name: str, sql: str) -> str:
    """One more migration; its full name."""
    directory = checkout / "deliv" / "store" / "sql"
    number = len(list(directory.glob("[0-9]*.sql"))) + 1
    (directory / f"{number:04}_{name}.sql").write_text(sql)
    return f"{number:04}_{name}"


def _module(checkout: Path) -> Path:
    return checkout / "deliv" / "__init__.py"
