"""The service's TLS as a scanner sees it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.running_stack import Stack

from tools.tls_scan.checks import CHECKS, Target


@pytest.fixture(scope="module")
def target(stack: Stack) -> Target:
    address = urlsplit(stack.url)
    assert address.hostname
    assert address.port
    proxy, ca = stack.user("alice").proxy, stack.testbed["ca_file"]
    return Target(host=address.hostname, port=address.port, cert=Path(proxy), ca=Path(ca))


@pytest.mark.parametrize("name", CHECKS)
def test_the_services_tls(target: Target, name: str) -> None:
    good, detail = CHECKS[name](target)
    assert good, detail
