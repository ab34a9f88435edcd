"""Tests of every inventory that deploys all of deliv: the classes of test_single.py and test_lab.py
inherit them. They run in this order, on one fleet; each also passes alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import exposure
from deploy.booting import Boot
from deploy.deployment import Deployment, sha256
from deploy.exposure import Found, ProcessWatch
from deploy.fleet import ANSIBLE, Play
from deploy.observe import listeners, open_ports, ports, security_score
from deploy.port_table import Ports, ports_of
from tools.hosts.programs import wait

CLIENT = "client"
PRODUCT = "M31 HI cube.fits"
DATA_PORTS = range(50000, 52001)
# What the firewall's rules are tried with, besides the ports of the table: RabbitMQ without TLS,
# and what deliv, MariaDB and RabbitMQ keep to themselves.
MORE_PORTS = {5672, 4369, 25672, 9092, 15672, 33060}


@dataclass(frozen=True, kw_only=True)
class Bare:
    """Hosts that have just booted."""

    deployment: Deployment
    seconds: float  # of booting


@dataclass(frozen=True, kw_only=True)
class Built:
    """A deployment from bare hosts on, and the output of Ansible."""

    deployment: Deployment
    first: Play
    processes: ProcessWatch  # of the first run
    began: float  # time.monotonic() when the first run began, less the time of booting


@contextmanager
def bare_hosts(
    boot: Boot, suite: str, inventory: str, hosts: tuple[str, ...], secrets: Path
) -> Iterator[Bare]:
    began = time.monotonic()
    with boot(suite, *hosts, clients=(CLIENT,)) as fleet:
        deployment = Deployment(fleet, ANSIBLE / "inventories" / inventory, secrets)
        yield Bare(deployment=deployment, seconds=time.monotonic() - began)


class SiteTests:
    """A module that inherits this has a fixture `bare`, of the module's scope."""

    WITHIN = 600  # seconds, on two cores, from nothing to a delivered product

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, bare: Bare) -> Built:
        began = time.monotonic() - bare.seconds
        plain = "DELIV_TESTS_TURN" not in os.environ  # at a push in a third of the time
        with ProcessWatch() as processes:
            first = bare.deployment.play("--diff", "-vvv", plain=plain)
        return Built(deployment=bare.deployment, first=first, processes=processes, began=began)

    @pytest.fixture
    def deployment(self, built: Built) -> Deployment:
        assert built.first.succeeded, "site.yml failed"
        return built.deployment

    @pytest.fixture
    def secrets(self, deployment: Deployment) -> dict[str, str]:
        """The passwords that Ansible made, by name."""
        return passwords(deployment)

    @pytest.mark.rotating
    def test_a_dry_run_on_bare_hosts(self, bare: Bare) -> None:
        """The first test: the others need what the first run deploys."""
        dry_run = bare.deployment.play("--check", "--diff")
        assert dry_run.succeeded, dry_run.output[-8000:]
        assert list(bare.deployment.secrets.iterdir()) == []  # it has made no passwords to keep
        assert_no_secret(dry_run, {})

    def test_the_first_run_fails_no_task(self, built: Built) -> None:
        assert built.first.succeeded, built.first.output[-8000:]
        assert set(built.first.recap) == set(built.deployment.fleet.names)

    def test_a_product_is_delivered(self, built: Built, deployment: Deployment) -> None:
        deliver(deployment, "first", PRODUCT)
        # on a busy machine the time says nothing
        if os.environ.get("DELIV_TESTS_BUSY") != "1":
            assert time.monotonic() - built.began < self.WITHIN

    @pytest.mark.rotating
    def test_the_second_run_changes_nothing(self, deployment: Deployment) -> None:
        again = deployment.converge("--diff")
        assert again.changed == []
        assert {name: recap["changed"] for name, recap in again.recap.items()} == dict.fromkeys(
            deployment.fleet.names, 0
        )

    @pytest.mark.rotating
    def test_a_dry_run_afterwards_would_change_nothing(self, deployment: Deployment) -> None:
        dry_run = deployment.converge("--check", "--diff")
        assert dry_run.changed == []

    def test_no_unit_of_any_host_has_failed(self, deployment: Deployment) -> None:
        states = {name: deployment.fleet.state(name) for name in deployment.fleet.names}
        assert states == dict.fromkeys(deployment.fleet.names, "running")

    def test_each_host_listens_as_documented(self, deployment: Deployment) -> None:
        for name in deployment.fleet.names:
            wait_until_quiet(deployment, name)
            documented = documented_ports(deployment, name)
            assert ports(deployment.fleet, name) == documented.open, name
            heard = listeners(deployment.fleet, name)
            assert {found.port for found in heard if found.is_local} == documented.local, name
            assert deployment.fleet.execute(name, "ss", "-Hlun").stdout == "", name

    def test_the_client_reaches_only_what_it_may(self, deployment: Deployment) -> None:
        names = deployment.fleet.names
        with ThreadPoolExecutor(len(names)) as pool:
            scans = pool.map(lambda name: open_ports(deployment.fleet, CLIENT, name), names)
        allowed = {name: documented_ports(deployment, name).open_to([]) for name in names}
        assert dict(zip(names, scans, strict=True)) == allowed

    def test_each_host_reaches_only_what_it_may(self, deployment: Deployment) -> None:
        for target in deployment.fleet.names:
            documented = documented_ports(deployment, target)
            tried = documented.open | documented.local | MORE_PORTS
            for origin in set(deployment.fleet.names) - {target}:
                found = open_ports(deployment.fleet, origin, target, tried)
                allowed = documented.open_to(deployment.groups_of(origin))
                assert found == allowed, f"from {origin} to {target}"

    def test_only_hosts_of_lab_services_have_the_testbed(self, deployment: Deployment) -> None:
        for host in deployment.fleet.names:
            services = {"deliv_stager", "deliv_fts"} & set(deployment.groups_of(host))
            found = deployment.fleet.execute(
                host, "find", "/opt", "-maxdepth", "7", "-type", "d", "-name", "deliv_testbed"
            ).stdout.splitlines()
            assert bool(found) == bool(services), host
            assert all(path.startswith("/opt/deliv-testbed/") for path in found), found

    def test_every_instance_is_sandboxed(self, deployment: Deployment) -> None:
        for host in deployment.groups["deliv_service"]:
            assert deployment.instances(host) >= 1
            assert security_score(deployment.fleet, host, "deliv@1.service") <= 2.0

    def test_no_play_shows_a_secret(self, built: Built, secrets: dict[str, str]) -> None:
        assert_no_secret(built.first, secrets)

    def test_no_process_shows_a_secret(
        self, built: Built, deployment: Deployment, secrets: dict[str, str]
    ) -> None:
        for name, secret in secrets.items():
            assert built.processes.showed(secret) == [], name
        for host in deployment.fleet.names:
            assert exposure.in_processes(deployment.fleet, host, secrets.values()) == "", host

    def test_no_log_shows_a_secret(self, deployment: Deployment, secrets: dict[str, str]) -> None:
        for host in deployment.fleet.names:
            assert exposure.in_journal(deployment.fleet, host, secrets.values()) == "", host

    def test_secrets_are_readable_by_their_owners_alone(
        self, deployment: Deployment, secrets: dict[str, str]
    ) -> None:
        for host in deployment.fleet.names:
            found = exposure.files(deployment.fleet, host, [*secrets.values(), exposure.KEY])
            # keys that Python packages have for their own tests are no secrets
            ours = [file for file in found if not re.match("/opt/deliv[^/]*/.*/lib/", file.path)]
            assert ours, host
            for file in ours:
                assert set(file.readers) <= {readers_of(file)}, (host, file)

    def test_a_reboot_of_each_host_loses_no_job(self, deployment: Deployment) -> None:
        for host in deployment.fleet.names:
            reboot_with_unfinished_jobs(deployment, host)


def passwords(deployment: Deployment) -> dict[str, str]:
    found = {path.name: path.read_text().strip() for path in deployment.secrets.iterdir()}
    assert set(found) == {"database", "migrations", "broker", "backup"}
    return found


def assert_no_secret(play: Play, secrets: dict[str, str]) -> None:
    for secret in (*secrets.values(), exposure.KEY):
        assert secret not in play.output


def documented_ports(deployment: Deployment, host: str) -> Ports:
    return ports_of(deployment.groups_of(host), deployment.instances(host))


def wait_until_quiet(deployment: Deployment, host: str) -> None:
    """Until no copy has a data port any more."""
    wait(
        lambda: ports(deployment.fleet, host).isdisjoint(DATA_PORTS),
        f"copies on {host} have ended", 60, every=0.5,
    )  # fmt: skip


def readers_of(file: Found) -> str:
    """Who may read a secret. systemd passes the service's secrets to it (LoadCredential)."""
    return "deliv" if file.path.startswith("/run/credentials/deliv@") else file.owner


def deliver(deployment: Deployment, directory: str, product: str) -> None:
    """A user submits; the file arrives, byte for byte."""
    user = deployment.user("alice", CLIENT)
    answer = user.submit(product, deployment.destination(directory))
    assert answer.status == 202, answer
    job = user.wait_until_final(answer.body["job_id"])
    assert job["status"] == "SUCCESS", job
    assert sha256(deployment.delivered(directory, product)) == sha256(deployment.archived(product))


def reboot_with_unfinished_jobs(deployment: Deployment, host: str) -> None:
    """Jobs of every phase are unfinished when the host goes down; each succeeds."""
    user = deployment.user("alice", CLIENT)
    products = ["synthetic-20000000", "slow-2-synthetic-1000003", "slow-8-synthetic-1000005"]
    place = f"reboot-{host}"
    answers = [
        user.submit(product, deployment.destination(f"{place}/{number}"))
        for number, product in enumerate(products)
    ]
    assert [answer.status for answer in answers] == [202] * len(products), answers
    deployment.fleet.reboot(host)
    assert deployment.fleet.state(host) == "running"
    deployment.wait_until_ready()
    for number, answer in enumerate(answers):
        job = user.wait_until_final(answer.body["job_id"], seconds=180)
        assert job["status"] == "SUCCESS", (host, job)
        name = products[number][products[number].index("synthetic") :]
        assert deployment.delivered(f"{place}/{number}", name).stat().st_size == int(
            name.removeprefix("synthetic-")
        )
