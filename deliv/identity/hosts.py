"""Destination hosts: their one spelling, and patterns of them.

`*` is every host. In a host name `*` matches one or more characters of one label, never a dot:
`*.example.org` is `dtn1.example.org`, neither `example.org` nor `a.b.example.org`. The last label
can't have one: somebody who writes `192.168.*` for a network would allow `192.168.evil`.
Addresses are given as such or as networks: `192.0.2.7`, `192.168.0.0/16`, `2001:db8::/32`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from deliv.identity import patterns

LABEL = re.compile(r"[a-z0-9*_]([a-z0-9*_-]*[a-z0-9*_])?")
LONGEST = 253
HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
# What resolvers read as (part of) an IPv4 address, inet_aton(3): 127.1, 0x7f000001, 2130706433.
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def normal(host: str) -> str:
    """The one spelling of a DNS name or address, IPv6 without brackets. ValueError: it is none.

    Names are in lower case, without a dot at their end. An address is accepted in its usual form
    only, since programs differ in how they read others; one mapped from IPv4 is that IPv4 address.
    """
    name = host.lower()
    if not host.isascii():
        raise ValueError(f"{host!r}: write a name beyond ASCII as DNS has it (xn--...)")
    try:
        if ":" in name and "%" not in name:
            address = IPv6Address(name)
            return str(address.ipv4_mapped or address)
        if NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
            return str(IPv4Address(name))
    except ValueError:
        usual = "write an address like 192.0.2.7 or 2001:db8::1"
        raise ValueError(f"{host} is not an IP address in its usual form: {usual}") from None
    name = name.removesuffix(".")
    if len(name) > LONGEST or not HOST_NAME.fullmatch(name):
        raise ValueError(f"{host!r} is not a host name")
    return name


@lru_cache(4096)
def compiled(pattern: str) -> Callable[[str], bool]:
    """The pattern as a predicate on hosts; ValueError when it is malformed."""
    if pattern == "*":
        return bool
    try:
        network = ip_network(pattern.strip("[]"))
    except ValueError:
        labels = pattern.lower().split(".")
        malformed = len(pattern) > LONGEST or not all(map(LABEL.fullmatch, labels))
        if malformed or "*" in labels[-1] or labels[-1].isdigit():
            raise ValueError(
                f"expected a host, *.example.org, an address or a network, got {pattern!r}"
            ) from None
        expression = patterns.compiled(pattern.lower(), one=r"[a-z0-9_-]", many=r"[a-z0-9_-]+")
        return lambda host: expression.fullmatch(host.lower().removesuffix(".")) is not None

    def inside(host: str) -> bool:
        try:
            return ip_address(host.strip("[]")) in network
        except ValueError:
            return False

    return inside
