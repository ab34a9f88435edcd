"""A worker that was away for too long does not call out."""

from __future__ import annotations

import asyncio

import pytest

from deliv.delivery import claim
from deliv.errors import LostRace


def test_without_a_job_in_hand_nothing_is_late() -> None:
    claim.check()


def test_each_coroutine_has_its_own_time() -> None:
    async def step(seconds: float) -> bool:
        claim.begin(seconds)
        await asyncio.sleep(0)
        try:
            claim.check()
        except LostRace:
            return False
        return True

    async def steps() -> list[bool]:
        return await asyncio.gather(step(60), step(-1), step(60), step(-1))

    assert asyncio.run(steps()) == [True, False, True, False]


def test_the_lateness_is_told() -> None:
    async def late() -> None:
        claim.begin(-2)
        claim.check()

    with pytest.raises(LostRace, match=r"too late by 2\.\d s"):
        asyncio.run(late())
