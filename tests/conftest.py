"""Generated inputs are the same in every run, so that a run can be repeated; the soak explores.

HYPOTHESIS_PROFILE=soak tries SOAK_EXAMPLES (100,000) new inputs for every property.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The machine is shared: how long one input takes says nothing.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "100000")),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
