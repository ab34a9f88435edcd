"""Whose files are handed to FTS next. Pure.

FTS serves the files of a pair of hosts in the order in which they came, whoever asked. So deliv
lets it have few at once, and gives turns: to the submitter who has the smallest part of what may be
there, in files or in bytes, whichever is the larger, then to the job that has waited longest.
Nobody passes who comes after another in this order, so that a small request is no reason for a
large one to wait for ever.

The bytes are shared by those who take part. Who has his share of them there waits for his own
alone, and delays no other submitter: files that take hours do not keep small ones waiting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

FIRST_FILES = 10  # that a submitter who has none at FTS may always hand over
ACTIVE_TIMES = 3  # FTS has as many files as are active, and twice as many waiting


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A job between two hosts that `wants` to hand so many files over, or what FTS has already.

    Of what FTS has, which may be of several jobs of a submitter, `waiting_since` is None. A file of
    unknown size has 0 bytes.
    """

    job_id: str
    submitter: str
    at_fts: int = 0
    bytes_at_fts: int = 0
    active: int = 0
    wants: int = 0
    wants_bytes: int = 0
    waiting_since: datetime | None = None


def next_turns(
    contenders: Sequence[Contender], limit: int, bytes_limit: float = math.inf
) -> list[str]:
    """The ids of the jobs between two hosts that may hand their files over now, in their order.

    The FTS has `limit` files at most, or ACTIVE_TIMES those that it copies at once if that is more.
    Of each submitter it has an equal share of `bytes_limit` at most, and what passes that at last.
    """
    limit = max(limit, ACTIVE_TIMES * sum(one.active for one in contenders))
    share = bytes_limit / max(1, len({one.submitter for one in contenders}))
    at_fts, bytes_at_fts = Counter[str](), Counter[str]()
    for one in contenders:
        at_fts[one.submitter] += one.at_fts
        bytes_at_fts[one.submitter] += one.bytes_at_fts
    waiting = {one.job_id: one for one in contenders if one.waiting_since is not None}

    def order(one: Contender) -> tuple[float, datetime | None, str]:
        part = max(at_fts[one.submitter] / limit, bytes_at_fts[one.submitter] / bytes_limit)
        return part, one.waiting_since, one.job_id

    chosen: list[str] = []
    while waiting:
        first = min(waiting.values(), key=order)
        del waiting[first.job_id]
        if bytes_at_fts[first.submitter] >= share:
            continue
        begins = at_fts[first.submitter] == 0 and first.wants <= FIRST_FILES
        total = at_fts.total()
        if not (begins or total == 0 or total + first.wants <= limit):
            break
        chosen.append(first.job_id)
        at_fts[first.submitter] += first.wants
        bytes_at_fts[first.submitter] += first.wants_bytes
    return chosen
