"""deliv is killed again and again while the files of one product are copied.

tests/soak/test_large_trees.py has the same with more of both.
"""

from __future__ import annotations

import pytest
from support.deliveries_of_trees import delivered_between_kills
from support.running_stack import Stack

from crashes.conftest import FEW_AT_FTS, PATIENT, be_patient
from deliv.model.turns import ACTIVE_TIMES

pytestmark = pytest.mark.timeout(900)

COPIED_AT_ONCE = 8  # by the dummy FTS, between two hosts


def test_each_file_is_copied_once(stack: Stack) -> None:
    be_patient(stack, PATIENT)
    at_fts = max(FEW_AT_FTS["files_per_pair"], ACTIVE_TIMES * COPIED_AT_ONCE)
    delivered_between_kills(stack, stack.target(), "tree-104-100", at_fts, kills=3)
