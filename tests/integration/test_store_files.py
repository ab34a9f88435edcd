"""The rows of files: what the database promises of them, and how they reach the archive."""

from __future__ import annotations

import pytest
from pymysql.err import OperationalError
from support.private_mariadb import Server
from support.samples import (
    REPORT,
    admitted,
    assigned,
    open_transfers,
    transferring,
    with_files,
)

from deliv.db.database import Database, RejectedByTrigger
from deliv.errors import DestinationBusy, LostRace
from deliv.model.file import FileListing, FileResult, FileState, ReportedFile
from deliv.model.job import Job
from deliv.model.states import Event
from deliv.store import NOW, Store
from integration.test_store_archive import DAY, held, old_id, rows

ALL = FileListing(limit=100)
FINISHED = [FileResult(number=number, state=FileState.FINISHED) for number in (1, 2, 3)]


async def with_transfer(store: Store, **changes: object) -> Job:
    return await assigned(store, await with_files(store, await admitted(store, **changes), 3))


async def recorded(store: Store, job: Job, *results: FileResult) -> Job:
    done = sum(result.state is FileState.FINISHED for result in results)
    (transfer,) = await open_transfers(store, job)
    return await store.record(
        job, transfer, results, files_done=(job.files_done or 0) + done, fts_jobid=None
    )


async def test_what_came_of_files_is_stored_with_their_job(store: Store) -> None:
    job = await with_transfer(store)
    job = await recorded(
        store,
        job,
        *FINISHED[:2],
        FileResult(
            number=3,
            state=FileState.FAILED,
            error_class="no permission",
            reason="no \ud800",
            partial=True,
        ),
    )
    one, two, three = await store.files(job, ALL)
    assert [file.state for file in (one, two, three)] == ["FINISHED", "FINISHED", "FAILED"]
    assert (three.error_class, three.reason, three.partial) == ("no permission", "no ?", True)
    groups = await store.file_groups(job)
    assert sorted((group.state, group.count, group.first) for group in groups) == [
        ("FAILED", 1, 3), ("FINISHED", 2, 1),
    ]  # fmt: skip


async def test_results_of_a_job_that_has_moved_on_are_not_stored(store: Store) -> None:
    job = await with_transfer(store)
    await store.update(job, stager_status="moved on")
    with pytest.raises(LostRace):
        await recorded(store, job, *FINISHED)
    assert {file.state for file in await store.files(job, ALL)} == {FileState.ASSIGNED}


async def test_a_list_goes_page_by_page(store: Store) -> None:
    job = await with_files(store, await admitted(store), 5)
    seen, after = [], (0, 0)
    for listing in (None, FileState.WAITING):
        while page := await store.files(job, FileListing(state=listing, after=after, limit=2)):
            seen += [file.number for file in page]
            after = page[-1].attempt, page[-1].number
        after = (0, 0)
    assert seen == [1, 2, 3, 4, 5] * 2
    assert await store.files(job, FileListing(state=FileState.FAILED, limit=2)) == []


async def test_a_file_that_is_there_is_never_changed(store: Store, database: Database) -> None:
    job = await recorded(store, await with_transfer(store), *FINISHED[:1])
    for change in ("state = 'WAITING'", "partial = TRUE", "attempt = 7"):
        with pytest.raises(RejectedByTrigger, match="that is there is never changed"):
            await database.execute(f"UPDATE job_files SET {change} WHERE number = 1")  # noqa: S608
    assert await store.job(job.job_id) == job


@pytest.mark.parametrize(
    ("before", "after"),
    [("WAITING", "FINISHED"), ("FAILED", "WAITING"), ("FAILED", "FINISHED"),
     ("FAILED", "ASSIGNED"), ("FINISHED", "FAILED")],
)  # fmt: skip
async def test_a_file_goes_on_as_it_may(
    store: Store, database: Database, before: str, after: str
) -> None:
    job = await with_transfer(store)
    await recorded(store, job, FileResult(number=1, state=FileState(before)))
    with pytest.raises(RejectedByTrigger):
        await database.execute("UPDATE job_files SET state = %s WHERE number = 1", after)


async def test_what_was_reported_stays(store: Store, database: Database) -> None:
    await with_files(store, await admitted(store), 1)
    for change in ("name = 'x'", "size = 7", "checksum = 'ADLER32:0'", "number = 9"):
        with pytest.raises(RejectedByTrigger, match="stays what was reported"):
            await database.execute(f"UPDATE job_files SET {change}")  # noqa: S608


async def test_files_are_added_until_their_report_counts(store: Store) -> None:
    job = await with_files(store, await admitted(store), 2)
    more = [ReportedFile(name="more")]
    with pytest.raises(RejectedByTrigger, match="until their report counts"):
        await store.add_files(job, REPORT, 3, more, None)
    await store.add_files(job, b"o" * 16, 1, more, None)
    ended = await store.apply(job, Event.FAIL)
    with pytest.raises(RejectedByTrigger, match="in STAGING"):
        await store.add_files(ended, b"p" * 16, 1, more, None)


async def test_adding_the_same_again_adds_nothing(store: Store, migrated: Server) -> None:
    """As when the answer to a COMMIT was lost."""
    job = await admitted(store)
    for _ in range(2):
        await store.add_files(job, REPORT, 1, [ReportedFile(name="a")], None)
    assert rows(migrated, "job_files") == 1


async def test_what_counts_is_not_discarded(store: Store, migrated: Server) -> None:
    job = await with_files(store, await admitted(store), 2)
    with pytest.raises(RejectedByTrigger, match="only when the archive has it"):
        await store.discard_files(job.job_id, REPORT, 10)
    await store.add_files(job, b"o" * 16, 1, [ReportedFile(name="a")], None)
    assert await store.discard_files(job.job_id, b"o" * 16, 10) == 1
    assert rows(migrated, "job_files") == 2


async def test_a_job_is_success_only_with_all_its_files(store: Store) -> None:
    """The release before would take the end of its first transfer for its own."""
    job = await recorded(store, await with_transfer(store), *FINISHED[:2])
    with pytest.raises(RejectedByTrigger, match="when each of its files is there"):
        await store.apply(job, Event.DELIVER)


async def test_the_release_before_can_not_transfer_a_job_of_many_files(store: Store) -> None:
    """It would ask FTS to copy the directory. The job waits until that release is gone."""
    job = await with_files(store, await admitted(store), 3)
    key = {"destination_key": b"\x01" * 32, "fts_jobid": "x"}
    with pytest.raises(RejectedByTrigger, match="a destination of its own"):
        await store.apply(job, Event.TRANSFER, **key)


async def test_files_of_an_ended_job_keep_their_values(store: Store, database: Database) -> None:
    job = await recorded(store, await with_transfer(store), *FINISHED[:1])
    await store.apply(job, Event.FAIL)
    for change in ("state = 'FAILED' WHERE number = 2", "reason = 'x' WHERE number = 2"):
        with pytest.raises(RejectedByTrigger, match="that has ended keeps its values"):
            await database.execute(f"UPDATE job_files SET {change}")  # noqa: S608


async def test_with_its_transfer_a_job_gives_up_the_files_and_their_destinations(
    store: Store, migrated: Server
) -> None:
    job = await with_transfer(store)
    assert rows(migrated, "destination_writers") == 3
    job = await store.apply(job, Event.RETRANSFER, attempt=2, fts_jobid=None, partial=True)
    assert rows(migrated, "destination_writers") == 0
    files = await store.files(job, ALL)
    assert {(file.state, file.attempt, file.partial) for file in files} == {("WAITING", 1, True)}


async def test_a_destination_has_one_writer_of_either_kind(store: Store, migrated: Server) -> None:
    job = await with_transfer(store)
    (row,) = migrated.run("SELECT destination_key FROM job_files WHERE number = 2")
    other = await transferring(store)
    with pytest.raises(DestinationBusy):
        await store.update(other, destination_key=row["destination_key"])
    await store.apply(job, Event.CANCEL)
    await store.update(other, destination_key=row["destination_key"])


async def archived_later(store: Store, server: Server) -> Job:
    """A job with three files that has ended long ago, and is released."""
    job = await recorded(store, await with_transfer(store, job_id=old_id(40)), *FINISHED)
    server.run(
        f"SET timestamp = UNIX_TIMESTAMP(NOW() - INTERVAL {40 * DAY} SECOND)",
        "UPDATE jobs SET status = 'SUCCESS', version = version + 1, due_at = NULL,"
        " time_released = NOW(6)",
    )
    found = await store.job(job.job_id)
    assert found is not None
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_archived_jobs_keep_their_files(store: Store, migrated: Server, limit: int) -> None:
    job = await archived_later(store, migrated)
    before, fence = await store.files(job, ALL), await held(store)
    done = limit
    while done >= limit:
        done = await store.archive(fence, 30 * DAY, limit)
        assert await store.files(job, ALL) == before
    assert [rows(migrated, table) for table in ("jobs", "job_files", "transfers")] == [0, 0, 0]
    assert await store.job(job.job_id) == job
    assert rows(migrated, "transfers_archive") == 1
    done = limit
    while done >= limit:
        done = await store.forget(fence, 30 * DAY, limit)
    kept = [f"{table}_archive" for table in ("jobs", "job_files", "transfers")]
    assert [rows(migrated, table) for table in kept] == [0, 0, 0]


async def test_what_never_counted_does_not_reach_the_archive(
    store: Store, migrated: Server
) -> None:
    job = await admitted(store, job_id=old_id(40))
    await store.add_files(job, b"o" * 16, 1, [ReportedFile(name="left")], None)
    job = await store.apply(job, Event.CANCEL)
    await store.update(job, delay=None, time_released=NOW)
    await store.archive(await held(store), 0, 100)
    assert rows(migrated, "jobs_archive") == 1
    assert rows(migrated, "job_files") == rows(migrated, "job_files_archive") == 0


async def test_the_archive_takes_files_as_they_are(store: Store, migrated: Server) -> None:
    await archived_later(store, migrated)
    with pytest.raises(OperationalError, match="as they are"):
        migrated.run(
            "INSERT INTO job_files_archive (job_id, report, number, name, name_key, state)"
            " SELECT job_id, report, number, 'other', name_key, state FROM job_files"
        )


async def test_a_transfer_that_is_over_is_never_changed(store: Store, database: Database) -> None:
    await recorded(store, await with_transfer(store), *FINISHED)
    with pytest.raises(RejectedByTrigger, match="that is over is never changed"):
        await database.execute("UPDATE transfers SET open = TRUE")
    with pytest.raises(RejectedByTrigger, match="only when the archive has it"):
        await database.execute("DELETE FROM transfers")


async def test_a_transfer_stays_what_was_assigned(store: Store, database: Database) -> None:
    job = await with_transfer(store)
    for change in ("slice = 7", "fts_jobid = 'other'", "files = 9", "bytes = 9", "attempt = 2"):
        with pytest.raises(RejectedByTrigger, match="stays what was assigned"):
            await database.execute(f"UPDATE transfers SET {change}")  # noqa: S608
    for change in ("ended = 4", "active = 2, ended = 2", "arrived = 1"):
        with pytest.raises(RejectedByTrigger, match="no more files than were assigned"):
            await database.execute(f"UPDATE transfers SET {change}")  # noqa: S608
    sql = "INSERT INTO transfers (job_id, attempt, slice, fts_endpoint, fts_jobid, files) VALUES "
    for values in ("1, 1, 'fts1', 'other'", "2, 0, 'fts1', 'other'"):
        with pytest.raises(RejectedByTrigger, match="the newest one of its job"):
            await database.execute(f"{sql} (%s, {values}, 3)", job.job_id)


async def test_transfers_of_an_attempt_that_is_given_up_are_over(
    store: Store, migrated: Server
) -> None:
    job = await assigned(store, await with_files(store, await admitted(store), 3), 2)
    job = await assigned(store, job, 1)
    assert [one.files for one in await open_transfers(store, job)] == [2, 1]
    assert (job.slice, job.files_at_fts, job.bytes_at_fts) == (1, 3, 3)
    ended = await store.apply(job, Event.FAIL)
    assert len(await open_transfers(store, ended)) == 2  # to be withdrawn
    assert {file.state for file in await store.files(job, ALL)} == {FileState.WAITING}
    again = await assigned(store, await with_files(store, await admitted(store), 3), 2)
    again = await store.apply(again, Event.RETRANSFER, attempt=2, fts_jobid=None)
    assert await open_transfers(store, again) == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_jobs_leave_with_few_transfers_at_a_time(
    store: Store, migrated: Server, limit: int
) -> None:
    for age in (40, 41):
        job = await with_files(store, await admitted(store, job_id=old_id(age)), 3)
        for _ in range(3):
            job = await assigned(store, job, 1)
        job = await store.apply(job, Event.FAIL)
        await store.update(job, delay=None, time_released=NOW)
    fence, before = await held(store), 2
    while await store.archive(fence, 0, limit):
        left = rows(migrated, "jobs")
        assert before - left <= 1
        before = left
    assert (rows(migrated, "jobs"), rows(migrated, "transfers_archive")) == (0, 6)
