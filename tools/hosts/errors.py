"""The error of tools.hosts."""

from __future__ import annotations


class HostsError(Exception):
    """The hosts cannot be built, reached or removed; the message says why."""
