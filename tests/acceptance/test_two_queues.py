"""What the archive is asked for at once, apart from what FTS has; and the space that it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.held_stagings import ASKED, all_delivered, held, space_is_kept_and_shared, submit
from support.reconfigured import with_capacity, with_staging_limits
from support.running_stack import Stack, brought_up, until

pytestmark = pytest.mark.own_stack

AT_ONCE = 600  # three times what FTS has at once at most
SIZE = 100_000  # bytes


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Its stager has time: it is held for as long as the machine needs to ask for all."""
    with brought_up() as stack:
        yield stack


def test_as_many_are_staged_as_the_archive_takes(stack: Stack) -> None:
    """All are asked for before the first is staged: it takes the time of one staging, not three."""
    with_staging_limits(stack, {})
    target = stack.target()
    with held(stack):
        submit(stack, "alice", target, AT_ONCE, 10_000)
        until(lambda: stack.query(ASKED, "queues") == [(AT_ONCE,)], "all are asked for", 600)
        ((staged,),) = stack.query("SELECT COUNT(time_staged) FROM jobs")
        assert staged == 0
    all_delivered(stack, "alice", AT_ONCE)
    assert len(target.names()) == AT_ONCE


def test_no_more_is_asked_for_than_there_is_space_for(stack: Stack) -> None:
    space_is_kept_and_shared(stack, size=SIZE, area=20 * SIZE, of_alice=100, of_bob=20)


def test_users_in_step_share_what_there_is_space_for(stack: Stack) -> None:
    """Both have the two products staged that there is room for; neither waits for the other's."""
    with_staging_limits(stack, {"bytes": f"{2 * SIZE}B", "bytes_per_product": f"{SIZE}B"})
    with_capacity(stack, 2 * SIZE)
    users = {user: stack.target() for user in ("alice", "bob")}
    with held(stack):
        for user, target in users.items():
            submit(stack, user, target, 4, SIZE)
        until(lambda: stack.query(ASKED, "queues") == [(4,)], "the space is used up", 600)
        assert stack.query("SELECT COUNT(*) FROM stagings") == [(2,)]
    for user in users:
        all_delivered(stack, user, 4)
    assert "refused" not in (stack.directory / "log" / "stager.log").read_text(encoding="utf-8")
