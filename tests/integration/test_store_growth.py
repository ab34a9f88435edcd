"""No statement of the store reads more rows as history grows.

Each method is called in each shape of its arguments, with few and with many jobs that have ended
or are archived; what it reads is counted by MariaDB. A new method needs a case in `store_growth`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.private_mariadb import Server, running
from support.samples import history

from deliv.db.database import Database
from deliv.store import Delegations, Store, migrations
from integration.store_growth import CASES, Case, World

FEW, MANY = 2_000, 40_000  # jobs that have ended, and as many archived ones
SLACK = 10  # rows
# Handler_icp_attempts: what the storage engine drops by itself does not count as read.
READ = """
SHOW SESSION STATUS
WHERE Variable_name LIKE 'Handler\\_read\\_%' OR Variable_name = 'Handler_icp_attempts'
"""
NOT_BOUND = {
    "recount": "a repair by hand: it counts the jobs of one submitter",
    "recount_space": "a repair by hand: it counts all stagings",
    "free_destinations": "a repair by hand: it reads what is being written now",
}


@pytest.fixture(scope="module")
def read() -> Iterator[dict[str, tuple[int, int]]]:
    """For each case how many rows it reads with FEW and with MANY jobs of the past."""
    with running() as server:
        few, many = (asyncio.run(measured(server, count)) for count in (FEW, MANY))
        yield {name: (few[name], many[name]) for name in CASES}


async def measured(server: Server, count: int) -> dict[str, int]:
    server.empty()
    await migrations.migrate(server.settings())
    history(server, count, count, files=2)
    database = Database(server.settings(pool=1))  # one connection, which counts for all
    try:
        world = World(
            server=server, database=database, store=Store(database),
            delegations=Delegations(database),
        )  # fmt: skip
        return {name: await rows_read(world, prepare) for name, prepare in CASES.items()}
    finally:
        database.close()


async def rows_read(world: World, prepare: Case) -> int:
    call = await prepare(world)
    before = await handled(world.database)
    await call()
    return await handled(world.database) - before


async def handled(database: Database) -> int:
    return sum(int(row["Value"]) for row in await database.query(READ))


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_does_not_grow_with_history(
    read: dict[str, tuple[int, int]], name: str
) -> None:
    few, many = read[name]
    assert many <= few + SLACK


def test_every_method_has_a_case() -> None:
    methods = {
        name
        for part in (*Store.mro()[:-1], Delegations)
        for name in vars(part)
        if not name.startswith("_")
    }
    assert methods - NOT_BOUND.keys() == {name.split(",")[0] for name in CASES}
    assert NOT_BOUND.keys() <= methods
