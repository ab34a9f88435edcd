"""The lab: five fresh machines, as Vagrant makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.booting import Boot
from deploy.site_tests import Built, SiteTests, build


@pytest.fixture(scope="module")
def built(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    secrets = tmp_path_factory.mktemp("secrets")
    with build(boot, suite, "lab", ("data", "deliv", "archive", "dtn", "fts"), secrets) as built:
        yield built


class TestLab(SiteTests):
    WITHIN = 360
