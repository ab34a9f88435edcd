"""After the trouble: is every accepted job where it should be, once, with nothing left behind?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deliv_testbed import synthetic
from deliv_testbed.trees import tree_of
from support.deliveries_of_trees import files_below, whole_files
from support.running_stack import Stack

from soak.site import Accepted

FINAL = ("SUCCESS", "ERROR", "CANCELLED")
CHECK_DEADLINE = 120


def unfinished(stack: Stack) -> int:
    """Jobs that are not final, or final and not yet closed; what was not yet sent to RabbitMQ.

    RabbitMQ may be away for longer than the jobs need: deliv looks for it every half a minute.
    """
    ((jobs,),) = stack.query(
        "SELECT COUNT(*) FROM jobs WHERE status NOT IN %s OR due_at IS NOT NULL", FINAL
    )
    return int(jobs) + _untold(stack)


def complaints(stack: Stack, accepted: list[Accepted]) -> Iterator[str]:
    """Everything that is not as it should be, in words."""
    yield from _ends(stack, accepted)
    yield from (text for job in accepted for text in _content(job))
    yield from _left_behind(stack)
    yield from _repeated(stack)
    yield from _inconsistent(stack)
    yield from _unexpected(stack)


def _ends(stack: Stack, accepted: list[Accepted]) -> Iterator[str]:
    sql = "SELECT job_id, status, error_class, attempt, detailed_status FROM jobs"
    ends = {job_id: end for job_id, *end in stack.query(sql)}
    for job in accepted:
        lost = ("LOST", None, 0, "there is no such row")
        status, error_class, attempt, detail = ends.get(job.job_id, lost)
        if status != job.status or job.error_class not in {None, error_class}:
            yield f"{job.job_id}: {status} after {attempt} attempts, not {job.status}: {detail}"
    strangers = ends.keys() - {job.job_id for job in accepted}
    if strangers:
        yield f"{len(strangers)} jobs that no answer named: {sorted(strangers)[:3]}"


def _content(job: Accepted) -> Iterator[str]:
    if job.content is not None:
        if job.file.read_bytes() != job.content:
            yield f"{job.job_id}: {job.file.name}, which was there before, was overwritten"
        return
    if job.status != "SUCCESS":
        if job.file.exists():
            yield f"{job.job_id}: {job.file.name} was delivered, though the job failed"
        return
    if expected := tree_of(job.product):
        if files_below(job.file) != set(expected.names):
            yield f"{job.job_id}: {job.file.name} has other files than were staged"
        elif whole_files(job.file, expected) != set(expected.names):
            yield f"{job.job_id}: files of {job.file.name} have other content"
        return
    try:
        content = job.file.read_bytes()
    except OSError as error:
        yield f"{job.job_id}: {job.file.name} was not delivered: {error.strerror}"
        return
    if content != b"".join(synthetic.chunks(job.size)):
        yield f"{job.job_id}: {job.file.name} has other content"


def _left_behind(stack: Stack) -> Iterator[str]:
    staging = Path(stack.testbed["gridftp"]["archive"]["root"]) / "staging"
    if copies := [path.name for path in staging.iterdir()]:
        yield f"{len(copies)} staged copies are left: {copies[:3]}"
    if messages := _untold(stack):
        yield f"{messages} messages are left in the outbox"


def _untold(stack: Stack) -> int:
    ((messages,),) = stack.query("SELECT COUNT(*) FROM outbox")
    return int(messages)


def _repeated(stack: Stack) -> Iterator[str]:
    """FTS's own record: each transfer of a job once, and each of its files copied once."""
    for url, times in stack.copies_by_fts().items():
        if times > 1:
            yield f"FTS has copied to {url} {times} times"
    for (job_id, attempt), times in stack.attempts_at_fts().items():
        if times > 1:
            yield f"FTS has attempt {attempt} of {job_id} {times} times"


def _inconsistent(stack: Stack) -> Iterator[str]:
    """What `deliv check` finds."""
    done = subprocess.run(
        [sys.executable, "-m", "deliv.cli", "check", "--config", stack.testbed["config"]],
        capture_output=True, text=True, timeout=CHECK_DEADLINE, check=False,
    )  # fmt: skip
    if done.returncode:
        yield f"deliv check: {done.stdout}{done.stderr}"


def _unexpected(stack: Stack) -> Iterator[str]:
    """Errors that deliv itself did not foresee."""
    for log in sorted((stack.directory / "log").glob("deliv@*.log")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if '"exception"' in line or line.startswith("Traceback"):
                yield f"{log.name}: {line[:2000]}"
