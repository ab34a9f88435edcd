"""Pages of jobs, those submitted last first, archived ones among them.

Each page is read along one index in the order of job ids, which is that of submission. Every
combination of filters has an index, so that a page reads the jobs it shows and no others; those of
products compare the first 500 characters of an id. What takes long all the same is given up.
"""

from __future__ import annotations

from deliv.db.database import Connection, StatementTimeout
from deliv.errors import ListTimeout
from deliv.model.job import Job, Listing
from deliv.store.archive import first_id
from deliv.store.columns import SELECT, to_job

# The index that has what fulfils the conditions on these columns, in the order of job ids.
INDEXES = {
    (): "PRIMARY",
    ("submitter",): "listed",
    ("product_id",): "requested",
    ("status",): "standing",
    ("submitter", "product_id"): "submitter_product",
    ("submitter", "status"): "submitter_status",
    ("product_id", "status"): "product_status",
    ("submitter", "product_id", "status"): "submitter_product_status",
    ("submitter", "label"): "labelled",
    ("submitter", "label", "product_id"): "labelled_product",
    ("submitter", "label", "status"): "labelled_status",
    ("submitter", "label", "product_id", "status"): "labelled_product_status",
}
TABLES = ("jobs", "jobs_archive")  # in this order: a job that moves meanwhile is not missed
# Seconds for each table. A page takes some milliseconds, from a slow disk less than a second; what
# takes longer keeps a connection from other callers.
LONGEST = 3.0


def page(tx: Connection, listing: Listing) -> list[Job]:
    """At most `limit` jobs. ListTimeout when they are not found in time."""
    found: dict[str, Job] = {}
    for table in TABLES:
        sql, values = statement(table, listing)
        try:
            rows = tx.query(f"SET STATEMENT max_statement_time = {LONGEST} FOR {sql}", *values)
        except StatementTimeout as error:
            raise ListTimeout(
                f"the list took longer than {LONGEST:.0f} s: narrow it, by since and until, or by "
                "submitter, product_id or status"
            ) from error
        found |= {row["job_id"]: to_job(row) for row in rows}
    return [found[job_id] for job_id in sorted(found, reverse=True)[: listing.limit]]


def statement(table: str, listing: Listing) -> tuple[str, list[object]]:
    """The query for one table and its parameters."""
    columns = ("submitter", "label", "product_id", "status")
    given = tuple(column for column in columns if getattr(listing, column) is not None)
    terms = [f"{column} = %s" for column in given]
    values: list[object] = [getattr(listing, column) for column in given]
    for term, job_id in _stretch(listing):
        terms.append(term)
        values.append(job_id)
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    head = SELECT.replace(" FROM jobs", f" FROM {table}")
    sql = f"{head} FORCE INDEX ({INDEXES[given]}){where} ORDER BY job_id DESC LIMIT %s"
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
