"""What the database promises by itself, whatever the code does."""

from __future__ import annotations

import contextlib
from datetime import datetime

import pytest
from pymysql.err import OperationalError
from support.private_mariadb import Server
from support.samples import admitted, staged, submitted, transferring

from deliv.db.database import Database, RejectedByTrigger
from deliv.model.job import Job
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, JobEvent, Store

ENDS = {Status.SUCCESS: Event.DELIVER, Status.ERROR: Event.FAIL, Status.CANCELLED: Event.CANCEL}
STATUSES = [str(status) for status in Status]
OTHER_VALUES = {
    "binary": "REPEAT('o', 32)",
    "binary(16)": "REPEAT('o', 16)",
    "enum('service','user')": "'user'",
    "enum": "'ERROR'",
    "int": "77",
    "bigint": "77",
    "text": "'other'",
    "timestamp": "'2001-01-01'",
    "tinyint": "1 - {}",
    "varchar": "'other'",
}


def times(job: Job) -> dict[str, datetime]:
    """The times that are set, the earliest first."""
    names = [name for name in job.__dataclass_fields__ if name.startswith("time_")]
    found = {name: value for name in names if (value := getattr(job, name)) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1]))


async def history(store: Store, job: Job) -> list[tuple[str, int, bool]]:
    events = await store.events(job.job_id)
    return [(event.status, event.attempt, event.staged) for event in events]


async def ended(store: Store, status: Status) -> Job:
    return await store.apply(await transferring(store), ENDS[status])


async def test_each_step_of_a_delivery_has_its_time_and_event(store: Store) -> None:
    job = await ended(store, Status.SUCCESS)
    steps = ["submitted", "staging", "staged", "transferring", "success"]
    assert list(times(job)) == [f"time_{step}" for step in steps]
    assert await history(store, job) == [
        ("SUBMITTED", 1, False),
        ("STAGING", 1, False),
        ("STAGING", 1, True),
        ("TRANSFERRING", 1, True),
        ("SUCCESS", 1, True),
    ]
    assert [event.time for event in await store.events(job.job_id)] == list(times(job).values())


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_the_end_has_its_time(store: Store, status: Status) -> None:
    job = await ended(store, status)
    assert list(times(job))[-1] == f"time_{status.lower()}"


async def test_an_event_keeps_what_was_said_then(store: Store) -> None:
    job = await admitted(store)
    await store.apply(job, Event.FAIL, error_class="stager", detailed_status="no such product")
    event = (await store.events(job.job_id))[-1]
    assert (event.error_class, event.detailed_status) == ("stager", "no such product")
    assert event.submitter == job.submitter


async def test_staging_again_starts_its_times_again(store: Store) -> None:
    first = await transferring(store)
    again = await store.apply(first, Event.RESTAGE, attempt=2)
    assert list(times(again)) == ["time_submitted", "time_staging"]
    assert again.time_staging is not None
    assert first.time_transferring is not None
    assert again.time_staging > first.time_transferring
    third = await store.apply(again, Event.RESTAGE, attempt=3)
    assert third.time_staging is not None
    assert third.time_staging > again.time_staging
    assert (await history(store, third))[-2:] == [("STAGING", 2, False), ("STAGING", 3, False)]


async def test_transferring_again_keeps_the_staged_copy(store: Store) -> None:
    first = await transferring(store)
    again = await store.apply(first, Event.RETRANSFER, attempt=2)
    assert again.time_staged == first.time_staged
    assert first.time_transferring is not None
    assert again.time_transferring is not None
    assert again.time_transferring > first.time_transferring
    assert (await history(store, again))[-1] == ("TRANSFERRING", 2, True)


async def test_a_change_of_no_step_leaves_no_event(store: Store) -> None:
    job = await staged(store)
    before = await history(store, job)
    job = await store.update(job, time_staged=NOW, stager_status="copied", delay=5)
    assert await history(store, job) == before


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("to", STATUSES)
async def test_nothing_leaves_a_final_state(
    store: Store, database: Database, status: Status, to: str
) -> None:
    job = await ended(store, status)
    sql = "UPDATE jobs SET status = %s, attempt = attempt + 1 WHERE job_id = %s"
    with pytest.raises(RejectedByTrigger, match="never leaves a final state"):
        await database.execute(sql, to, job.job_id)
    assert await store.job(job.job_id) == job


async def test_a_final_job_can_still_be_released(store: Store) -> None:
    job = await ended(store, Status.ERROR)
    released = await store.update(job, time_released=NOW, delay=None)
    assert released.time_released is not None
    assert released.due_at is None


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_a_final_job_gives_its_destination_free(store: Store, status: Status) -> None:
    job = await store.update(await transferring(store), destination_key=b"k" * 32)
    assert (await store.apply(job, ENDS[status])).destination_key is None


@pytest.mark.parametrize("column", ["job_id", "submitter", "product_id", "destination_path"])
@pytest.mark.parametrize("value", ["REVERSE({})", "UPPER({})", "'other'"])
async def test_what_was_asked_for_never_changes(
    store: Store, database: Database, column: str, value: str
) -> None:
    job = await submitted(store, product_id="abc")
    sql = f"UPDATE jobs SET {column} = {value.format(column)} WHERE job_id = %s"  # noqa: S608
    with pytest.raises(RejectedByTrigger, match="never change"):
        await database.execute(sql, job.job_id)
    assert await store.job(job.job_id) == job


async def test_a_trailing_space_is_a_difference(store: Store, database: Database) -> None:
    job = await submitted(store)
    found = await database.query("SELECT * FROM jobs WHERE submitter = %s", job.submitter + " ")
    assert found == []
    with pytest.raises(RejectedByTrigger, match="never change"):
        await database.execute("UPDATE jobs SET product_id = CONCAT(product_id, ' ')")


async def test_the_time_of_submission_never_changes(store: Store, database: Database) -> None:
    job = await submitted(store)
    await database.execute("UPDATE jobs SET time_submitted = NOW(6), version = 9")
    changed = await store.job(job.job_id)
    assert changed is not None
    assert changed.time_submitted == job.time_submitted


async def test_a_job_that_is_staged_may_go_back_to_the_queue(store: Store) -> None:
    job = await store.apply(await staged(store), Event.RESTAGE, attempt=2)
    job = await store.apply(job, Event.REQUEUE)
    assert (job.status, list(times(job))) == (Status.SUBMITTED, ["time_submitted"])
    assert (await history(store, job))[-2:] == [("STAGING", 2, False), ("SUBMITTED", 2, False)]


async def test_what_fts_has_does_not_go_back_to_the_queue(store: Store, database: Database) -> None:
    await transferring(store)
    with pytest.raises(RejectedByTrigger, match="goes back to SUBMITTED from STAGING alone"):
        await database.execute("UPDATE jobs SET status = 'SUBMITTED'")


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "SUBMITTED"])
async def test_every_job_begins_as_submitted(database: Database, status: str) -> None:
    sql = """
    INSERT INTO jobs (job_id, product_id, status, destination_path, destination_host, submitter)
    VALUES ('a', 'b', %s, 'c', 'd', 'e')
    """
    with pytest.raises(RejectedByTrigger, match="begins as SUBMITTED"):
        await database.execute(sql, status)


async def test_a_refused_change_leaves_no_event(store: Store, database: Database) -> None:
    job = await ended(store, Status.SUCCESS)
    before = await history(store, job)
    with pytest.raises(RejectedByTrigger):
        await database.execute("UPDATE jobs SET status = 'ERROR'")
    assert await history(store, job) == before


def others(server: Server, table: str) -> dict[str, str]:
    """For each column an expression that gives another value than a sample has."""
    types = {row["Field"]: row["Type"] for row in server.run(f"SHOW COLUMNS FROM {table}")}
    return {
        name: (OTHER_VALUES.get(kind) or OTHER_VALUES[kind.split("(")[0]]).format(name)
        for name, kind in types.items()
    }


def refused(server: Server, statement: str) -> bool:
    """Whether a trigger refuses it. The statement is undone in any case."""
    with server.admin() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {server.database.name}")
        cursor.execute("BEGIN")
        try:
            assert cursor.execute(statement) == 1, f"{statement} changes nothing"
        except OperationalError as error:
            assert error.args[0] == 1644, statement
            return True
        finally:
            cursor.execute("ROLLBACK")
    return False


async def full(store: Store, server: Server) -> Job:
    """A job that has ended, with a value in each of its columns."""
    job = await ended(store, Status.SUCCESS)
    (row,) = server.run("SELECT * FROM jobs")
    types = {row["Field"]: row["Type"] for row in server.run("SHOW COLUMNS FROM jobs")}
    terms = [
        f"{name} = {'NOW(6)' if types[name] == 'timestamp(6)' else 1}"
        for name, value in row.items()
        if value is None
    ]
    server.rewrite(f"UPDATE jobs SET {', '.join(terms)}")  # noqa: S608 - a test's own
    return job


@pytest.mark.parametrize("filled", [True, False])
async def test_an_ended_job_keeps_its_values(store: Store, migrated: Server, filled: bool) -> None:
    """A column that is added to `jobs` shows here until the trigger has it, too."""
    await (full(store, migrated) if filled else ended(store, Status.SUCCESS))
    values = others(migrated, "jobs")
    del values["time_submitted"]  # a change of it is not refused, but ignored
    assert {name for name, value in values.items() if not refused(migrated, to(name, value))} == {
        "version", "due_at", "time_released",
    }  # fmt: skip


async def test_of_an_ended_job_nothing_is_erased_but_what_only_unfinished_ones_need(
    store: Store, migrated: Server
) -> None:
    await full(store, migrated)
    names = [row["Field"] for row in migrated.run("SHOW COLUMNS FROM jobs") if row["Null"] == "YES"]
    assert {name for name in names if not refused(migrated, to(name, "NULL"))} == {
        "due_at", "time_released", "destination_key", "idempotency_digest", "stager_callback",
    }  # fmt: skip


def to(column: str, value: str) -> str:
    return f"UPDATE jobs SET {column} = {value}"  # noqa: S608 - a test's own


async def test_an_ended_jobs_version_only_grows(store: Store, migrated: Server) -> None:
    await ended(store, Status.SUCCESS)
    assert refused(migrated, "UPDATE jobs SET version = version - 1")


# The release before archives without these columns: the next one's migration compares them.
NOT_YET_COMPARED = {
    "submitter_fqans", "submitter_limited", "copy_begun", "copy_recorded", "unseen_since",
    "excused",
}  # fmt: skip
# These are the job's in any case: a trigger copies them.
COPIED = {
    "report", "report_digest", "slice", "files_directory", "files_total", "files_done",
    "bytes_total", "bytes_done", "retry_of", "staging_id",
}  # fmt: skip
# These say nothing of an ended job.
OF_UNFINISHED_JOBS = {
    "files_at_fts", "bytes_at_fts", "files_active", "files_arriving", "turn_since", "turn_given",
    "waiting_for", "waiting_since", "rest", "let_go",
}  # fmt: skip


async def test_the_archive_takes_ended_jobs_alone_as_they_are(
    store: Store, migrated: Server
) -> None:
    job = await full(store, migrated)
    accepted = [
        name
        for name, other in others(migrated, "jobs").items()
        if not refused(migrated, copy("jobs", {name: other}, job))
    ]
    assert set(accepted) == NOT_YET_COMPARED | COPIED | OF_UNFINISHED_JOBS
    unfinished = await submitted(store)
    assert refused(migrated, copy("jobs", {}, unfinished))
    assert not refused(migrated, copy("jobs", {}, job))


async def test_the_archive_takes_events_of_archived_jobs_alone_as_they_are(
    store: Store, migrated: Server
) -> None:
    job = await ended(store, Status.SUCCESS)
    last = " AND status = 'SUCCESS'"
    assert refused(migrated, copy("job_events", {}, job) + last)
    migrated.run(copy("jobs", {}, job))
    assert not refused(migrated, copy("job_events", {}, job) + last)
    accepted = [
        name
        for name, other in others(migrated, "job_events").items()
        if not refused(migrated, copy("job_events", {name: other}, job) + last)
    ]
    assert accepted == []


def copy(table: str, changes: dict[str, str], job: Job) -> str:
    """The statement that archives rows of a job, with other values in some columns."""
    types = Job if table == "jobs" else JobEvent
    names = list(types.__dataclass_fields__)
    values = [changes.get(name, name) for name in names]
    return (
        f"INSERT INTO {table}_archive ({', '.join(names)})"  # noqa: S608 - a test's own
        f" SELECT {', '.join(values)} FROM {table} WHERE job_id = '{job.job_id}'"
    )


@pytest.mark.parametrize("mode", ["IGNORE", ""])
@pytest.mark.parametrize(
    "name", ["status", "attempt", "version", "submitter", "product_id", "destination_path"]
)
async def test_null_does_not_get_past_a_comparison(
    store: Store, migrated: Server, name: str, mode: str
) -> None:
    """It would become the column's first value, which of a status is SUBMITTED."""
    job = await ended(store, Status.SUCCESS)
    change = f"UPDATE {mode} jobs SET {name} = NULL WHERE job_id = '{job.job_id}'"  # noqa: S608
    with migrated.admin() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {migrated.database.name}")
        cursor.execute("SET sql_mode = ''")
        with contextlib.suppress(OperationalError):
            cursor.execute(change)
        connection.commit()
    assert await store.job(job.job_id) == job


async def test_jobs_and_events_leave_for_the_archive_only(store: Store, migrated: Server) -> None:
    job = await ended(store, Status.SUCCESS)
    assert refused(migrated, "DELETE FROM jobs")
    assert refused(migrated, "DELETE FROM job_events LIMIT 1")
    migrated.run(copy("jobs", {}, job))
    assert not refused(migrated, "DELETE FROM jobs")
    assert refused(migrated, "DELETE FROM job_events LIMIT 1")
    await store.update(job, delay=60)
    assert refused(migrated, "DELETE FROM jobs")  # the archive has it as it was before


@pytest.mark.parametrize("table", ["job_events", "jobs_archive", "job_events_archive"])
async def test_events_and_archive_are_never_changed(
    store: Store, migrated: Server, table: str
) -> None:
    job = await full(store, migrated)
    migrated.rewrite(
        copy("jobs", {}, job),
        "INSERT INTO job_events_archive SELECT * FROM job_events LIMIT 1",
        "DELETE FROM job_events WHERE event_id <> (SELECT event_id FROM job_events_archive)",
    )
    values = others(migrated, table)
    accepted = [
        name
        for name, other in values.items()
        if not refused(migrated, f"UPDATE {table} SET {name} = {other}")  # noqa: S608 - a test's own
    ]
    assert accepted == []
