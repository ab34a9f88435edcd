"""Figures: each is a ratio of two measurements of one run, and the most it may be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MS = 1000.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`value` and `base` are in `unit`; `most` bounds value / base."""

    what: str
    value: float
    against: str
    base: float
    unit: str
    most: float

    @property
    def ratio(self) -> float:
        return self.value / self.base

    @property
    def held(self) -> bool:
        return self.ratio <= self.most

    def __str__(self) -> str:
        verdict = "" if self.held else "  TOO MUCH"
        return (
            f"{self.what:<44} {self.value:>9.2f} {self.unit:<3}  "
            f"{self.against:<34} {self.base:>9.2f} {self.unit:<3} "
            f"{self.ratio:>6.2f} of {self.most:.1f}{verdict}"
        )


async def median(call: Callable[[], Awaitable[object]], times: int) -> float:
    """The median time of a call, in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * MS


def medians(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each call, in milliseconds; they take turns, so noise is for all."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return [statistics.median(times) * MS for times in taken]
