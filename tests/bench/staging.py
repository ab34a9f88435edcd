"""Many products from an archive that is slow, as many at once as it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from support.reconfigured import with_staging_limits
from support.running_stack import brought_up, until

from bench.figures import Figure
from bench.service import copying

PRODUCTS = 600
STAGING = 60  # seconds for each
FIRST_SIZE = 1_000  # bytes
DELIVERED = "SELECT COUNT(*) FROM jobs WHERE status = 'SUCCESS'"


def figures() -> Iterator[Figure]:
    """From the first submission to the last SUCCESS, without the time of one staging."""
    with brought_up() as stack:
        with_staging_limits(stack, {})
        target = stack.target()
        items = [
            {
                "product_id": f"slow-{STAGING}-synthetic-{FIRST_SIZE + number}",
                "destination_path": target.url,
            }
            for number in range(PRODUCTS)
        ]
        started = time.monotonic()
        with stack.client() as client:
            client.submit_many(items)
        until(lambda: stack.query(DELIVERED) == [(PRODUCTS,)], "all are delivered", timeout=1800)
        yield Figure(
            what=f"{PRODUCTS} deliveries, each staged for {STAGING} s, less these",
            value=time.monotonic() - started - STAGING,
            against="copying at FTS alone", base=copying(stack), unit="s", most=1.2,
        )  # fmt: skip
