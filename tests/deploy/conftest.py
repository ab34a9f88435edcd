"""Hosts for the deployment tests. They run only when asked for by path: `make test-deploy`."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from fleet import Fleet

from tools.hosts import base, lifecycle

HERE = Path(__file__).parent
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "ip", "ssh", "nsenter")
TIMEOUT = 900  # seconds, for a test with the hosts that it is first to need
NUMBERS = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deploy: builds real hosts; needs root and its packages")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """A run over all tests leaves these out: they have an environment and a target of their own."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.deploy)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(TIMEOUT))


def why_not() -> str:
    """Why no host can be built here; "" when it can."""
    if os.geteuid():
        return "only root can build hosts"
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f"not installed: {', '.join(absent)}" if absent else ""


Boot = Callable[..., AbstractContextManager[Fleet]]


@contextmanager
def booted(suite: str, *names: str, clients: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """Hosts of a suite while the block runs; playbooks know `names` and do not know `clients`."""
    label = f"test-{os.getpid()}-{next(NUMBERS)}"
    try:
        yield Fleet(lifecycle.up(label, suite, names, clients))
    finally:
        lifecycle.down(label)


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


@pytest.fixture(scope="module", params=base.SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Each Debian that deliv is deployed on."""
    return str(request.param)
