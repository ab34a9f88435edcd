"""The line of staged jobs for a place at FTS: who is handed over next, for all instances together.

A job has a place while it is with an FTS or being handed over to one (model.phase.has_place). The
caps on places are those of `limits`. Among the submitters who wait the one with the fewest places,
then the job that has waited longest. How many files each may hand over then: deliv/store/turns.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from deliv.config import Limits
from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.phase import Phase
from deliv.store import jobs
from deliv.store.admission import lock
from deliv.store.columns import SELECT, Change, to_job
from deliv.store.conditions import in_phase
from deliv.store.under_way import Queue, UnderWay

JOIN = "INSERT IGNORE INTO fts_queue (job_id, submitter, destination_host) VALUES (%s, %s, %s)"
LONGEST = """
SELECT submitter, destination_host, MIN(since) AS since FROM fts_queue
GROUP BY submitter, destination_host
"""
HEADS = 10  # that are looked at, where other transactions have the first ones
FIRST = f"""
SELECT job_id, since FROM fts_queue WHERE submitter = %s AND destination_host = %s
ORDER BY since, job_id LIMIT {HEADS}
"""  # noqa: S608 - constants
WAITING = f"""{SELECT} FORCE INDEX (PRIMARY)
WHERE job_id = %s AND {in_phase(Phase.STAGED)} AND (deadline IS NULL OR deadline > %s)
FOR UPDATE SKIP LOCKED
"""
PLACES = """
SELECT (SELECT COALESCE(SUM(at_fts), 0) FROM jobs_under_way) AS given,
  (SELECT COUNT(*) FROM fts_queue) AS waiting
"""


@dataclass(frozen=True, kw_only=True)
class FtsPlaces:
    """How many jobs have a place at FTS, and how many that are staged wait for one."""

    given: int
    waiting: int


def join(tx: Connection, job: Job, delay: float) -> Job:
    """The job, which waits from now on, and is looked at after `delay` seconds at the latest."""
    tx.execute(JOIN, job.job_id, job.submitter, job.destination_host)
    return jobs.change(tx, job, Change(columns={}, delay=delay))


def give_place(tx: Connection, limits: Limits) -> Job | None:
    """The job whose turn it is, which has a place now and is due; None when none may have one."""
    waiting = tx.query(LONGEST)
    if not waiting:
        return None
    lock(tx)
    now = tx.now()
    taken = UnderWay(tx, Queue.FTS)
    for line in sorted(
        waiting, key=lambda line: (taken.of_submitter[line["submitter"]], line["since"])
    ):
        submitter, host = line["submitter"], line["destination_host"]
        if taken.limit(limits, submitter, host) is not None:
            continue
        for first in tx.query(FIRST, submitter, host):
            if row := tx.get(WAITING, first["job_id"], now):
                change = Change(columns={"turn_since": first["since"], "turn_given": True}, delay=0)
                return jobs.change(tx, to_job(row), change)
    return None


def places(tx: Connection) -> FtsPlaces:
    (row,) = tx.query(PLACES)
    return FtsPlaces(given=int(row["given"]), waiting=row["waiting"])
