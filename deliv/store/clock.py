"""Steps back of the database's clock: noted once, and what they would hold up is due in time.

Due times were written by the clock as it was before. They move back by as much as the clock did,
but no claim of a worker gets shorter: it was made for `hold` seconds at most. Leases: leases.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from deliv.db.database import Connection
from deliv.model.phase import Phase
from deliv.store.columns import LATER, microseconds
from deliv.store.conditions import in_phase, of_status
from deliv.store.jobs import ADMITTED

NOTICED = 1.0  # seconds; the time that was noted last is a few seconds old
AWAY = 60  # seconds without a note: deliv or MariaDB was away, or a backup was put back
OUTDATED = f"SELECT 1 FROM clock WHERE seen < NOW(6) - INTERVAL {AWAY} SECOND"  # noqa: S608 - a constant
LOCK = "INSERT INTO clock (id) VALUES (1) ON DUPLICATE KEY UPDATE id = id"
READ = "SELECT seen, NOW(6) AS now FROM clock"
NOTE = "UPDATE clock SET seen = %s"
STEPS_BACK = "SELECT was, became FROM clock_steps ORDER BY step_id DESC LIMIT %s"
COUNTED = 10  # the latest steps
NOTES_APART = timedelta(seconds=10)  # at most, while an instance runs
RECORD = "INSERT INTO clock_steps (was, became) VALUES (%s, %s)"
# Those that rest, and may be too many for one statement, go on when they are let go.
ADMIT = f"""
UPDATE jobs FORCE INDEX (due) SET due_at = due_at - INTERVAL %s MICROSECOND
WHERE {in_phase(Phase.QUEUED)} AND due_at > NOW(6) AND (rest IS NULL OR let_go IS NOT NULL)
"""  # noqa: S608 - constants
ATTEND = f"""
UPDATE jobs FORCE INDEX (due) SET due_at = GREATEST({LATER}, due_at - INTERVAL %s MICROSECOND)
WHERE {of_status(ADMITTED)} AND due_at > {LATER}
"""  # noqa: S608 - constants
STAGINGS = f"""
UPDATE stagings FORCE INDEX (due)
SET due_at = GREATEST({LATER}, due_at - INTERVAL %s MICROSECOND)
WHERE due_at > {LATER}
"""  # noqa: S608 - constants
# Nobody could hear the stager meanwhile. What it accepted since the note has waited for less: later
# than now is never.
UNHEARD = """
UPDATE stagings FORCE INDEX (due)
SET accepted = LEAST(NOW(6), accepted + INTERVAL %s MICROSECOND), version = version + 1
WHERE due_at IS NOT NULL AND state = 'WAITING'
"""
# What operators have rest does so until a time that they gave.
RESTS = """
UPDATE rests FORCE INDEX (next_try)
SET next_try = GREATEST(NOW(6), next_try - INTERVAL %s MICROSECOND)
WHERE next_try > NOW(6) AND begun_by IS NULL
"""
RELAY = f"UPDATE outbox SET held_until = {LATER} WHERE held_until > {LATER}"  # noqa: S608 - LATER


def note(tx: Connection, hold: float) -> float:
    """Note the time. By how many seconds the clock has stepped back since it was noted, else 0.

    The time for which nobody noted it counts for no time-out of the stager's.
    """
    tx.execute(LOCK)  # by all instances one after the other, so that a step is noted once
    (row,) = tx.query(READ)
    seen, now = row["seen"], row["now"]
    seconds = float((seen - now).total_seconds())
    tx.execute(NOTE, now)
    if -seconds > AWAY:
        tx.execute(UNHEARD, microseconds(-seconds))
    if seconds <= NOTICED:
        return 0.0
    step, claim = microseconds(seconds), microseconds(hold)
    tx.execute(RECORD, seen, now)
    tx.execute(ADMIT, step)
    tx.execute(ATTEND, claim, step, claim)
    tx.execute(STAGINGS, claim, step, claim)
    tx.execute(RESTS, step)
    tx.execute(RELAY, claim, claim)
    return seconds


def is_noted(tx: Connection) -> bool:
    """Whether that was done lately, if it ever was."""
    return tx.get(OUTDATED) is None


def age(tx: Connection, moment: datetime) -> float:
    """Seconds since a moment that has been. Where it lies ahead, the clock has stepped back since,
    or a step ahead is doubted. Steps that were before the moment do not count.
    """
    now = tx.now()
    steps = tx.query(STEPS_BACK, COUNTED) if moment > now else []
    while moment > now:
        step = next((step for step in steps if moment <= step["was"] + NOTES_APART), None)
        if step is None:
            break
        steps.remove(step)
        moment -= step["was"] - step["became"]
    return max(0.0, (now - moment).total_seconds())
