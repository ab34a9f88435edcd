"""The soak, short: `make soak` is the long one."""

from __future__ import annotations

import pytest

from soak.run import soak

SEED = 24170  # a minute of which has all that is not done to a process


@pytest.mark.timeout(1200)
def test_nothing_is_lost_in_a_minute_of_trouble() -> None:
    assert soak(60, rate=2, seed=SEED, with_pace=False) == []
