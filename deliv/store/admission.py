"""Who is served next: decided here, in MariaDB, for all instances together.

Among submitters with waiting jobs the one with the fewest in flight, then the oldest job; none
above a cap, and none whose deadline is over. Submitters and their hosts are looked at, not jobs:
the index `turn` gives the oldest waiting job of each pair without reading the others, however many
there are (MariaDB does so only when the whole head of the index is in GROUP BY, hence the constant
status there). Submitters that wait for full hosts alone, or for hosts where they have their share,
are left out, and of each of the others so many hosts are looked at that they can't all be full.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from deliv.config import Limits
from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.phase import Phase
from deliv.model.rest import RestRules
from deliv.model.states import IN_FLIGHT, Event
from deliv.store import jobs, rests
from deliv.store.columns import SELECT, placeholders, to_job
from deliv.store.conditions import in_phase, of_status

LEASE = "admission"
LOCK = "SELECT fence FROM leases WHERE name = %s FOR UPDATE"
PAGE = 100  # submitters
SUBMITTERS = f"""
WITH flying AS (
  SELECT submitter, COUNT(*) AS jobs FROM jobs FORCE INDEX (turn)
  WHERE {of_status(IN_FLIGHT)} GROUP BY submitter
),
waiting AS (
  SELECT submitter, MIN(destination_host) FROM jobs FORCE INDEX (turn)
  WHERE {in_phase(Phase.QUEUED)}{{closed}} GROUP BY status, submitter{{sharers}}
)
SELECT waiting.submitter
FROM waiting LEFT JOIN flying ON flying.submitter = waiting.submitter
WHERE COALESCE((SELECT SUM(jobs) FROM flying), 0) < %s AND COALESCE(flying.jobs, 0) < %s
ORDER BY COALESCE(flying.jobs, 0), (
  SELECT job_id FROM jobs FORCE INDEX (submitter_status)
  WHERE {in_phase(Phase.QUEUED)} AND submitter = waiting.submitter ORDER BY job_id LIMIT 1
)
LIMIT {PAGE}
"""  # noqa: S608 - constants
FULL_HOST = " AND destination_host <> %s"
# Of a submitter whose share of some hosts is used up, whether it waits for another one.
SHARER = " AND submitter <> %s"
SHARER_ELSEWHERE = f"""
  UNION ALL SELECT %s, NULL FROM DUAL WHERE EXISTS (
    SELECT 1 FROM jobs FORCE INDEX (turn)
    WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host NOT IN ({{hosts}})
  )"""  # noqa: S608 - constants
FLYING_TO = f"""
SELECT submitter, destination_host, COUNT(*) AS jobs FROM jobs FORCE INDEX (turn)
WHERE {of_status(IN_FLIGHT)} GROUP BY submitter, destination_host
"""  # noqa: S608 - constants
HOSTS = f"""
SELECT destination_host, MIN(due_at) AS oldest FROM jobs FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s
GROUP BY status, submitter, destination_host LIMIT %s
"""  # noqa: S608 - constants
MORE_HOSTS = 800  # than can be full
LOOKS = 4  # at the head of a queue, where jobs may rest; they make room for others
FLYING = f"""
SELECT COUNT(*) AS jobs, COUNT(IF(submitter = %s, 1, NULL)) AS mine,
  COUNT(IF(destination_host = %s, 1, NULL)) AS host,
  COUNT(IF(submitter = %s AND destination_host = %s, 1, NULL)) AS mine_there
FROM jobs FORCE INDEX (turn) WHERE {of_status(IN_FLIGHT)}
"""  # noqa: S608 - constants
OLDEST = f"""{SELECT} FORCE INDEX (turn)
WHERE {in_phase(Phase.QUEUED)} AND submitter = %s AND destination_host = %s AND due_at <= NOW(6)
  AND (deadline IS NULL OR deadline > %s)
ORDER BY due_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
"""


def lock(tx: Connection) -> None:
    """Nobody else counts what is in flight until this transaction ends."""
    if tx.get(LOCK, LEASE) is None:
        raise LookupError(f"the row {LEASE!r} is missing from leases: run `deliv check --repair`")


def admit(tx: Connection, limits: Limits, rules: RestRules) -> Job | None:
    lock(tx)
    full, sharers = _closed(tx, limits)
    full |= rests.closed_hosts(tx)
    seen: list[str] = []
    while True:
        sql, closed = submitters(full, sharers, seen)
        page = tx.query(sql, *closed, limits.in_flight, limits.per_submitter)
        for waiting in page:
            job = _oldest(tx, waiting["submitter"], full, sharers, limits, rules)
            if job is not None:
                return job
        if len(page) < PAGE:
            return None
        seen += [waiting["submitter"] for waiting in page]  # all their jobs rest


def _oldest(
    tx: Connection,
    submitter: str,
    full: Collection[str],
    sharers: Mapping[str, set[str]],
    limits: Limits,
    rules: RestRules,
) -> Job | None:
    """Of a submitter's jobs that may be admitted the oldest, now admitted."""
    now = tx.now()
    hosts = tx.query(HOSTS, submitter, limits.in_flight + MORE_HOSTS)
    for one in sorted(hosts, key=lambda one: one["oldest"]):
        host = one["destination_host"]
        if host in full or host in sharers.get(submitter, ()):
            continue
        for _ in range(LOOKS):
            row = tx.get(OLDEST, submitter, host, now)
            if row is None:
                break
            job = to_job(row)
            if (noted := rests.enter(tx, job, rules)) is not None:
                change = jobs.event_change(job, Event.ADMIT, 0, noted)
                return jobs.transition(tx, job, change, ())
    return None


def _closed(tx: Connection, limits: Limits) -> tuple[set[str], defaultdict[str, set[str]]]:
    """The hosts that are full; and by submitter those of which its share is used up."""
    to_host: Counter[str] = Counter()
    sharers = defaultdict(set)
    for row in tx.query(FLYING_TO):
        to_host[row["destination_host"]] += row["jobs"]
        if row["jobs"] >= limits.per_submitter_and_destination:
            sharers[row["submitter"]].add(row["destination_host"])
    return {host for host, jobs in to_host.items() if jobs >= limits.per_destination}, sharers


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


def held_by(tx: Connection, limits: Limits, job: Job) -> str | None:
    """Which limit keeps a waiting job from being admitted; None when none does.

    It reads what is in flight, of which there is no more than the limit.
    """
    submitter, host = job.submitter, job.destination_host
    (flying,) = tx.query(FLYING, submitter, host, submitter, host)
    if flying["mine"] >= limits.per_submitter:
        return f"a user may have {limits.per_submitter} deliveries under way at once"
    if flying["mine_there"] >= limits.per_submitter_and_destination:
        most = limits.per_submitter_and_destination
        return f"a user may have {most} deliveries to {host} under way at once"
    if flying["host"] >= limits.per_destination:
        return f"{limits.per_destination} deliveries to {host} may be under way at once"
    if flying["jobs"] >= limits.in_flight:
        return f"{limits.in_flight} deliveries of all users may be under way at once"
    return None
