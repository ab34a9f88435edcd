from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deliv.model.turns import ACTIVE_TIMES, FIRST_FILES, Contender, next_turns

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 100


def waiting(job_id: str, minute: int = 0, **more: Any) -> Contender:
    values: dict[str, Any] = {"submitter": job_id[0], "wants": 20} | more
    since = BEGINNING + timedelta(minutes=minute)
    return Contender(job_id=job_id, waiting_since=since, **values)


def copying(job_id: str, at_fts: int, **more: Any) -> Contender:
    return Contender(job_id=job_id, submitter=job_id[0], at_fts=at_fts, **more)


def test_as_many_as_fit_have_their_turn() -> None:
    jobs = [waiting(f"a{number}", number) for number in range(1, 8)]
    assert next_turns(jobs, LIMIT) == ["a1", "a2", "a3", "a4", "a5"]


def test_what_is_at_fts_counts() -> None:
    assert next_turns([waiting("a1"), copying("b1", 80)], LIMIT) == ["a1"]
    assert next_turns([waiting("a1"), copying("b1", 81)], LIMIT) == []


def test_submitters_take_turns() -> None:
    many = [waiting(f"a{number}", number, wants=25) for number in range(1, 10)]
    late = [waiting("b1", 20, wants=25), waiting("c1", 21, wants=25)]
    assert next_turns([*many, *late], LIMIT) == ["a1", "b1", "c1", "a2"]


def test_who_has_fewest_files_there_comes_first() -> None:
    there = [copying("a1", 30), copying("b1", 10)]
    assert next_turns([*there, waiting("a2", 0), waiting("b2", 5)], LIMIT) == ["b2", "a2"]


def test_nobody_passes_who_comes_later() -> None:
    """Else a job that wants many files could wait for ever for others that want few."""
    there = [copying("a1", 30), copying("b1", 60)]
    assert next_turns([*there, waiting("a2", 9, wants=20), waiting("b2", 0, wants=1)], LIMIT) == []


@pytest.mark.parametrize(("wants", "turns"), [(FIRST_FILES, ["b1"]), (FIRST_FILES + 1, [])])
def test_a_few_first_files_of_a_submitter_wait_for_nobody(wants: int, turns: list[str]) -> None:
    jobs = [copying("a1", LIMIT), waiting("b1", wants=wants)]
    assert next_turns(jobs, LIMIT) == turns


def test_a_transfer_larger_than_the_limit_goes_alone() -> None:
    assert next_turns([waiting("a1", wants=LIMIT + 1), waiting("b1", 1)], LIMIT) == ["a1"]


def test_where_fts_copies_more_at_once_it_is_given_more() -> None:
    active = LIMIT // ACTIVE_TIMES + 10
    jobs = [copying("b1", LIMIT, active=active), waiting("a1")]
    assert next_turns(jobs, LIMIT) == ["a1"]


def test_of_equals_the_one_that_waits_longest_is_next() -> None:
    jobs = [waiting("b1", 1, wants=60), waiting("a1", 2, wants=60)]
    assert next_turns(jobs, LIMIT) == ["b1"]


def test_who_has_fewest_bytes_there_comes_first() -> None:
    """Of few files that are large, in order of the larger part of what may be there."""
    there = [copying("a1", 2, bytes_at_fts=400), copying("b1", 30, bytes_at_fts=10)]
    jobs = [*there, waiting("a2", 0), waiting("b2", 5)]
    assert next_turns(jobs, LIMIT, 1000) == ["b2", "a2"]
    assert next_turns(jobs, LIMIT, 4000) == ["a2", "b2"]


def test_large_files_are_not_in_the_way_of_others() -> None:
    there = [copying("a1", 3, bytes_at_fts=10**6)]
    jobs = [*there, waiting("a2", 0), waiting("b1", 5, wants=40), waiting("b2", 6, wants=40)]
    assert next_turns(jobs, LIMIT, 1000) == ["b1", "b2"]


def test_one_who_waits_for_his_own_large_files_stops_nobody() -> None:
    """Though he comes first: what is in his way are not the files of others."""
    there = [copying("a1", 2, bytes_at_fts=500), copying("b1", 60)]
    jobs = [*there, waiting("a2", 0, wants=1), waiting("b2", 5, wants=30)]
    assert next_turns(jobs, LIMIT, 1000) == ["b2"]


def test_bytes_are_shared_by_those_who_take_part() -> None:
    alone = [copying("a1", 1, bytes_at_fts=600), waiting("a2", wants=1)]
    assert next_turns(alone, LIMIT, 1000) == ["a2"]
    assert next_turns([*alone, waiting("b1", wants=1)], LIMIT, 1000) == ["b1"]
    assert next_turns([*alone, copying("b1", 1)], LIMIT, 1000) == []


def test_turns_given_at_once_count_in_bytes() -> None:
    """What passes a share still goes, so that each file goes at some time."""
    large = {"wants": 1, "wants_bytes": 400}
    jobs = [waiting(f"a{number}", number, **large) for number in range(1, 9)]
    assert next_turns(jobs, LIMIT, 1000) == ["a1", "a2", "a3"]
    assert next_turns(jobs, LIMIT, 1) == ["a1"]
    both = [*jobs, waiting("b1", 9, **large)]
    assert next_turns(both, LIMIT, 1000) == ["a1", "b1", "a2"]


def test_of_unknown_sizes_the_files_alone_count() -> None:
    jobs = [copying("a1", 60), waiting("a2"), waiting("a3")]
    assert next_turns(jobs, LIMIT, 1) == ["a2", "a3"]


def test_nobody_waits() -> None:
    assert next_turns([copying("a1", 5)], LIMIT) == []
    assert next_turns([], LIMIT) == []
