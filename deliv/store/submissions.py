"""Taking a submission: a row in `jobs`, once, whatever happens to the connection."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC

from deliv.db.database import Connection, Duplicate
from deliv.errors import DelivError, InvalidRequest, KeyReused, QuotaExceeded
from deliv.failpoints import Point, reach_in_thread
from deliv.model.job import Job, Submission
from deliv.model.states import FINAL, Status
from deliv.store import archive, counts, jobs, outbox
from deliv.store.columns import microseconds

INSERT = """
INSERT INTO jobs
  (job_id, product_id, status, destination_path, destination_host, submitter, due_at,
   idempotency_key, idempotency_digest, request_digest, deadline, copied_as,
   submitter_fqans, submitter_limited)
VALUES (%s, %s, %s, %s, %s, %s, NOW(6), %s, %s, %s, %s, %s, %s, %s)
"""
IS_PAST = "SELECT %s <= NOW(6) AS past"
IS_OLDER = "SELECT %s < NOW(6) - INTERVAL %s MICROSECOND AS older"
FREE_KEY = """
UPDATE jobs SET idempotency_digest = NULL, version = version + 1 WHERE job_id = %s
"""
ATTEMPTS = 3  # at taking a key whose job is just being archived


class Archived(DelivError):
    """The key's job has ended long ago. Raised, so that the INSERT is undone."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"the job {job.job_id} has this key, and is archived")
        self.job = job


def submit(tx: Connection, submission: Submission, key_life: float) -> tuple[Job, bool]:
    """(job, created). May be repeated: the job's id is in the submission already."""
    known = _insert(tx, submission, key_life)
    if known is not None:
        return known, known.job_id == submission.job_id
    _look_into_archive(tx, submission, key_life)
    _hold_deadline(tx, submission)
    _hold_quota(tx, submission)
    job = jobs.expect(tx, submission.job_id)
    outbox.add(tx, job, ("stage", "event"))
    reach_in_thread(Point.SUBMISSION_SENT)
    return job, True


def _insert(tx: Connection, submission: Submission, key_life: float) -> Job | None:
    """None: a new row is there; else the job that stands in its way, of the same request."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            tx.execute(INSERT, *_values(submission))
            return None
        except Duplicate as error:
            if error.key == "PRIMARY":
                return jobs.expect(tx, submission.job_id)
            if attempt == ATTEMPTS:
                raise
            if known := _key_holder(tx, submission, key_life):
                return _same(known, submission)
    raise AssertionError("the last attempt returns or raises")


def _key_holder(tx: Connection, submission: Submission, key_life: float) -> Job | None:
    """The job that has the key; None when it has moved to the archive or had it for too long."""
    digest = _idempotency_digest(submission)
    job = jobs.find(tx, "idempotency_digest = %s FOR UPDATE", digest)
    if job is None or not _forgotten(tx, job, key_life):
        return job
    tx.execute(FREE_KEY, job.job_id)
    return None


def _look_into_archive(tx: Connection, submission: Submission, key_life: float) -> None:
    """After the INSERT: a job that is archived at this moment is in one of the tables."""
    digest = _idempotency_digest(submission)
    if digest is None:
        return
    job = archive.find(tx, "idempotency_digest = %s ORDER BY job_id DESC", digest)
    if job is not None and not _forgotten(tx, job, key_life):
        raise Archived(_same(job, submission))


def _forgotten(tx: Connection, job: Job, key_life: float) -> bool:
    if job.status not in FINAL or key_life == math.inf:
        return False
    row = tx.get(IS_OLDER, job.time_submitted, microseconds(key_life))
    return bool(row and row["older"])


def _hold_deadline(tx: Connection, submission: Submission) -> None:
    if submission.deadline is None:
        return
    row = tx.get(IS_PAST, submission.deadline)
    if row and row["past"]:
        raise InvalidRequest(f"the deadline {submission.deadline.isoformat()} is over already")


def _hold_quota(tx: Connection, submission: Submission) -> None:
    """QuotaExceeded undoes the INSERT, which has locked the submitter's row of counts."""
    if submission.quota is None:
        return
    if counts.unfinished(tx, submission.submitter) > submission.quota:
        raise QuotaExceeded(
            f"{submission.submitter} has {submission.quota} unfinished transfers, its quota: "
            "wait until one of them ends"
        )


def _values(submission: Submission) -> tuple[object, ...]:
    return (
        submission.job_id,
        submission.product_id,
        Status.SUBMITTED,
        submission.destination_path,
        submission.destination_host,
        submission.submitter,
        submission.idempotency_key,
        _idempotency_digest(submission),
        _request_digest(submission),
        submission.deadline,
        submission.copied_as,
        "\n".join(submission.fqans),
        submission.limited,
    )


def _same(job: Job, submission: Submission) -> Job:
    if job.request_digest != _request_digest(submission):
        raise KeyReused("this Idempotency-Key came with another request before")
    return job


def _idempotency_digest(submission: Submission) -> bytes | None:
    if submission.idempotency_key is None:
        return None
    text = f"{submission.submitter}\0{submission.idempotency_key}"
    return hashlib.sha256(text.encode()).digest()


def _request_digest(submission: Submission) -> bytes:
    request = [submission.product_id, submission.destination_path]
    if submission.deadline is not None:
        request.append(submission.deadline.astimezone(UTC).isoformat())
    return hashlib.sha256(json.dumps(request).encode()).digest()
