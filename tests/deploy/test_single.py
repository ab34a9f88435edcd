"""All of deliv on one fresh machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.booting import Boot
from deploy.site_tests import Bare, SiteTests, bare_hosts


@pytest.fixture(scope="module")
def bare(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    secrets = tmp_path_factory.mktemp("secrets")
    with bare_hosts(boot, suite, "single", ("deliv",), secrets) as bare:
        yield bare


class TestSingle(SiteTests):
    pass
