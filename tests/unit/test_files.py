"""Files that change while deliv runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deliv.ops.files import WatchedFiles, reason


def joined(*paths: Path) -> str:
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    if "broken" in text:
        raise ValueError("it is broken")
    return text


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one", tmp_path / "two"
    for path in paths:
        path.write_text(path.name, encoding="utf-8")
    return paths


def replace(path: Path, text: str) -> None:
    """As deployments do it: the file has another inode."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def test_they_are_read_once_per_change(paths: tuple[Path, Path]) -> None:
    files = WatchedFiles(joined, *paths)
    assert [files.refresh(), files.refresh()] == [True, False]
    assert (files.value, files.version, files.broken) == ("onetwo", 1, None)
    replace(paths[1], "owt")
    assert [files.refresh(), files.refresh()] == [True, False]
    assert (files.value, files.version) == ("oneowt", 2)


def test_a_new_mode_is_a_change(paths: tuple[Path, Path]) -> None:
    files = WatchedFiles(joined, *paths)
    files.refresh()
    os.chmod(paths[0], 0o600)
    assert files.refresh()


def test_broken_ones_leave_the_value(paths: tuple[Path, Path]) -> None:
    calls = []

    def read(*paths: Path) -> str:
        calls.append(paths)
        return joined(*paths)

    files = WatchedFiles(read, *paths)
    files.refresh()
    replace(paths[0], "broken")
    assert [files.refresh(), files.refresh()] == [False, False]
    assert files.broken is not None
    assert (files.value, reason(files.broken), len(calls)) == ("onetwo", "it is broken", 2)
    replace(paths[0], "1")
    assert files.refresh()
    assert (files.value, files.broken, files.version) == ("1two", None, 2)


def test_one_that_is_missing_is_tried_again(paths: tuple[Path, Path]) -> None:
    files = WatchedFiles(joined, *paths)
    files.refresh()
    moved = paths[0].rename(paths[0].with_suffix(".moved"))
    assert not files.refresh()
    assert isinstance(files.broken, FileNotFoundError)
    assert reason(files.broken) == "No such file or directory"
    moved.rename(paths[0])
    assert files.refresh()
    assert files.broken is None
