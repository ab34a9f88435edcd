"""The role common: who reaches which port, names, the clock, and copies of the host credential."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import open_ports, ports
from deploy.roles import RolePlay, certify, trust
from tools.hosts.programs import wait

SSH = 22
TRIED = [SSH, 7000, 7001, 7002, 7005]
LISTEN = """
import asyncio, sys
async def main():
    servers = [await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", int(port))
               for port in sys.argv[1:]]
    await asyncio.gather(*(server.serve_forever() for server in servers))
asyncio.run(main())
"""
# How another role uses common: ports for one host, for all, for none; a credential.
USER = """
- hosts: first
  become: true
  vars:
    trusted: "{{ groups['trusted'] | map('extract', hostvars, 'common_address') }}"
  tasks:
    - name: Let a service through
      ansible.builtin.include_role: {name: common, tasks_from: allow}
      vars:
        common_allow_name: "{{ item.name }}"
        common_allow_ports: "{{ item.ports }}"
        common_allow_sources: "{{ item.sources }}"
      loop:
        - {name: one, ports: [7000], sources: "{{ trusted }}"}
        - {name: all, ports: ["7001-7002"], sources: [any]}
        - {name: none, ports: [7005], sources: []}
    - name: Give a service the host credential
      ansible.builtin.include_role: {name: common, tasks_from: host_credential}
      vars:
        common_credential_directory: /etc/service
        common_credential_owner: games
        common_credential_group: games
        common_credential_notify: [Restart the service]
  handlers:
    - name: Restart the service
      ansible.builtin.command: touch /run/restarted
"""


@pytest.fixture(scope="module")
def fleet(boot: Boot, suite: str) -> Iterator[Fleet]:
    with boot(suite, "first", "second", clients=("client",)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def play(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> RolePlay:
    """Converged, after a dry run on the bare hosts."""
    play = RolePlay(
        fleet, tmp_path_factory.mktemp("common"), "common",
        groups={"trusted": ["second"]},
        variables={
            "common_manage_hosts": True,
            "common_ssh_sources": [fleet.run.gateway, "2001:db8::/32"],
            "common_time_servers": ["192.0.2.1"],
        },
    )  # fmt: skip
    play.dry_run()
    play.converge_idempotently()
    return play


@pytest.fixture(scope="module")
def user(fleet: Fleet, play: RolePlay) -> Path:
    """The playbook of a service that uses common, played."""
    path = play.directory / "user.yml"
    path.write_text(USER)
    dry_run = fleet.playbook(path, "--check", "--diff", inventories=[play.inventory])
    assert dry_run.succeeded, dry_run.output
    trust(fleet, "first")
    fleet.converge(path, inventories=[play.inventory])
    return path


@pytest.fixture(scope="module")
def services(fleet: Fleet, user: Path) -> None:
    """Something listens on every port that is tried."""
    unit = ["systemd-run", "--unit=listening", "python3", "-c", LISTEN]
    fleet.execute("first", *unit, *map(str, TRIED[1:]))
    wait(lambda: ports(fleet, "first") == set(TRIED), "the ports listen", 30)


def test_a_port_is_open_to_its_sources_only(fleet: Fleet, services: None) -> None:
    assert open_ports(fleet, "second", "first", TRIED) == {7000, 7001, 7002}
    assert open_ports(fleet, "client", "first", TRIED) == {7001, 7002}
    assert open_ports(fleet, "first", "first", TRIED) == set(TRIED)


def test_hosts_answer_a_ping(fleet: Fleet, play: RolePlay) -> None:
    fleet.execute("client", "ping", "-c1", "-W2", "first")


def test_a_service_s_rules_come_after_a_reboot(fleet: Fleet, services: None) -> None:
    before = fleet.execute("first", "nft", "list", "ruleset").stdout
    assert before.count("tcp dport") == 4, before
    fleet.reboot("first")
    assert fleet.execute("first", "nft", "list", "ruleset").stdout == before


def test_the_tables_of_others_stay(fleet: Fleet, play: RolePlay) -> None:
    fleet.execute("first", "nft", "add", "table", "inet", "others")
    fleet.execute("first", "systemctl", "reload", "nftables")
    tables = fleet.execute("first", "nft", "list", "tables").stdout.split("\n")
    assert {"table inet others", "table inet deliv"} <= set(tables)


def test_hosts_know_each_other_by_name(fleet: Fleet, play: RolePlay) -> None:
    text = (fleet.root("second") / "etc/hosts").read_text()
    assert text.startswith("# BEGIN hosts of deliv\n")
    for name in ("first", "second"):
        assert f"{fleet.address(name)} {name}\n" in text


def test_the_clock_is_synchronised(fleet: Fleet, play: RolePlay) -> None:
    """The unit does not run in a container, which has its host's clock."""
    fleet.execute("first", "systemctl", "is-enabled", "systemd-timesyncd")
    settings = fleet.execute(
        "first", "systemd-analyze", "cat-config", "systemd/timesyncd.conf"
    ).stdout
    assert "NTP=192.0.2.1" in settings.splitlines()


def test_no_unit_has_failed(fleet: Fleet, play: RolePlay) -> None:
    assert fleet.state("second") == "running"


def test_a_service_has_the_host_credential_for_itself(fleet: Fleet, user: Path) -> None:
    shown = fleet.execute(
        "first", "stat", "-c", "%A %U:%G %n", "/etc/service",
        "/etc/service/hostcert.pem", "/etc/service/hostkey.pem",
    )  # fmt: skip
    assert shown.stdout.splitlines() == [
        "drwxr-x--- root:games /etc/service",
        "-r--r--r-- games:games /etc/service/hostcert.pem",
        "-r-------- games:games /etc/service/hostkey.pem",
    ]


def test_a_new_host_credential_is_copied_and_notifies(
    fleet: Fleet, play: RolePlay, user: Path
) -> None:
    fleet.execute("first", "rm", "-f", "/run/restarted")
    credential = certify(fleet, "first", trust(fleet))
    changed = fleet.converge(user, "--diff", inventories=[play.inventory])
    fleet.execute("first", "test", "-e", "/run/restarted")
    copied = fleet.root("first") / "etc/service/hostkey.pem"
    assert copied.read_bytes() == credential.key_pem()
    assert "PRIVATE KEY" not in changed.output


def test_without_a_host_credential_the_play_fails_and_says_so(
    fleet: Fleet, play: RolePlay, user: Path
) -> None:
    key = PurePosixPath("/etc/grid-security/hostkey.pem")
    fleet.execute("first", "mv", str(key), f"{key}.away")
    failed = fleet.playbook(user, inventories=[play.inventory])
    fleet.execute("first", "mv", f"{key}.away", str(key))
    assert not failed.succeeded
    assert "first has no /etc/grid-security/hostkey.pem" in failed.output
