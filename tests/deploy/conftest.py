"""Hosts for the deployment tests, which run only when named by path: `make test-deploy`."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from deploy.booting import Boot, booted, why_not
from tools.hosts import base

HERE = Path(__file__).parent
TIMEOUT = (
    3600  # seconds, for a test with the hosts that it is first to need; also on a busy machine
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deploy: builds real hosts; needs root and its packages")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Not in a run over all tests: these have an environment and a target of their own."""
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.deploy)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def boot() -> Boot:
    """`with boot("bookworm", "a", "b") as fleet`.

    Skips without root or the packages; fails where every test must run, as in CI.
    """
    if reason := why_not():
        if os.environ.get("DELIV_TESTS_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return booted


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`suite`: each Debian that deliv is deployed on.

    A single role and the operator's day are tested on one of them, to save time: test_single.py and
    test_lab.py have every role on both. DELIV_TESTS_SUITES names others (or both, with a blank).
    """
    if "suite" in metafunc.fixturenames:
        named = os.environ.get("DELIV_TESTS_SUITES", "").split()
        suites = named or _usual_suites(metafunc.module.__name__)
        metafunc.parametrize("suite", suites, scope="module")


def _usual_suites(module: str) -> list[str]:
    name = module.rpartition(".")[2]
    if not name.startswith(("test_role_", "test_operate")):
        return list(base.SUITES)
    return [base.SUITES[zlib.crc32(name.encode()) % len(base.SUITES)]]
