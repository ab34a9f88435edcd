"""Taking submissions: for each a row in `jobs`, once, whatever happens to the connection.

One is the case of many: statements are for all of them, and each has an outcome of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeAlias

from deliv.db.database import Connection, Duplicate
from deliv.errors import DelivError, InvalidRequest, KeyReused, QuotaExceeded
from deliv.model.job import Job, Submission, idempotency_digest
from deliv.model.states import FINAL, Status
from deliv.store import counts, jobs, outbox, retries
from deliv.store.columns import SELECT, microseconds, placeholders, to_job
from deliv.store.outbox import Routing

# What a submission decides of its row, and of the job that it becomes.
GIVEN = (
    "job_id", "product_id", "destination_path", "destination_host", "submitter", "idempotency_key",
    "deadline", "copied_as", "label", "retry_of",
)  # fmt: skip
COLUMNS = (
    *GIVEN, "status", "idempotency_digest", "request_digest", "submitter_fqans",
    "submitter_limited",
)  # fmt: skip
INSERT = f"INSERT INTO jobs ({', '.join(COLUMNS)}, due_at) VALUES "  # noqa: S608 - constants
ROW = f"({placeholders(len(COLUMNS))}, NOW(6))"
# One statement has one time for all its rows.
INSERTED = "SELECT time_submitted, due_at FROM jobs WHERE job_id = %s"
HOLDING = f"{SELECT} FORCE INDEX (idempotency_digest) WHERE idempotency_digest IN "
ARCHIVED = HOLDING.replace("FROM jobs", "FROM jobs_archive").replace(
    "(idempotency_digest)", "(repeated)"
)
EPOCH = "SELECT NOW(6) - INTERVAL %s MICROSECOND AS epoch"
FREE_KEYS = """
UPDATE jobs SET idempotency_digest = NULL, version = version + 1 WHERE job_id IN """
# At taking keys that others take, or whose jobs are archived, and at repeating jobs that others
# repeat, at the same moment.
ATTEMPTS = 3
# Admissions that one transaction asks for: the sweep sees to the others, and each job that ends.
# Each costs a look at who waits, and of a campaign most can't be admitted yet.
WOKEN = 10

# The job, and whether this submission has made it; or why there is none.
Outcome: TypeAlias = tuple[Job, bool] | DelivError


def submit(
    tx: Connection, wanted: Sequence[Submission], key_life: float, *, again: bool = False
) -> list[Outcome]:
    """An outcome for each of these submissions of one submitter, in their order.

    No two of them repeat the same job. Of one that is repeated already, that repetition is it.
    `again`: the same was tried before, and may have been committed.
    """
    made = jobs.by_id(tx, [one.job_id for one in wanted], lock=True) if again else {}
    outcomes: dict[str, Outcome] = {job_id: (job, True) for job_id, job in made.items()}
    left = [one for one in wanted if one.job_id not in outcomes]
    for attempt in range(1, ATTEMPTS + 1):
        decided, new = _decide(tx, left, key_life)
        try:
            created = _insert(tx, new)
            break
        except Duplicate:
            if attempt == ATTEMPTS:
                raise
    outcomes |= decided | {job_id: (job, True) for job_id, job in created.items()}
    by_key = {job.idempotency_digest: job for job in created.values()}
    for one in left:
        if one.job_id not in outcomes:  # its key came with an earlier one of these
            outcomes[one.job_id] = _same_request(by_key[_key_digest(one)], one)
    wakes = [(Routing.ADMIT, Routing.EVENT)] * WOKEN + [(Routing.EVENT,)] * len(new)
    outbox.add(tx, [(created[one.job_id], wake) for one, wake in zip(new, wakes, strict=False)])
    return [outcomes[one.job_id] for one in wanted]


def _decide(
    tx: Connection, wanted: Sequence[Submission], key_life: float
) -> tuple[dict[str, Outcome], list[Submission]]:
    """The outcomes known before anything is inserted, by job id, and what is to be inserted."""
    digests = {digest for one in wanted if (digest := _key_digest(one)) is not None}
    holders = _holders(tx, digests, key_life)
    repeated = retries.of(tx, [one.retry_of for one in wanted if one.retry_of], lock=True)
    now = tx.now() if any(one.deadline for one in wanted) else datetime.max.replace(tzinfo=UTC)
    unfinished = _unfinished(tx, wanted)
    outcomes: dict[str, Outcome] = {}
    new: list[Submission] = []
    keys_of_new = set[bytes]()
    for asked in wanted:
        over = asked.deadline is not None and asked.deadline <= now
        one = replace(asked, deadline=None) if over and asked.deadline_lapses else asked
        digest = _key_digest(one)
        if digest is not None and digest in holders:
            outcomes[one.job_id] = _same_request(holders[digest], one)
        elif digest is not None and digest in keys_of_new:
            continue
        elif one.retry_of in repeated:
            outcomes[one.job_id] = repeated[one.retry_of], False
        elif one.deadline is not None and over:
            text = f"the deadline {one.deadline.isoformat()} is over already"
            outcomes[one.job_id] = InvalidRequest(text)
        elif one.quota is not None and unfinished + len(new) >= one.quota:
            outcomes[one.job_id] = QuotaExceeded(
                f"{one.submitter} has {one.quota} unfinished transfers, its quota: wait until one "
                "of them ends"
            )
        else:
            new.append(one)
            keys_of_new |= {digest} if digest is not None else set()
    return outcomes, new


def _unfinished(tx: Connection, wanted: Sequence[Submission]) -> int:
    """The submitter's unfinished jobs, where a quota asks for them; locked until the end."""
    submitters = {one.submitter for one in wanted if one.quota is not None}
    return sum(counts.unfinished(tx, submitter) for submitter in submitters)


def _holders(tx: Connection, digests: set[bytes], key_life: float) -> dict[bytes, Job]:
    """The jobs that have these keys. A key whose time is over is free, or made so.

    In this order, since jobs move to the archive: what is there at this moment is found.
    """
    if not digests:
        return {}
    found = _query(tx, HOLDING, digests, " FOR UPDATE")
    archived = _query(tx, ARCHIVED, digests - found.keys(), " ORDER BY job_id")
    forgotten = _forgotten(tx, found | archived, key_life)
    freed = [found[digest].job_id for digest in forgotten if digest in found]
    if freed:
        tx.execute(f"{FREE_KEYS}({placeholders(len(freed))})", *freed)
    return {d: job for d, job in (found | archived).items() if d not in forgotten}


def _query(tx: Connection, sql: str, digests: set[bytes], end: str) -> dict[bytes, Job]:
    """By their keys; of several the last."""
    if not digests:
        return {}
    rows = tx.query(f"{sql}({placeholders(len(digests))}){end}", *sorted(digests))
    return {row["idempotency_digest"]: to_job(row) for row in rows}


def _forgotten(tx: Connection, holders: dict[bytes, Job], key_life: float) -> set[bytes]:
    """The keys that may serve again."""
    ended = {digest: job for digest, job in holders.items() if job.status in FINAL}
    if not ended or key_life == math.inf:
        return set()
    (row,) = tx.query(EPOCH, microseconds(key_life))
    epoch: datetime = row["epoch"]
    return {digest for digest, job in ended.items() if job.time_submitted < epoch}


def _insert(tx: Connection, new: Sequence[Submission]) -> dict[str, Job]:
    """The jobs, by id: as the table has them, without that they are read."""
    if not new:
        return {}
    rows = [
        {name: getattr(one, name) for name in GIVEN}
        | {
            "status": Status.SUBMITTED,
            "idempotency_digest": _key_digest(one),
            "request_digest": _request_digest(one),
            "submitter_fqans": one.fqans,
            "submitter_limited": one.limited,
        }
        for one in new
    ]
    values = [
        "\n".join(row[name]) if name == "submitter_fqans" else row[name]
        for row in rows
        for name in COLUMNS
    ]
    tx.execute(INSERT + ", ".join([ROW] * len(rows)), *values)
    (times,) = tx.query(INSERTED, new[0].job_id)
    return {row["job_id"]: Job(**row, **times) for row in rows}


def _same_request(job: Job, submission: Submission) -> Outcome:
    """The job that has the submission's key."""
    if job.request_digest != _request_digest(submission):
        return KeyReused("this Idempotency-Key came with another request before")
    return job, False


def _key_digest(submission: Submission) -> bytes | None:
    if submission.idempotency_key is None:
        return None
    return idempotency_digest(submission.submitter, submission.idempotency_key)


def _request_digest(submission: Submission) -> bytes:
    request: list[object] = [submission.product_id, submission.destination_path]
    if submission.deadline is not None:
        request.append(submission.deadline.astimezone(UTC).isoformat())
    if submission.label is not None:
        request.append({"label": submission.label})
    return sha256(json.dumps(request).encode()).digest()
