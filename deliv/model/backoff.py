"""How long to wait before the next attempt: the one rule of the whole service. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

# Between two tries to give a copy back to the stager, which goes on failing, or refuses.
LONGEST_RELEASE_PAUSE, REFUSED_RELEASE_PAUSE = 300.0, 600.0  # seconds
MOST_DOUBLINGS = 64  # more would leave the range of a float in the end


@dataclass(frozen=True)
class Backoff:
    """Pauses in seconds: `first`, doubled with each further failure, at most `longest`."""

    first: float
    longest: float = math.inf

    def pause(self, failures: int) -> float:
        """The pause after a failure that `failures` others came before."""
        return min(self.longest, self.first * 2.0 ** min(failures, MOST_DOUBLINGS))

    def after(self, seconds: float) -> float:
        """The pause when the first failure was so long ago: doubles it, where none are counted."""
        return min(self.longest, max(self.first, seconds))

    def jittered(self, failures: int) -> float:
        """Half of that pause or more: those who failed together do not come back together."""
        return self.pause(failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret

    def total(self, pauses: int) -> float:
        """So many pauses in a row."""
        return sum(map(self.pause, range(pauses)))
