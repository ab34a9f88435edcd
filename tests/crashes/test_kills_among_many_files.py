"""deliv is killed in each transfer of a product of several files, while FTS copies.

A frozen destination holds the copies until deliv is dead, however slow the machine is.
tests/soak/test_large_trees.py has more files and more kills, at any time.
"""

from __future__ import annotations

import pytest
from support.deliveries_of_trees import (
    assert_each_file_was_copied_once,
    finished_at_fts,
    reported,
    wait_long_for_the_report,
)
from support.running_stack import Stack, until

from crashes.conftest import PATIENT, SMALL_TRANSFERS, be_patient

pytestmark = pytest.mark.timeout(900)

DELIV, DESTINATION = "deliv@1", "gridftp-destination"
TRANSFERS = 3


def test_each_file_is_copied_once(stack: Stack) -> None:
    """FTS ends a transfer while deliv is away, and the last one after deliv is back."""
    be_patient(stack, PATIENT)
    per_transfer = SMALL_TRANSFERS["files_per_transfer"]
    target, product = stack.target(), f"tree-{TRANSFERS * per_transfer}-100"
    stack.control("freeze", DESTINATION)
    with stack.client() as client:
        job_id = client.submit(product, target.url)
    wait_long_for_the_report(stack, job_id)
    until(lambda: reported(stack, job_id), "the report is being stored", timeout=300)
    stack.control("kill", DELIV)
    stack.control("start", DELIV)
    for copied in range(per_transfer, TRANSFERS * per_transfer, per_transfer):
        until(lambda: stack.copied_by_fts(job_id), "FTS copies", timeout=300)
        stack.control("kill", DELIV)
        stack.control("thaw", DESTINATION)
        until(
            lambda copied=copied: finished_at_fts(stack, job_id) == copied,
            f"{copied} files are copied",
            timeout=300,
        )
        stack.control("freeze", DESTINATION)
        stack.control("start", DELIV)
    until(lambda: stack.copied_by_fts(job_id), "FTS copies", timeout=300)
    stack.control("kill", DELIV)
    stack.control("start", DELIV)
    stack.control("thaw", DESTINATION)
    assert_each_file_was_copied_once(stack, job_id, target, product)
