"""How many jobs each submitter has: counts that triggers keep (deliv/store/sql/0005_counts.sql).

A transaction that changes a job's status holds its submitter's row here until it ends. So whoever
holds that row sees in `jobs` exactly what has been counted.
"""

from __future__ import annotations

from deliv.db.database import Connection
from deliv.model.states import UNFINISHED, Status

COLUMNS = {status: status.value.lower() for status in Status}
SUMS = ", ".join(f"COALESCE(SUM({column}), 0) AS {column}" for column in COLUMNS.values())
BY_STATUS = f"SELECT {SUMS} FROM submitter_jobs"  # noqa: S608 - constants
UNFINISHED_JOBS = f"""
SELECT {" + ".join(COLUMNS[status] for status in Status if status in UNFINISHED)} AS jobs
FROM submitter_jobs WHERE submitter = %s
"""  # noqa: S608 - constants
CREATE = "INSERT IGNORE INTO submitter_jobs (submitter) VALUES (%s)"
LOCK = "SELECT submitter FROM submitter_jobs WHERE submitter = %s FOR UPDATE"
COUNTED = "SELECT status, COUNT(*) AS jobs FROM jobs WHERE submitter = %s GROUP BY status"
SET = f"""
UPDATE submitter_jobs SET {", ".join(f"{column} = %s" for column in COLUMNS.values())}
WHERE submitter = %s
"""  # noqa: S608 - constants


def by_status(tx: Connection) -> dict[Status, int]:
    (row,) = tx.query(BY_STATUS)
    return {status: int(row[column]) for status, column in COLUMNS.items()}


def unfinished(tx: Connection, submitter: str) -> int:
    row = tx.get(UNFINISHED_JOBS, submitter)
    return row["jobs"] if row else 0


def recount(tx: Connection, submitter: str) -> None:
    if tx.get(LOCK, submitter) is None:
        tx.execute(CREATE, submitter)
    found = {row["status"]: row["jobs"] for row in tx.query(COUNTED, submitter)}
    tx.execute(SET, *(found.get(status, 0) for status in COLUMNS), submitter)
