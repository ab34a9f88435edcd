"""An upgrade and a rollback under load: no request fails, no job is lost.

From this checkout to a next release, or from the checkout that DELIV_TESTS_RELEASE_BEFORE names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from deploy import checkout
from deploy.booting import Boot
from deploy.client import Client
from deploy.deployment import Deployment
from deploy.fleet import ANSIBLE, CHECKOUT
from deploy.load import Load
from tools.hosts.errors import HostsError
from tools.hosts.programs import wait

HOST, CLIENT = "deliv", "client"
PRODUCT = "1510850130-sdp-l0.rdb"
PLAYBOOKS = ANSIBLE / "playbooks"
NEW = "99.1"
MIGRATION = """
-- As a release would: what the one before knows stays.
ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS trial INT NULL DEFAULT NULL;

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS trial INT NULL DEFAULT NULL;
"""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A deployment of `old`, and the checkouts of it and of the next release."""

    deployment: Deployment
    user: Client
    old: Path
    new: Path
    migration: str

    def releases(self) -> dict[str, str]:
        """The version that each running instance is of."""
        shown = self.run("pgrep", "--full", "--list-full", "deliv serve --instance")
        found = {}
        for line in shown.splitlines():
            words = line.split()
            found[words[-1]] = PurePosixPath(words[1]).parents[1].name.split("-")[0]
        return found

    def sql(self, statement: str) -> list[str]:
        return self.run("mariadb", "-BNe", statement, "deliv").split()

    def run(self, *command: str) -> str:
        return self.deployment.fleet.execute(HOST, *command).stdout

    def assert_nothing_lost(self, load: Load) -> None:
        """Every accepted job is there, once, and succeeds."""
        assert set(self.sql("SELECT job_id FROM jobs")) == set(load.jobs)
        shown = "CONCAT_WS(' ', job_id, status, attempt, due_at, detailed_status)"
        others = f"SELECT REPLACE({shown}, ' ', '_') FROM jobs WHERE status <> 'SUCCESS'"  # noqa: S608
        with suppress(HostsError):
            wait(lambda: not self.sql(others), "every job has succeeded", 400, every=1)
        assert self.sql(others) == []


@pytest.fixture(scope="module")
def upgrade(boot: Boot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    before = Path(os.environ.get("DELIV_TESTS_RELEASE_BEFORE", CHECKOUT))
    old = checkout.copy(tmp_path_factory.mktemp("old") / "checkout", before)
    new = checkout.copy(tmp_path_factory.mktemp("new") / "checkout")
    checkout.set_version(new, NEW)
    migration = checkout.add_migration(new, "trial", MIGRATION)
    with boot("trixie", HOST, clients=(CLIENT,)) as fleet:
        deployment = Deployment(
            fleet,
            before / "ansible" / "inventories" / "single",  # settings that both releases know
            tmp_path_factory.mktemp("secrets"),
        )
        deployment.converge("-e", f"release_checkout={old}")
        deployment.wait_until_ready()
        user = deployment.user("alice", CLIENT)
        yield Upgrade(deployment=deployment, user=user, old=old, new=new, migration=migration)


def test_an_upgrade_and_a_rollback_under_load(upgrade: Upgrade) -> None:
    deployment, before = upgrade.deployment, checkout.version(upgrade.old)
    assert set(upgrade.releases().values()) == {before}
    assert len(upgrade.releases()) >= 2
    with Load(
        deployment.fleet, CLIENT, upgrade.user.url, PRODUCT, deployment.destination("load")
    ) as load:
        deployment.converge("-e", f"release_checkout={upgrade.new}", path=PLAYBOOKS / "upgrade.yml")
        assert set(upgrade.releases().values()) == {NEW}
        assert upgrade.migration in upgrade.sql(
            "SELECT CONCAT(LPAD(number, 4, '0'), '_', name) FROM schema_migrations"
        )
        shared = [
            upgrade.user.submit(f"slow-90-{PRODUCT}", deployment.destination(f"shared-{number}"))
            for number in range(3)
        ]  # one staging, which the release before may not know of
        deployment.converge("-e", f"deliv_version={before}", path=PLAYBOOKS / "rollback.yml")
        assert set(upgrade.releases().values()) == {before}
        assert len(upgrade.releases()) >= 2
    assert load.failures == []
    assert len(load.jobs) > 10
    assert load.calls > 100
    load.jobs |= {answer.body["job_id"]: "shared" for answer in shared}
    upgrade.assert_nothing_lost(load)
    deployment.wait_until_ready()
    deployment.converge("-e", "check_repair=true", path=PLAYBOOKS / "check.yml")
    upgrade.run("/usr/local/sbin/deliv", "check")  # clean, else its exit code is another
    later = deployment.converge("-e", f"release_checkout={upgrade.new}")
    assert f"{HOST} keeps release {before}" in later.output
    assert set(upgrade.releases().values()) == {before}


def test_a_rollback_needs_a_version_that_is_there(upgrade: Upgrade) -> None:
    before = upgrade.releases()
    for option, message in (("", "Say which"), ("98.0", "has no release 98.0")):
        play = upgrade.deployment.play(
            "-e", f"deliv_version={option}", path=PLAYBOOKS / "rollback.yml"
        )
        assert not play.succeeded
        assert message in play.output
    assert upgrade.releases() == before
