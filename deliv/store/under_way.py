"""What is under way with the archive and with FTS: counts that triggers keep, held against caps.

There is a row for each submitter and destination host with something under way, so that thousands
of jobs cost no more than a few: deliv/store/sql/0017_under_way.sql.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from deliv.config import Caps
from deliv.db.database import Connection


class Queue(StrEnum):
    """Where jobs are counted. The values are columns."""

    ARCHIVE = "staging"  # being staged, or staged and not yet handed to FTS
    FTS = "at_fts"  # with FTS, or being handed over


WORDS = {Queue.ARCHIVE: "in staging", Queue.FTS: "with FTS"}
ROWS = "SELECT submitter, destination_host, staging, at_fts, held FROM jobs_under_way"
# The same, counted among the jobs.
HELD = "(time_staging IS NOT NULL AND time_released IS NULL)"
ALONE = f"({HELD} AND staging_id IS NULL)"
AT_FTS = (
    "(status IN ('STAGING', 'TRANSFERRING')"
    " AND (fts_endpoint IS NOT NULL OR turn_since IS NOT NULL))"
)
COLUMNS = {
    "staging": f"SUM({HELD} AND status = 'STAGING')",
    "asked": f"SUM({HELD} AND status = 'STAGING' AND time_staged IS NULL)",
    "at_fts": f"SUM({AT_FTS})",
    "held": f"SUM({HELD})",
    "alone": f"SUM({ALONE})",
    "sized": f"SUM({ALONE} AND product_size IS NOT NULL)",
    "bytes": f"COALESCE(SUM(IF({ALONE}, product_size, NULL)), 0)",
}
NAMES = ", ".join(COLUMNS)
COUNTED = f"""
SELECT submitter, destination_host, {", ".join(COLUMNS.values())}
FROM jobs WHERE ({HELD} OR {AT_FTS})
"""  # noqa: S608 - constants
LOCK = "SELECT destination_host FROM jobs_under_way WHERE submitter = %s FOR UPDATE"
CLEAR = "DELETE FROM jobs_under_way WHERE submitter = %s"
COUNT = f"""
INSERT INTO jobs_under_way (submitter, destination_host, {NAMES})
{COUNTED} AND submitter = %s GROUP BY destination_host
"""
# Of jobs and counts as of one moment: they change in the same transactions.
MISCOUNTED = f"""
WITH counted (submitter, destination_host, {NAMES}) AS (
  {COUNTED} GROUP BY submitter, destination_host
)
SELECT DISTINCT submitter FROM (
  SELECT * FROM counted
  UNION ALL
  SELECT submitter, destination_host, {", ".join(f"-{name}" for name in COLUMNS)}
  FROM jobs_under_way
) AS compared
GROUP BY submitter, destination_host
HAVING {" OR ".join(f"SUM({name}) <> 0" for name in COLUMNS)}
ORDER BY submitter LIMIT %s
"""  # noqa: S608 - constants


class UnderWay:
    """How many jobs there are in a queue, by submitter and destination host.

    `held`: how many jobs have a copy that the archive was asked for, by submitter.
    """

    def __init__(self, tx: Connection, queue: Queue) -> None:
        self._what = WORDS[queue]
        self.of_submitter = Counter[str]()
        self.to_host = Counter[str]()
        self.of_both = Counter[tuple[str, str]]()
        self.held = Counter[str]()
        for row in tx.query(ROWS):
            submitter, host, jobs = row["submitter"], row["destination_host"], row[queue]
            self.of_submitter[submitter] += jobs
            self.to_host[host] += jobs
            self.of_both[submitter, host] += jobs
            self.held[submitter] += row["held"]

    def limit(self, caps: Caps, submitter: str, host: str) -> str | None:
        """Which cap keeps another job of this submitter to this host out; None when none does."""
        if self.of_submitter[submitter] >= caps.per_submitter:
            return f"a user may have {_deliveries(caps.per_submitter)} {self._what} at once"
        if self.of_both[submitter, host] >= caps.per_submitter_and_destination:
            most = _deliveries(caps.per_submitter_and_destination)
            return f"a user may have {most} to {host} {self._what} at once"
        if self.to_host[host] >= caps.per_destination:
            return f"{_deliveries(caps.per_destination)} to {host} may be {self._what} at once"
        if self.is_full(caps):
            return f"{_deliveries(caps.in_flight)} of all users may be {self._what} at once"
        return None

    def is_full(self, caps: Caps) -> bool:
        return self.of_submitter.total() >= caps.in_flight


def recount(tx: Connection, submitter: str) -> None:
    """As the jobs say. The submitter's row of `submitter_jobs` has to be locked."""
    tx.query(LOCK, submitter)
    tx.execute(CLEAR, submitter)
    tx.execute(COUNT, submitter)


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count} deliveries"
