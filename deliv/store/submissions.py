"""Taking a submission: a row in `jobs`, once, whatever happens to the connection."""

from __future__ import annotations

import json
import math
from datetime import UTC
from hashlib import sha256

from deliv.db.database import Connection, Duplicate
from deliv.errors import DelivError, InvalidRequest, KeyReused, QuotaExceeded
from deliv.model.job import Job, Submission, idempotency_digest
from deliv.model.states import FINAL, Status
from deliv.store import archive, counts, jobs, outbox
from deliv.store.columns import microseconds
from deliv.store.outbox import Routing

INSERT = """
INSERT INTO jobs
  (job_id, product_id, status, destination_path, destination_host, submitter, due_at,
   idempotency_key, idempotency_digest, request_digest, deadline, copied_as,
   submitter_fqans, submitter_limited)
VALUES (%s, %s, %s, %s, %s, %s, NOW(6), %s, %s, %s, %s, %s, %s, %s)
"""
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
    key, request = None, _request_digest(submission)
    if submission.idempotency_key is not None:
        key = idempotency_digest(submission.submitter, submission.idempotency_key)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _insert(tx, submission, key, request)
            break
        except Duplicate as error:
            if error.key == "PRIMARY":  # the COMMIT of this submission was unknown
                return jobs.expect(tx, submission.job_id), True
            if attempt == ATTEMPTS:
                raise
        holder = jobs.find(tx, "idempotency_digest = %s FOR UPDATE", key)
        if holder is not None:  # else it has just moved to the archive
            if not _is_forgotten(tx, holder, key_life):
                return _of_same_request(holder, request), False
            tx.execute(FREE_KEY, holder.job_id)
    if key is not None:
        # After the INSERT: a job that is archived at this moment is in one of the tables.
        holder = archive.find(tx, "idempotency_digest = %s ORDER BY job_id DESC", key)
        if holder is not None and not _is_forgotten(tx, holder, key_life):
            raise Archived(_of_same_request(holder, request))
    if submission.deadline is not None and submission.deadline <= tx.now():
        raise InvalidRequest(f"the deadline {submission.deadline.isoformat()} is over already")
    # The INSERT has locked the submitter's row of counts, and QuotaExceeded undoes it.
    quota, submitter = submission.quota, submission.submitter
    if quota is not None and counts.unfinished(tx, submitter) > quota:
        raise QuotaExceeded(
            f"{submitter} has {quota} unfinished transfers, its quota: wait until one of them ends"
        )
    job = jobs.expect(tx, submission.job_id)
    outbox.add(tx, job, (Routing.ADMIT, Routing.EVENT))
    return job, True


def _insert(tx: Connection, submission: Submission, key: bytes | None, request: bytes) -> None:
    tx.execute(
        INSERT,
        submission.job_id,
        submission.product_id,
        Status.SUBMITTED,
        submission.destination_path,
        submission.destination_host,
        submission.submitter,
        submission.idempotency_key,
        key,
        request,
        submission.deadline,
        submission.copied_as,
        "\n".join(submission.fqans),
        submission.limited,
    )


def _is_forgotten(tx: Connection, job: Job, key_life: float) -> bool:
    """Whether a key that this job has may serve again."""
    if job.status not in FINAL or key_life == math.inf:
        return False
    row = tx.get(IS_OLDER, job.time_submitted, microseconds(key_life))
    return bool(row and row["older"])


def _of_same_request(job: Job, request: bytes) -> Job:
    if job.request_digest != request:
        raise KeyReused("this Idempotency-Key came with another request before")
    return job


def _request_digest(submission: Submission) -> bytes:
    request = [submission.product_id, submission.destination_path]
    if submission.deadline is not None:
        request.append(submission.deadline.astimezone(UTC).isoformat())
    return sha256(json.dumps(request).encode()).digest()
