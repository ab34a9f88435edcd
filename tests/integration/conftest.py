"""One private MariaDB for the whole run; a fresh schema for each test that asks for `database`.

A test that is a coroutine function runs on a loop of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator

import pytest
import structlog
from deliv_testbed.errors import TestbedError
from support.private_mariadb import Server, running

from deliv.db.database import Database
from deliv.store import Store, migrations, staging_area, under_way
from integration.scripted_fts import Grid

TIMEOUT = 100.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TIMEOUT))
    return True


@pytest.fixture(autouse=True)
def logs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command in this process sets up for the logs lasts no longer than its test.

    A logger that keeps its configuration could not be captured in the tests that follow.
    """
    configure = structlog.configure
    not_kept = {"cache_logger_on_first_use": False}
    monkeypatch.setattr(structlog, "configure", lambda **given: configure(**given | not_kept))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """Without MariaDB: skip on a laptop, fail in CI."""
    try:
        with running() as server:
            yield server
    except TestbedError as error:
        if os.environ.get("DELIV_TESTS_REQUIRE"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture
def server(mariadb_server: Server) -> Server:
    """The server, up, with an empty schema."""
    mariadb_server.start()
    mariadb_server.empty()
    return mariadb_server


@pytest.fixture
def migrated(server: Server) -> Server:
    asyncio.run(migrations.migrate(server.settings()))
    return server


@pytest.fixture
def database(migrated: Server) -> Iterator[Database]:
    """deliv's connections, with the service's account, to a fresh schema."""
    database = Database(migrated.settings())
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
def counted(migrated: Server) -> Iterator[None]:
    """Behind the test what is under way is counted as the tables say, whatever was done."""
    yield
    assert migrated.run(under_way.MISCOUNTED % 10) == []
    assert migrated.run(staging_area.MISCOUNTED) == []
