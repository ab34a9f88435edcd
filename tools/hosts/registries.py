"""The package registries that hosts may use: those in the machine's own apt and pip settings."""

from __future__ import annotations

import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from tools.hosts.errors import HostsError
from tools.hosts.programs import run

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """Base addresses of the Debian archive and of its security updates."""

    main: str
    security: str

    def sources(self, suite: str) -> list[str]:
        """The lines of a sources.list for that suite."""
        return [
            f"deb {self.main} {suite} main",
            f"deb {self.main} {suite}-updates main",
            f"deb {self.security} {suite}-security main",
        ]


def debian_mirrors() -> Mirrors:
    """The sources of this machine's own packages; it must be a Debian."""
    release = _codename()
    sites: dict[str, str] = {}
    for line in run("apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)").splitlines():
        name, site = line.split()
        sites.setdefault(name, site)
    try:
        return Mirrors(main=sites[release], security=sites[f"{release}-security"])
    except KeyError as error:
        raise HostsError(f"apt's settings of this machine have no source for {error}") from error


def _codename() -> str:
    with open("/etc/os-release") as lines:
        values = dict(line.rstrip().split("=", 1) for line in lines if "=" in line)
    if values.get("ID") != "debian":
        raise HostsError("hosts are built on a Debian machine, from its package sources")
    return values["VERSION_CODENAME"]


def python_index() -> str:
    """The package index that pip uses on this machine, from pip's own help."""
    text = run(sys.executable, "-m", "pip", "install", "--help")
    found = re.search(r"default:?\s+(https?://[^\s)]+)", text)
    if not found:
        raise HostsError("pip does not say which package index it uses")
    return found.group(1)


def python_sites(index: str) -> set[str]:
    """Addresses at the index and at the sites of its files, from its page about pip."""
    page = f"{index.rstrip('/')}/pip/"
    if not page.startswith(("http://", "https://")):
        raise HostsError(f"{index}: guests can only use a package index by HTTP")
    context = ssl.create_default_context(cafile=CERTIFICATES)
    try:
        with urllib.request.urlopen(page, timeout=60, context=context) as answer:  # noqa: S310 - checked
            links = re.findall(r'href="([^"#]+)', answer.read().decode())
    except (urllib.error.URLError, TimeoutError) as error:
        raise HostsError(f"the Python package index does not answer: {error}") from error
    return {page, *(urljoin(page, link) for link in links)}


def allowed(addresses: Iterable[str]) -> frozenset[str]:
    """NAME:PORT of each address."""
    parts = [urlsplit(address) for address in addresses]
    return frozenset(f"{p.hostname}:{p.port or PORTS[p.scheme]}" for p in parts)
