"""docs/operate.md: its marked blocks are run literally."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.documents import blocks

from deploy.booting import Boot
from deploy.client import Client
from deploy.deployment import Deployment, sha256
from deploy.fleet import ANSIBLE, BIN, CHECKOUT, Fleet, mitogen
from deploy.served import gridftp_serial, serial_of_file, tls_serial
from deploy.steady import Steady

SUITE = "trixie"
CLIENT = "client"
GUIDE = CHECKOUT / "docs" / "operate.md"
BLOCKS = {block.about: block.text for block in blocks(GUIDE) if block.mark == "test"}
SERVERS = {8443: (), 3306: ("-starttls", "mysql"), 5671: (), 8444: (), 8446: ()}
GRIDFTP = (2811, 2812)
SLOW = "slow-45-synthetic-1000003"  # still at the stager when the database is restored


@pytest.fixture(scope="module")
def deployment(boot: Boot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All of deliv on one machine, by an inventory of the test's own."""
    inventory = tmp_path_factory.mktemp("inventories") / "single"
    shutil.copytree(ANSIBLE / "inventories" / "single", inventory)
    with boot(SUITE, "deliv", clients=(CLIENT,)) as fleet:
        shutil.copy(fleet.run.inventory, inventory / "logins.json")
        deployment = Deployment(fleet, inventory, inventory / ".secrets")
        follow(deployment, "new server", *mitogen())  # at a third of the cost
        deployment.wait_until_ready()
        yield deployment


@pytest.fixture
def alice(deployment: Deployment) -> Client:
    return deployment.user("alice", CLIENT)


def follow(deployment: Deployment, block: str, *settings: str) -> str:
    """Run a block of the guide, as in the shell that it has prepared; `settings` are NAME=VALUE."""
    prepared = f"export PATH={BIN}:$PATH INVENTORY={deployment.inventory}\n"
    done = deployment.fleet.in_hub(
        "env", *settings, "bash", "-euo", "pipefail", "-c", prepared + BLOCKS[block],
        cwd=ANSIBLE, timeout=900,
    )  # fmt: skip
    return done.stdout


def test_the_guide_has_the_blocks_that_are_followed_here() -> None:
    assert set(BLOCKS) == {"backup", "restore", "new server", "renew", "served"}


def test_a_backup_is_whole_and_private_and_disturbs_nobody(
    deployment: Deployment, alice: Client
) -> None:
    with Steady(deployment, alice, "backup") as steady:
        output = follow(deployment, "backup")
    here = newest(deployment)
    there = deployment.fleet.root("deliv") / "var/backups/deliv" / here.name
    assert here.name in output
    assert sha256(here) == sha256(there)
    assert {oct(file.stat().st_mode & 0o777) for file in (here, there)} == {"0o600"}
    assert there.stat().st_uid == 0
    steady.assert_nothing_lost()


def test_what_was_deleted_is_restored_and_jobs_go_on(deployment: Deployment, alice: Client) -> None:
    ended, going = jobs_ended_and_going(deployment, alice, "restored")
    follow(deployment, "backup")
    history = events(deployment, ended)
    deployment.fleet.execute(
        "deliv", "mariadb", "deliv", "-e", "TRUNCATE TABLE jobs; DROP TABLE job_events"
    )
    assert alice.status(ended).status != 200
    follow(deployment, "restore")
    assert events(deployment, ended) == history
    assert_delivered(deployment, alice, going, "restored/going")


def test_a_lost_database_server_is_replaced(deployment: Deployment, alice: Client) -> None:
    ended, going = jobs_ended_and_going(deployment, alice, "replaced")
    follow(deployment, "backup")
    history = events(deployment, ended)
    lose_the_database(deployment.fleet)
    follow(deployment, "new server", *mitogen())
    follow(deployment, "restore")
    assert events(deployment, ended) == history
    assert_delivered(deployment, alice, going, "replaced/going")


def test_certificates_are_renewed_while_users_submit(deployment: Deployment, alice: Client) -> None:
    before = serials(deployment)
    with Steady(deployment, alice, "renewed") as steady:
        follow(deployment, "renew")
    after = serials(deployment)
    assert set(after.values()) == {serial_of_file(deployment.fleet, "deliv")}
    assert not set(after.values()) & set(before.values())
    assert next(iter(after.values())) in follow(deployment, "served").replace("serial=", "")
    steady.assert_nothing_lost()


def jobs_ended_and_going(deployment: Deployment, user: Client, place: str) -> tuple[str, str]:
    """A job that has ended, and one that waits for the stager."""
    answers = [
        user.submit(product, deployment.destination(f"{place}/{name}"))
        for name, product in (("ended", "005"), ("going", SLOW))
    ]
    assert [answer.status for answer in answers] == [202, 202]
    ended, going = (answer.body["job_id"] for answer in answers)
    assert user.wait_until_final(ended)["status"] == "SUCCESS"
    assert user.status(going).body["status"] == "STAGING"
    return ended, going


def events(deployment: Deployment, job: str) -> str:
    """What the database knows of a job that has ended, and of how it came to that."""
    queries = [
        f"SELECT submitter, status, checksum, time_success FROM jobs WHERE job_id = '{job}'",  # noqa: S608 - a UUID of deliv's
        f"SELECT * FROM job_events WHERE job_id = '{job}'",  # noqa: S608 - the same
    ]
    return deployment.fleet.execute("deliv", "mariadb", "deliv", "-e", "; ".join(queries)).stdout


def assert_delivered(deployment: Deployment, user: Client, job: str, place: str) -> None:
    found = user.wait_until_final(job, 180)
    assert found["status"] == "SUCCESS", found
    name = SLOW[SLOW.index("synthetic") :]
    size = int(name.removeprefix("synthetic-"))
    assert deployment.delivered(place, name).stat().st_size == size


def lose_the_database(fleet: Fleet) -> None:
    """Nothing of MariaDB is left on the host, and no backup."""
    packages = fleet.execute(
        "deliv", "dpkg-query", "-W", "-f", "${Package}\n", "mariadb-*", "mysql-common"
    ).stdout.split()
    fleet.execute(
        "deliv",
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "purge",
        "--yes",
        *packages,
    )
    fleet.execute("deliv", "rm", "-rf", "/var/lib/mysql", "/etc/mysql", "/var/backups/deliv")


def newest(deployment: Deployment) -> Path:
    return max((deployment.inventory / ".backups").glob("deliv-*.sql.gz"))


def serials(deployment: Deployment) -> dict[int, str]:
    """The serial number of the certificate that each server shows to a new connection."""
    fleet = deployment.fleet
    shown = {port: tls_serial(fleet, "deliv", port, *how) for port, how in SERVERS.items()}
    return shown | {port: gridftp_serial(fleet, CLIENT, "deliv", port) for port in GRIDFTP}
