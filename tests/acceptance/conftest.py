"""One stack for the whole run: that of DELIV_TESTBED (path to testbed.json), or a new one.

What brings up a stack of its own is marked `own_stack`, so that it can be run apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_stack import Stack, Target, brought_up


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_stack: needs a stack that no other test uses")


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
