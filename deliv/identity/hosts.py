"""Patterns of destination hosts.

`*` is every host. In a host name `*` stands for one or more characters of one label, never for a
dot: `*.example.org` is `dtn1.example.org`, neither `example.org` nor `a.b.example.org`. The last
label can't have one, so that `192.168.*` can't be meant to be a network and be `192.168.evil`.
Addresses are given as such or as networks: `192.0.2.7`, `192.168.0.0/16`, `2001:db8::/32`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from deliv.identity import patterns

LABEL = re.compile(r"[a-z0-9*_]([a-z0-9*_-]*[a-z0-9*_])?")
LONGEST = 253


@lru_cache(4096)
def compiled(pattern: str) -> Callable[[str], bool]:
    """The pattern as a predicate on hosts; ValueError when it is malformed."""
    if pattern == "*":
        return bool
    try:
        network = ip_network(pattern.strip("[]"))
    except ValueError:
        return _name_pattern(pattern)
    return lambda host: (address := _address(host)) is not None and address in network


def _name_pattern(pattern: str) -> Callable[[str], bool]:
    labels = pattern.lower().split(".")
    malformed = len(pattern) > LONGEST or not all(map(LABEL.fullmatch, labels))
    if malformed or "*" in labels[-1] or labels[-1].isdigit():
        raise ValueError(
            f"expected a host, *.example.org, an address or a network, got {pattern!r}"
        )
    expression = patterns.compiled(pattern.lower(), one=r"[a-z0-9_-]", many=r"[a-z0-9_-]+")
    return lambda host: expression.fullmatch(host.lower().removesuffix(".")) is not None


def _address(host: str) -> object:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None
