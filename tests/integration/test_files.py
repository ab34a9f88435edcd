"""A job's files, from the stager's report to the verdict, by transfers one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.samples import admitted, staged

from deliv.db.database import Database
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileState, ReportedFile
from deliv.model.phase import Phase, phase
from deliv.model.states import Event, Status
from integration.files_steps import (
    CUT_OFF,
    DENIED,
    DIRECTORY,
    SIZE,
    THERE,
    UNREACHABLE,
    Opened,
    all_copied,
    all_copied_once,
    but,
    copied,
    done,
    expecting,
    files,
    finished,
    names,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    report,
    reported,
    settled,
    shows,
    started,
    states,
    taken,
)
from integration.fts_bench import bench
from integration.scripted_fts import Grid, reply


async def test_files_go_to_fts_in_slices_the_first_a_small_one(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 450)
        assert phase(job) is Phase.STAGED
        assert done(job) == (450, 0, 450 * SIZE, 0)
        assert job.files_directory == DIRECTORY
        job, transfers = await all_copied(here, job)
        assert [len(one) for one in transfers] == [10, 200, 200, 40]
        assert [name for one in transfers for name in one] == names(450)
        assert job.status is Status.SUCCESS, job.detailed_status
        assert done(job) == (450, 450, 450 * SIZE, 450 * SIZE)
        assert (job.product_size, job.attempt) == (450 * SIZE, 1)
        assert job.detailed_status == f"450 files delivered to {DIRECTORY}"
        sids = [json.loads(one.body)["params"]["sid"] for one in here.server.calls("POST", "/jobs")]
        first = f"{job.job_id}:1"
        assert sids == [first, f"{first}.1", f"{first}.2", f"{first}.3"]


async def test_what_is_in_a_transfer_is_stored_before_fts_has_it(opened: Opened) -> None:
    """So the same files are posted again when it is not known whether FTS has it."""
    async with opened as here:
        job = await reported(here, 30)
        here.server.on("POST", "/jobs", reply({"error": "down"}, 500))
        await here.transfers.start(job)
        job = await here.now(job)
        assert phase(job) is Phase.HANDING_OVER
        assert await states(here, job) == {FileState.ASSIGNED: 10, FileState.WAITING: 20}
        first = json.loads(here.server.calls("POST", "/jobs")[0].body)
        here.server.on("POST", "/jobs", reply({"job_id": job.fts_jobid}))
        await here.transfers.post(job)
        assert json.loads(here.server.calls("POST", "/jobs")[-1].body) == first
        assert phase(await here.now(job)) is Phase.COPYING


async def test_each_file_is_asked_for_with_its_size_and_checksum(opened: Opened) -> None:
    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        listed = [
            ReportedFile(name="deep/Ünï 1", size=7, checksum="ADLER32:0000000a"),
            ReportedFile(name="empty", size=0),
        ]
        job = await taken(here, job, report(job, listed))
        _, asked = await started(here, job)
        one, empty = asked["files"]
        assert one["sources"] == [
            "gsiftp://archive.example.org/staging/tree/deep/%C3%9Cn%C3%AF%201"
        ]
        assert one["destinations"] == [f"{DIRECTORY}/deep/%C3%9Cn%C3%AF%201"]
        assert (one["checksum"], one["filesize"]) == ("ADLER32:0000000a", 7)
        assert empty["checksum"] == "ADLER32"


async def test_a_single_file_in_a_list_is_delivered_as_one_without(opened: Opened) -> None:
    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        job = await taken(here, job, report(job, ["a/b.fits"]))
        job, asked = await started(here, job)
        assert asked["files"][0]["destinations"] == ["gsiftp://user.example.org/data/a/b.fits"]


async def test_only_what_is_not_there_is_tried_again(opened: Opened) -> None:
    """After the pause, within the attempts of its class, and from the same staged copy."""
    async with opened as here:
        job = await reported(here, 30)
        first = but(
            {"chunk/00003": UNREACHABLE, "chunk/00025": CUT_OFF, "chunk/00026": UNREACHABLE}
        )
        job, transfers = await all_copied_once(here, job, first)
        assert [len(one) for one in transfers] == [10, 20]
        assert (job.status, job.attempt, job.files_done) == (Status.TRANSFERRING, 2, 27)
        said = job.detailed_status or ""
        # What arrived shows that the server can be reached: one failure has nothing rest there.
        assert said.startswith("attempt 1 failed (27 of 30 files arrived; 3 did not: chunk/00003")
        assert said.endswith("; trying again")
        job, again = await copied(here, job)
        assert again == [
            "chunk/00003",
            "chunk/00026",
        ]  # what overwrites is in a transfer of its own
        job, asked = await started(here, job)
        assert asked["params"]["overwrite"] is True
        assert [one["destinations"] for one in asked["files"]] == [[f"{DIRECTORY}/chunk/00025"]]
        shows(here, job, asked, finished, "FINISHED")
        await settled(here, job)
        assert (await here.now(job)).status is Status.SUCCESS


async def test_the_verdict_says_how_many_arrived_and_the_files_say_why(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 30)
        missing = {"chunk/00012": DENIED, "chunk/00020": DENIED, "chunk/00021": THERE}
        job, _ = await all_copied(here, job, but(missing))
        assert (job.status, job.error_class) == (Status.ERROR, ErrorClass.NO_PERMISSION)
        said = job.detailed_status or ""
        assert said.startswith("27 of 30 files arrived; 3 did not: chunk/00012: TRANSFER [13]")
        assert "deliv's identity may write there" in said
        failed = await files(here, job, FileState.FAILED)
        assert {file.name: file.error_class for file in failed} == {
            "chunk/00012": "no permission", "chunk/00020": "no permission", "chunk/00021": "exists",
        }  # fmt: skip
        assert "Permission denied" in (failed[0].reason or "")
        assert not any(file.partial for file in failed)


async def test_where_no_file_can_be_brought_the_job_rests_and_the_others_are_not_tried(
    opened: Opened,
) -> None:
    async with opened as here:
        job, tried = await copied(here, await reported(here, 1000), lambda name: UNREACHABLE)
        assert len(tried) == 10
        assert (job.status, job.waiting_for) == (Status.TRANSFERRING, "destination")
        assert (job.attempt, job.own_attempts) == (2, 1)
        assert await states(here, job) == {FileState.WAITING: 1000}
        job, _ = await all_copied(here, job)
        assert (job.status, job.files_done) == (Status.SUCCESS, 1000)


async def test_where_nothing_arrives_for_one_reason_the_rest_is_not_tried(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 1000)
        job, transfers = await all_copied(here, job, lambda name: DENIED)
        assert [len(one) for one in transfers] == [10]
        assert job.status is Status.ERROR
        said = job.detailed_status or ""
        assert said.startswith("0 of 1,000 files arrived; 1,000 did not (9")
        assert "were not tried" in said


@pytest.mark.parametrize(("denied", "transfers"), [(6, [10]), (5, [10, 20])])
async def test_where_most_fail_for_one_reason_the_rest_is_not_tried(
    opened: Opened, denied: int, transfers: list[int]
) -> None:
    async with opened as here:
        job = await reported(here, 30)
        job, tried = await all_copied(here, job, but(dict.fromkeys(names(denied), DENIED)))
        assert [len(one) for one in tried] == transfers
        assert (job.status, job.error_class) == (Status.ERROR, "no permission")
        assert job.files_done == sum(transfers) - denied


async def test_what_is_wrong_with_single_files_keeps_no_other_from_being_tried(
    opened: Opened,
) -> None:
    async with opened as here:
        job = await reported(here, 30)
        first = dict.fromkeys(names(10), THERE)
        job, transfers = await all_copied(here, job, but(first))
        assert [len(one) for one in transfers] == [10, 20]
        assert (job.status, job.files_done) == (Status.ERROR, 20)


async def test_a_copy_of_another_size_than_announced_is_not_there(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 3)
        short = {"file_state": "FINISHED", "filesize": SIZE - 1}
        job, _ = await copied(here, job, but({"chunk/00002": short}))
        assert (job.status, job.attempt, job.files_done) == (Status.STAGING, 2, 2)
        (file,) = await files(here, job, FileState.WAITING)
        assert (file.error_class, file.partial, file.copy_begun) == ("checksum", True, True)
        assert file.reason == "the copy has 4 bytes, the stager announced 5"


async def test_a_destination_that_another_writes_fails_the_file_alone(opened: Opened) -> None:
    """Whether the other has one file or several."""
    async with opened as here:
        first, _ = await started(here, await reported(here, 3))
        single = await staged(here.store, destination_path=f"{DIRECTORY}/chunk")
        single = await here.store.update(
            single, stager_hostname="archive.example.org", stager_path="/a/00004"
        )
        single, _ = await started(here, single)
        assert single.status is Status.TRANSFERRING
        second = await reported(here, 5)
        second, tried = await copied(here, second)
        assert tried == ["chunk/00005"]
        assert (second.status, second.files_done) == (Status.ERROR, 1)
        failed = await files(here, second, FileState.FAILED)
        assert [file.name for file in failed] == names(4)
        assert {file.reason for file in failed} == {
            "another delivery to the same destination file is under way"
        }
        shows(here, first, {"files": [{"destinations": [f"{DIRECTORY}/{n}"]} for n in names(3)]},
              finished, "FINISHED")  # fmt: skip
        await settled(here, first)
        assert (await here.now(first)).status is Status.SUCCESS


async def test_a_single_file_does_not_get_what_a_job_of_many_writes(opened: Opened) -> None:
    async with opened as here:
        await started(here, await reported(here, 3))
        single = await staged(here.store, destination_path=f"{DIRECTORY}/chunk")
        single = await here.store.update(
            single, stager_hostname="archive.example.org", stager_path="/a/00002"
        )
        await here.transfers.start(single)
        single = await here.now(single)
        assert (single.status, single.error_class) == (Status.ERROR, ErrorClass.EXISTS)


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("FINISHED", {"file_state": "NOT_USED"}),
        ("CANCELED", {"file_state": "ON_HOLD"}),
        ("FINISHEDDIRTY", {"file_state": "ACTIVE"}),
        ("FINISHED", {"dest_surl": f"{DIRECTORY}/another"}),
        ("FINISHED", {"filesize": -1}),
    ],
)
async def test_what_is_no_clear_answer_on_one_file_settles_none(
    opened: Opened, state: str, change: dict[str, Any]
) -> None:
    async with opened as here:
        job = await reported(here, 3)
        job, _ = await copied(here, job, but({"chunk/00002": finished("") | change}), state)
        assert phase(job) is Phase.COPYING
        assert "no clear answer" in (job.detailed_status or "")
        assert await states(here, job) == {FileState.ASSIGNED: 3}


async def test_a_cancelled_transfer_has_files_that_arrived(opened: Opened) -> None:
    """FTS says CANCELED for finished and cancelled ones together."""
    async with opened as here:
        job = await reported(here, 15)
        job, _ = await copied(here, job)
        job, asked = await started(here, job)
        stopped = {"file_state": "CANCELED", "reason": "Job canceled by the user"}
        begun = stopped | {"start_time": "2030-01-31T18:00:00"}
        ends = but({"chunk/00013": begun, "chunk/00014": stopped, "chunk/00015": stopped})
        shows(here, job, asked, ends, "CANCELED")
        job = await here.cancellation.cancel(job.job_id)
        assert (job.status, job.files_done) == (Status.CANCELLED, 12)
        assert (job.detailed_status or "").startswith(
            "cancelled on request: 12 files arrived whole, 1 may be there in part, 2 not"
        )
        assert await states(here, job) == {FileState.FINISHED: 12, FileState.FAILED: 3}


async def test_files_of_a_job_that_ends_otherwise_are_no_longer_assigned(opened: Opened) -> None:
    async with opened as here:
        job, _ = await started(here, await reported(here, 15))
        job = await here.store.apply(job, Event.FAIL, partial=True)
        assert await states(here, job) == {FileState.WAITING: 15}
        parts = [file.number for file in await files(here, job) if file.partial]
        assert parts == list(range(1, 11))
        writers = await here.parts.database.query("SELECT * FROM destination_writers")
        assert list(writers) == []


async def test_a_credential_that_ends_between_two_transfers_is_waited_for(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, credential=2) as here:
        job = await reported(here, 15)
        job, _ = await copied(here, job)
        await here.parts.database.execute(
            "UPDATE jobs SET time_staged = NOW(6) - INTERVAL 1 DAY, "
            "time_transferring = NOW(6) - INTERVAL 1 DAY, copied_as = 'user'"
        )
        await here.transfers.start(await here.now(job))
        job = await here.now(job)
        assert phase(job) is Phase.STAGED
        assert job.waiting_for == "delegation"
        (rest,) = await here.store.rests(10)
        await here.failures.give_up(job, rest)
        job = await here.now(job)
        assert (job.status, job.error_class) == (Status.ERROR, ErrorClass.CREDENTIAL)
        assert (job.detailed_status or "").startswith("10 of 15 files arrived; ")
