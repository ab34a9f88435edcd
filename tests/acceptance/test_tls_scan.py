"""The service's TLS as a scanner sees it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.running_stack import Stack
from support.tls_scan import RULES, Scan, Server, prefers_its_own_order, refuses_sha1


@pytest.fixture(scope="module")
def server(stack: Stack) -> Server:
    return Server(address=urlsplit(stack.url).netloc, cert=Path(stack.user("alice").proxy))


@pytest.fixture(scope="module")
def scan(server: Server) -> Scan:
    return server.scan()


@pytest.mark.parametrize("rule", RULES)
def test_the_services_tls(scan: Scan, rule: str) -> None:
    assert RULES[rule](scan), scan


def test_the_servers_order_of_ciphers_counts(server: Server) -> None:
    assert prefers_its_own_order(server)


def test_no_signature_with_sha1(server: Server) -> None:
    assert refuses_sha1(server)
