"""How many copies may run at once between two hosts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from deliv_testbed.fts.settings import FtsSettings

Link = Mapping[str, Any]


class Optimizer:
    """Begins with `slots` for each pair, and goes up to `most_slots` where it is kept busy.

    Of the real one this is what a client can bring about; that one looks at throughput and
    failures as well. After a restart it begins again.
    """

    def __init__(self, settings: FtsSettings) -> None:
        self._settings = settings
        self._limits: dict[tuple[str, str], int] = {}
        self._next = time.monotonic() + settings.optimizer_interval

    def limit(self, link: Link) -> int:
        return self._limits.get(_pair(link), self._settings.slots)

    def run(self, links: Iterable[Link]) -> None:
        """One more copy for each pair where as many files wait as may be copied already.

        Where fewer wait it holds on: "Queue emptying. Hold on." (FTS's OptimizerConnections).
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._settings.optimizer_interval
        for link in links:
            limit = self.limit(link)
            if limit <= link["waiting"] and limit < self._settings.most_slots:
                self._limits[_pair(link)] = limit + 1


def _pair(link: Link) -> tuple[str, str]:
    return link["source_se"], link["dest_se"]
