"""Migrations on a real MariaDB, with the account that may change the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.private_mariadb import Server

from deliv.db.database import Database
from deliv.errors import DatabaseUnavailable
from deliv.model.job import Job
from deliv.model.states import Status
from deliv.model.transfer import OpenTransfer
from deliv.store import Store, migrations
from deliv.store.migrations import SQL, MigrationRefused

SNAPSHOT = Path(__file__).with_name("schema.txt")
ALL = [str(migration) for migration in migrations.load()]
NEXT = f"{len(ALL) + 1:04}_second"
SECOND = """
CREATE TABLE IF NOT EXISTS second (a INT) ENGINE=InnoDB;
INSERT IGNORE INTO second VALUES (1);
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the migrations, to change."""
    for file in migrations.load():
        name = f"{file}.sql"
        (tmp_path / name).write_bytes(SQL.joinpath(name).read_bytes())
    return tmp_path


@pytest.fixture
def service(server: Server) -> Iterator[Database]:
    """The service's account on an empty schema."""
    database = Database(server.settings())
    yield database
    database.close()


def schema(server: Server) -> str:
    """What the schema is made of, in words that do not depend on the server's version."""
    columns = server.run(
        """
        SELECT CONCAT_WS(' ', table_name, LPAD(ordinal_position, 2, '0'), column_name,
          column_type, IF(is_nullable = 'YES', 'NULL', 'NOT NULL'),
          CONCAT('DEFAULT ', column_default), collation_name, extra) AS line
        FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY line
        """
    )
    indexes = server.run(
        """
        SELECT CONCAT_WS(' ', table_name, IF(non_unique, 'KEY', 'UNIQUE'), index_name,
          GROUP_CONCAT(column_name ORDER BY seq_in_index)) AS line
        FROM information_schema.statistics WHERE table_schema = DATABASE()
        GROUP BY table_name, index_name, non_unique ORDER BY line
        """
    )
    triggers = server.run(
        """
        SELECT CONCAT_WS(' ', action_timing, event_manipulation, event_object_table,
          trigger_name, action_statement) AS line
        FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY trigger_name
        """
    )
    return "\n".join(row["line"].rstrip() for row in [*columns, *indexes, *triggers]) + "\n"


async def test_a_fresh_schema_gets_everything_once(server: Server, service: Database) -> None:
    assert await migrations.pending(service) == ALL
    assert await migrations.migrate(server.settings()) == ALL
    assert await migrations.pending(service) == []
    made = schema(server)
    assert await migrations.migrate(server.settings()) == []
    assert schema(server) == made


def test_the_schema_is_the_sum_of_the_migrations(migrated: Server, tmp_path: Path) -> None:
    """A change of the schema shows in review. To take it over: copy what the test names."""
    made = tmp_path / "schema.txt"
    made.write_text(schema(migrated), encoding="utf-8")
    expected = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    assert made.read_text(encoding="utf-8") == expected, f"see {made}"


def test_a_job_has_exactly_the_columns_of_its_table(migrated: Server) -> None:
    rows = migrated.run("SHOW COLUMNS FROM jobs")
    assert {row["Field"] for row in rows} == set(Job.__dataclass_fields__)


@pytest.mark.parametrize("table", ["jobs", "job_events"])
def test_the_archive_has_the_same_columns(migrated: Server, table: str) -> None:
    columns, archived = (
        [{**row, "Key": ""} for row in migrated.run(f"SHOW FULL COLUMNS FROM {name}")]
        for name in (table, f"{table}_archive")
    )
    assert columns == archived


@pytest.mark.parametrize("table", ["jobs", "job_events"])
def test_the_tables_know_exactly_the_statuses(migrated: Server, table: str) -> None:
    (row,) = migrated.run(f"SHOW COLUMNS FROM {table} LIKE 'status'")
    names = row["Type"].removeprefix("enum(").removesuffix(")").replace("'", "").split(",")
    assert set(names) == set(Status)


async def test_every_statement_can_be_repeated(migrated: Server) -> None:
    made = schema(migrated)
    for migration in migrations.load():
        migrated.run(*migration.statements)
    assert schema(migrated) == made


async def test_only_what_is_new_is_applied(server: Server, files: Path) -> None:
    assert await migrations.migrate(server.settings(), files) == ALL
    (files / f"{NEXT}.sql").write_text(SECOND)
    assert await migrations.migrate(server.settings(), files) == [NEXT]
    assert server.run("SELECT a FROM second") == [{"a": 1}]


async def test_a_changed_file_is_refused(migrated: Server, service: Database, files: Path) -> None:
    with (files / "0001_initial.sql").open("a") as file:
        file.write("-- a comment\n")
    (files / f"{NEXT}.sql").write_text(SECOND)
    with pytest.raises(MigrationRefused, match="0001_initial was changed"):
        await migrations.migrate(migrated.settings(), files)
    with pytest.raises(MigrationRefused, match="0001_initial was changed"):
        await migrations.pending(service, files)
    assert migrated.run("SHOW TABLES LIKE 'second'") == []


async def test_an_older_release_works_with_a_schema_that_is_ahead(
    migrated: Server, service: Database, files: Path
) -> None:
    (files / f"{NEXT}.sql").write_text(SECOND)
    await migrations.migrate(migrated.settings(), files)
    assert await migrations.pending(service) == []
    assert await migrations.migrate(migrated.settings()) == []


async def test_a_number_stays_with_its_file(migrated: Server, files: Path) -> None:
    (files / f"{NEXT}.sql").write_text(SECOND)
    await migrations.migrate(migrated.settings(), files)
    (files / f"{NEXT}.sql").rename(files / f"{NEXT[:4]}_renamed.sql")
    with pytest.raises(MigrationRefused, match=f"{NEXT} was applied, but its file is missing"):
        await migrations.migrate(migrated.settings(), files)


async def test_a_migration_that_fails_is_named_and_can_be_mended(
    migrated: Server, files: Path
) -> None:
    second = files / f"{NEXT}.sql"
    second.write_text(SECOND + "CREATE TABLE nonsense;\n")
    with pytest.raises(MigrationRefused, match=rf"{NEXT} fails(?s:.)*CREATE TABLE nonsense"):
        await migrations.migrate(migrated.settings(), files)
    assert len(migrated.run("SHOW TABLES LIKE 'second'")) == 1  # MariaDB can't take it back
    second.write_text(SECOND)
    assert await migrations.migrate(migrated.settings(), files) == [NEXT]
    assert await migrations.migrate(migrated.settings(), files) == []


async def test_a_migration_cut_short_is_run_again(migrated: Server, files: Path) -> None:
    (files / f"{NEXT}.sql").write_text(SECOND)
    migrated.run("CREATE TABLE second (a INT)", "INSERT INTO second VALUES (7)")
    assert await migrations.migrate(migrated.settings(), files) == [NEXT]
    assert migrated.run("SELECT a FROM second ORDER BY a") == [{"a": 1}, {"a": 7}]


async def test_two_at_once_apply_each_file_once(server: Server) -> None:
    runs = await asyncio.gather(*(migrations.migrate(server.settings()) for _ in range(4)))
    assert sorted(runs) == [[], [], [], ALL]
    assert server.run("SELECT number FROM schema_migrations") == [
        {"number": number} for number, _ in enumerate(ALL, 1)
    ]


async def test_a_lock_that_is_held_is_waited_for_and_reported(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT", 1)
    with server.admin() as other, other.cursor() as cursor:
        cursor.execute("USE deliv")
        cursor.execute(SQL.joinpath("ledger/lock.sql").read_text(), (0,))
        with pytest.raises(DatabaseUnavailable, match="another migration"):
            await migrations.migrate(server.settings())
    assert await migrations.migrate(server.settings()) == ALL


async def test_the_prototypes_table_is_not_taken_for_ours(server: Server) -> None:
    server.run("CREATE TABLE jobs (job_id VARCHAR(36), product_id TEXT, PRIMARY KEY (job_id))")
    with pytest.raises(MigrationRefused, match="0001_initial fails"):
        await migrations.migrate(server.settings())
    assert server.run("SELECT number FROM schema_migrations") == []


async def test_the_services_account_can_not_migrate(server: Server) -> None:
    with pytest.raises(DatabaseUnavailable, match="lacks a privilege"):
        await migrations.migrate(server.settings(migrations=None))


def test_the_service_has_four_privileges(migrated: Server) -> None:
    rows = migrated.run("SHOW GRANTS FOR deliv@127.0.0.1")
    grants = [str(value) for row in rows for value in row.values()]
    assert [grant.split(" ON ")[0] for grant in grants] == [
        "GRANT USAGE",
        "GRANT SELECT, INSERT, UPDATE, DELETE",
    ]


async def test_what_a_job_has_at_fts_is_a_transfer_of_it(
    server: Server, service: Database, files: Path
) -> None:
    later = {file: file.read_bytes() for file in files.iterdir() if file.name >= "0014"}
    for file in later:
        file.unlink()
    await migrations.migrate(server.settings(), files)
    server.run(
        "INSERT INTO jobs (job_id, product_id, status, destination_path, destination_host,"
        " submitter) VALUES ('j', 'p', 'SUBMITTED', 'gsiftp://h/d', 'h', '/CN=a')",
        "UPDATE jobs SET status = 'STAGING', version = version + 1",
        "INSERT INTO job_files (job_id, report, number, name, name_key) VALUES"
        " ('j', REPEAT('r', 16), 1, 'a', REPEAT('a', 16)),"
        " ('j', REPEAT('r', 16), 2, 'b', REPEAT('b', 16))",
        "UPDATE jobs SET report = REPEAT('r', 16), files_total = 2, files_done = 0",
        "UPDATE jobs SET status = 'TRANSFERRING', fts_endpoint = 'fts1', fts_jobid = 'x',"
        " slice = 3, version = version + 1",
        "UPDATE job_files SET state = 'ASSIGNED', attempt = 1, slice = 3 WHERE number = 1",
    )
    for file, content in later.items():
        file.write_bytes(content)
    await migrations.migrate(server.settings(), files)
    job = await Store(service).job("j")
    assert job is not None
    assert (await Store(service).open_transfers([job]))["j"] == (
        OpenTransfer(attempt=1, slice=3, fts_jobid="x", files=1),
    )
    assert job.status is Status.TRANSFERRING
