"""What the archive is asked for next: decided here, in MariaDB, for all instances together.

Among submitters with waiting jobs the one with the fewest jobs whose copies the archive was asked
for, then the oldest job; none above a cap of `limits.staging`, none that there is no space for, and
none whose deadline is over. Submitters and their hosts are looked at, not jobs:
the index `turn` gives the oldest waiting job of each pair without reading the others, however many
there are (MariaDB does so only when the whole head of the index is in GROUP BY, hence the constant
status there), and what is under way is counted already. Submitters that wait for full hosts alone,
or for hosts where they have their share, are left out, and of each of the others so many hosts are
looked at that they can't all be full.

A job whose product has an open staging joins it here, under the lock of that, and takes no space.
So it waits for none: when the space is used up, those at the head of a submitter's line for a host
are looked at still, of some submitters and hosts.

A job counts until it is handed to FTS, where the caps are others (deliv/store/fts_queue.py). One
that is staged again has kept its place: no job that has a copy waits for space.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial

from deliv.config import Limits, StagingLimits
from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.rest import RestRules
from deliv.model.states import IN_FLIGHT, Event, Status
from deliv.store import jobs, rests, staging_area, stagings
from deliv.store.columns import SELECT, placeholders, to_job
from deliv.store.conditions import in_phase
from deliv.store.under_way import Queue, UnderWay

LEASE = "admission"
LOCK = "SELECT fence FROM leases WHERE name = %s FOR UPDATE"
PAGE = 100  # submitters
SUBMITTERS = f"""
WITH under_way AS (
  SELECT submitter, SUM(staging) AS staging, SUM(held) AS held
  FROM jobs_under_way GROUP BY submitter
),
waiting AS (
  SELECT submitter, MIN(destination_host) FROM jobs FORCE INDEX (turn)
  WHERE {in_phase(Phase.QUEUED)}{{closed}} GROUP BY status, submitter{{sharers}}
)
SELECT waiting.submitter
FROM waiting LEFT JOIN under_way ON under_way.submitter = waiting.submitter
WHERE COALESCE(under_way.staging, 0) < %s
ORDER BY COALESCE(under_way.held, 0), (
  SELECT job_id FROM jobs FORCE INDEX (submitter_status)
  WHERE {in_phase(Phase.QUEUED)} AND submitter = waiting.submitter ORDER BY job_id LIMIT 1
)
LIMIT %s
"""  # noqa: S608 - constants
FULL_HOST = " AND destination_host <> %s"
# Of a submitter whose share of some hosts is used up, whether it waits for another one.
SHARER = " AND submitter <> %s"
SHARER_ELSEWHERE = f"""
  UNION ALL SELECT %s, NULL FROM DUAL WHERE EXISTS (
    SELECT 1 FROM jobs FORCE INDEX (turn)
    WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host NOT IN ({{hosts}})
  )"""  # noqa: S608 - constants
HOSTS = f"""
SELECT destination_host, MIN(due_at) AS oldest FROM jobs FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s
GROUP BY status, submitter, destination_host LIMIT %s
"""  # noqa: S608 - constants
MORE_HOSTS = 800  # than are full
# At the head of a queue, where jobs may rest; they make room for others. Each may be of another
# directory that is full.
LOOKS = 20
HEAD = f"""FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host = %s AND due_at <= NOW(6)
  AND (deadline IS NULL OR deadline > %s)
ORDER BY due_at, job_id LIMIT 1
"""
OLDEST = f"{SELECT} {HEAD} FOR UPDATE SKIP LOCKED"
WAITS = f"SELECT 1 FROM jobs {HEAD}"  # noqa: S608 - constants
JOINS = f"""
SELECT job_id FROM (SELECT job_id, product_id FROM jobs {HEAD}) AS head
JOIN stagings ON open_key = UNHEX(SHA2(head.product_id, 256))
"""  # noqa: S608 - constants
JOINERS = 10  # submitters, and hosts of each, that are looked at when the space is used up


def lock(tx: Connection) -> None:
    """Nobody else decides by what is under way until this transaction ends."""
    if tx.get(LOCK, LEASE) is None:
        raise LookupError(f"the row {LEASE!r} is missing from leases: run `deliv check --repair`")


def admit(tx: Connection, limits: StagingLimits, rules: RestRules) -> Job | None:
    lock(tx)
    under_way = UnderWay(tx, Queue.ARCHIVE)
    if under_way.is_full(limits):
        return None
    room = staging_area.find(tx).has_room(limits)
    for line in _lines(tx, limits, under_way, room=room):
        if room or tx.get(JOINS, *line, tx.now()):
            job = _first(tx, line, rules, room=room)
            if job is not None:
                return job
    return None


def in_the_way(tx: Connection, limits: StagingLimits) -> frozenset[Status]:
    """The statuses of staged jobs that take what others wait for, of whom some are looked at.

    The caps on jobs count those that FTS never had.
    """
    under_way = UnderWay(tx, Queue.ARCHIVE)
    room = staging_area.find(tx).has_room(limits)
    if room and not under_way.is_full(limits):
        return frozenset()
    lines = _lines(tx, limits, under_way, room=False)
    if not any(tx.get(WAITS, *line, tx.now()) for line in lines):
        return frozenset()
    return frozenset({Status.STAGING}) if room else IN_FLIGHT


def _lines(
    tx: Connection, limits: StagingLimits, under_way: UnderWay, *, room: bool
) -> Iterator[tuple[str, str]]:
    """Submitters and hosts of jobs that may have more, in turn; without `room` some of them."""
    full, sharers = _closed(under_way, limits)
    full |= rests.closed_hosts(tx)
    most, more_hosts = (PAGE, MORE_HOSTS) if room else (JOINERS, JOINERS)
    seen: list[str] = []
    while True:
        sql, closed = submitters(full, sharers, seen)
        page = [row["submitter"] for row in tx.query(sql, *closed, limits.per_submitter, most)]
        for submitter in page:
            out = full | sharers.get(submitter, set())
            hosts = tx.query(HOSTS, submitter, len(out) + more_hosts)
            for one in sorted(hosts, key=lambda one: one["oldest"]):
                if one["destination_host"] not in out:
                    yield submitter, one["destination_host"]
        if not room or len(page) < PAGE:
            return
        seen += page  # all their jobs rest


def _first(tx: Connection, line: tuple[str, str], rules: RestRules, *, room: bool) -> Job | None:
    """Of a submitter's jobs to a host the first that does not rest, now admitted.

    Without `room` only one that joins a staging.
    """
    for _ in range(LOOKS):
        row = tx.get(OLDEST, *line, tx.now())
        if row is None:
            break
        job = to_job(row)
        staging = stagings.open_for(tx, job)
        if staging is None and not room:
            break
        if (noted := rests.enter(tx, job, rules)) is not None:
            joined = {"staging_id": staging.staging_id} if staging else {}
            change = jobs.event_change(job, Event.ADMIT, 0, {**noted, **joined})
            return jobs.transition(tx, job, change, ())
    return None


def _closed(
    under_way: UnderWay, limits: StagingLimits
) -> tuple[set[str], defaultdict[str, set[str]]]:
    """The hosts that are full; and by submitter those of which its share is used up."""
    sharers = defaultdict(set)
    for (submitter, host), count in under_way.of_both.items():
        if count >= limits.per_submitter_and_destination:
            sharers[submitter].add(host)
    to_host = under_way.to_host.items()
    return {host for host, count in to_host if count >= limits.per_destination}, sharers


def submitters(
    full: Collection[str], sharers: Mapping[str, set[str]], seen: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The query for who waits and may have more, but for those `seen`, and its first parameters."""
    closed = FULL_HOST * len(full) + SHARER * (len(sharers) + len(seen))
    values = [*full, *sharers, *seen]
    elsewhere = ""
    for submitter, hosts in sharers.items():
        if submitter in seen:
            continue
        out = [*full, *hosts]
        elsewhere += SHARER_ELSEWHERE.format(hosts=placeholders(len(out)))
        values += [submitter, submitter, *out]
    return SUBMITTERS.format(closed=closed, sharers=elsewhere), values


def held_by(tx: Connection, limits: Limits, waiting: Collection[Job]) -> dict[str, str]:
    """Which limit keeps jobs from going on, that wait for the archive or for a place at FTS.

    By job id, of those that one keeps. What is under way is read once for all, of which there is no
    more than the limits.
    """
    under_way = cache(partial(UnderWay, tx))
    joining = cache(lambda *line: tx.get(JOINS, *line, tx.now()))
    has_room = cache(lambda: staging_area.find(tx).has_room(limits.staging))
    found: dict[str, str] = {}
    for job in waiting:
        line = job.submitter, job.destination_host
        queued = phase(job) is Phase.QUEUED
        queue, caps = (Queue.ARCHIVE, limits.staging) if queued else (Queue.FTS, limits)
        if reason := under_way(queue).limit(caps, *line):
            found[job.job_id] = reason
        elif queued and not has_room():
            joins = joining(*line)
            if joins is None or joins["job_id"] != job.job_id:
                found[job.job_id] = staging_area.FULL
    return found
