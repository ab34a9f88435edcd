"""Which jobs are submitted once more: the last ones that repeat each other, if they failed."""

from __future__ import annotations

from support.private_mariadb import Server
from support.samples import BOB, LABEL, submitted

from deliv.delivery.retry import Retries, why_not
from deliv.errors import NotFound
from deliv.model.job import Job
from deliv.model.states import Event, Status
from deliv.store import Store
from integration.test_store_archive import DAY, ended, held
from integration.test_store_retries import failed, repeated

UNKNOWN = "0190a5b0-0000-7000-8000-000000000000"


async def latest(store: Store, *job_ids: str) -> list[str | None]:
    """Their ids; None for what is not found."""
    found = await Retries(store).latest(job_ids)
    assert all(isinstance(one, Job | NotFound) for one in found)
    return [one.job_id if isinstance(one, Job) else None for one in found]


async def of_label(store: Store, before: str | None = None, limit: int = 100) -> list[object]:
    alice = (await submitted(store)).submitter
    named, following = await Retries(store).of_label(alice, LABEL, before, limit)
    return [*((name, job.job_id) for name, job in named), following]


async def test_the_last_of_those_that_repeat_each_other_counts(store: Store) -> None:
    first = await failed(store)
    second = await failed(store, retry_of=first.job_id)
    third = await failed(store, retry_of=second.job_id)
    going = await submitted(store)
    ids = [first.job_id, going.job_id, third.job_id, second.job_id]
    assert await latest(store, *ids) == [third.job_id, going.job_id, third.job_id, third.job_id]
    last = await repeated(store, third)
    assert await latest(store, *ids) == [last.job_id, going.job_id, last.job_id, last.job_id]


async def test_an_archived_job_has_its_last_repetition_too(store: Store, migrated: Server) -> None:
    first = await ended(store, migrated, 43, Status.ERROR)
    second = await ended(store, migrated, 42, Status.ERROR, retry_of=first.job_id)
    await store.archive(await held(store), 30 * DAY, 100)
    assert await latest(store, first.job_id) == [second.job_id]
    third = await repeated(store, second)
    assert await latest(store, first.job_id) == [third.job_id]


async def test_ids_are_found_in_any_spelling_and_others_not(store: Store) -> None:
    job = await failed(store)
    asked = (job.job_id.upper(), UNKNOWN, "x", "é", job.job_id.replace("-", ""))
    assert await latest(store, *asked) == [job.job_id, None, None, None, job.job_id]
    assert await latest(store, "x") == [None]


async def test_of_a_label_each_failure_has_its_last_job_once(store: Store) -> None:
    """Whether it goes on, was delivered, or failed again, which is a job of the label itself."""
    alone = await failed(store, label=LABEL)
    again = await failed(store, label=LABEL)
    second = await failed(store, label=LABEL, retry_of=again.job_id)
    under_way = await failed(store, label=LABEL)
    going = await submitted(store, label=LABEL, retry_of=under_way.job_id)
    stopped = await failed(store, label=LABEL)
    cancelled = await submitted(store, label=LABEL, retry_of=stopped.job_id)
    await store.apply(cancelled, Event.CANCEL, delay=None)
    await failed(store, label="other")
    await failed(store, label=LABEL, submitter=BOB)
    await submitted(store, label=LABEL)
    assert await of_label(store) == [
        (stopped.job_id, cancelled.job_id),
        (under_way.job_id, going.job_id),
        (second.job_id, second.job_id),
        (alone.job_id, alone.job_id),
        None,
    ]


async def test_a_labels_jobs_come_page_by_page(store: Store) -> None:
    jobs = [(await failed(store, label=LABEL)).job_id for _ in range(4)]
    assert await of_label(store, limit=2) == [
        (jobs[3], jobs[3]), (jobs[2], jobs[2]), jobs[2],
    ]  # fmt: skip
    await failed(store, label=LABEL)  # what fails meanwhile is for another call
    assert await of_label(store, jobs[2], limit=2) == [
        (jobs[1], jobs[1]), (jobs[0], jobs[0]), None,
    ]  # fmt: skip


async def test_a_page_may_be_of_jobs_that_were_repeated_alone(store: Store) -> None:
    first = await failed(store, label=LABEL)
    other = await failed(store, label=LABEL)
    second = await failed(store, label=LABEL, retry_of=other.job_id)
    assert await of_label(store, second.job_id, limit=1) == [other.job_id]
    assert await of_label(store, other.job_id, limit=1) == [(first.job_id, first.job_id), None]


async def test_why_a_job_is_skipped(store: Store) -> None:
    going = await submitted(store)
    assert why_not(going.job_id, going) == "the job has not ended"
    stopped = await store.apply(going, Event.CANCEL, delay=None)
    assert why_not(stopped.job_id, stopped) == "the job was cancelled"
    assert why_not("x", stopped) == f"job {stopped.job_id}, which repeats it, was cancelled"
