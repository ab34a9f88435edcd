"""Many items are stored batch by batch: one at a time, the next being prepared meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from deliv.errors import DatabaseUnavailable
from deliv.http.handlers.submission import BATCH, in_batches

ITEMS = range(3 * BATCH - 1)
DOWN = DatabaseUnavailable("away")


def run(work: Work) -> list[object]:
    outcomes = in_batches(ITEMS, work.prepare, work.store, lambda error: error)
    return asyncio.run(outcomes)


class Work:
    """`done` is what has begun and ended of it, and of which batch, counted from 0."""

    def __init__(self, unprepared: int | None = None, unstored: int | None = None) -> None:
        self.done: list[tuple[str, int]] = []
        self._unprepared, self._unstored = unprepared, unstored
        self._prepared: Callable[[], None] = lambda: None

    async def prepare(self, items: Sequence[int]) -> Sequence[int]:
        number = items[0] // BATCH if items else 3
        self.done.append(("prepared", number))
        self._prepared()
        if number == self._unprepared:
            raise DOWN
        return items

    async def store(self, items: Sequence[int]) -> list[object]:
        """It lasts until another batch is prepared."""
        number = items[0] // BATCH
        self.done.append(("storing", number))
        prepared = asyncio.Event()
        self._prepared = prepared.set
        await prepared.wait()
        if number == self._unstored:
            raise DOWN
        self.done.append(("stored", number))
        return [str(item) for item in items]


def test_the_next_batch_is_prepared_while_one_is_stored() -> None:
    work = Work()
    assert run(work) == [str(item) for item in ITEMS]
    assert work.done == [
        ("prepared", 0),
        ("storing", 0), ("prepared", 1), ("stored", 0),
        ("storing", 1), ("prepared", 2), ("stored", 1),
        ("storing", 2), ("prepared", 3), ("stored", 2),
    ]  # fmt: skip


def test_what_can_not_be_stored_any_more_has_an_outcome_too() -> None:
    stored: list[object] = [str(item) for item in ITEMS[:BATCH]]
    rest = [DOWN] * (len(ITEMS) - BATCH)
    for work in (Work(unstored=1), Work(unprepared=1)):
        assert run(work) == stored + rest
        assert ("storing", 2) not in work.done


@pytest.mark.parametrize("work", [Work(unstored=0), Work(unprepared=0)])
def test_when_nothing_is_stored_the_call_fails(work: Work) -> None:
    with pytest.raises(DatabaseUnavailable):
        run(work)
    assert ("stored", 0) not in work.done
