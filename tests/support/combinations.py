"""Every combination of the columns of a job that decide what it is doing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deliv.model.job import Job
from deliv.model.states import Status

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DECIDING = (
    "time_staging",
    "time_staged",
    "time_released",
    "stager_accepted",
    "fts_jobid",
    "fts_posted",
    "cancel_requested",
    "deadline_passed",
)


@dataclass(frozen=True)
class Combination:
    """A status, and which of DECIDING have values."""

    status: Status
    given: frozenset[str]

    def values(self) -> dict[str, Any]:
        return {
            name: ("id" if name == "fts_jobid" else MOMENT) if name in self.given else None
            for name in DECIDING
        }


COMBINATIONS = tuple(
    Combination(status, frozenset(given))
    for status in Status
    for count in range(len(DECIDING) + 1)
    for given in itertools.combinations(DECIDING, count)
)


def job_of(combination: Combination) -> Job:
    return Job(
        job_id="id",
        product_id="product",
        status=combination.status,
        destination_path="gsiftp://user.example.org/data",
        submitter="/CN=a",
        time_submitted=MOMENT,
        **combination.values(),
    )
