"""The database is lost, and restored as it was some time ago: each job still ends once.

The backup is a copy of the files, as a snapshot of the disk would be: taken in the middle of work,
the server finds it as after a crash. Dumps, and the playbooks for them, have tests in tests/deploy.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_stack import Target, frozen, until

from outages.conftest import Pair

COPIED, BEING_COPIED, BEING_STAGED, LATER = (44_000 + number for number in range(4))


class Database:
    """The server's files, and a copy of them."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._data = pair.directory / "mariadb" / "data"
        self._backup = self._data.with_name("backup")

    def back_up(self) -> None:
        self._pair.control("kill", "mariadb")
        copy(self._data, self._backup)
        self._pair.control("start", "mariadb")

    def restore(self) -> None:
        """With deliv stopped, as docs/operate.md has it."""
        for number in (1, 2):
            self._pair.kill(number)
        self._pair.control("kill", "mariadb")
        shutil.rmtree(self._data)
        copy(self._backup, self._data)
        self._pair.control("start", "mariadb")
        for number in (1, 2):
            self._pair.start(number)

    def remove_backup(self) -> None:
        shutil.rmtree(self._backup, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True, timeout=100)


@pytest.fixture
def database(pair: Pair) -> Iterator[Database]:
    database = Database(pair)
    yield database
    database.remove_backup()


def submit(pair: Pair, target: Target, product: str) -> str:
    with pair.instance(1).client() as client:
        return str(client.submit(product, target.url))


def status(pair: Pair, job_id: str) -> str:
    with pair.instance(1).client() as client:
        return str(client.status(job_id)["status"])


def accepted(pair: Pair, job_id: str) -> bool:
    sql = "SELECT 1 FROM jobs WHERE job_id = %s AND stager_accepted IS NOT NULL"
    return bool(pair.query(sql, job_id))


def delivered(pair: Pair, *job_ids: str) -> None:
    with pair.instance(1).client() as client:
        for job_id in job_ids:
            assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"


def test_what_was_under_way_ends_once(pair: Pair, target: Target, database: Database) -> None:
    """Everything had ended when the database was lost; what it knew is of the time before."""
    copied = submit(pair, target, f"synthetic-{COPIED}")
    delivered(pair, copied)
    staging = submit(pair, target, f"slow-20-synthetic-{BEING_STAGED}")
    with frozen(pair, "gridftp-destination"):
        copying = submit(pair, target, f"synthetic-{BEING_COPIED}")
        until(lambda: status(pair, copying) == "TRANSFERRING", "one is handed to FTS")
        until(lambda: accepted(pair, staging), "one is being staged")
        database.back_up()
    later = submit(pair, target, f"synthetic-{LATER}")
    jobs = {COPIED: copied, BEING_COPIED: copying, BEING_STAGED: staging}
    delivered(pair, *jobs.values(), later)
    until(lambda: not pair.staged_copy(staging).exists(), "all is given back")

    database.restore()
    assert status(pair, copied) == "SUCCESS"
    assert status(pair, staging) == "STAGING"
    found = pair.check("--repair")
    assert f"job {staging} waits for the stager, which knows nothing of it" in found.stdout
    assert "repaired: the stager is asked again" in found.stdout
    delivered(pair, *jobs.values())
    assert pair.instance(1).curl(f"/transferStatus?job_id={later}").status == 404
    assert target.holds_synthetic(LATER)
    for size in (*jobs, LATER):
        file = target.directory / f"synthetic-{size}"
        assert target.holds_synthetic(size)
        assert until(lambda: pair.times_written(file), "the server logs the copy") == 1  # noqa: B023 - runs now
    assert pair.query("SELECT MAX(attempt) FROM jobs WHERE destination_path = %s", target.url) == [
        (1,)
    ]
