"""Turns to hand files to FTS, given for all instances together: deliv/model/turns.py.

Nothing is read but jobs that have a place at FTS, of which there is a bounded number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import IN_FLIGHT
from deliv.model.turns import FIRST_FILES, Contender, next_turns
from deliv.store import jobs, outbox
from deliv.store.admission import lock
from deliv.store.columns import NOW, Change, placeholders
from deliv.store.conditions import in_phase, of_status
from deliv.store.outbox import Routing

Pair = tuple[str | None, str]

MAY_WAIT = Phase.STAGED, Phase.COPYING
OF_FTS = f"{of_status(IN_FLIGHT)} AND (fts_endpoint = %s OR (fts_endpoint IS NULL AND %s))"
OF_PAIR = " AND stager_hostname = %s AND destination_host = %s"
# Rows are costly to read: of those that FTS has, one for each submitter; of those that wait, the
# first of each.
AT_FTS = """
SELECT stager_hostname, destination_host, submitter, SUM(files_at_fts) AS files_at_fts,
  SUM(bytes_at_fts) AS bytes_at_fts, SUM(files_active) AS files_active
FROM jobs FORCE INDEX (polled)
WHERE status = 'TRANSFERRING' AND fts_endpoint = %s AND files_at_fts > 0{pair} GROUP BY 1, 2, 3
"""
FIRST_OF_EACH = 20
WAITING = f"""
SELECT * FROM (
  SELECT stager_hostname, destination_host, submitter, job_id, turn_since, files_total, files_done,
    files_at_fts, slice, product_size, bytes_total, bytes_done, bytes_at_fts,
    ROW_NUMBER() OVER (
    PARTITION BY stager_hostname, destination_host, submitter ORDER BY turn_since, job_id
  ) AS place
  FROM jobs FORCE INDEX (waiting_turn)
  WHERE {OF_FTS} AND {in_phase(*MAY_WAIT)} AND turn_since IS NOT NULL{{pair}}
) AS waiting WHERE place <= {FIRST_OF_EACH}
"""  # noqa: S608 - constants
LATEST_LOOK = 60.0  # seconds: a turn that was not given is taken then
GIVE = "UPDATE jobs SET due_at = NOW(6), turn_given = TRUE WHERE job_id IN"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What an FTS may have between two hosts, and how many files in one transfer.

    What another FTS has is not in the way. `takes_new`: jobs that no FTS has go to this one now.
    `waiting_status` is what a job shows that has to wait.
    """

    endpoint: str
    files_per_pair: int
    bytes_per_pair: int
    files_per_transfer: int
    takes_new: bool
    waiting_status: str = ""


def is_next(tx: Connection, job: Job, files: int, turn: Turn) -> bool:
    """Whether the job may hand over so many files now.

    No other turn is given until this transaction ends.
    """
    lock(tx)
    asking = Contender(
        job_id=job.job_id,
        submitter=job.submitter,
        wants=files,
        waiting_since=job.turn_since or tx.now(),
    )
    others = _contenders(tx, turn, job.stager_hostname, job.destination_host)
    contenders = [one for several in others.values() for one in several if one.job_id != job.job_id]
    return job.job_id in _next([*contenders, asking], turn)


def wait(tx: Connection, job: Job, turn: Turn) -> Job:
    """The job, which waits for its turn: `give` ends that."""
    columns: dict[str, object] = {"turn_since": job.turn_since or NOW, "turn_given": False}
    if phase(job) is Phase.COPYING:
        return jobs.change(tx, job, Change(columns=columns, delay=None))
    columns["detailed_status"] = turn.waiting_status
    return jobs.change(tx, job, Change(columns=columns, delay=LATEST_LOOK))


def give(tx: Connection, turn: Turn) -> int:
    """Let the jobs whose turn has come be attended to now; how many.

    Who attends to one that was given its turn before is not interrupted.
    """
    chosen = [
        job_id
        for contenders in _contenders(tx, turn).values()
        for job_id in _next(contenders, turn)
    ]
    given = [
        job
        for job in jobs.by_id(tx, chosen, lock=True).values()
        if phase(job) in MAY_WAIT and job.turn_since is not None and not job.turn_given
    ]
    if given:
        tx.execute(f"{GIVE} ({placeholders(len(given))})", *(job.job_id for job in given))
        outbox.add(tx, [(job, (Routing.ATTEND,)) for job in given])
    return len(given)


def _next(contenders: Sequence[Contender], turn: Turn) -> list[str]:
    return next_turns(contenders, turn.files_per_pair, turn.bytes_per_pair)


def _contenders(tx: Connection, turn: Turn, *pair: str | None) -> dict[Pair, list[Contender]]:
    """By pair of hosts, or of this one alone: what FTS has of each submitter, and who waits."""
    condition = OF_PAIR if pair else ""
    found: dict[Pair, list[Contender]] = defaultdict(list)
    for row in tx.query(AT_FTS.format(pair=condition), turn.endpoint, *pair):
        found[row["stager_hostname"], row["destination_host"]].append(
            Contender(
                job_id="",  # of several
                submitter=row["submitter"],
                at_fts=int(row["files_at_fts"]),
                bytes_at_fts=int(row["bytes_at_fts"]),
                active=int(row["files_active"]),
            )
        )
    for row in tx.query(WAITING.format(pair=condition), turn.endpoint, turn.takes_new, *pair):
        wants, wants_bytes = 1, row["product_size"] or 0
        if row["files_total"] is not None:
            left = max(row["files_total"] - row["files_done"] - row["files_at_fts"], 1)
            most = FIRST_FILES if row["slice"] == 0 else turn.files_per_transfer
            wants = min(most, left)
            known = row["bytes_total"] or 0
            bytes_left = max(known - (row["bytes_done"] or 0) - row["bytes_at_fts"], 0)
            wants_bytes = bytes_left * wants // left  # its files are taken to be of one size
        found[row["stager_hostname"], row["destination_host"]].append(
            Contender(
                job_id=row["job_id"],
                submitter=row["submitter"],
                wants=wants,
                wants_bytes=wants_bytes,
                waiting_since=row["turn_since"],
            )
        )
    return found
