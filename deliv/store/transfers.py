"""The transfers of jobs with many files: deliv/store/sql/0014_transfers.sql."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields

from deliv.db.database import Connection
from deliv.model.file import File
from deliv.model.job import Job
from deliv.model.phase import AT_FTS
from deliv.model.states import Status
from deliv.model.transfer import OpenTransfer, Progress, only_transfer
from deliv.store.columns import SELECT, placeholders, to_job
from deliv.store.conditions import in_phase, of_status

NAMES = ", ".join(field.name for field in fields(OpenTransfer))
OPEN = f"SELECT job_id, {NAMES} FROM transfers WHERE open AND job_id IN "  # noqa: S608 - constants
OWNERS = "SELECT job_id FROM transfers FORCE INDEX (fts_jobid) WHERE open AND fts_jobid IN"
ADD = """
INSERT INTO transfers (job_id, attempt, slice, fts_endpoint, fts_jobid, files, bytes)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
CLOSE = """
UPDATE transfers SET open = FALSE, active = 0, ended = files, arrived = %s
WHERE job_id = %s AND attempt = %s AND slice = %s AND open
"""
SEEN = """
UPDATE transfers SET active = %s, ended = %s, arrived = %s
WHERE job_id = %s AND attempt = %s AND slice = %s AND open
"""
# No version: nothing that is decided for a job rests on these counts.
COUNT = f"""
UPDATE jobs JOIN (
  SELECT COALESCE(SUM(files - ended), 0) AS at_fts, COALESCE(SUM(active), 0) AS active,
    COALESCE(SUM(arrived), 0) AS arriving,
    COALESCE(FLOOR(SUM(bytes / files * (files - ended))), 0) AS bytes
  FROM transfers WHERE job_id = %s AND open
) AS seen
SET files_at_fts = seen.at_fts, bytes_at_fts = seen.bytes, files_active = seen.active,
  files_arriving = seen.arriving
WHERE job_id = %s AND {of_status({Status.TRANSFERRING})}
"""  # noqa: S608 - constants
LAST_ENDED = """
SELECT 2 * arrived > files AS well FROM transfers
WHERE job_id = %s AND attempt = %s AND NOT open ORDER BY slice DESC LIMIT 1
"""
WATCHED = f"""{SELECT} FORCE INDEX (polled)
WHERE {in_phase(*AT_FTS)} AND fts_endpoint = %s AND report IS NOT NULL AND fts_jobid IS NOT NULL
ORDER BY job_id
"""


def of(tx: Connection, jobs: Sequence[Job]) -> dict[str, tuple[OpenTransfer, ...]]:
    """The open transfers of each of these jobs, by its id: the oldest first."""
    found = {job.job_id: only_transfer(job) for job in jobs if job.report is None}
    ids = [job.job_id for job in jobs if job.report is not None]
    several: dict[str, list[OpenTransfer]] = defaultdict(list)
    if ids:
        for row in tx.query(f"{OPEN} ({placeholders(len(ids))}) ORDER BY attempt, slice", *ids):
            several[row.pop("job_id")].append(OpenTransfer(**row))
    return found | {job_id: tuple(several[job_id]) for job_id in ids}


def owners(tx: Connection, fts_ids: Sequence[str]) -> set[str]:
    """The ids of the jobs whose open transfers are among these."""
    return {row["job_id"] for row in tx.query(f"{OWNERS} ({placeholders(len(fts_ids))})", *fts_ids)}


def watched(tx: Connection, endpoint: str) -> list[Job]:
    """The jobs with many files of which this FTS has some, or may have."""
    return [to_job(row) for row in tx.query(WATCHED, endpoint)]


def add(tx: Connection, job: Job, files: Sequence[File]) -> None:
    """The transfer that was just assigned."""
    transfer = job.job_id, job.attempt, job.slice, job.fts_endpoint, job.fts_jobid
    tx.execute(ADD, *transfer, len(files), sum(file.size or 0 for file in files))
    count(tx, job.job_id)


def close(tx: Connection, job: Job, transfer: OpenTransfer, arrived: int) -> None:
    """Its files are recorded."""
    tx.execute(CLOSE, arrived, job.job_id, transfer.attempt, transfer.slice)


def see(tx: Connection, job_id: str, seen: Mapping[tuple[int, int], Progress]) -> None:
    """What FTS says of open transfers, by attempt and slice."""
    for transfer, progress in seen.items():
        counts = progress.active, progress.ended, progress.arrived
        tx.execute(SEEN, *counts, job_id, *transfer)
    count(tx, job_id)


def count(tx: Connection, job_id: str) -> None:
    """Bring the job's counts in line with its open transfers."""
    tx.execute(COUNT, job_id, job_id)


def last_went_well(tx: Connection, job: Job) -> bool:
    """Whether most files of the present attempt's last recorded transfer arrived; else False."""
    row = tx.get(LAST_ENDED, job.job_id, job.attempt)
    return row is not None and bool(row["well"])
