"""Turns to hand files to FTS, given for all instances together: deliv/model/turns.py.

Nothing is read but jobs in flight, of which there is a bounded number.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from deliv.db.database import Connection, Row
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import IN_FLIGHT
from deliv.model.turns import FIRST_FILES, Contender, next_turns
from deliv.store import jobs, outbox
from deliv.store.admission import lock
from deliv.store.columns import NOW, Change, placeholders
from deliv.store.conditions import in_phase, of_status
from deliv.store.outbox import Routing

MAY_WAIT = in_phase(Phase.STAGED, Phase.COPYING)
IN_PLAY = f"""
SELECT job_id, submitter, stager_hostname, destination_host, files_at_fts, files_active,
  files_total, files_done, slice, IF({MAY_WAIT}, turn_since, NULL) AS waiting_since
FROM jobs FORCE INDEX (turn)
WHERE {of_status(IN_FLIGHT)} AND (files_at_fts > 0 OR turn_since IS NOT NULL)
  AND (fts_endpoint = %s OR fts_endpoint IS NULL)
"""  # noqa: S608 - constants
OF_PAIR = f"{IN_PLAY} AND stager_hostname = %s AND destination_host = %s"
LATEST_LOOK = 60.0  # seconds: a turn that nobody gave is taken then
DUE = f"UPDATE jobs SET due_at = NOW(6) WHERE {MAY_WAIT} AND job_id IN "  # noqa: S608 - constants


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How many files an FTS may have between two hosts, and in one transfer.

    What another FTS has is not in the way. `waiting_status` is what a job shows that has to wait.
    """

    endpoint: str
    files_per_pair: int
    files_per_transfer: int
    waiting_status: str = ""


def is_next(tx: Connection, job: Job, files: int, turn: Turn) -> bool:
    """Whether the job may hand over so many files now.

    No other turn is given until this transaction ends.
    """
    lock(tx)
    rows = tx.query(OF_PAIR, turn.endpoint, job.stager_hostname, job.destination_host)
    others = [_contender(row, turn) for row in rows if row["job_id"] != job.job_id]
    asking = Contender(
        job_id=job.job_id,
        submitter=job.submitter,
        at_fts=job.files_at_fts,
        active=job.files_active,
        wants=files,
        waiting_since=job.turn_since or tx.now(),
    )
    return job.job_id in next_turns([*others, asking], turn.files_per_pair)


def wait(tx: Connection, job: Job, turn: Turn) -> Job:
    """The job, which waits for its turn: `give` ends that."""
    columns: dict[str, object] = {"turn_since": job.turn_since or NOW}
    if phase(job) is Phase.COPYING:
        return jobs.change(tx, job, Change(columns=columns, delay=None))
    columns["detailed_status"] = turn.waiting_status
    return jobs.change(tx, job, Change(columns=columns, delay=LATEST_LOOK))


def give(tx: Connection, turn: Turn) -> int:
    """Let the jobs whose turn has come be attended to now; how many."""
    pairs: dict[tuple[str, str], list[Contender]] = defaultdict(list)
    for row in tx.query(IN_PLAY, turn.endpoint):
        pair = row["stager_hostname"], row["destination_host"]
        pairs[pair].append(_contender(row, turn))
    chosen = [
        job_id
        for contenders in pairs.values()
        for job_id in next_turns(contenders, turn.files_per_pair)
    ]
    if chosen:
        tx.execute(f"{DUE} ({placeholders(len(chosen))})", *chosen)
        found = jobs.by_id(tx, chosen).values()
        outbox.add(tx, [(job, (Routing.ATTEND,)) for job in found])
    return len(chosen)


def _contender(row: Row, turn: Turn) -> Contender:
    wants = 1
    if row["files_total"] is not None:
        left = row["files_total"] - row["files_done"] - row["files_at_fts"]
        wants = min(FIRST_FILES if row["slice"] == 0 else turn.files_per_transfer, max(left, 1))
    return Contender(
        job_id=row["job_id"],
        submitter=row["submitter"],
        at_fts=row["files_at_fts"],
        active=row["files_active"],
        wants=wants,
        waiting_since=row["waiting_since"],
    )
