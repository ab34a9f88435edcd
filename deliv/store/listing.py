"""Pages of jobs, those submitted last first, archived ones among them.

Each page is read along one index in the order of job ids, which is that of submission.
"""

from __future__ import annotations

from deliv.db import Connection
from deliv.model import Job, Listing
from deliv.store.archive import first_id
from deliv.store.columns import SELECT, to_job

# The condition on a column, and the index that has what fulfils it in order; the best comes first.
FILTERS = (
    ("submitter", "listed"),
    ("product_id", "requested"),
    ("status", "standing"),
)
TABLES = ("jobs", "jobs_archive")  # in this order: a job that moves meanwhile is not missed


def page(tx: Connection, listing: Listing) -> list[Job]:
    """At most `limit` jobs."""
    found: dict[str, Job] = {}
    for table in TABLES:
        sql, values = statement(table, listing)
        found |= {row["job_id"]: to_job(row) for row in tx.query(sql, *values)}
    return [found[job_id] for job_id in sorted(found, reverse=True)[: listing.limit]]


def statement(table: str, listing: Listing) -> tuple[str, list[object]]:
    """The query for one table and its parameters."""
    given = [(column, index) for column, index in FILTERS if getattr(listing, column) is not None]
    index = given[0][1] if given else "PRIMARY"
    terms = [f"{column} = %s" for column, _ in given]
    values: list[object] = [getattr(listing, column) for column, _ in given]
    for term, job_id in _stretch(listing):
        terms.append(term)
        values.append(job_id)
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    head = SELECT.replace(" FROM jobs", f" FROM {table}")
    sql = f"{head} FORCE INDEX ({index}){where} ORDER BY job_id DESC LIMIT %s"
    return sql, [*values, listing.limit]


def _stretch(listing: Listing) -> list[tuple[str, str]]:
    """The bounds on job ids."""
    bounds = []
    if listing.since is not None:
        bounds.append(("job_id >= %s", first_id(listing.since)))
    if listing.until is not None:
        bounds.append(("job_id < %s", first_id(listing.until)))
    if listing.before is not None:
        bounds.append(("job_id < %s", listing.before))
    return bounds
