"""A case for each method of the store in each shape of its arguments."""

from integration.store_growth import files, jobs, owners, rests  # noqa: F401 - they add their cases
from integration.store_growth.world import CASES, Case, World

__all__ = ["CASES", "Case", "World"]
