"""One dummy FTS with two GridFTP servers for all of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.dummy_fts.copying import CONTENT
from integration.private_fts import Client, Fts, running_or_skipped


@pytest.fixture(scope="package")
def stack() -> Iterator[Fts]:
    with running_or_skipped(slots=2) as server:
        server.put_source("small", CONTENT)
        yield server


@pytest.fixture
def fts(stack: Fts) -> Fts:
    """Up, whatever the last test did."""
    for server in (stack.source, stack.destination):
        if not stack.processes.alive(server.name):
            stack.processes.start(server.program())
    if not stack.processes.alive("fts"):
        stack.start(slots=2)
    return stack


@pytest.fixture
def alice(fts: Fts) -> Client:
    return fts.delegated("alice")
