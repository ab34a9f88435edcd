"""A part of the stack with its data on a small disk of its own, a tmpfs, to be filled up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.running_stack import Stack

FILLER = "filler"
BLOCK = 2**16


@dataclass(frozen=True, kw_only=True)
class Disk:
    directory: Path

    def fill(self, leave: int = 0) -> None:
        """Take all of the space but `leave` bytes."""
        free = shutil.disk_usage(self.directory).free - leave
        with (self.directory / FILLER).open("ab") as file:
            for _ in range(free // BLOCK):
                file.write(b"\0" * BLOCK)

    def clear(self) -> None:
        """Give it back, as an operator would who makes room."""
        (self.directory / FILLER).unlink(missing_ok=True)


@contextmanager
def on_small_disk(stack: Stack, part: str, directory: Path, size: str) -> Iterator[Disk]:
    """The part is killed, its directory moved to a disk of `size`, and the part started.

    Skipped where mounting is not allowed; in CI that fails.
    """
    kept = directory.with_name(f"{directory.name}.kept")
    stack.control("kill", part)
    directory.rename(kept)
    _copy_of(kept, directory)
    try:
        _mount(directory, size)
        try:
            _copy(kept, directory)
            stack.control("start", part)
            yield Disk(directory=directory)
        finally:
            stack.control("kill", part)
            (directory / FILLER).unlink(missing_ok=True)
            shutil.rmtree(kept)
            _copy_of(directory, kept)
            _copy(directory, kept)
            subprocess.run(["umount", directory], check=True, timeout=30)
    finally:
        directory.rmdir()
        kept.rename(directory)
        stack.control("start", part)


@contextmanager
def small_directory(directory: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A new directory, as the one that it is in, on a disk of `size`; what is yielded resizes it.

    Skipped where mounting is not allowed; in CI that fails.
    """

    def resize(size: str) -> None:
        command = ["mount", "-o", f"remount,size={size}", directory]
        subprocess.run(command, check=True, timeout=30)

    _copy_of(directory.parent, directory)
    try:
        _mount(directory, size)
        try:
            yield resize
        finally:
            subprocess.run(["umount", directory], check=True, timeout=30)
    finally:
        directory.rmdir()


def _copy_of(original: Path, directory: Path) -> None:
    """An empty directory with the owner and mode of another one."""
    status = original.stat()
    directory.mkdir()
    os.chown(directory, status.st_uid, status.st_gid)
    directory.chmod(status.st_mode & 0o7777)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True, timeout=100)


def _mount(directory: Path, size: str) -> None:
    status = directory.stat()
    options = f"size={size},uid={status.st_uid},gid={status.st_gid},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode and os.environ.get("DELIV_TESTS_REQUIRE"):
        pytest.fail(f"no small disk: {done.stderr}")
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr}")
