"""Generated inputs are the same in every run, so that a run can be repeated; the soak explores.

HYPOTHESIS_PROFILE=soak tries SOAK_EXAMPLES (100,000) new inputs for every property.

With DELIV_TESTS_TURN, a number, one in five of the tests marked `rotating` is run; else all.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell has what it starts in the background ignore Ctrl-C: so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

TURN = os.environ.get("DELIV_TESTS_TURN")
TURNS = 5  # prime to the number of Debian releases, which rotate too

# The machine is shared: how long one input takes says nothing.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "100000")),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rotating: run in one of five turns (DELIV_TESTS_TURN)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if TURN is None:
        return
    rotating = [item for item in items if item.get_closest_marker("rotating")]
    left_out = {item for number, item in enumerate(rotating) if number % TURNS != int(TURN) % TURNS}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
