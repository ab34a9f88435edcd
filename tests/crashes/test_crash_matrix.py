"""Every failpoint, every kind of fault: the job ends as if nothing had been."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import synthetic
from deliv_testbed.trees import tree_of
from support.running_stack import Stack, Target, until

from crashes.conftest import IMPATIENT, KINDS, PATIENT, be_patient
from deliv.failpoints import Point
from deliv.http.handlers.submission import BATCH
from deliv.model.phase import Phase
from deliv.model.states import FINAL
from deliv.store.conditions import in_phase

SIZES = itertools.count(10_000)
# Kills at every push, the others in turns.
IN_TURNS = [
    pytest.param(kind, marks=() if kind == "kill" else pytest.mark.rotating) for kind in KINDS
]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is asked of deliv so that it comes to a point, and how that ends without a fault."""

    fault: str = ""  # of the dummy stager
    files: int = 1
    cancel_when: str = ""
    destination: str = "writable"
    frozen_copy: bool = False
    status: str = "SUCCESS"
    error_class: str | None = None
    attempts: int | None = 1  # None: as many as there is time for


DELIVERY = Story()
SILENT = Story(fault="silent-", status="ERROR", error_class="timeout", attempts=2)
FAILING = Story(fault="fail-", status="ERROR", error_class="stager")
WITHDRAWN = Story(fault="silent-", cancel_when="STAGING", status="CANCELLED")
INTERRUPTED = Story(cancel_when="TRANSFERRING", frozen_copy=True, status="CANCELLED")
FORBIDDEN = Story(destination="forbidden", status="ERROR", error_class="no permission")
RESTING = Story(destination="dead", status="ERROR", error_class="unreachable", attempts=None)
TREE = Story(files=15)  # three transfers

STORIES = {
    Point.STAGING_TIMED_OUT: SILENT,
    Point.RETRY_STORED: SILENT,
    Point.REST_STORED: RESTING,
    Point.REQUEUE_STORED: RESTING,
    Point.FAILURE_SEEN: FAILING,
    Point.FAILURE_STORED: FAILING,
    Point.CANCELLATION_STORED: WITHDRAWN,
    Point.CANCEL_STORED: INTERRUPTED,
    Point.CANCEL_SENT: INTERRUPTED,
    Point.TRANSFER_WITHDRAWN: FORBIDDEN,
    Point.FILES_STORED: TREE,
    Point.FILES_TAKEN: TREE,
    Point.FILES_RECORDED: TREE,
}


class Deliv:
    """Starts deliv again whenever it is found dead, as systemd would."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.restarts = 0

    def dead(self) -> bool:
        pid = self._stack.testbed["pids"].get("deliv@1")  # of a dead part the testbed has none
        return pid is None or not Path(f"/proc/{pid}").exists()

    def revive(self) -> None:
        if self.dead():
            self._stack.control("start", "deliv@1")
            self.restarts += 1


# Only a job that FTS loses comes there: see below.
ORDINARY = [point for point in Point if point is not Point.DESTINATION_READ]


@pytest.mark.parametrize("kind", IN_TURNS)
@pytest.mark.parametrize("point", ORDINARY, ids=str)
def test_nothing_is_lost_and_nothing_done_twice(stack: Stack, point: Point, kind: str) -> None:
    comes_to_rest(stack, STORIES.get(point, DELIVERY), point, kind)


# Where a job of several files goes another way than one of a single file.
OF_FILES = (
    Point.REPORT_TAKEN,
    Point.REPORT_STORED,
    Point.COPY_TAKEN,
    Point.TRANSFER_ASSIGNED,
    Point.TRANSFER_POSTED,
    Point.POST_STORED,
    Point.OUTCOME_SEEN,
    Point.OUTCOME_STORED,
)


@pytest.mark.parametrize("kind", IN_TURNS)
@pytest.mark.parametrize("point", OF_FILES, ids=lambda point: f"tree-{point}")
def test_no_file_of_many_is_lost_or_copied_twice(stack: Stack, point: Point, kind: str) -> None:
    comes_to_rest(stack, TREE, point, kind)


# In each transfer of a job.
OF_TRANSFERS = (
    Point.TRANSFER_ASSIGNED,
    Point.TRANSFER_POSTED,
    Point.POST_STORED,
    Point.OUTCOME_SEEN,
    Point.FILES_RECORDED,
)


def test_a_kill_in_each_of_a_jobs_transfers(stack: Stack) -> None:
    """Ten of them; whatever is done again, each file is copied once."""
    story, target, deliv, size = Story(files=60), stack.target(), Deliv(stack), next(SIZES)
    be_patient(stack, PATIENT)
    faults, points = stack.directory / "faults", OF_TRANSFERS * 2
    arm(faults / points[0], "kill")
    with stack.client() as client:
        job_id = client.submit(f"tree-60-{size}", target.url)
    for point, following in itertools.zip_longest(points, points[1:]):
        until(deliv.dead, f"deliv is killed at {point}")
        assert not (faults / point).exists()
        if following:
            arm(faults / following, "kill")
        deliv.revive()
    with stack.client() as client:
        ended = client.wait(job_id, timeout=400)
    assert (ended["status"], ended["attempt"], deliv.restarts) == ("SUCCESS", 1, 10), ended
    assert_exactly_once(stack, story, target, size)
    assert_history(stack, job_id)


def comes_to_rest(stack: Stack, story: Story, point: Point, kind: str) -> None:
    """The job ends as the story has it, though the fault comes at that point."""
    target, deliv = stack.target(), Deliv(stack)
    be_patient(stack, IMPATIENT if story is SILENT else PATIENT)
    armed = stack.directory / "faults" / point
    arm(armed, KINDS[kind])
    size = next(SIZES)
    with ThreadPoolExecutor(1) as caller:
        kind_of_product = "synthetic" if story.files == 1 else f"tree-{story.files}"
        product = f"{story.fault}{kind_of_product}-{size}"
        submitted = caller.submit(call, stack, story, product, target)
        ended = until(lambda: at_rest(stack, deliv, submitted), "the job is at rest")
    until(lambda: survived(deliv, armed, kind), f"{point} was reached")

    assert (ended["status"], ended["error_class"]) == (story.status, story.error_class), ended
    assert ended["attempt"] == story.attempts or story.attempts is None, ended
    assert deliv.restarts == (kind == "kill")
    assert_exactly_once(stack, story, target, size)
    assert not stack.staged_copy(ended["job_id"]).exists()
    assert_history(stack, ended["job_id"])


# Of a job that FTS loses: from its hand-over until the file that the next attempt finds was read.
LOSING = (
    Point.TRANSFER_ASSIGNED,
    Point.TRANSFER_POSTED,
    Point.POST_STORED,
    Point.FAILURE_SEEN,
    Point.RETRY_STORED,
    Point.DESTINATION_READ,
)


@pytest.mark.parametrize("kind", IN_TURNS)
@pytest.mark.parametrize("point", LOSING, ids=lambda point: f"users-file-{point}")
def test_a_users_own_file_is_never_overwritten(stack: Stack, point: Point, kind: str) -> None:
    """FTS loses the job, and the user puts a file of that name there meanwhile."""
    size = next(SIZES)
    ended, file = found_by_the_next_attempt(stack, point, kind, size, b"mine")
    assert (ended["status"], ended["error_class"], ended["attempt"]) == ("ERROR", "exists", 2)
    assert file.read_bytes() == b"mine"
    assert f"it has 4 bytes, not {size}" in ended["detailed_status"]
    assert "or a file of yours" in ended["detailed_status"]
    assert_history(stack, ended["job_id"])


@pytest.mark.parametrize("kind", IN_TURNS)
@pytest.mark.parametrize(
    "point", [Point.DESTINATION_READ, Point.OUTCOME_STORED], ids=lambda point: f"arrived-{point}"
)
def test_a_lost_copy_that_has_arrived_is_delivered(stack: Stack, point: Point, kind: str) -> None:
    size = next(SIZES)
    product = b"".join(synthetic.chunks(size))
    ended, file = found_by_the_next_attempt(stack, point, kind, size, product)
    assert (ended["status"], ended["error_class"], ended["attempt"]) == ("SUCCESS", None, 2)
    assert "was there already: same size and checksum" in ended["detailed_status"]
    assert file.read_bytes() == product
    assert_history(stack, ended["job_id"])


def found_by_the_next_attempt(
    stack: Stack, point: Point, kind: str, size: int, content: bytes
) -> tuple[dict[str, Any], Path]:
    """The job at rest that FTS has lost, and the file which was put there meanwhile."""
    target, deliv = stack.target(), Deliv(stack)
    be_patient(stack, PATIENT)
    armed = stack.directory / "faults" / point
    arm(armed, KINDS[kind])
    stack.control("freeze", "gridftp-destination")
    with ThreadPoolExecutor(1) as caller:
        submitted = caller.submit(call, stack, DELIVERY, f"synthetic-{size}", target)
        job_id = until(lambda: handed_over(stack, deliv, submitted), "FTS has the job")
        stack.control("kill", "fts")
        stack.forget_at_fts(job_id)
        file = target.put(f"synthetic-{size}", content)
        stack.control("thaw", "gridftp-destination")
        stack.control("start", "fts")
        ended = until(lambda: at_rest(stack, deliv, submitted), "the job is at rest")
    until(lambda: survived(deliv, armed, kind), f"{point} was reached")
    return ended, file


def handed_over(stack: Stack, deliv: Deliv, submitted: Future[str]) -> str | None:
    deliv.revive()
    if not submitted.done():
        return None
    job = row(stack, submitted.result())
    return str(job["job_id"]) if job["fts_posted"] else None


MANY = 600  # items: three batches
SUBMITTING = (Point.SUBMISSION_TAKEN, Point.SUBMISSION_SENT, Point.SUBMISSION_STORED)
OF_LABEL = "SELECT job_id, status, due_at FROM jobs WHERE label = %s ORDER BY job_id"
OUTBOX = "SELECT COUNT(*) FROM outbox JOIN jobs USING (job_id) WHERE label = %s"


@pytest.mark.parametrize("kind", IN_TURNS)
@pytest.mark.parametrize(
    "point", SUBMITTING, ids=lambda point: f"submit-many-{point.removeprefix('submission-')}"
)
def test_a_campaign_is_taken_whole_and_once(stack: Stack, point: Point, kind: str) -> None:
    """The fault comes with the second batch; the caller repeats the call, as a script does."""
    deliv, label = Deliv(stack), f"crash-{next(SIZES)}"
    be_patient(stack, PATIENT)
    url = stack.target().url
    items = [
        {"product_id": f"silent-synthetic-{n}", "destination_path": url, "label": label}
        for n in range(MANY)
    ]
    faults = stack.directory / "faults"
    with stack.client() as client, ThreadPoolExecutor(1) as caller:
        with first_batch_held(faults):
            many = caller.submit(client.submit_many, items)
            until(lambda: not (faults / Point.SUBMISSION_STORED).exists(), "it stands still")
            assert len(stack.query(OF_LABEL, label)) == BATCH
            arm(faults / point, KINDS[kind])
        until(lambda: deliv.revive() or many.done(), "the call is answered")
        until(lambda: survived(deliv, faults / point, kind), f"{point} was reached")
        jobs = [outcome["job_id"] for outcome in many.result()]
        assert len(set(jobs)) == MANY
        assert {job_id for job_id, _, _ in stack.query(OF_LABEL, label)} == set(jobs)
        assert sum(client.totals(label).values()) == MANY
        assert deliv.restarts == (kind == "kill")
        assert all("status" in outcome for outcome in client.cancel_label(label))
    until(lambda: all_at_rest(stack, label), "all are cancelled")


@contextmanager
def first_batch_held(faults: Path) -> Iterator[None]:
    """The call stands still behind its first batch."""
    spent = f"{Point.SUBMISSION_STORED}.*.spent"
    for old in faults.glob(spent):
        old.unlink()
    arm(faults / Point.SUBMISSION_STORED, "hold")
    yield
    (held,) = until(lambda: [*faults.glob(spent)], "the call stands still")
    held.unlink()


def all_at_rest(stack: Stack, label: str) -> bool:
    rows = stack.query(OF_LABEL, label)
    assert len(rows) == MANY
    ended = all(status == "CANCELLED" and due_at is None for _, status, due_at in rows)
    return ended and stack.query(OUTBOX, label) == [(0,)]


def arm(file: Path, fault: str) -> None:
    """At once: a point must never be found with half of its fault."""
    scratch = file.with_name(f"{file.name}.new")
    scratch.write_text(fault, encoding="ascii")
    scratch.rename(file)


def survived(deliv: Deliv, armed: Path, kind: str) -> bool:
    deliv.revive()
    return not armed.exists() and (kind != "kill" or deliv.restarts > 0)


def test_the_data_is_whole_after_all_this(stack: Stack) -> None:
    """`deliv check` of what all the faults left, here and at the stager and FTS."""
    done = subprocess.run(
        [sys.executable, "-m", "deliv.cli", "check", "--config", stack.testbed["config"]],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def call(stack: Stack, story: Story, product: str, target: Target) -> str:
    """The caller's part, patient as a script is: submit, and withdraw where the story has it."""
    url = target.url
    if story.destination == "forbidden":
        url = f"{url.partition('/')[0]}//{url.split('/')[2]}/etc/deliv-crashes"
    if story.destination == "dead":
        url = "gsiftp://127.0.0.1:1/deliv-crashes"
    if story.frozen_copy:
        stack.control("freeze", "gridftp-destination")
    with stack.client() as client:
        job_id = client.submit(product, url)
        if story.cancel_when:
            cancel(stack, job_id, story)
    return job_id


def cancel(stack: Stack, job_id: str, story: Story) -> None:
    column = {"STAGING": "stager_accepted", "TRANSFERRING": "fts_posted"}[story.cancel_when]
    until(lambda: row(stack, job_id)[column] is not None, f"the job is {story.cancel_when}")
    until(lambda: cancelled(stack, job_id), "deliv takes the cancellation")
    if story.frozen_copy:
        stack.control("thaw", "gridftp-destination")


def cancelled(stack: Stack, job_id: str) -> bool:
    with stack.client() as client:
        client.status(job_id)  # waits until deliv is back
    try:
        answer = stack.curl("/cancelTransfer", "--data", f"job_id={job_id}")
    except subprocess.CalledProcessError:  # cut off
        return False
    return answer.status in {200, 202, 409}


def at_rest(stack: Stack, deliv: Deliv, submitted: Future[str]) -> dict[str, Any] | None:
    """The job's row once nothing is left to do for it, anywhere."""
    deliv.revive()
    if not submitted.done():
        return None
    job = row(stack, submitted.result())
    ((waiting,),) = stack.query("SELECT COUNT(*) FROM outbox WHERE job_id = %s", job["job_id"])
    return job if job["closed"] and job["due_at"] is None and not waiting else None


COLUMNS = (
    "job_id", "status", "error_class", "attempt", "due_at", "stager_accepted", "fts_posted",
    "detailed_status",
)  # fmt: skip


def row(stack: Stack, job_id: str) -> dict[str, Any]:
    """Its columns, and whether it is closed."""
    wanted = f"{', '.join(COLUMNS)}, {in_phase(Phase.CLOSED)}"
    sql = f"SELECT {wanted} FROM jobs WHERE job_id = %s"  # noqa: S608 - constants
    (values,) = stack.query(sql, job_id)
    return dict(zip((*COLUMNS, "closed"), values, strict=True))


def assert_exactly_once(stack: Stack, story: Story, target: Target, size: int) -> None:
    if story.files > 1:
        product = tree_of(f"tree-{story.files}-{size}")
        assert product is not None
        for number, name in enumerate(product.names, 1):
            file = target.directory / f"tree-{story.files}-{size}" / name
            assert file.read_bytes() == b"".join(product.chunks(number))
            assert until(lambda file=file: stack.times_written(file), "the server logs it") == 1
    elif story.status == "SUCCESS":
        assert target.holds_synthetic(size)
        file = target.directory / f"synthetic-{size}"
        assert until(lambda: stack.times_written(file), "the server logs the copy") == 1
    elif story is not INTERRUPTED:  # there, a part of the file may be left, and the job says so
        assert not target.directory.exists()


def assert_history(stack: Stack, job_id: str) -> None:
    """Each state once and in order: a step taken twice would stand here twice."""
    rows = stack.query("SELECT status, attempt FROM job_events WHERE job_id = %s", job_id)
    assert rows[0][0] == "SUBMITTED"
    assert rows[-1][0] in FINAL
    assert sum(status in FINAL for status, _ in rows) == 1
    attempts = [attempt for _, attempt in rows]
    assert attempts == sorted(attempts)
