"""Every job is in exactly one phase, and nothing but the table of phases decides which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.combinations import COMBINATIONS, DECIDING, Combination, job_of

from deliv.model.phase import ACTIONS, CASES, NEXT, JobAction, Phase, fits, phase
from deliv.model.states import TRANSITIONS, Status
from tools import draw_phases

ROOT = Path(__file__).parents[2]
MAY_DERIVE = ("deliv/model/phase.py", "deliv/store/")


def test_every_combination_of_columns_is_of_one_phase() -> None:
    """All of them: the database allows each (integration/test_store_phases.py)."""
    found = set()
    for combination in COMBINATIONS:
        job = job_of(combination)
        assert [case.phase for case in CASES if fits(case, job)] == [phase(job)], combination
        found.add(phase(job))
    assert found == set(Phase)


@pytest.mark.parametrize(
    ("status", "columns", "expected"),
    [
        ("SUBMITTED", (), Phase.QUEUED),
        ("STAGING", ("time_staging",), Phase.ASKING_STAGER),
        ("STAGING", ("time_staging", "stager_accepted"), Phase.WAITING_FOR_STAGER),
        ("STAGING", ("time_staging", "stager_accepted", "time_staged"), Phase.STAGED),
        ("STAGING", ("time_staging", "time_staged"), Phase.STAGED),
        ("TRANSFERRING", ("time_staged",), Phase.STAGED),
        ("TRANSFERRING", ("fts_jobid",), Phase.HANDING_OVER),
        ("TRANSFERRING", ("fts_jobid", "fts_posted"), Phase.COPYING),
        ("TRANSFERRING", ("fts_jobid", "cancel_requested"), Phase.STOPPING),
        ("TRANSFERRING", ("fts_jobid", "fts_posted", "deadline_passed"), Phase.STOPPING),
        ("SUCCESS", ("time_staging", "fts_jobid", "fts_posted"), Phase.CLEANING_UP),
        ("SUCCESS", ("time_staging", "time_released"), Phase.CLOSED),
        ("CANCELLED", (), Phase.CLOSED),
        ("ERROR", ("time_staging", "deadline_passed"), Phase.CLEANING_UP),
    ],
)
def test_the_phase_of_jobs_there_are(
    status: str, columns: tuple[str, ...], expected: Phase
) -> None:
    assert phase(job_of(Combination(Status(status), frozenset(columns)))) is expected


def test_the_columns_that_decide_are_all_enumerated() -> None:
    assert {name for case in CASES for name in (*case.given, *case.null)} <= set(DECIDING)


def test_every_phase_has_its_action_and_every_action_its_phase() -> None:
    assert set(ACTIONS) == set(Phase)
    assert set(ACTIONS.values()) == set(JobAction)


def test_the_ways_between_phases_are_those_between_states() -> None:
    """Each way is an event's or stays in its status, and each event has a way."""
    statuses = {
        one: {s for case in CASES if case.phase is one for s in case.statuses} for one in Phase
    }
    events = {(before, after) for (before, _), after in TRANSITIONS.items()}
    assert set(NEXT) == set(Phase)
    ways = [(one, other) for one, others in NEXT.items() for other in others]
    for one, other in ways:
        pairs = {(a, b) for a in statuses[one] for b in statuses[other]}
        assert pairs & events or statuses[one] & statuses[other], (one, other)
    shown = {(a, b) for one, other in ways for a in statuses[one] for b in statuses[other]}
    assert events <= shown


def derivations(source: str) -> Iterator[str]:
    """Conditions on a job's status and on a column that decides its phase, in one expression."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BoolOp | ast.IfExp):
            names = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            if "status" in names and names & set(DECIDING):
                yield ast.unparse(node)


def test_nothing_else_derives_a_phase() -> None:
    files = [file for top in ("deliv", "testbed") for file in (ROOT / top).rglob("*.py")]
    found = {
        name: expressions
        for file in files
        if not (name := file.relative_to(ROOT).as_posix()).startswith(MAY_DERIVE)
        and (expressions := list(derivations(file.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("job.status is Status.STAGING and job.time_staged is None", 1),
        ("x if job.fts_jobid and job.status in FINAL else y", 2),
        ("job.status in FINAL or now", 0),
        ("job.fts_posted is None and phase(job) in AT_FTS", 0),
    ],
)
def test_a_derivation_would_be_seen(source: str, count: int) -> None:
    assert len(list(derivations(source))) == count


def test_the_developers_page_has_the_picture() -> None:
    text = draw_phases.PAGE.read_text(encoding="utf-8")
    _, shown = text.split(draw_phases.BEGIN)
    assert shown.partition(draw_phases.END)[0] == draw_phases.picture()
