"""deliv is killed again and again while the files of one product are copied.

tests/soak/test_large_trees.py has the same with more of both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deliveries_of_trees import delivered_between_kills
from support.running_stack import Stack

from crashes.conftest import PATIENT, be_patient, configure, settings

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def usual_transfers(stack: Stack) -> Iterator[Stack]:
    before = settings(stack)["fts"]
    be_patient(stack, PATIENT)
    configure(stack, {"fts": before | {"files_per_transfer": 100}})
    yield stack
    configure(stack, {"fts": before})


def test_each_file_is_copied_once(usual_transfers: Stack) -> None:
    target = usual_transfers.target()
    delivered_between_kills(usual_transfers, target, "tree-300-100-2000000", kills=5)
