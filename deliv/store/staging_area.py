"""The space that deliv takes in front of the archive's tapes.

A staging takes it once, for all its jobs, until the archive has confirmed that the copy was given
back; a job that was admitted and is of none (deliv/store/stagings.py) takes as much by itself. The
archive tells no size before it reports: until then a product is taken for as large as those that
were reported are on average, or for `bytes_per_product` where that is more.
"""

from __future__ import annotations

from dataclasses import dataclass

from deliv.config import StagingLimits
from deliv.db.database import Connection

# Counts that triggers keep: of jobs (deliv/store/under_way.py), and of stagings in some rows.
AREA = """
SELECT SUM(asked) AS asked, SUM(held) AS held, SUM(copies) AS copies, SUM(sized) AS sized,
  SUM(bytes) AS bytes
FROM (
  SELECT asked, held, alone AS copies, sized, bytes FROM jobs_under_way
  UNION ALL SELECT 0, 0, copies, sized, bytes FROM stagings_under_way
) AS counted
"""
FULL = "what is staged and not copied yet takes all the space that the archive has for it"
PARTS = 16
COUNTED = f"""
SELECT MOD(CRC32(staging_id), {PARTS}) AS part, COUNT(*) AS copies, COUNT(size) AS sized,
  COALESCE(SUM(size), 0) AS bytes
FROM stagings WHERE state <> 'RELEASED' GROUP BY part
"""  # noqa: S608 - a constant
# Of stagings and counts as of one moment: they change in the same transactions.
MISCOUNTED = f"""
SELECT part FROM (
  SELECT part, copies, sized, bytes FROM ({COUNTED}) AS counted
  UNION ALL SELECT part, -copies, -sized, -bytes FROM stagings_under_way
) AS compared
GROUP BY part HAVING SUM(copies) <> 0 OR SUM(sized) <> 0 OR SUM(bytes) <> 0
"""  # noqa: S608 - constants
FILL = f"""
INSERT IGNORE INTO stagings_under_way (part)
VALUES {", ".join(f"({part})" for part in range(PARTS))}
"""  # noqa: S608 - constants
LOCK = "SELECT part FROM stagings_under_way ORDER BY part FOR UPDATE"
SET = "UPDATE stagings_under_way SET copies = %s, sized = %s, bytes = %s WHERE part = %s"


@dataclass(frozen=True, kw_only=True)
class StagingArea:
    """`held` jobs have a copy or wait for it; those that wait are `asked`.

    So many `copies` take space; of `sized` ones the archive has reported the size, `bytes` in all.
    """

    asked: int
    held: int
    copies: int
    sized: int
    bytes: int

    def expected(self, limits: StagingLimits) -> int:
        """The bytes of a product whose size is not reported yet."""
        mean = self.bytes // self.sized if self.sized > 0 else 0
        return max(mean, limits.bytes_per_product)

    def has_room(self, limits: StagingLimits) -> bool:
        """Whether another product may be asked for; one that is too large goes alone."""
        if limits.bytes is None or self.copies <= 0:
            return True
        unknown = self.copies - self.sized + 1
        return self.bytes + unknown * self.expected(limits) <= limits.bytes


def find(tx: Connection) -> StagingArea:
    (row,) = tx.query(AREA)
    return StagingArea(**{name: int(count or 0) for name, count in row.items()})


def recount(tx: Connection) -> None:
    """As the stagings say. None that has changed is not counted: it waits for its row here."""
    tx.execute(FILL)
    tx.query(LOCK)
    counted = {row.pop("part"): row for row in tx.query(COUNTED)}
    for part in range(PARTS):
        tx.execute(SET, *counted.get(part, {"copies": 0, "sized": 0, "bytes": 0}).values(), part)
