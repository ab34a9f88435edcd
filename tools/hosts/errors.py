"""What can go wrong with the hosts, said to whoever asked for them."""

from __future__ import annotations


class HostsError(Exception):
    """The hosts cannot be built, reached or removed; the message says why."""
