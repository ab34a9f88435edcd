"""Staged jobs on their way to FTS: whose turn it is goes on, the others are left alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.samples import staged

from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.states import Status
from integration.scripted_delegation import WHOAMI
from integration.scripted_fts import Grid, html, reply
from integration.test_permission import Opened, Service, service


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    return service(grid, database, tmp_path)


async def ready(here: Service) -> Job:
    job = await staged(here.store)
    return await here.store.update(job, delay=0, stager_hostname="archive.example.org")


def takes(here: Service) -> None:
    here.bench.server.on("POST", "/jobs", reply({"job_id": "any"}))


async def test_a_staged_job_is_handed_over_at_once_where_there_is_a_place(opened: Opened) -> None:
    async with opened as here:
        takes(here)
        job = await here.attended(await ready(here))
        assert job.status is Status.TRANSFERRING
        places = await here.store.fts_places()
        assert (places.given, places.waiting) == (1, 0)


async def test_while_no_fts_is_ready_one_job_finds_out_and_the_others_wait(opened: Opened) -> None:
    async with opened as here:
        here.bench.server.on("GET", "/whoami", html(502))
        jobs = [await here.attended(await ready(here)) for _ in range(5)]
        assert (jobs[0].detailed_status or "").startswith("waiting: FTS fts1 answered 502")
        assert [job.detailed_status for job in jobs[1:]] == [None] * 4
        places = await here.store.fts_places()
        assert (places.given, places.waiting) == (0, 4)
        assert await here.engine.admit_next() is False
        asked = len(here.bench.server.calls("GET", "/whoami"))
        here.bench.server.on("GET", "/whoami", reply(WHOAMI))
        takes(here)
        here.bench.transfers._none_ready_until = -math.inf  # a moment later
        while await here.engine.admit_next():
            pass
        assert (await here.store.fts_places()).waiting == 0
        assert asked == 1
