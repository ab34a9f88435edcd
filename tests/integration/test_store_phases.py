"""What MariaDB says of a job's phase is what the model says, whatever its columns are."""

from __future__ import annotations

from support.combinations import COMBINATIONS, DECIDING
from support.private_mariadb import Server
from support.samples import ALICE, fill

from deliv.db.database import Connection, Database
from deliv.model.phase import Phase, phase
from deliv.model.states import FINAL, Status
from deliv.store.columns import SELECT, to_job
from deliv.store.conditions import POSTED, in_phase

COLUMNS = ", ".join(f"{name} = %s" for name in ("status", *DECIDING))
SET = f"UPDATE jobs SET {COLUMNS} WHERE job_id = %s"  # noqa: S608 - a test's own constants


async def test_the_database_allows_every_combination_and_agrees_on_its_phase(
    migrated: Server, database: Database
) -> None:
    """A combination that its triggers refused would not be there as it was wanted."""
    fill(migrated, ALICE, len(COMBINATIONS))
    ids = sorted(row["job_id"] for row in await database.query("SELECT job_id FROM jobs"))
    wanted = dict(zip(ids, COMBINATIONS, strict=True))

    def make(tx: Connection) -> None:
        for job_id, combination in wanted.items():
            values = (combination.status, *combination.values().values(), job_id)
            tx.execute(SET, *values)
            if combination.status not in FINAL | {Status.SUBMITTED}:
                tx.execute(SET, *values)  # a trigger has set the times of the new status

    await database.transaction(make)
    jobs = {row["job_id"]: to_job(row) for row in await database.query(SELECT)}
    for job_id, combination in wanted.items():
        job = jobs[job_id]
        given = {name for name in DECIDING if getattr(job, name) is not None}
        assert (job.status, given) == (combination.status, combination.given)
    for one in Phase:
        rows = await database.query(f"SELECT job_id FROM jobs WHERE {in_phase(one)}")  # noqa: S608
        assert {row["job_id"] for row in rows} == {i for i in ids if phase(jobs[i]) is one}, one
    rows = await database.query(f"SELECT job_id FROM jobs WHERE {POSTED}")  # noqa: S608
    assert {row["job_id"] for row in rows} == {
        job_id
        for job_id, job in jobs.items()
        if phase(job) in {Phase.COPYING, Phase.STOPPING} and job.fts_posted is not None
    }
    every = await database.query(f"SELECT job_id FROM jobs WHERE {in_phase(*Phase)}")  # noqa: S608
    assert {row["job_id"] for row in every} == set(ids)
