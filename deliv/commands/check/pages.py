"""Going through much with little memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from deliv.model.job import Job

T = TypeVar("T")

PAGE = 500


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def paged(page: Callable[[str, int], Awaitable[list[Job]]]) -> AsyncIterator[Job]:
    """Every job of a query that takes (after, limit) and goes by job id."""
    after = ""
    while jobs := await page(after, PAGE):
        for job in jobs:
            yield job
        after = jobs[-1].job_id
