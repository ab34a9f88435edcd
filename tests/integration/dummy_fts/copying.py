"""Copies by the dummy FTS between its two GridFTP servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from integration.private_fts import Client, Fts
from integration.recorded import Answer

SIZE = 1000
CONTENT = bytes(range(250)) * (SIZE // 250)
CLOSED = "gsiftp://127.0.0.1:1/x"
UNKNOWN_HOST = "gsiftp://no-such-host.invalid/x"


@contextmanager
def settings(fts: Fts, **changes: Any) -> Iterator[None]:
    """The server with other settings, for as long as the block runs.

    Before and after it no copy runs: without its server it would hold a slot until it has stalled.
    """
    fts.stop()
    fts.start(**{"slots": 2, **changes})
    try:
        yield
    finally:
        fts.stop()
        fts.start(slots=2)


def submitted(answer: Answer) -> str:
    assert answer.status == 200, answer
    return str(answer.content["job_id"])


def copy(fts: Fts, client: Client, source: str, target: str, **params: Any) -> str:
    """Submit one copy between our two servers; the job's id."""
    body = fts.transfer(fts.at_source(source), fts.at_destination(target), **params)
    return submitted(client.submit(body))


def reason(client: Client, job: str) -> str:
    (file,) = client.get(f"/jobs/{job}/files").content
    return str(file["reason"])


def arrived(fts: Fts, name: str) -> bytes:
    return (fts.destination.root / name).read_bytes()
