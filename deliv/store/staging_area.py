"""The space that deliv takes in front of the archive's tapes.

A product takes it from its admission until the archive has confirmed that its copy was given back.
The archive tells no size before it reports: until then a product is taken for as large as those
that were reported are on average, or for `bytes_per_product` where that is more.
"""

from __future__ import annotations

from dataclasses import dataclass

from deliv.config import StagingLimits
from deliv.db.database import Connection

# Counts that triggers keep: see deliv/store/under_way.py.
AREA = """
SELECT COALESCE(SUM(asked), 0) AS asked, COALESCE(SUM(held), 0) AS held,
  COALESCE(SUM(sized), 0) AS sized, COALESCE(SUM(bytes), 0) AS bytes
FROM jobs_under_way
"""
FULL = "what is staged and not copied yet takes all the space that the archive has for it"


@dataclass(frozen=True, kw_only=True)
class StagingArea:
    """`held` copies were asked for and not given back; those that are `asked` are not staged yet.

    Of `sized` ones the archive has reported the size, `bytes` in all.
    """

    asked: int
    held: int
    sized: int
    bytes: int

    def expected(self, limits: StagingLimits) -> int:
        """The bytes of a product whose size is not reported yet."""
        mean = self.bytes // self.sized if self.sized > 0 else 0
        return max(mean, limits.bytes_per_product)

    def has_room(self, limits: StagingLimits) -> bool:
        """Whether another product may be asked for; one that is too large goes alone."""
        if limits.bytes is None or self.held <= 0:
            return True
        unknown = self.held - self.sized + 1
        return self.bytes + unknown * self.expected(limits) <= limits.bytes


def find(tx: Connection) -> StagingArea:
    (row,) = tx.query(AREA)
    return StagingArea(**{name: int(count) for name, count in row.items()})
