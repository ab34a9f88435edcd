"""The role mariadb: who may log in, from where and how; what accounts may; restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from deliv_testbed import pki
from support.documents import ROOT, blocks

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import connects, listeners
from deploy.roles import BUNDLE, RolePlay, certify, secrets_at_rest, served_certificate, trust
from deploy.small_disk import clear, fill, small_disk
from tools.hosts.programs import wait

PORT = 3306
DATA = "/var/lib/mysql"
ROOM = next(one for one in blocks(ROOT / "docs" / "recovery.md") if "purge" in one.text.lower())
LOGIN = PurePosixPath("/etc/mysql/deliv-backup.cnf")
SERVICE, MIGRATIONS, BACKUP = "service-9c2e", "migrations-71fa", "backup-4b0d"
REFUSED, UNKNOWN_HOST, DENIED, INSECURE = 1045, 1130, 1142, 3159
# Runs in a host: statements over TCP; prints the last rows, or {"error": CODE}.
STATEMENTS = """
import json, ssl, sys, pymysql
given = json.load(sys.stdin)
statements, ca = given.pop("statements"), given.pop("ca")
tls = {"ssl": ssl.create_default_context(cafile=ca)} if ca else {"ssl_disabled": True}
try:
    connection = pymysql.connect(**given, **tls, autocommit=True, connect_timeout=10)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        print(json.dumps(cursor.fetchall(), default=str))
except pymysql.MySQLError as error:
    print(json.dumps({"error": error.args[0], "message": str(error)}))
"""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS things (name VARCHAR(20) PRIMARY KEY) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS noted (name VARCHAR(20)) ENGINE = InnoDB",
    "CREATE OR REPLACE TRIGGER note AFTER INSERT ON things FOR EACH ROW"
    " INSERT INTO noted VALUES (NEW.name)",
)


class Accounts:
    """Statements of deliv's accounts, by default of the service on its own host."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def run(
        self,
        *statements: str,
        user: str = "deliv",
        password: str = SERVICE,
        origin: str = "deliv",
        ca: str = str(BUNDLE),
    ) -> Any:
        """The last statement's rows, or the code of the server's refusal."""
        given = {
            "host": self.fleet.address("data"), "port": PORT, "database": "deliv", "user": user,
            "password": password, "statements": statements, "ca": ca,
        }  # fmt: skip
        done = self.fleet.execute(origin, "python3", "-c", STATEMENTS, stdin=json.dumps(given))
        answer = json.loads(done.stdout)
        return answer["error"] if isinstance(answer, dict) else answer

    def migrate(self, *statements: str) -> Any:
        return self.run(*statements, user="deliv_migrations", password=MIGRATIONS)

    def root(self, statement: str) -> str:
        """Root's answer by the Unix socket."""
        return self.fleet.execute("data", "mariadb", "-BNe", statement).stdout


@pytest.fixture(scope="module")
def fleet(boot: Boot, suite: str) -> Iterator[Fleet]:
    with boot(suite, "data", "deliv", clients=("client",)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def authority(fleet: Fleet) -> pki.Authority:
    return trust(fleet, "data", "deliv", "client")


@pytest.fixture(scope="module")
def play(
    fleet: Fleet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RolePlay:
    """Converged, after a dry run on the bare host."""
    play = RolePlay(
        fleet, tmp_path_factory.mktemp("mariadb"), "mariadb", on="deliv_database",
        groups={"deliv_database": ["data"]},
        variables={
            "mariadb_password": SERVICE,
            "mariadb_migrations_password": MIGRATIONS,
            "mariadb_backup_password": BACKUP,
            "mariadb_sources": [fleet.address("deliv")],
            "mariadb_reserve": "32M",
            "mariadb_binlog_max": "20M",
        },
    )  # fmt: skip
    play.dry_run()
    request.getfixturevalue("authority")
    play.converge_idempotently()
    return play


@pytest.fixture(scope="module")
def accounts(fleet: Fleet, play: RolePlay) -> Accounts:
    """With a schema, and a driver on the hosts that connect."""
    for host in ("deliv", "client"):
        fleet.execute(host, "apt-get", "-qq", "update")
        fleet.execute(host, "apt-get", "-qq", "install", "--yes", "python3-pymysql")
    accounts = Accounts(fleet)
    assert accounts.migrate(*SCHEMA) == []
    return accounts


def test_it_listens_on_its_port_only(fleet: Fleet, play: RolePlay) -> None:
    found = {(socket.address, socket.port) for socket in listeners(fleet, "data")}
    assert {pair for pair in found if pair[1] != 22} == {(fleet.address("data"), PORT)}
    assert fleet.state("data") == "running"


def test_only_the_services_hosts_reach_it(fleet: Fleet, play: RolePlay) -> None:
    assert connects(fleet, "deliv", "data", PORT)
    assert not connects(fleet, "client", "data", PORT)


def test_the_service_reads_and_changes_rows(accounts: Accounts) -> None:
    """A trigger of the schema acts with the rights of the account that made it."""
    assert accounts.run("INSERT INTO things VALUES ('é')", "SELECT * FROM noted") == [["é"]]
    accounts.run("UPDATE things SET name = 'two'", "DELETE FROM things", "DELETE FROM noted")
    assert accounts.run("SELECT * FROM things") == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE things",
        "ALTER TABLE things ADD COLUMN size INT",
        "CREATE TABLE more (name INT)",
        "CREATE OR REPLACE TRIGGER note AFTER INSERT ON things FOR EACH ROW SET @a = 1",
        "TRUNCATE TABLE things",
        "SELECT * FROM mysql.global_priv",
    ],
)
def test_the_service_changes_nothing_else(accounts: Accounts, statement: str) -> None:
    assert accounts.run(statement) == DENIED


def test_migrations_touch_deliv_s_database_alone(accounts: Accounts) -> None:
    assert accounts.migrate("SELECT * FROM mysql.global_priv") == DENIED
    assert accounts.migrate("CREATE DATABASE other") == 1044
    assert accounts.migrate("SET GLOBAL max_connections = 10") == 1227


def test_a_wrong_password_is_refused(accounts: Accounts) -> None:
    assert accounts.run("SELECT 1", password="wrong") == REFUSED
    assert accounts.run("SELECT 1", user="root", password="") == REFUSED
    assert accounts.run("SELECT 1", user="", password="") == REFUSED


def test_the_service_logs_in_from_its_own_hosts_only(accounts: Accounts) -> None:
    assert accounts.run("SELECT 1", origin="data") in (REFUSED, UNKNOWN_HOST)


def test_without_tls_every_login_is_refused(accounts: Accounts) -> None:
    assert accounts.run("SELECT 1", ca="") in (REFUSED, INSECURE)
    plain = accounts.run("SELECT 1", user="deliv_migrations", password=MIGRATIONS, ca="")
    assert plain in (REFUSED, INSECURE)


def test_the_server_authenticates_itself(fleet: Fleet, accounts: Accounts) -> None:
    other = pki.Authority.create()
    fleet.put("deliv", PurePosixPath("/root/other.pem"), pki.certificate_pem(other.certificate))
    assert accounts.run("SELECT 1", ca="/root/other.pem") == 2003
    [[_, cipher]] = accounts.run("SHOW STATUS LIKE 'Ssl_version'")
    assert cipher in ("TLSv1.2", "TLSv1.3")


def test_root_logs_in_by_the_socket_only(fleet: Fleet, accounts: Accounts) -> None:
    assert accounts.root("SELECT CURRENT_USER()").strip() == "root@localhost"
    admin = fleet.execute("data", "sudo", "-u", "admin", "mariadb", "-uroot", check=False)
    assert "Access denied" in admin.stderr
    known = accounts.root("SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1").split()
    assert set(known) == {
        f"deliv@{fleet.address('deliv')}", "deliv_migrations@%", "deliv_backup@localhost",
        "root@localhost", "mariadb.sys@localhost", "mysql@localhost",
    }  # fmt: skip


def test_what_was_committed_is_on_the_disk(accounts: Accounts) -> None:
    names = "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "character_set_server"
    rows = accounts.root(f"SELECT @@{', @@'.join(names)}").split()
    assert rows == ["1", "1", "1", "utf8mb4"]


def test_a_backup_is_taken_with_its_own_account(fleet: Fleet, accounts: Accounts) -> None:
    dump = fleet.execute(
        "data", "mariadb-dump", f"--defaults-extra-file={LOGIN}", "--single-transaction",
        "--routines", "--triggers", "--master-data=2", "deliv",
    ).stdout  # fmt: skip
    assert "CREATE TABLE `things`" in dump
    assert "TRIGGER note" in dump or "TRIGGER `note`" in dump
    assert "MASTER_LOG_FILE='binlog." in dump


def test_the_binary_log_has_an_end(fleet: Fleet, accounts: Accounts) -> None:
    """Old files go; where MariaDB knows of the limit, so do those beyond a size."""
    accounts.root("FLUSH BINARY LOGS")  # which writes the end of a file: of now
    begin = accounts.root("SHOW BINARY LOGS").split()[0]
    fleet.execute("data", "touch", "--date=8 days ago", f"{DATA}/{begin}")
    accounts.root("FLUSH BINARY LOGS")
    assert begin not in accounts.root("SHOW BINARY LOGS")
    if not accounts.root("SHOW VARIABLES LIKE 'max_binlog_total_size'"):
        return
    for _ in range(6):
        accounts.root("INSERT INTO deliv.noted SELECT REPEAT('x', 20) FROM deliv.seq_1_to_200000")
        accounts.root("FLUSH BINARY LOGS")
    sizes = [int(line.split()[1]) for line in accounts.root("SHOW BINARY LOGS").splitlines()]
    assert 0 < sum(sizes) <= 20 * 2**20
    accounts.root("TRUNCATE TABLE deliv.noted")


def test_a_full_disk(fleet: Fleet, play: RolePlay, accounts: Accounts) -> None:
    """MariaDB does not start; with what docs/recovery.md says it does, and makes room itself."""
    room, up, purge = ROOM.commands
    with small_disk(fleet, "data", "mariadb", DATA, "600m"):
        fill(fleet, "data", DATA)
        fleet.execute("data", "systemctl", "kill", "--signal=KILL", "mariadb")
        wait(lambda: lacks_space(fleet), "it has tried to start, and lacks space", 300)
        assert not connects(fleet, "deliv", "data", PORT)
        fleet.execute("data", "sh", "-ec", room)
        fleet.execute("data", "sh", "-ec", up, timeout=300)
        fleet.execute("data", "sh", "-ec", purge)
        accounts.run("INSERT INTO things VALUES ('more')")
        clear(fleet, "data", DATA)
        play.converge()
        size = fleet.execute("data", "stat", "-c", "%s %a %U", f"{DATA}/reserved").stdout
        assert size.split() == [str(32 * 2**20), "600", "root"]
    wait(lambda: connects(fleet, "deliv", "data", PORT), "MariaDB is back", 60)


def lacks_space(fleet: Fleet) -> bool:
    """It ends at each start, or waits in it: that depends on the file that has no space."""
    restarts = fleet.execute("data", "systemctl", "show", "-P", "NRestarts", "mariadb").stdout
    journal = fleet.execute("data", "journalctl", "--unit=mariadb", "--output=cat").stdout
    return int(restarts) >= 2 or "No space left on device" in journal


def test_it_is_restarted_when_killed(fleet: Fleet, accounts: Accounts) -> None:
    accounts.run("INSERT INTO things VALUES ('kept')")
    fleet.execute("data", "systemctl", "kill", "--signal=KILL", "mariadb")
    wait(lambda: connects(fleet, "deliv", "data", PORT), "MariaDB is back", 60)
    assert accounts.run("SELECT * FROM things") == [["kept"]]


def test_it_starts_when_its_host_reboots(fleet: Fleet, accounts: Accounts) -> None:
    fleet.reboot("data")
    wait(lambda: connects(fleet, "deliv", "data", PORT), "MariaDB is back", 60)
    assert accounts.run("SELECT * FROM things") == [["kept"]]
    assert not connects(fleet, "client", "data", PORT)


def test_secrets_are_its_own(fleet: Fleet, play: RolePlay, accounts: Accounts) -> None:
    shown = fleet.execute(
        "data", "stat", "-c", "%A %U:%G %n", str(LOGIN), "/etc/mysql/tls/hostkey.pem"
    )
    assert shown.stdout.splitlines() == [
        f"-r-------- root:root {LOGIN}",
        "-r-------- mysql:mysql /etc/mysql/tls/hostkey.pem",
    ]
    for secret in (SERVICE, MIGRATIONS, BACKUP):
        assert secret not in play.output
    assert secrets_at_rest(fleet, "data", SERVICE, MIGRATIONS, BACKUP) == {str(LOGIN)}


def test_what_changes_takes_effect_without_a_restart(
    fleet: Fleet, play: RolePlay, accounts: Accounts, authority: pki.Authority
) -> None:
    process = _main_process(fleet)
    renewed = certify(fleet, "data", authority)
    accounts.root("CREATE USER deliv@'192.0.2.9'")
    client = fleet.address("client")
    play.vary(mariadb_password="new-5d3c", mariadb_further_sources=[client])
    play.converge("--diff")
    assert accounts.run("SELECT 1") == REFUSED
    assert accounts.run("SELECT 1", password="new-5d3c") == [[1]]
    assert accounts.run("SELECT 1", password="new-5d3c", origin="client") == [[1]]
    assert served_certificate(fleet, "deliv", "data", PORT, "mysql") == renewed.certificate
    assert accounts.root("SELECT Host FROM mysql.user WHERE User = 'deliv' ORDER BY 1").split() == [
        fleet.address("deliv"),
        client,
    ]
    assert "new-5d3c" not in play.output
    assert _main_process(fleet) == process


def _main_process(fleet: Fleet) -> str:
    return fleet.execute("data", "systemctl", "show", "-P", "MainPID", "mariadb").stdout
