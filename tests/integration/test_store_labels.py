"""Labels: their jobs are listed and counted, archived ones too, whichever release archived them."""

from __future__ import annotations

from typing import Any

import pytest
from support.private_mariadb import Server
from support.samples import ALICE, BOB, LABEL, submission, submitted

from deliv.db.database import Database, RejectedByTrigger
from deliv.errors import KeyReused, QuotaExceeded
from deliv.model.job import Listing
from deliv.model.states import FINAL, Event, Status
from deliv.store import Store, archive
from deliv.store.inspection import Inspection
from integration.test_store_archive import DAY, ended, held


async def totals(store: Store, submitter: str = ALICE, label: str = LABEL) -> dict[str, int]:
    found = await store.totals(submitter, label)
    return {str(status): number for status, number in found.items() if number}


async def listed(store: Store, **wanted: Any) -> list[str]:
    values = {"submitter": ALICE, "label": LABEL, "limit": 100, **wanted}
    return [job.job_id for job in await store.page(Listing(**values))]


async def test_a_labels_jobs_are_its_submitters(store: Store) -> None:
    first = await submitted(store, label=LABEL)
    second = await submitted(store, label=LABEL, product_id="another")
    await submitted(store, label="other")
    await submitted(store)
    bobs = await submitted(store, label=LABEL, submitter=BOB)
    assert first.label == LABEL
    assert await listed(store) == [second.job_id, first.job_id]
    assert await listed(store, product_id="another") == [second.job_id]
    assert await listed(store, status=Status.ERROR) == []
    assert await listed(store, status=Status.SUBMITTED, product_id="another") == [second.job_id]
    assert await listed(store, submitter=BOB) == [bobs.job_id]
    assert await totals(store) == {"SUBMITTED": 2}
    assert await totals(store, BOB) == {"SUBMITTED": 1}
    assert await totals(store, BOB, "other") == {}


async def test_each_step_of_a_labels_job_is_counted(store: Store, database: Database) -> None:
    job = await submitted(store, label=LABEL)
    await store.apply(job, Event.CANCEL, delay=None)
    await submitted(store, label=LABEL)
    assert await totals(store) == {"SUBMITTED": 1, "CANCELLED": 1}
    assert await Inspection(database).miscounted(10) == []


async def test_a_refused_submission_is_not_counted(store: Store) -> None:
    await submitted(store, label=LABEL, quota=1)
    with pytest.raises(QuotaExceeded):
        await store.submit(submission(label=LABEL, quota=1))
    assert await totals(store) == {"SUBMITTED": 1}


async def test_archived_jobs_count_until_they_are_forgotten(
    store: Store, database: Database, migrated: Server
) -> None:
    fence = await held(store)
    jobs = [await ended(store, migrated, 40, status, label=LABEL) for status in sorted(FINAL)]
    before = await totals(store)
    assert before == dict.fromkeys(sorted(FINAL), 1)
    assert await store.archive(fence, 30 * DAY, 100) == len(FINAL)
    assert await totals(store) == before
    assert set(await listed(store)) == {job.job_id for job in jobs}
    assert await Inspection(database).miscounted(10) == []
    assert await store.forget(fence, 30 * DAY, 1) == 1
    assert sum((await totals(store)).values()) == 2
    assert await store.forget(fence, 30 * DAY, 100) == 2
    assert await totals(store) == {}
    assert migrated.run("SELECT * FROM label_jobs") == []


async def test_the_release_before_archives_the_label_without_knowing_it(
    store: Store, migrated: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await ended(store, migrated, 40, label=LABEL)
    monkeypatch.setattr(
        archive, "MOVING", tuple(sql.replace("label, ", "") for sql in archive.MOVING)
    )
    assert not any("label" in sql for sql in archive.MOVING)
    assert await store.archive(await held(store), 30 * DAY, 100) == 1
    assert await store.job(job.job_id) == job
    assert await totals(store) == {"SUCCESS": 1}


async def test_a_label_never_changes(store: Store, database: Database) -> None:
    await submitted(store, label=LABEL)
    for value in ("'other'", "NULL", "UPPER(label)"):
        with pytest.raises(RejectedByTrigger, match="label"):
            await database.execute(f"UPDATE jobs SET label = {value}")  # noqa: S608 - a test's own
    assert await totals(store) == {"SUBMITTED": 1}


async def test_a_key_is_for_one_label(store: Store) -> None:
    job = await submitted(store, label=LABEL, idempotency_key="k")
    assert await store.submit(submission(label=LABEL, idempotency_key="k")) == (job, False)
    for label in (None, "other"):
        with pytest.raises(KeyReused):
            await store.submit(submission(label=label, idempotency_key="k"))


async def test_wrong_totals_are_found_and_counted_again(
    store: Store, database: Database, migrated: Server
) -> None:
    inspection, fence = Inspection(database), await held(store)
    await ended(store, migrated, 40, label=LABEL)
    await store.archive(fence, 30 * DAY, 100)
    await submitted(store, label=LABEL)
    await submitted(store, label=LABEL, submitter=BOB)
    right = await totals(store)
    for wrong in ("UPDATE label_jobs SET success = 7", "DELETE FROM label_jobs"):
        migrated.run(f"{wrong} WHERE submitter = '{ALICE}'")
        assert await inspection.miscounted(10) == [ALICE]
        await store.recount(ALICE)
        assert await inspection.miscounted(10) == []
        assert await totals(store) == right
    migrated.run("INSERT INTO label_jobs (submitter, label, error) VALUES ('/CN=x', 'y', 1)")
    assert await inspection.miscounted(10) == ["/CN=x"]
    await store.recount("/CN=x")
    assert await inspection.miscounted(10) == []
