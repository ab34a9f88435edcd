"""What the testbed raises on purpose."""

from __future__ import annotations


class TestbedError(Exception):
    """The message is a sentence for the person at the terminal."""

    __test__ = False  # pytest takes a class of this name for tests
