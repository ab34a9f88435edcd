"""The requests behind the recordings, sent to the dummy FTS in the recorded order.

One function for each recorded section, under the section's title; it returns what was answered.
"""

from integration.fts_replay import callers, jobs, submissions  # noqa: F401 - they add their sections
from integration.fts_replay.scene import DEAD, SECTIONS, SIZE, Scene

__all__ = ["DEAD", "SECTIONS", "SIZE", "Scene"]
