"""A campaign of many items by `deliv submit --from`, against bare inserts of as many rows."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from hashlib import sha256

from support.running_stack import Stack

from bench.figures import Figure
from deliv.delivery.submit import new_ids
from deliv.http.handlers.submission import BATCH
from deliv.store.submissions import COLUMNS, INSERT, ROW

ITEMS = 100_000
LABEL = "bench"
HOST = "127.0.0.1"


def figures(stack: Stack) -> Iterator[Figure]:
    """The last of a stack's: the jobs stay.

    Half of the rows are inserted before, the rest after, so that noise is for both.
    """
    with stack.as_root() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE bare_jobs LIKE jobs")
    base = inserted(stack, ITEMS // 2)
    value = submitted(stack)
    base += inserted(stack, ITEMS // 2)
    yield Figure(
        what=f"{ITEMS:,} items by deliv submit --from", value=value,
        against="as many rows inserted, durably", base=base, unit="s", most=4,
    )  # fmt: skip


def submitted(stack: Stack) -> float:
    """Seconds. Products that never come: what follows a submission costs little."""
    file = stack.directory / "campaign.csv"
    file.write_text("".join(f"silent-{n}\n" for n in range(ITEMS)), encoding="ascii")
    proxy = stack.user("alice").proxy
    command = [sys.executable, "-m", "deliv.cli", "submit", "--from", file, stack.target().url]
    command += ["--label", LABEL, "--url", stack.url, "--cert", proxy, "--ca", stack.ca]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-1000:]
    assert len(set(done.stdout.split())) == ITEMS
    return taken


def inserted(stack: Stack, count: int) -> float:
    """Seconds, into a table with the columns and indexes of `jobs`, but without its triggers.

    In transactions as large as deliv's; neither the events of the jobs nor messages.
    """
    submitter = stack.user("alice").dn
    rows = [row(job_id, submitter) for job_id in new_ids(count)]
    sql = INSERT.replace("INTO jobs", "INTO bare_jobs")
    with stack.as_root() as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for start in range(0, count, BATCH):
            some = rows[start : start + BATCH]
            cursor.execute("BEGIN")
            values = [value for one in some for value in one]
            cursor.execute(sql + ", ".join([ROW] * len(some)), values)
            cursor.execute("COMMIT")
        return time.perf_counter() - started


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
        "retry_of": None,
        "status": "SUBMITTED",
        "idempotency_digest": digest,
        "request_digest": digest,
        "submitter_fqans": "",
        "submitter_limited": False,
    }
    return tuple(values[name] for name in COLUMNS)
