"""The transition table, the failure classes, job ids and one-time codes."""

import time
import uuid

import pytest

from deliv.delivery import authcode
from deliv.delivery.submit import uuid7
from deliv.errors import IllegalTransition
from deliv.model.error_classes import ADVICE, ErrorClass
from deliv.model.states import FINAL, TRANSITIONS, Event, Status, after


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("event", Event)
def test_nothing_leaves_a_final_state(status: Status, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=status):
        after(status, event)


@pytest.mark.parametrize("status", set(Status) - FINAL)
def test_every_unfinished_job_can_fail_and_be_cancelled(status: Status) -> None:
    assert after(status, Event.FAIL) is Status.ERROR
    assert after(status, Event.CANCEL) is Status.CANCELLED


def test_every_state_is_reached() -> None:
    assert {Status.SUBMITTED, *TRANSITIONS.values()} == set(Status)


def test_every_failure_has_advice() -> None:
    assert set(ADVICE) == set(ErrorClass)


def test_job_ids_are_uuid7_and_sort_by_time() -> None:
    first = uuid7()
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    milliseconds = int(first.replace("-", "")[:12], 16)
    assert abs(milliseconds - time.time() * 1000) < 60_000
    assert len({uuid7() for _ in range(1000)}) == 1000


def test_codes_match_only_their_digest() -> None:
    code = authcode.new()
    assert len(code) == 32
    assert len(authcode.digest(code)) == 32
    assert authcode.matches(code, authcode.digest(code))
    assert not authcode.matches(authcode.new(), authcode.digest(code))
    assert not authcode.matches(code, None)
    assert not authcode.matches("", None)
    assert not authcode.matches("\ud800", authcode.digest(code))
