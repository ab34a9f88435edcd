"""One stack for the whole run: that of DELIV_TESTBED (path to testbed.json), or a new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_stack import Stack, Target


@contextmanager
def brought_up(*options: str) -> Iterator[Stack]:
    """A new stack in a directory of its own, taken down at the end."""
    with tempfile.TemporaryDirectory(prefix="deliv-acceptance-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the stack may run as another user
        stack = Stack(directory)
        try:
            stack.command("up", *options)
            yield stack
        finally:
            stack.command("down")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if testbed := os.environ.get("DELIV_TESTBED"):
        yield Stack(Path(testbed).resolve().parent)
        return
    with brought_up() as stack:
        yield stack


@pytest.fixture
def target(stack: Stack) -> Target:
    return stack.target()
