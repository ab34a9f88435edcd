"""The outbox: messages for the broker, stored in the transaction of the change they announce."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum

from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.store import leases
from deliv.store.columns import LATER, microseconds, placeholders
from deliv.store.leases import Fence
from deliv.store.rows import OutboxRow

INSERT = "INSERT INTO outbox (routing, job_id, payload) VALUES "
WAITING = """
SELECT id, routing, job_id, payload FROM outbox
WHERE held_until IS NULL OR held_until <= NOW(6)
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""
HOLD = f"UPDATE outbox SET held_until = {LATER} WHERE id IN "  # noqa: S608 - LATER is a constant
DELETE = "DELETE FROM outbox WHERE id IN "
OLDEST = """
SELECT id, created < %s AS old FROM outbox
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""


class Routing(StrEnum):
    """What a message is for. The values are those of the column and of the queues' names."""

    ADMIT = "stage"  # a job may be admitted
    ATTEND = "transfer"  # this job needs attention
    EVENT = "event"  # this job changed


def add(tx: Connection, about: Sequence[tuple[Job, Sequence[Routing]]], **more: str | None) -> None:
    """Rows about jobs as they are in this transaction; an event has `more` beside it."""
    values = [
        (routing, job.job_id, _event(job, more) if routing is Routing.EVENT else None)
        for job, routings in about
        for routing in routings
    ]
    if values:
        rows = ", ".join(["(%s, %s, %s)"] * len(values))
        tx.execute(INSERT + rows, *(value for row in values for value in row))


def _event(job: Job, more: Mapping[str, str | None]) -> str:
    return json.dumps(
        {
            "job_id": job.job_id,
            "submitter": job.submitter,
            "status": job.status,
            "attempt": job.attempt,
            "staged": job.time_staged is not None,
            "error_class": job.error_class,
            "version": job.version,
            **more,
        }
    )


def take(tx: Connection, limit: int, hold: float) -> list[OutboxRow]:
    """The oldest rows that no relay has, kept from others for `hold` seconds."""
    rows = tx.query(WAITING, limit)
    if rows:
        ids = [row["id"] for row in rows]
        tx.execute(f"{HOLD}({placeholders(len(ids))})", microseconds(hold), *ids)
    return [OutboxRow(**{**row, "payload": json.loads(row["payload"] or "{}")}) for row in rows]


def done(tx: Connection, ids: Sequence[int]) -> None:
    if ids:
        tx.execute(f"{DELETE}({placeholders(len(ids))})", *ids)


def trim(tx: Connection, fence: Fence, age: float, limit: int) -> int:
    """Remove what waits for the broker for `age` seconds: no job needs it; how many rows."""
    leases.guard(tx, fence)
    then = tx.now() - timedelta(seconds=age)
    ids = [row["id"] for row in tx.query(OLDEST, then, limit) if row["old"]]
    done(tx, ids)
    return len(ids)
