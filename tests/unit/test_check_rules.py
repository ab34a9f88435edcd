"""What `deliv check` says of a job and its history, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.commands.check import history
from deliv.commands.check.findings import Fix
from deliv.commands.check.rules import Moment, examine
from deliv.model.job import Job
from deliv.model.states import FINAL, TRANSITIONS, Event, Status
from deliv.store.inspection import Record, Step, StepBack

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MOMENT = Moment(now=NOW, patience=timedelta(minutes=10), endpoints=frozenset({"fts1"}))
DESTINATION = "gsiftp://user.example.org/data"
KEY = sha256(f"{DESTINATION}/a.fits".encode()).digest()
SECOND = timedelta(seconds=1)


def walk(*events: Event) -> tuple[Step, ...]:
    """The history that these events make, a second apart; the last step is now."""
    steps = [Step(status=Status.SUBMITTED, attempt=1, staged=False, time=NOW)]
    for event in events:
        last = steps[-1]
        staged = event is Event.STAGED or (last.staged and event is not Event.RESTAGE)
        attempt = last.attempt + (event in history.NEW_ATTEMPT)
        status = TRANSITIONS[last.status, event]
        steps.append(Step(status=status, attempt=attempt, staged=staged, time=NOW))
    count = len(steps) - 1
    return tuple(replace(step, time=NOW - (count - n) * SECOND) for n, step in enumerate(steps))


COPIED = (Event.ADMIT, Event.STAGED, Event.TRANSFER)
STAGED_COLUMNS: dict[str, Any] = {
    "time_staging": NOW - 3 * SECOND,
    "time_staged": NOW - 2 * SECOND,
    "time_transferring": NOW - SECOND,
    "stager_hostname": "archive.example.org",
    "stager_path": "/copy/a.fits",
    "stager_accepted": NOW - 3 * SECOND,
}
AT_FTS: dict[str, Any] = {
    **STAGED_COLUMNS,
    "fts_jobid": "f",
    "fts_endpoint": "fts1",
    "fts_posted": NOW,
}
# A job in good order in each situation: its history and what its row says beyond that.
GOOD: dict[str, tuple[tuple[Event, ...], dict[str, Any]]] = {
    "waiting": ((), {"due_at": NOW}),
    "asking the stager": (
        (Event.ADMIT,),
        {"due_at": NOW, "time_staging": NOW, "stager_callback": "ab" * 16},
    ),
    "staged": (
        (Event.ADMIT, Event.STAGED),
        {**STAGED_COLUMNS, "due_at": NOW, "time_transferring": None},
    ),
    "being copied": (COPIED, {**AT_FTS, "destination_key": KEY}),
    "staged again": (
        (*COPIED, Event.RESTAGE),
        {"due_at": NOW, "time_staging": NOW, "attempt": 2, "destination_key": KEY},
    ),
    "to be stopped": (
        COPIED,
        {**AT_FTS, "destination_key": KEY, "cancel_requested": NOW, "due_at": NOW},
    ),
    "delivered": (
        (*COPIED, Event.DELIVER),
        {**AT_FTS, "time_success": NOW, "time_released": NOW},
    ),
    "failed": (
        (Event.ADMIT, Event.FAIL),
        {"time_staging": NOW, "time_error": NOW, "error_class": "stager", "due_at": NOW},
    ),
    "withdrawn": ((Event.CANCEL,), {"time_cancelled": NOW}),
}


def record(situation: str, **changes: Any) -> Record:
    events, columns = GOOD[situation]
    steps = walk(*events)
    job = Job(
        job_id="id",
        product_id="product",
        status=steps[-1].status,
        destination_path=DESTINATION,
        submitter="/CN=a",
        time_submitted=steps[0].time,
        version=len(steps) + 3,
        **columns,
    )
    return Record(job=replace(job, **changes), steps=steps)


def found(record: Record) -> list[tuple[str, Fix | None]]:
    return [(finding.rule, finding.fix) for finding in examine(record, MOMENT)]


@pytest.mark.parametrize("situation", GOOD)
def test_a_job_in_order_is_left_alone(situation: str) -> None:
    assert [finding.text for finding in examine(record(situation), MOMENT)] == []


LONG_AGO = NOW - timedelta(hours=1)
BROKEN: list[tuple[str, dict[str, Any], str, Fix | None]] = [
    ("waiting", {"due_at": None}, "due", Fix.DUE),
    ("waiting", {"time_staging": NOW}, "times", None),
    ("waiting", {"fts_jobid": "f", "fts_endpoint": "e"}, "transfer", None),
    ("waiting", {"attempt": 2}, "history", None),
    ("waiting", {"version": -1}, "history", None),
    ("waiting", {"error_class": "stager"}, "outcome", None),
    ("waiting", {"deadline": LONG_AGO}, "stuck", None),
    ("waiting", {"idempotency_key": "k", "idempotency_digest": b"x" * 32}, "key", None),
    ("asking the stager", {"due_at": None}, "due", Fix.DUE),
    ("asking the stager", {"due_at": LONG_AGO}, "stuck", None),
    ("asking the stager", {"stager_accepted": NOW, "stager_callback": None}, "report", Fix.ASK),
    ("asking the stager", {"destination_key": KEY}, "destination", Fix.DESTINATION),
    ("staged", {"stager_callback": "ab" * 16}, "code", Fix.CODE),
    ("staged", {"time_staged": NOW - 60 * SECOND}, "times", None),
    ("being copied", {"destination_key": None}, "writer", None),
    ("being copied", {"stager_path": "/copy/b.fits"}, "writer", None),
    ("being copied", {"fts_endpoint": None}, "transfer", None),
    ("being copied", {"fts_posted": None}, "due", Fix.DUE),
    ("being copied", {"fts_endpoint": "gone"}, "endpoint", None),
    ("being copied", {"time_success": NOW}, "times", None),
    ("to be stopped", {"due_at": None}, "due", Fix.DUE),
    ("delivered", {"time_success": None}, "times", None),
    ("delivered", {"time_success": NOW - 600 * SECOND}, "history", None),
    ("delivered", {"time_released": None}, "due", Fix.DUE),
    ("delivered", {"fts_jobid": None, "fts_endpoint": None}, "transfer", None),
    ("failed", {"error_class": None}, "outcome", None),
    ("failed", {"error_class": "bad luck"}, "outcome", None),
    ("failed", {"due_at": None}, "due", Fix.DUE),
    ("failed", {"fts_jobid": "f", "fts_endpoint": "gone"}, "endpoint", None),
    ("withdrawn", {"destination_key": KEY}, "destination", Fix.DESTINATION),
    ("withdrawn", {"stager_callback": "ab" * 16}, "code", Fix.CODE),
]


@pytest.mark.parametrize(("situation", "changes", "rule", "fix"), BROKEN)
def test_what_can_not_be_is_found(
    situation: str, changes: dict[str, Any], rule: str, fix: Fix | None
) -> None:
    assert (rule, fix) in found(record(situation, **changes))


def test_a_delivered_job_needs_its_fts_no_more() -> None:
    assert found(record("delivered", fts_endpoint="gone")) == []


def test_nothing_of_the_archive_is_mended() -> None:
    kept = record("withdrawn", destination_key=KEY)
    (finding,) = examine(kept, MOMENT, archived=True)
    assert (finding.rule, finding.fix) == ("destination", None)


def test_what_has_not_ended_for_good_is_not_to_be_archived() -> None:
    for situation in ("being copied", "failed"):
        rules = {f.rule for f in examine(record(situation), MOMENT, archived=True)}
        assert rules == {"archive"}


@given(st.lists(st.sampled_from(list(Event)), max_size=12))
def test_every_path_through_the_table_is_a_history(events: list[Event]) -> None:
    steps = walk(*legal(events))
    assert all(history.may_follow(*pair) for pair in pairwise(steps))


def legal(events: list[Event]) -> list[Event]:
    """Those of the events that can happen, each after the ones before it."""
    taken: list[Event] = []
    status, staged = Status.SUBMITTED, False
    for event in events:
        after = TRANSITIONS.get((status, event))
        if after is None or (event is Event.STAGED and staged):
            continue
        if event is Event.TRANSFER and not staged:
            continue
        staged = event is Event.STAGED or (staged and event is not Event.RESTAGE)
        status = after
        taken.append(event)
    return taken


STEPS = st.builds(
    Step,
    status=st.sampled_from(list(Status)),
    attempt=st.integers(1, 3),
    staged=st.booleans(),
    time=st.just(NOW),
)


@given(STEPS, STEPS)
def test_nothing_follows_an_end_and_attempts_grow_by_one(before: Step, after: Step) -> None:
    if history.may_follow(before, after):
        assert before.status not in FINAL
        assert after.status is not Status.SUBMITTED or before.status is Status.STAGING
        assert after.attempt - before.attempt in {0, 1}
        assert before != after


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "has no events"),
        (walk(Event.ADMIT)[1:], "begins its history as STAGING"),
        (walk(*COPIED)[:2] + walk(*COPIED)[3:], "which no event leads to"),
        (walk(*COPIED, Event.DELIVER), "its last event was SUCCESS"),
        (tuple(reversed(walk(*COPIED))), "which no event leads to"),
    ],
)
def test_a_history_that_can_not_be(steps: tuple[Step, ...], text: str) -> None:
    job = record("being copied").job
    assert any(text in problem for problem in history.problems(Record(job=job, steps=steps)))


def test_steps_back_that_were_noted_explain_the_order_of_times() -> None:
    minute = timedelta(minutes=1)
    earlier, later = NOW, NOW + 20 * minute
    one = StepBack(was=later, became=earlier)
    first = StepBack(was=later, became=NOW + 10 * minute)
    second = StepBack(was=NOW + 11 * minute, became=earlier)
    unlike = StepBack(was=NOW - 10 * minute, became=NOW - 20 * minute)
    for steps_back, explained in [
        ((), False),
        ((one,), True),
        ((first,), False),
        ((second,), False),
        ((first, second), True),
        ((second, first), False),
        ((unlike,), False),
    ]:
        assert history.out_of_order(later, earlier, steps_back) is not explained
    assert not history.out_of_order(earlier, later, ())


def test_a_step_back_explains_a_history_and_a_jobs_times() -> None:
    kept = record("staged", time_staging=NOW + timedelta(minutes=10))
    first, second, *others = kept.steps
    kept = replace(kept, steps=(first, replace(second, time=NOW + timedelta(minutes=10)), *others))
    step = StepBack(was=NOW + timedelta(minutes=10), became=NOW - 3 * SECOND)
    assert {finding.rule for finding in examine(kept, MOMENT)} == {"history", "times"}
    assert [*examine(kept, replace(MOMENT, steps_back=(step,)))] == []


def test_a_clock_that_was_set_back_is_told() -> None:
    first, second, *others = walk(*COPIED)
    steps = (replace(first, time=NOW + timedelta(minutes=1)), second, *others)
    kept = replace(record("being copied"), steps=steps)
    assert any("before it was SUBMITTED" in problem for problem in history.problems(kept))
