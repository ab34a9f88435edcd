"""deliv is killed again and again among the transfers of a product of several files.

A frozen destination holds the copies until deliv is dead, however slow the machine is.
tests/soak/test_long_forms.py has more files and more kills, at any time.
"""

from __future__ import annotations

import pytest
from support.deliveries_of_trees import (
    assert_each_file_was_copied_once,
    ended_at,
    records_of_fts,
    reported,
    wait_long_for_the_report,
)
from support.running_stack import Stack, until

from crashes.conftest import FEW_AT_FTS, PATIENT, be_patient
from deliv.model.turns import ACTIVE_TIMES

pytestmark = pytest.mark.timeout(900)

DELIV, DESTINATION = "deliv@1", "gridftp-destination"
COPIED_AT_ONCE = 8  # by the dummy FTS, between two hosts
KILLS = 3


def test_each_file_is_copied_once(stack: Stack) -> None:
    """FTS ends all that it has while deliv is away, and the last files after deliv is back."""
    be_patient(stack, PATIENT)
    at_fts = max(FEW_AT_FTS["files_per_pair"], ACTIVE_TIMES * COPIED_AT_ONCE)
    target, product = stack.target(), f"tree-{(KILLS + 1) * at_fts}-100"
    stack.control("freeze", DESTINATION)
    with stack.client() as client:
        job_id = client.submit(product, target.url)
    wait_long_for_the_report(stack, job_id)
    until(lambda: reported(stack, job_id), "the report is being stored", timeout=300)
    stack.control("kill", DELIV)
    stack.control("start", DELIV)
    for _ in range(KILLS):
        until(lambda: copying(stack, job_id), "FTS copies", timeout=300)
        stack.control("kill", DELIV)
        stack.control("thaw", DESTINATION)
        until(lambda: not copying(stack, job_id), "FTS has copied what it has", timeout=300)
        assert ended_at(stack, job_id) is None
        stack.control("freeze", DESTINATION)
        stack.control("start", DELIV)
    until(lambda: copying(stack, job_id), "FTS copies", timeout=300)
    stack.control("kill", DELIV)
    stack.control("start", DELIV)
    stack.control("thaw", DESTINATION)
    assert_each_file_was_copied_once(stack, job_id, target, product)


def copying(stack: Stack, job_id: str) -> bool:
    """Whether FTS has files of the job to copy."""
    return any(state != "FINISHED" for _, state in records_of_fts(stack, job_id))
