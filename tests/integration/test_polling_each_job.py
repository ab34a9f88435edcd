"""What FTS answers about one job keeps no other waiting, and is counted where it is of no use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from support.private_mariadb import Server

from deliv.db.database import Database
from deliv.model.states import Status
from integration.fts_bench import DELIV, MISSES, bench
from integration.scripted_fts import Asked, Grid, Reply, html, reply

REFUSE = """
CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF NEW.product_id = 'refused' AND NEW.status = 'SUCCESS' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one';
  END IF;
END
"""


def unusable() -> float:
    return REGISTRY.get_sample_value("deliv_fts_unusable_answers_total", {"endpoint": "fts1"}) or 0


@contextmanager
def counted_and_logged(job_id: str) -> Iterator[None]:
    before = unusable()
    with capture_logs() as lines:
        yield
    assert unusable() > before
    assert job_id in {line.get("job_id") for line in lines}, lines


async def test_a_job_that_the_database_refuses(
    grid: Grid, migrated: Server, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        bad = await here.posted(DELIV, product_id="refused")
        good = await here.posted(DELIV)
        here.asked_together(bad, good)
        for job in (bad, good):
            here.finish(DELIV, job)
        migrated.run(REFUSE)
        with counted_and_logged(bad.job_id):
            await here.polling.poll_once()
        assert (await here.now(good)).status is Status.SUCCESS
        assert (await here.now(bad)).status is Status.TRANSFERRING


@pytest.mark.parametrize("size", [-1, 2**64, 10**30])
async def test_a_size_that_no_file_has(
    grid: Grid, database: Database, tmp_path: Path, size: int
) -> None:
    async with bench(grid, database, tmp_path) as here:
        bad, good = await here.posted(DELIV), await here.posted(DELIV)
        here.asked_together(bad, good)
        here.jobs.files[bad.job_id] = {"filesize": size}
        for job in (bad, good):
            here.finish(DELIV, job)
        with counted_and_logged(bad.job_id):
            await here.polling.poll_once()
        assert (await here.now(good)).status is Status.SUCCESS
        waits = await here.now(bad)
        assert waits.status is Status.TRANSFERRING
        assert f"no clear answer on the copy: it says that the copy has {size} bytes" in str(
            waits.detailed_status
        )


async def test_an_archive_that_fails(grid: Grid, database: Database, tmp_path: Path) -> None:
    """For more jobs than its breaker takes: the running ones are looked at all the same."""
    async with bench(grid, database, tmp_path) as here:
        gone = [await here.posted(DELIV) for _ in range(4)]
        good = await here.posted(DELIV)
        here.asked_together(*gone, good)
        here.asked_together(*gone)
        here.jobs.states.clear()
        here.jobs.states[DELIV, good.job_id] = "FINISHED"
        for job in gone:
            here.server.on("GET", f"/archive/{job.job_id}", html(500))
        with counted_and_logged(gone[0].job_id):
            for _ in range(MISSES + 1):
                await here.reconcile()
        assert (await here.now(good)).status is Status.SUCCESS
        for job in gone:
            now = await here.now(job)
            assert (now.status, now.fts_misses) == (Status.TRANSFERRING, 0)
        assert here.endpoint.breaker.ready


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: {**one, "job_state": 5},
        lambda one: {**one, "files": "none"},
        lambda one: {"job_state": "FINISHED"},
        lambda one: None,
        lambda one: [one],
    ],
    ids=["a state that is none", "files that are none", "no id", "null", "a list"],
)
async def test_one_malformed_element_of_a_bulk(
    grid: Grid, database: Database, tmp_path: Path, spoil: Any
) -> None:
    async with bench(grid, database, tmp_path) as here:
        bad, good = await here.posted(DELIV), await here.posted(DELIV)
        here.asked_together(bad, good)

        def spoiled(asked: Asked) -> Reply:
            answers = json.loads(here.jobs.shown(asked).body)
            return reply([spoil(one) if one["job_id"] == bad.job_id else one for one in answers])

        for pair in ((bad, good), (good, bad)):
            here.server.on("GET", f"/jobs/{pair[0].job_id},{pair[1].job_id}", spoiled)
        for job in (bad, good):
            here.finish(DELIV, job)
        with counted_and_logged(bad.job_id):
            await here.polling.poll_once()
        assert (await here.now(good)).status is Status.SUCCESS
        assert (await here.now(bad)).status is Status.TRANSFERRING


async def test_one_malformed_element_of_a_list(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        good = await here.posted(DELIV)
        here.finish(DELIV, good)
        listed = [
            {"job_id": "x", "job_state": None},
            {"job_id": good.job_id, "job_state": "FINISHED"},
        ]
        here.server.on("GET", "/jobs", reply(listed))
        before = unusable()
        await here.polling.poll_once()
        assert (await here.now(good)).status is Status.SUCCESS
        assert unusable() == before + 1


async def test_a_reason_in_another_encoding(grid: Grid, database: Database, tmp_path: Path) -> None:
    async with bench(grid, database, tmp_path, **{"no permission": 1}) as here:
        job = await here.posted(DELIV)
        here.jobs.files[job.job_id] = {"reason": "DESTINATION [13] zugriff verweigert f\xfcr dich"}
        here.jobs.states[DELIV, job.job_id] = "FAILED"

        def latin(asked: Asked) -> Reply:
            return Reply(body=here.jobs.shown(asked).body.replace(rb"\u00fc", b"\xfc"))

        here.server.on("GET", f"/jobs/{job.job_id}", latin)
        await here.polling.poll_once()
        ended = await here.now(job)
        assert (ended.status, ended.error_class) == (Status.ERROR, "no permission")
        assert "verweigert f\ufffdr dich" in str(ended.detailed_status)
