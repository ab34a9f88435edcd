"""The long forms of what tests/crashes and tests/acceptance say of many files and many products."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from acceptance.test_trees_in_trouble import cancelled_in_the_middle, some_of_many_fail
from support.deliveries_of_trees import delivered_between_kills
from support.held_stagings import space_is_kept_and_shared
from support.running_stack import Stack, brought_up

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with brought_up() as stack:
        yield stack


def test_ten_thousand_files_and_twenty_kills(stack: Stack) -> None:
    product, at_fts = "tree-10000-100-2000000", 400  # the default
    delivered_between_kills(stack, stack.target(), product, at_fts, kills=20)


def test_some_of_a_thousand_fail(stack: Stack) -> None:
    some_of_many_fail(stack, stack.target(), 1000)


def test_a_cancel_in_the_middle_of_five_thousand(stack: Stack) -> None:
    cancelled_in_the_middle(stack, stack.target(), "tree-5000-1000", after=1000)


def test_five_hundred_products_in_the_space_of_a_hundred() -> None:
    with brought_up() as stack:
        space_is_kept_and_shared(stack, size=10**6, area=10**8, of_alice=400, of_bob=100)
