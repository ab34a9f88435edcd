"""SQL conditions on a job's status and phase, made from the tables of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from deliv.model.phase import CASES, Phase
from deliv.model.states import Status


def of_status(statuses: Collection[Status]) -> str:
    names = [f"'{status}'" for status in Status if status in statuses]
    return f"status = {names[0]}" if len(names) == 1 else f"status IN ({', '.join(names)})"


def in_phase(*phases: Phase) -> str:
    """Holds for exactly those jobs of which model.phase.phase says one of these.

    The status comes first and alone: the indexes begin with it.
    """
    cases = defaultdict(list)
    for case in CASES:
        if case.phase in phases:
            given = [f"{name} IS NOT NULL" for name in case.given]
            null = [f"{name} IS NULL" for name in case.null]
            cases[case.statuses].append(" AND ".join(given + null) or "TRUE")
    terms = [
        f"{of_status(statuses)} AND ({' OR '.join(columns)})" for statuses, columns in cases.items()
    ]
    return f"({' OR '.join(terms)})".replace(" AND (TRUE)", "")


# What FTS has confirmed that it took, and has not ended for deliv.
POSTED = f"{in_phase(Phase.COPYING, Phase.STOPPING)} AND fts_posted IS NOT NULL"
