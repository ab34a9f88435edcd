"""Looks at the places that rest: which are due, have ended, rest for too long; and all of them.

What becomes of them: deliv/store/rests.py.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from deliv.db.database import Connection, Row
from deliv.model.job import Job
from deliv.model.phase import Phase
from deliv.model.rest import Cause, Rest, RestRules
from deliv.model.states import UNFINISHED, Status
from deliv.store.columns import LATER, microseconds, to_job
from deliv.store.columns import SELECT as SELECT_JOB
from deliv.store.conditions import in_phase
from deliv.store.rests import GOING, SELECT, WINDOW, end, to_rest

FORSAKEN_FOR = 600.0  # seconds since the last failure at a place where nobody rests any more
DUE = f"{SELECT} FORCE INDEX (next_try) WHERE next_try <= NOW(6) ORDER BY next_try LIMIT %s"
# Of others failures are counted still.
NO_REST = f"""
SELECT place_key FROM rests
WHERE since IS NULL AND (
  failures = 0 OR failed < NOW(6) - INTERVAL {round(WINDOW)} SECOND
  OR EXISTS (SELECT 1 FROM jobs FORCE INDEX (resting) WHERE rest = place_key))
LIMIT %s
"""  # noqa: S608 - a constant
ALL = f"{SELECT} WHERE since IS NOT NULL ORDER BY since LIMIT %s"
COUNT = "SELECT cause, COUNT(*) AS places FROM rests WHERE since IS NOT NULL GROUP BY cause"
DELEGATED = f"""
SELECT place_key FROM rests JOIN delegations ON delegation_id = place
WHERE cause = 'delegation' AND since IS NOT NULL AND expires > {LATER} LIMIT %s
"""  # noqa: S608 - a constant
# Nobody is there who could end it; at once where one that tried has arrived since the last failure.
FORSAKEN = f"""
SELECT place_key FROM rests
WHERE since IS NOT NULL AND begun_by IS NULL
  AND (successes > 0 OR failed IS NULL OR failed < NOW(6) - INTERVAL {round(FORSAKEN_FOR)} SECOND)
  AND NOT EXISTS (SELECT 1 FROM jobs FORCE INDEX (resting) WHERE rest = place_key)
LIMIT %s
"""  # noqa: S608 - a constant
OLD = f"{SELECT} WHERE since <= IF(proven, %s, %s) ORDER BY since LIMIT %s"
# Ids begin with the time: those that were submitted first are looked at, however many rest here.
TIRED_HERE = """
SELECT job_id FROM (
  SELECT job_id, time_submitted FROM jobs FORCE INDEX (resting)
  WHERE rest = %s AND let_go IS NULL AND status = %s ORDER BY job_id LIMIT %s
) AS first
WHERE time_submitted <= %s
"""
WAITING_THERE = f"""
SELECT submitter FROM (
  SELECT submitter, destination_host, MIN(due_at) AS oldest FROM jobs FORCE INDEX (turn)
  WHERE {in_phase(Phase.QUEUED)} GROUP BY status, submitter, destination_host
) AS waiting
WHERE destination_host = %s AND oldest <= %s
"""  # noqa: S608 - constants
TIRED_THERE = f"""
SELECT job_id FROM jobs FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host = %s AND due_at <= %s
ORDER BY due_at LIMIT %s
"""  # noqa: S608 - constants
STAGED = f"""{SELECT_JOB} FORCE INDEX (resting)
WHERE rest = %s AND let_go IS NULL AND status = %s AND {in_phase(Phase.STAGED)}
  AND fts_endpoint IS NULL
ORDER BY job_id DESC LIMIT %s
"""
COPIED_TO = f"{GOING.removesuffix(' LIMIT 1')} AND fts_endpoint IS NOT NULL LIMIT 1"


def due(tx: Connection, limit: int) -> list[Rest]:
    """Those whose next try has come."""
    return [to_rest(row) for row in tx.query(DUE, limit)]


def ended(tx: Connection, rules: RestRules, limit: int) -> list[bytes]:
    """Places that do not rest any more; those first where a credential came, or nobody rests."""
    keys = tx.query(DELEGATED, microseconds(rules.least_life or 0), limit)
    keys += tx.query(FORSAKEN, limit)
    for row in keys:
        end(tx, row["place_key"])
    return [row["place_key"] for row in [*keys, *tx.query(NO_REST, limit)]]


def resting(tx: Connection, limit: int) -> list[Rest]:
    """What rests, the longest first."""
    return [to_rest(row) for row in tx.query(ALL, limit)]


def count(tx: Connection) -> dict[Cause, int]:
    """How many places rest, by their cause."""
    return {Cause(row["cause"]): row["places"] for row in tx.query(COUNT)}


def tired(tx: Connection, rules: RestRules, limit: int) -> dict[str, Rest]:
    """Jobs that have waited for a place for as long as they may, and where, by their ids."""
    found: dict[str, Rest] = {}
    now = tx.now()
    thens = [now - timedelta(seconds=each) for each in (rules.patience, rules.patience_new)]
    for rest in map(to_rest, tx.query(OLD, *thens, limit)):
        if tx.get(COPIED_TO, rest.place_key) is not None:
            continue  # it may be in order again
        then = now - timedelta(seconds=rest.patience(rules))
        rows: list[Row] = []
        for status in sorted(UNFINISHED):
            rows += tx.query(TIRED_HERE, rest.place_key, status, limit, then)
        if rest.host is not None:
            for row in tx.query(WAITING_THERE, rest.host, then):
                rows += tx.query(TIRED_THERE, row["submitter"], rest.host, then, limit)
        found |= {row["job_id"]: rest for row in rows[: limit - len(found)]}
        if len(found) >= limit:
            break
    return found


def staged(tx: Connection, statuses: Collection[Status], limit: int) -> list[Job]:
    """Of the staged jobs that rest some that were submitted last."""
    found: list[Job] = []
    for rest in tx.query(ALL, limit):
        for status in sorted(statuses):
            rows = tx.query(STAGED, rest["place_key"], status, limit - len(found))
            found += map(to_job, rows)
        if len(found) == limit:
            break
    return found
