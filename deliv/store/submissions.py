"""Taking a submission: a row in `jobs`, once, whatever happens to the connection."""

from __future__ import annotations

import hashlib
import json

from deliv.db import Connection, Duplicate
from deliv.errors import KeyReused, QuotaExceeded
from deliv.faults import Point, reach_in_thread
from deliv.model import Job, Submission
from deliv.states import Status
from deliv.store import jobs, outbox

INSERT = """
INSERT INTO jobs
  (job_id, product_id, status, destination_path, destination_host, submitter, due_at,
   idempotency_key, idempotency_digest, request_digest)
VALUES (%s, %s, %s, %s, %s, %s, NOW(6), %s, %s, %s)
"""
UNFINISHED = """
SELECT COUNT(*) AS jobs FROM jobs FORCE INDEX (turn)
WHERE status IN ('SUBMITTED', 'STAGING', 'TRANSFERRING') AND submitter = %s
"""


def submit(tx: Connection, submission: Submission) -> tuple[Job, bool]:
    """(job, created). May be repeated: the job's id is in the submission already."""
    try:
        tx.execute(INSERT, *_values(submission))
    except Duplicate as error:
        if error.key == "PRIMARY":
            return jobs.expect(tx, submission.job_id), True
        return _same(tx, submission), False
    _hold_quota(tx, submission)
    job = jobs.expect(tx, submission.job_id)
    outbox.add(tx, job, ("stage", "event"))
    reach_in_thread(Point.SUBMISSION_SENT)
    return job, True


def _hold_quota(tx: Connection, submission: Submission) -> None:
    """QuotaExceeded undoes the INSERT. Submissions of the same moment do not see each other."""
    if submission.quota is None:
        return
    row = tx.get(UNFINISHED, submission.submitter)
    if row and row["jobs"] > submission.quota:
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
    )


def _same(tx: Connection, submission: Submission) -> Job:
    job = jobs.find(tx, "idempotency_digest = %s", _idempotency_digest(submission))
    if job is None or job.request_digest != _request_digest(submission):
        raise KeyReused("this Idempotency-Key came with another request before")
    return job


def _idempotency_digest(submission: Submission) -> bytes | None:
    if submission.idempotency_key is None:
        return None
    text = f"{submission.submitter}\0{submission.idempotency_key}"
    return hashlib.sha256(text.encode()).digest()


def _request_digest(submission: Submission) -> bytes:
    request = [submission.product_id, submission.destination_path]
    return hashlib.sha256(json.dumps(request).encode()).digest()
