"""What must hold for every job by itself. Pure.

Each rule is a generator of sentences without a subject; RULES names them, with what repairs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from deliv.commands.check import history
from deliv.commands.check.findings import Finding, Fix
from deliv.delivery.destination import (
    destination_file,
    destination_key,
    may_keep_destination,
    writes_destination,
)
from deliv.errors import InvalidRequest
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, idempotency_digest
from deliv.model.phase import AT_FTS, AT_STAGER, Phase, needs_attention, phase
from deliv.model.states import END_TIMES, FINAL, Status
from deliv.store.inspection import Record, StepBack

TIMES = ("time_submitted", "time_staging", "time_staged", "time_transferring")
WORKED = frozenset(TIMES[1:])
NEEDED = {
    Status.SUBMITTED: frozenset[str](),
    Status.STAGING: frozenset({"time_staging"}),
    Status.TRANSFERRING: WORKED,
    Status.SUCCESS: WORKED | {"time_success"},
    Status.ERROR: frozenset({"time_error"}),
    Status.CANCELLED: frozenset({"time_cancelled"}),
}
NOT_YET = {
    Status.SUBMITTED: WORKED,
    Status.STAGING: frozenset({"time_transferring"}),
}
BEFORE_FTS = frozenset({Phase.QUEUED, Phase.STAGED}) | AT_STAGER
CLASSES = frozenset(str(error_class) for error_class in ErrorClass)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a page was read, and what the configuration says then.

    `patience`: how late attention may come before it is a finding. `endpoints`: FTS's names.
    `steps_back`: of the database's clock.
    """

    now: datetime
    patience: timedelta
    endpoints: frozenset[str]
    steps_back: tuple[StepBack, ...] = ()


Rule = Callable[[Job, Moment], Iterator[str]]


def examine(record: Record, moment: Moment, *, archived: bool = False) -> Iterator[Finding]:
    """All that is wrong with a job."""
    for text in history.problems(record, moment.steps_back):
        yield _finding(record.job, "history", text, None)
    for name, (rule, fix) in RULES.items():
        for text in rule(record.job, moment):
            yield _finding(record.job, name, text, None if archived else fix)
    if archived and phase(record.job) is not Phase.CLOSED:
        yield _finding(record.job, "archive", "is archived, but has not ended for good", None)


def times(job: Job, moment: Moment) -> Iterator[str]:
    others = {name for status, name in END_TIMES.items() if status is not job.status}
    for name in sorted(NEEDED[job.status]):
        if getattr(job, name) is None:
            yield f"is {job.status}, but {name} is not set"
    for name in sorted(others | NOT_YET.get(job.status, frozenset())):
        if getattr(job, name) is not None:
            yield f"is {job.status}, but {name} is set"
    order = [(name, getattr(job, name)) for name in (*TIMES, *END_TIMES.values())]
    for (before, first), (after, second) in pairwise(step for step in order if step[1]):
        if history.out_of_order(first, second, moment.steps_back):
            yield f"has a {after} before its {before}"


def due(job: Job, _: Moment) -> Iterator[str]:
    if job.due_at is None and needs_attention(job):
        yield f"is {job.status} and has no due time, so that no worker will attend to it"


def stuck(job: Job, moment: Moment) -> Iterator[str]:
    limit = moment.now - moment.patience
    if job.status is not Status.SUBMITTED and job.due_at is not None and job.due_at < limit:
        yield f"was due {_ago(moment, job.due_at)}, and no worker has attended to it"
    if job.status not in FINAL and job.deadline is not None and job.deadline < limit:
        yield f"had to end by its deadline, {_ago(moment, job.deadline)}, and has not"


def outcome(job: Job, _: Moment) -> Iterator[str]:
    if job.status is Status.ERROR and job.error_class not in CLASSES:
        yield f"is ERROR with the class {job.error_class!r}, which there is not"
    if job.status is not Status.ERROR and job.error_class is not None:
        yield f"is {job.status}, but has the error class {job.error_class!r}"


def transfer(job: Job, _: Moment) -> Iterator[str]:
    if job.fts_jobid is not None and job.fts_endpoint is None:
        yield "has a transfer's id without an FTS endpoint"
    if job.fts_jobid is not None and phase(job) in BEFORE_FTS:
        yield f"is {job.status}, but has the transfer {job.fts_jobid}"
    if job.fts_jobid is None:
        if job.fts_posted is not None:
            yield "was handed to FTS, but has no transfer's id"
        if job.status is Status.SUCCESS and job.report is None:
            yield "was delivered, but by no transfer"
    if job.status is Status.TRANSFERRING and not (job.stager_hostname and job.stager_path):
        yield "is TRANSFERRING, but it is not known where its staged copy is"


def files(job: Job, _: Moment) -> Iterator[str]:
    counts = job.files_total, job.files_done
    if job.report is not None and None in (*counts, job.files_directory):
        yield "has files, but it is not known how many, or where they go"
    if job.report is not None and job.status is Status.SUCCESS and counts[0] != counts[1]:
        yield f"was delivered, but for {counts[1]} of its {counts[0]} files"


def endpoint(job: Job, moment: Moment) -> Iterator[str]:
    at = phase(job)
    to_ask = at in AT_FTS
    to_withdraw = at is Phase.CLEANING_UP and job.status is not Status.SUCCESS
    if job.fts_endpoint not in {None, *moment.endpoints} and (to_ask or to_withdraw):
        yield (
            f"is with FTS {job.fts_endpoint}, which fts.endpoints does not name: it can't be asked "
            "for it, put that endpoint back until its transfers have ended"
        )


def destination(job: Job, _: Moment) -> Iterator[str]:
    if job.destination_key is not None and not may_keep_destination(job):
        yield f"is {job.status}, but keeps its destination from other jobs"


def writer(job: Job, _: Moment) -> Iterator[str]:
    if not writes_destination(job):
        return
    try:
        url = destination_file(job)
    except InvalidRequest as error:
        yield f"has a destination that can't be: {error}"
        return
    if job.destination_key != destination_key(job):
        yield f"does not keep other jobs from writing {url} meanwhile"


def code(job: Job, _: Moment) -> Iterator[str]:
    if job.stager_callback is not None and phase(job) not in AT_STAGER:
        yield f"is {job.status} and expects no report, but a one-time code would be taken"


def report(job: Job, _: Moment) -> Iterator[str]:
    alone = job.staging_id is None  # else the staging has the code
    if alone and phase(job) is Phase.WAITING_FOR_STAGER and job.stager_callback is None:
        yield "waits for the stager's report, but no one-time code would be taken"


def key(job: Job, _: Moment) -> Iterator[str]:
    if job.idempotency_digest is None:
        return
    if job.idempotency_digest != idempotency_digest(job.submitter, job.idempotency_key or ""):
        yield "has an idempotency digest that is not its key's"


RULES: dict[str, tuple[Rule, Fix | None]] = {
    "times": (times, None),
    "due": (due, Fix.DUE),
    "stuck": (stuck, None),
    "outcome": (outcome, None),
    "transfer": (transfer, None),
    "files": (files, None),
    "endpoint": (endpoint, None),
    "destination": (destination, Fix.DESTINATION),
    "writer": (writer, None),
    "code": (code, Fix.CODE),
    "report": (report, Fix.ASK),
    "key": (key, None),
}


def _finding(job: Job, rule: str, text: str, fix: Fix | None) -> Finding:
    return Finding(rule=rule, text=text, job_id=job.job_id, version=job.version, fix=fix)


def _ago(moment: Moment, time: datetime) -> str:
    return f"{(moment.now - time).total_seconds() / 60:.0f} minutes ago"
