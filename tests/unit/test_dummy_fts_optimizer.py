"""When the dummy FTS lets more copies run between two hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deliv_testbed.fts.optimizer import Optimizer
from deliv_testbed.fts.settings import FtsSettings


def settings(**changes: Any) -> FtsSettings:
    return FtsSettings(
        host="localhost", port=1, certificate=Path("c"), key=Path("k"), ca_directory=Path("ca"),
        state=Path("s"), **{"slots": 2, "optimizer_interval": 0.0, **changes},
    )  # fmt: skip


def link(waiting: int, host: str = "b") -> dict[str, Any]:
    return {"source_se": "gsiftp://a", "dest_se": f"gsiftp://{host}", "waiting": waiting}


def limits(optimizer: Optimizer, *queues: int) -> list[int]:
    """The limit after each look at a queue of that length."""
    found = []
    for waiting in queues:
        optimizer.run([link(waiting)])
        found.append(optimizer.limit(link(waiting)))
    return found


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([1, 1, 0], [2, 2, 2]),
        ([2, 2, 3, 3, 4], [3, 3, 4, 4, 5]),
        ([100] * 5, [3, 4, 5, 5, 5]),
        ([100, 0, 0], [3, 3, 3]),
    ],
)
def test_the_limit_rises_while_as_many_wait(queues: list[int], expected: list[int]) -> None:
    assert limits(Optimizer(settings(most_slots=5)), *queues) == expected


def test_each_pair_of_hosts_has_its_own() -> None:
    optimizer = Optimizer(settings(most_slots=5))
    optimizer.run([link(9), link(0, "c")])
    assert (optimizer.limit(link(9)), optimizer.limit(link(0, "c"))) == (3, 2)


def test_by_default_it_stays() -> None:
    assert limits(Optimizer(settings()), 100, 100) == [2, 2]


def test_it_looks_once_in_an_interval() -> None:
    assert limits(Optimizer(settings(most_slots=5, optimizer_interval=3600.0)), 100) == [2]
