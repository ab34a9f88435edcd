"""What counts as one address when callers are counted by where they come from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network, ip_address


def neighbourhood(host: str) -> str:
    """An IPv4 address itself; of an IPv6 address its /64, which one host has to itself."""
    ip = ip_address(host.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((ip.packed[:8] + bytes(8), 64)))
