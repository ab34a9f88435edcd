"""How many jobs each submitter has, and each of their labels: counts that triggers keep.

See deliv/store/sql/0005_counts.sql and 0012_labels.sql. A label's count archived jobs, too.

A transaction that changes a job's status holds its submitter's row here until it ends, and one that
forgets archived jobs those of their labels. So whoever holds all these rows sees in the tables of
jobs exactly what has been counted.
"""

from __future__ import annotations

from deliv.db.database import Connection
from deliv.model.states import UNFINISHED, Status
from deliv.store import under_way

COLUMNS = {status: status.value.lower() for status in Status}
NAMES = ", ".join(COLUMNS.values())
BY_STATUS = f"""
SELECT {", ".join(f"COALESCE(SUM({column}), 0) AS {column}" for column in COLUMNS.values())}
FROM submitter_jobs
"""  # noqa: S608 - constants
OF_LABEL = f"SELECT {NAMES} FROM label_jobs WHERE submitter = %s AND label = %s"  # noqa: S608
UNFINISHED_JOBS = f"""
SELECT {" + ".join(COLUMNS[status] for status in Status if status in UNFINISHED)} AS jobs
FROM submitter_jobs WHERE submitter = %s FOR UPDATE
"""  # noqa: S608 - constants
TAKE = """
INSERT INTO submitter_jobs (submitter) VALUES (%s) ON DUPLICATE KEY UPDATE submitter = submitter
"""
CREATE = "INSERT IGNORE INTO submitter_jobs (submitter) VALUES (%s)"
LOCK = "SELECT submitter FROM submitter_jobs WHERE submitter = %s FOR UPDATE"
COUNTED = "SELECT status, COUNT(*) AS jobs FROM jobs WHERE submitter = %s GROUP BY status"
SET = f"""
UPDATE submitter_jobs SET {", ".join(f"{column} = %s" for column in COLUMNS.values())}
WHERE submitter = %s
"""  # noqa: S608 - constants
LOCK_LABELS = "SELECT label FROM label_jobs WHERE submitter = %s FOR UPDATE"
CLEAR_LABELS = "DELETE FROM label_jobs WHERE submitter = %s"
EACH_STATUS = ", ".join(f"COUNT(IF(status = '{status}', 1, NULL))" for status in Status)
COUNT_LABELS = f"""
INSERT INTO label_jobs (submitter, label, {NAMES})
SELECT submitter, label, {EACH_STATUS} FROM (
  SELECT submitter, label, status FROM jobs FORCE INDEX (labelled_status)
  WHERE submitter = %s AND label IS NOT NULL
  UNION ALL SELECT submitter, label, status FROM jobs_archive FORCE INDEX (labelled_status)
  WHERE submitter = %s AND label IS NOT NULL
) AS labelled
GROUP BY submitter, label
"""  # noqa: S608 - constants


def by_status(tx: Connection) -> dict[Status, int]:
    (row,) = tx.query(BY_STATUS)
    return {status: int(row[column]) for status, column in COLUMNS.items()}


def of_label(tx: Connection, submitter: str, label: str) -> dict[Status, int]:
    """Archived jobs are counted, too."""
    row = tx.get(OF_LABEL, submitter, label)
    return {status: row[column] if row else 0 for status, column in COLUMNS.items()}


def unfinished(tx: Connection, submitter: str) -> int:
    """As long as this transaction lasts no other changes it."""
    tx.execute(TAKE, submitter)
    (row,) = tx.query(UNFINISHED_JOBS, submitter)
    return int(row["jobs"])


def recount(tx: Connection, submitter: str) -> None:
    if tx.get(LOCK, submitter) is None:
        tx.execute(CREATE, submitter)
    found = {row["status"]: row["jobs"] for row in tx.query(COUNTED, submitter)}
    tx.execute(SET, *(found.get(status, 0) for status in COLUMNS), submitter)
    tx.query(LOCK_LABELS, submitter)
    tx.execute(CLEAR_LABELS, submitter)
    tx.execute(COUNT_LABELS, submitter, submitter)
    under_way.recount(tx, submitter)
