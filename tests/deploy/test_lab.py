"""The lab: five fresh machines, as Vagrant makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.booting import Boot
from deploy.site_tests import Bare, SiteTests, bare_hosts


@pytest.fixture(scope="module")
def bare(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    secrets = tmp_path_factory.mktemp("secrets")
    hosts = ("data", "deliv", "archive", "dtn", "fts")
    with bare_hosts(boot, suite, "lab", hosts, secrets) as bare:
        yield bare


class TestLab(SiteTests):
    WITHIN = 360
