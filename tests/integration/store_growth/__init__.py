"""A case for each method of the store in each shape of its arguments."""

from integration.store_growth import (  # noqa: F401 - they add their cases
    files,
    jobs,
    owners,
    rests,
    stagings,
)
from integration.store_growth.world import CASES, Case, World

__all__ = ["CASES", "Case", "World"]
