"""A campaign of many items in one call, against bare inserts of as many rows into such a table."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Iterator
from hashlib import sha256

from support.running_stack import Stack

from bench.figures import Figure
from deliv.delivery.submit import new_ids
from deliv.http.handlers.submission import BATCH
from deliv.store.submissions import COLUMNS, INSERT, ROW

ITEMS, ROUNDS = 10_000, 3
LABEL = "bench"
HOST = "127.0.0.1"


def figures(stack: Stack) -> Iterator[Figure]:
    """The last of a stack's: the jobs stay."""
    bare, many = [], []
    for number in range(ROUNDS):
        bare.append(inserted(stack))
        many.append(submitted(stack, number))
    yield Figure(
        what=f"{ITEMS:,} items in one call", value=statistics.median(many),
        against="as many rows inserted, durably", base=statistics.median(bare), unit="s", most=8,
    )  # fmt: skip


def submitted(stack: Stack, number: int) -> float:
    """Seconds. Products that never come: what follows a submission costs little."""
    url = stack.target().url
    items = [
        {"product_id": f"silent-{number}-{n}", "destination_path": url, "label": LABEL}
        for n in range(ITEMS)
    ]
    body = stack.directory / "campaign.json"
    body.write_text(json.dumps({"transfers": items}), encoding="ascii")
    options = ("-H", "Content-Type: application/json", "--data-binary", f"@{body}")
    key = ("-H", f"Idempotency-Key: {uuid.uuid4().hex}")
    started = time.perf_counter()
    answer = stack.curl("/submitTransfers", *options, *key)
    taken = time.perf_counter() - started
    assert answer.document["accepted"] == ITEMS, answer.body[:1000]
    return taken


def inserted(stack: Stack) -> float:
    """Seconds, into a table with the columns and indexes of `jobs`, but without its triggers."""
    submitter = stack.user("alice").dn
    rows = [row(job_id, submitter) for job_id in new_ids(ITEMS)]
    sql = INSERT.replace("INTO jobs", "INTO bare_jobs")
    with stack.as_root() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE bare_jobs LIKE jobs")
        started = time.perf_counter()
        for start in range(0, ITEMS, BATCH):
            some = rows[start : start + BATCH]
            cursor.execute("BEGIN")
            values = [value for one in some for value in one]
            cursor.execute(sql + ", ".join([ROW] * len(some)), values)
            cursor.execute("COMMIT")
        taken = time.perf_counter() - started
        cursor.execute("DROP TABLE bare_jobs")
    return taken


def row(job_id: str, submitter: str) -> tuple[object, ...]:
    key = uuid.uuid4().hex
    digest = sha256(key.encode()).digest()
    values = {
        "job_id": job_id,
        "product_id": f"silent-{key}",
        "destination_path": f"gsiftp://{HOST}/data/{key}",
        "destination_host": HOST,
        "submitter": submitter,
        "idempotency_key": key,
        "deadline": None,
        "copied_as": "service",
        "label": LABEL,
        "status": "SUBMITTED",
        "idempotency_digest": digest,
        "request_digest": digest,
        "submitter_fqans": "",
        "submitter_limited": False,
    }
    return tuple(values[name] for name in COLUMNS)
