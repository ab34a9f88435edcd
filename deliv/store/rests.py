"""Places that rest, and the jobs that rest there: deliv/model/rest.py.

Jobs that wait for their turn are marked with the place when they come to the head of the queue,
some at a time, so that others pass. Hosts that operators have rest are left out by admission. Locks
are taken in the order job, then its place; of further jobs only where they are free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from deliv.db.database import Connection, Row
from deliv.model.job import Job, TransferIdentity, delegation_id
from deliv.model.phase import Phase
from deliv.model.rest import (
    ALL_GO,
    LET_GO,
    WAITING,
    Cause,
    Place,
    Rest,
    RestRules,
    places,
    server_place,
    user_place,
)
from deliv.model.states import IN_FLIGHT, Event
from deliv.store import clock, jobs, outbox
from deliv.store.columns import LATER, NOW, Change, microseconds, placeholders
from deliv.store.conditions import in_phase, of_status
from deliv.store.outbox import Routing

# Seconds after which a failure does not count as one in a row. An attempt may take hours to fail.
WINDOW = 86_400.0
COLUMNS = ", ".join(field.name for field in fields(Rest))
SELECT = f"SELECT {COLUMNS} FROM rests"  # noqa: S608 - the names of Rest's fields
# It rests until this transaction ends: whoever is to be let go then is found.
STILL = f"{SELECT} WHERE place_key = %s AND since IS NOT NULL LOCK IN SHARE MODE"
AT = f"{SELECT} WHERE place_key = %s FOR UPDATE"
FAIL = f"""
INSERT INTO rests (place_key, cause, place, host, reason, failures, failed, proven)
VALUES (%s, %s, %s, %s, %s, 1, NOW(6),
  %s IS NULL OR EXISTS (SELECT 1 FROM reached_servers WHERE server = %s))
ON DUPLICATE KEY UPDATE
  failures = IF(failed < NOW(6) - INTERVAL {round(WINDOW)} SECOND, 1, failures + 1),
  failed = NOW(6), reason = VALUES(reason), proven = VALUES(proven)
"""  # noqa: S608 - a constant
BEGIN = f"""
UPDATE rests SET since = COALESCE(since, NOW(6)), next_try = {LATER}, tries = %s, allowance = 0,
  successes = 0
WHERE place_key = %s
"""  # noqa: S608 - a constant
WAIT = """
INSERT INTO rests (place_key, cause, place, reason, since) VALUES (%s, %s, %s, %s, NOW(6))
ON DUPLICATE KEY UPDATE since = COALESCE(since, NOW(6))
"""
ORDER = """
INSERT INTO rests (place_key, cause, place, host, reason, since, next_try, begun_by)
VALUES (%s, %s, %s, %s, %s, NOW(6), %s, %s)
ON DUPLICATE KEY UPDATE cause = VALUES(cause), reason = VALUES(reason),
  since = COALESCE(since, NOW(6)), next_try = VALUES(next_try), begun_by = VALUES(begun_by),
  proven = TRUE, allowance = 0, successes = 0
"""
END = """
UPDATE rests SET since = NULL, next_try = NULL, failures = 0, tries = 0, allowance = 0,
  successes = 0, begun_by = NULL
WHERE place_key = %s AND since IS NOT NULL
"""
RESET = "UPDATE rests SET failures = 0 WHERE place_key = %s"
TRY_LATER = f"""
UPDATE rests SET next_try = {LATER}, tries = %s, allowance = %s WHERE place_key = %s
"""  # noqa: S608 - a constant
CLOSED = "SELECT host FROM rests WHERE since IS NOT NULL AND host IS NOT NULL"
TAKE = "UPDATE rests SET allowance = allowance - 1 WHERE place_key = %s AND allowance > 0"
ALLOW = """
UPDATE rests SET allowance = %s, successes = %s, proven = TRUE WHERE place_key = %s
"""
# A trigger does it for those that are delivered whole.
REACHED = """
INSERT IGNORE INTO reached_servers (server)
SELECT %s FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM reached_servers WHERE server = %s)
"""
LASTS = f"SELECT 1 FROM delegations WHERE delegation_id = %s AND expires > {LATER}"  # noqa: S608
HEAD = f"""
SELECT job_id, destination_path, copied_as FROM jobs FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host = %s AND due_at <= NOW(6)
  AND NOT (let_go IS NOT NULL AND rest <=> %s)
ORDER BY due_at, job_id LIMIT %s FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
MARK = f"""
UPDATE jobs SET rest = %s, let_go = NULL, due_at = {LATER}, version = version + 1,
  waiting_for = %s, waiting_since = GREATEST(%s, time_submitted), detailed_status = %s
WHERE job_id IN
"""  # noqa: S608 - a constant
MARKED = 100  # at once: with admission.LOOKS as many as one admission has the time for
# Seconds, then it is marked again: so the release before, which knows no rests, goes on with it.
MARK_LASTS = 86400.0
# Those that were handed over or staged first: they keep others from nothing else.
HERE = """
SELECT job_id FROM jobs FORCE INDEX (resting)
WHERE rest = %s AND let_go IS NULL AND {status} AND job_id > %s
ORDER BY job_id LIMIT %s FOR UPDATE SKIP LOCKED
"""
TRIED = "UPDATE rests SET tried = %s WHERE place_key = %s"
# Where it was in the queue; after a step back of the clock it may be of a time to come.
IN_ITS_TURN = "LEAST(time_submitted, NOW(6))"
GO = f"""
UPDATE jobs SET let_go = NOW(6), due_at = IF(status = 'SUBMITTED', {IN_ITS_TURN}, NOW(6)),
  version = version + 1
WHERE job_id IN
"""  # noqa: S608 - a constant
GOING = "SELECT 1 FROM jobs FORCE INDEX (resting) WHERE rest = %s AND let_go IS NOT NULL LIMIT 1"
FREE = """
UPDATE jobs FORCE INDEX (resting)
SET due_at = {due}, version = version + 1, rest = NULL, detailed_status = NULL, waiting_for = NULL,
  waiting_since = NULL
WHERE rest = %s AND let_go IS NULL AND {status} LIMIT %s
"""
FREEING = (
    FREE.format(due="NOW(6)", status=of_status(IN_FLIGHT)),
    FREE.format(due=IN_ITS_TURN, status=in_phase(Phase.QUEUED)),
    # These go on already.
    """
    UPDATE jobs FORCE INDEX (resting) SET rest = NULL, let_go = NULL
    WHERE rest = %s AND let_go IS NOT NULL LIMIT %s
    """,
)
DROP = f"""
DELETE FROM rests WHERE place_key = %s AND since IS NULL AND (
  failures = 0 OR failed < NOW(6) - INTERVAL {round(WINDOW)} SECOND)
"""  # noqa: S608 - a constant


def to_rest(row: Row) -> Rest:
    return Rest(**{**row, "cause": Cause(row["cause"]), "proven": bool(row["proven"])})


def at(tx: Connection, place: Place) -> Rest:
    """A place that has a row, locked."""
    row = tx.get(AT, place.key)
    if row is None:
        raise LookupError(f"the place {place.name} is gone from rests")
    return to_rest(row)


def of(tx: Connection, job: Job) -> Rest | None:
    """Where the job has to rest now: of several places the one that has rested longest.

    Where operators have its host rest it is there: nobody tries meanwhile.
    """
    return of_several(tx, [job]).get(job.job_id)


def of_several(tx: Connection, some: Collection[Job]) -> dict[str, Rest]:
    """As `of`, by job id, of those that have to rest. One query for all."""
    there = defaultdict(list)
    for job in some:
        for place in places(job):
            there[place.key].append(job.job_id)
    found: dict[str, Rest] = {}
    if there:
        sql = f"{SELECT} WHERE place_key IN ({placeholders(len(there))}) AND since IS NOT NULL"
        for row in tx.query(f"{sql} ORDER BY cause = 'operators', since DESC", *there):
            found |= dict.fromkeys(there[row["place_key"]], to_rest(row))
    return found


def fail(
    tx: Connection,
    job: Job,
    event: Event,
    place: Place,
    reason: str,
    why: str,
    rules: RestRules,
    columns: dict[str, object],
) -> Job | None:
    """The job after a failure that its place is to blame for; None when it has waited long enough.

    `reason` is for all who wait there, `why` has what is the job's own. Where the place rests the
    job does too, else it is tried again after the first pause.
    """
    if place.cause is Cause.DELEGATION:  # no job has to try: it ends when a credential comes
        rest = wait(tx, place, job.submitter)
    else:
        rest = _note_failure(tx, job, place, reason, rules)
    delay = rules.pauses.first
    if rest.since is None:
        columns = {**waiting(job, place.cause, rest.sentence(why)), **columns}
    elif _waited_out(tx, job, rest, rules):
        return None
    else:
        columns = {**columns, **rest_columns(job, rest, why)}
        delay = rules.keep_staged
    return jobs.transition(tx, job, jobs.event_change(job, event, delay, columns), ())


def _waited_out(tx: Connection, job: Job, rest: Rest, rules: RestRules) -> bool:
    return clock.age(tx, rest.waited_since(job)) >= rest.patience(rules)


def _note_failure(tx: Connection, job: Job, place: Place, reason: str, rules: RestRules) -> Rest:
    """The place after another failure there, which may be that of a job that tried."""
    server = place.name if place.cause is Cause.DESTINATION else None
    what = place.key, place.cause, place.name, place.host, reason
    before = tx.get(AT, place.key)
    tx.execute(FAIL, *what, server, server)
    rest = at(tx, place)
    tried = rest.since is not None and job.let_go is not None and job.rest == place.key
    if tried and before and before["failed"] and before["failed"] > job.let_go:
        return rest  # another one that was let go with it has failed already
    enough = rules.after if rest.proven else 1
    if tried or (rest.since is None and rest.failures >= enough):
        tries = rest.tries + 1 if tried else 0
        pause = rules.pauses.pause(tries)
        tx.execute(BEGIN, microseconds(pause), tries, place.key)
        return at(tx, place)
    return rest


def wait(tx: Connection, place: Place, reason: str) -> Rest:
    """The place, which rests until what it waits for is there."""
    tx.execute(WAIT, place.key, place.cause, place.name, reason)
    return at(tx, place)


def begin(tx: Connection, place: Place, reason: str, until: object, who: str) -> None:
    """Have a host rest, until a time or until `end`."""
    name = place.name
    tx.execute(ORDER, place.key, place.cause, name, place.host, reason, until, who)


def end(tx: Connection, key: bytes) -> bool:
    """The place rests no more; whether it did. `free` lets the jobs go that rest there."""
    return bool(tx.execute(END, key))


def free(tx: Connection, key: bytes, limit: int) -> int:
    """Of a place that rests no more let some jobs go; how many. It is dropped behind them."""
    freed = sum(tx.execute(sql, key, limit) for sql in FREEING)
    if not freed:
        tx.execute(DROP, key)
    return freed


def credential_lasts(tx: Connection, dn: str, seconds: float) -> bool:
    """Whether a user's delegated credential is good for so long."""
    return tx.get(LASTS, delegation_id(dn), microseconds(seconds)) is not None


def closed_hosts(tx: Connection) -> set[str]:
    """Hosts of which no job may be admitted now."""
    return {row["host"] for row in tx.query(CLOSED)}


def enter(tx: Connection, job: Job, rules: RestRules) -> dict[str, object] | None:
    """What a job that is admitted now notes of the places where others rest.

    None: it rests, and so do others at the head of its queue, whose turn it would be next.
    """
    rest = of(tx, job)
    user = user_place(job.submitter)
    life = rules.least_life if job.copied_as is TransferIdentity.USER else None
    if life is not None and not credential_lasts(tx, job.submitter, life):
        rest = wait(tx, user, job.submitter)
    elif rest is None or (job.let_go is not None and job.rest == rest.place_key):
        return {}
    elif rest.cause is Cause.DELEGATION:  # it is there again
        end(tx, rest.place_key)
        return {}
    elif tx.execute(TAKE, rest.place_key):
        return {"rest": rest.place_key, "let_go": NOW}
    if rest.host is None and tx.get(STILL, rest.place_key) is not None:
        _mark(tx, job, rest)
    return None


def _mark(tx: Connection, job: Job, rest: Rest) -> None:
    def rests_too(row: Row) -> bool:
        match rest.cause:
            case Cause.DELEGATION:
                return bool(row["copied_as"] == TransferIdentity.USER)
            case Cause.SPACE:
                return bool(row["destination_path"] == rest.place)
        return server_place(row["destination_path"]).name == rest.place

    head = tx.query(HEAD, job.submitter, job.destination_host, rest.place_key, MARKED)
    ids = [row["job_id"] for row in head if rests_too(row)]
    if ids:
        later = microseconds(MARK_LASTS)
        said = f"{WAITING}{rest.sentence()}"
        what = rest.place_key, later, rest.cause, rest.since, said
        tx.execute(f"{MARK} ({placeholders(len(ids))})", *what, *ids)


def rest_columns(job: Job, rest: Rest, why: str | None = None) -> dict[str, Any]:
    """What a job notes that begins to rest at a place. `why`: how it failed itself."""
    arrived = ""
    if job.report is not None:
        arrived = f"{job.files_done:,} of {job.files_total:,} files arrived; "
    return {
        "rest": rest.place_key,
        "let_go": None,
        "turn_since": None,
        **waiting(job, rest.cause, f"{arrived}{rest.sentence(why)}"),
        "waiting_since": rest.waited_since(job),
    }


def join(tx: Connection, job: Job, rest: Rest, delay: float) -> Job:
    """The job, which rests as well; or is due, where the place does not rest any more."""
    if tx.get(STILL, rest.place_key) is None:
        return jobs.change(tx, job, Change(delay=0, columns={"rest": None, "let_go": None}))
    return jobs.change(tx, job, Change(delay=delay, columns=rest_columns(job, rest)))


def waiting(job: Job, cause: Cause, why: str) -> dict[str, Any]:
    """What a job shows that waits for what is not its fault."""
    since = job.waiting_since if job.waiting_for == cause else None
    return {
        "waiting_for": cause.value,
        "waiting_since": since or NOW,
        "detailed_status": f"{WAITING}{why}",
    }


def arrived(tx: Connection, job: Job) -> None:
    """Something of the job was delivered: its places are in order, others may go on."""
    server = server_place(job.destination_path).name
    tx.execute(REACHED, server, server)
    keys = [place.key for place in places(job)]
    sql = f"{SELECT} WHERE place_key IN ({placeholders(len(keys))}) FOR UPDATE"
    for rest in map(to_rest, tx.query(sql, *keys)):
        if rest.since is None:
            tx.execute(RESET, rest.place_key)
        elif job.let_go is not None and job.rest == rest.place_key:
            successes = rest.successes + 1
            if successes >= ALL_GO:
                end(tx, rest.place_key)
                continue
            left = _let_go(tx, rest, rest.allowance + LET_GO)
            tx.execute(ALLOW, left, successes, rest.place_key)


def _let_go(tx: Connection, rest: Rest, count: int) -> int:
    """Let so many jobs go that rest there; how many are left for those that wait for their turn.

    In turn those in flight, then of the queue: one that can't succeed does not try for all others.
    """
    in_flight, queued = of_status(IN_FLIGHT), in_phase(Phase.QUEUED)
    for status, behind in ((in_flight, rest.tried), (queued, ""), (in_flight, "")):
        rows = tx.query(HERE.format(status=status), rest.place_key, behind, count) if count else []
        if rows:
            ids = [row["job_id"] for row in rows]
            tx.execute(f"{GO} ({placeholders(len(ids))})", *ids)
            tx.execute(TRIED, ids[-1] if status is in_flight else "", rest.place_key)
            routing = Routing.ATTEND if status is in_flight else Routing.ADMIT
            outbox.add(tx, [(job, (routing,)) for job in jobs.by_id(tx, ids).values()])
            count -= len(ids)
    return count


def try_again(tx: Connection, key: bytes, rules: RestRules) -> None:
    """Let one job go whose place is due to be tried; an operator's rest ends.

    One more where another that tries is under way still, at growing intervals too.
    """
    row = tx.get(AT.replace("FOR UPDATE", "AND next_try <= NOW(6) FOR UPDATE"), key)
    if row is None:
        return
    rest = to_rest(row)
    if rest.begun_by is not None:
        if rest.next_try is not None and rest.next_try <= tx.now():  # not by a step ahead
            end(tx, key)
        return
    if tx.get(GOING, key) is None:  # and who came to rest since it was left to others takes it
        left, tries = _let_go(tx, rest, rest.allowance or 1), rest.tries
    else:  # a large copy may take for hours, and all that time the place is in order again
        left, tries = _let_go(tx, rest, rest.allowance + 1), rest.tries + 1
    pause = microseconds(rules.pauses.pause(tries))
    tx.execute(TRY_LATER, pause, tries, left, key)
