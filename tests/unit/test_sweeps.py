"""How long a sweep lasts, and what is still to be done when it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deliv.config import Seconds, Sweeps
from deliv.errors import BrokerUnavailable, DatabaseUnavailable
from deliv.tasks.sweeps import TOGETHER, Relay, Sweep

JOBS = [f"job {number}" for number in range(100)]
STAGINGS = [f"staging {number}" for number in range(100)]


def sweep(engine: SimpleNamespace, every: float) -> Sweep:
    async def due(limit: int) -> list[str]:
        return JOBS[:limit]

    async def due_stagings(limit: int) -> list[str]:
        return STAGINGS[:limit]

    store: Any = SimpleNamespace(due=due, due_stagings=due_stagings)
    parts: Any = engine
    return Sweep(store, parts, Sweeps(every=Seconds(every), batch=len(JOBS)))


class Engine(SimpleNamespace):
    def __init__(self) -> None:
        super().__init__()
        self.attended: list[str] = []
        self.stagings: list[str] = []
        self.admitted = 0

    async def attend_staging(self, staging_id: str) -> None:
        self.stagings.append(staging_id)
        if staging_id == STAGINGS[1]:
            raise ValueError("trouble of its own")

    async def attend(self, job_id: str) -> None:
        self.attended.append(job_id)
        if job_id == JOBS[1]:
            raise ValueError("trouble of its own")

    async def admit_next(self) -> bool:
        self.admitted += 1
        return True


def test_all_that_is_due_is_attended_while_there_is_time() -> None:
    engine = Engine()
    asyncio.run(sweep(engine, 3600).sweep_once())
    assert (engine.stagings, engine.attended) == (STAGINGS, JOBS)


def test_when_its_time_is_over_it_waits_for_what_has_begun_and_begins_nothing() -> None:
    """So no number of slow calls makes it look stuck to the watchdog."""
    engine = Engine()
    assert asyncio.run(sweep(engine, 0).sweep_once()) == 3 * TOGETHER
    assert engine.stagings == STAGINGS[:TOGETHER]
    assert engine.attended == JOBS[:TOGETHER]
    assert engine.admitted == TOGETHER


def test_without_rabbitmq_the_relay_has_not_done_its_work() -> None:
    """Else its last success would look new for as long as nothing is sent."""
    broker: Any = SimpleNamespace(ready=False)
    with pytest.raises(BrokerUnavailable):
        asyncio.run(Relay(SimpleNamespace(), broker, Sweeps()).relay_once())  # type: ignore[arg-type]


def test_without_the_database_it_ends() -> None:
    class Down(Engine):
        async def attend(self, job_id: str) -> None:
            self.attended.append(job_id)
            raise DatabaseUnavailable("away")

    engine = Down()
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(sweep(engine, 3600).sweep_once())
    assert engine.attended == JOBS[:TOGETHER]
