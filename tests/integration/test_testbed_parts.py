"""The testbed's parts, one by one, on real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deliv_testbed import accounts, gridftp, mariadb, pki, ports, processes, rabbitmq
from support.running_stack import until

PROGRAMS = ("mariadbd", "epmd", "globus-gridftp-server", "globus-url-copy")
MISSING = [program for program in PROGRAMS if not shutil.which(program, path=processes.PATH)]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("DELIV_TESTS_REQUIRE"), reason=f"missing: {MISSING}"
)
CONTENT = bytes(range(256)) * 1000


def query(database: mariadb.Database, user: str, sql: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("mariadb", "--no-defaults", "--batch", "--skip-column-names"),
            *("-h", database.host, "-P", str(database.port), "-u", user),
            *(f"--password={database.password(user)}", "-e", sql, database.name),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture(scope="module")
def database() -> Iterator[mariadb.Database]:
    with mariadb.private() as server:
        yield server


def test_the_service_changes_rows_and_not_the_schema(database: mariadb.Database) -> None:
    made = query(database, database.migrations_user, "CREATE TABLE t (a INT PRIMARY KEY)")
    assert made.returncode == 0, made.stderr
    rows = query(database, database.user, "INSERT INTO t VALUES (5); SELECT a FROM t")
    assert rows.stdout == "5\n"
    refused = query(database, database.user, "DROP TABLE t")
    assert "DROP command denied" in refused.stderr


def test_only_the_named_accounts_exist(database: mariadb.Database) -> None:
    users = query(database, database.admin, "SELECT DISTINCT User FROM mysql.user ORDER BY 1")
    assert users.stdout.split() == ["deliv", "deliv_migrations", "mariadb.sys", "root"]
    by_address = query(database, database.admin, "SELECT CURRENT_USER()")
    assert by_address.stdout == "root@127.0.0.1\n"


def test_the_broker_speaks_and_leaves_nothing() -> None:
    with rabbitmq.private() as broker:
        until(broker.answers, "it speaks AMQP")
        until(lambda: ports.accepts(broker.epmd_port), "epmd listens")
        used = (broker.port, broker.distribution_port, broker.epmd_port)
        directory = broker.directory.parent
    assert not directory.exists()
    assert not any(ports.accepts(port) for port in used)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Two servers, a CA, and alice's proxy."""

    directory: Path
    account: accounts.Account
    running: processes.Processes
    authority: pki.Authority
    alice: pki.Credential
    archive: gridftp.Server
    destination: gridftp.Server

    @property
    def ca_directory(self) -> Path:
        return self.directory / "ca"

    def copy(self, proxy: pki.Credential, source: str, target: str) -> str:
        """What globus-url-copy says of a third-party copy; nothing when it went well."""
        path = self.directory / "proxy"
        pki.write_proxy(path, proxy)
        variables = gridftp.client_environment(path, self.ca_directory)
        done = subprocess.run(
            ["globus-url-copy", "-create-dest", source, target],
            env={"PATH": processes.PATH, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stderr + done.stdout


def server(directory: Path, name: str) -> gridftp.Server:
    (port,) = ports.choose(1)
    return gridftp.Server(
        name=f"gridftp-{name}",
        directory=directory / "gridftp" / name,
        root=directory / name,
        ca_directory=directory / "ca",
        port=port,
        data_ports=ports.choose_block(100, taken=[port]),
    )


@pytest.fixture(scope="module")
def grid() -> Iterator[Grid]:
    account = accounts.unprivileged()
    directory = Path(tempfile.mkdtemp(prefix="deliv-grid-"))
    directory.chmod(0o755)
    authority = pki.Authority.create()
    authority.install(directory / "ca")
    alice = authority.issue(pki.user_name("alice"))
    running = processes.Processes(directory, account)
    archive, destination = server(directory, "archive"), server(directory, "destination")
    try:
        for one in (archive, destination):
            one.install(authority, gridftp.grid_map([alice.dn], account), account)
            running.start(one.program())
        yield Grid(
            directory=directory,
            account=account,
            running=running,
            authority=authority,
            alice=alice,
            archive=archive,
            destination=destination,
        )
    finally:
        for one in (archive, destination):
            running.stop(one.name)
        left = running.names()
        shutil.rmtree(directory)
    assert left == []


def test_a_third_party_copy_with_a_proxy(grid: Grid) -> None:
    source = grid.archive.root / "hällo wörld.fits"
    target = grid.destination.root / "from alice" / source.name
    source.write_bytes(CONTENT)
    grid.account.own(source)
    said = grid.copy(
        grid.alice.proxy(), grid.archive.url_of(source), grid.destination.url_of(target)
    )
    assert said == ""
    assert zlib.adler32(target.read_bytes()) == zlib.adler32(CONTENT)
    assert target.stat().st_uid == grid.account.uid


def test_strangers_and_paths_outside_are_refused(grid: Grid) -> None:
    inside = grid.archive.root / "secret"
    inside.write_bytes(CONTENT)
    grid.account.own(inside)
    target = grid.destination.url_of(grid.destination.root / "refused")
    mallory = grid.authority.issue(pki.user_name("mallory"))
    assert "530 " in grid.copy(mallory.proxy(), grid.archive.url_of(inside), target)
    outside = grid.archive.url_of(grid.ca_directory / "passwd")
    assert "not allowed" in grid.copy(grid.alice.proxy(), outside, target)


def test_a_part_is_frozen_thawed_killed_and_started_again(grid: Grid) -> None:
    program = grid.destination.program()
    grid.running.freeze(program.name)
    assert grid.running.state(program.name) == "frozen"
    grid.running.thaw(program.name)
    assert grid.running.state(program.name) == "running"
    before = grid.running.pid(program.name)
    grid.running.kill(program.name)
    assert grid.running.state(program.name) == "not running"
    assert not ports.accepts(grid.destination.port)
    assert grid.running.start(program) != before
    assert ports.accepts(grid.destination.port)
