"""deliv is killed again and again while the files of one product are copied.

tests/soak/test_large_trees.py has the same with more of both.
"""

from __future__ import annotations

import pytest
from support.deliveries_of_trees import delivered_between_kills
from support.running_stack import Stack

from crashes.conftest import PATIENT, SMALL_TRANSFERS, be_patient

pytestmark = pytest.mark.timeout(900)


def test_each_file_is_copied_once(stack: Stack) -> None:
    be_patient(stack, PATIENT)
    per_transfer = SMALL_TRANSFERS["files_per_transfer"]
    delivered_between_kills(stack, stack.target(), "tree-42-100", per_transfer, kills=5)
