"""The hosts themselves: they boot, reach only each other, reboot, and are removed completely."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import connects, listeners, open_ports, ports, security_score
from tools.hosts import runs
from tools.hosts.programs import wait

SSH = 22
PLAYBOOK = """
- hosts: all
  become: true
  tasks:
    - name: Write a file
      ansible.builtin.copy:
        content: "{{ inventory_hostname }}\\n"
        dest: /etc/greeting
        mode: "0644"
"""


@pytest.fixture(scope="module")
def fleet(boot: Boot, suite: str) -> Iterator[Fleet]:
    with boot(suite, "first", "second", clients=("client",)) as fleet:
        yield fleet


def test_no_unit_of_any_host_has_failed(fleet: Fleet) -> None:
    assert {name: fleet.state(name) for name in fleet.names} == dict.fromkeys(
        fleet.names, "running"
    )


def test_a_host_is_of_the_suite_that_was_asked_for(fleet: Fleet, suite: str) -> None:
    release = fleet.execute("first", "cat", "/etc/os-release").stdout
    assert f"VERSION_CODENAME={suite}" in release


def test_hosts_see_each_other_by_name(fleet: Fleet) -> None:
    fleet.execute("first", "ping", "-c1", "-W2", "second")
    fleet.execute("client", "ping", "-c1", "-W2", "first")


def test_a_bare_host_listens_for_ssh_only(fleet: Fleet) -> None:
    assert ports(fleet, "second") == {SSH}
    assert {found.port for found in listeners(fleet, "second")} == {SSH}
    assert open_ports(fleet, "client", "second") == {SSH}


def test_nothing_outside_can_be_reached(fleet: Fleet) -> None:
    routes = fleet.execute("first", "ip", "route", "show", "default").stdout
    outside = subprocess.run(
        ["ip", "-json", "address", "show", "up", "scope", "global"], capture_output=True, text=True
    )
    assert routes == ""
    for address in _addresses(outside.stdout):
        attempt = fleet.execute("first", "ping", "-c1", "-W1", address, check=False)
        assert attempt.returncode != 0, address


def _addresses(listing: str) -> list[str]:
    found = (item for link in json.loads(listing) for item in link.get("addr_info", []))
    return [item["local"] for item in found if item]


def test_the_machine_itself_cannot_reach_the_hosts(fleet: Fleet) -> None:
    """Its route to them is `unreachable`: no packet for them leaves by a real interface."""
    attempt = subprocess.run(
        ["ip", "route", "get", fleet.address("first")], capture_output=True, text=True
    )
    assert attempt.returncode != 0
    guard = subprocess.run(
        ["ip", "route", "show", "type", "unreachable"], capture_output=True, text=True
    )
    assert fleet.run.subnet in guard.stdout


def test_the_proxy_knows_registries_only(fleet: Fleet) -> None:
    proxy = f"http://{fleet.run.gateway}:{runs.GATEWAY_PORT}"
    for address in ("http://www.example.org/", "https://www.example.org/"):
        refused = fleet.execute(
            "first", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}:%{http_connect}",
            "-x", proxy, address, check=False,
        )  # fmt: skip
        assert "403" in refused.stdout


def test_packages_come_through_it(fleet: Fleet) -> None:
    fleet.execute("first", "apt-get", "-qq", "update")
    fleet.execute("first", "apt-get", "-qq", "install", "--yes", "python3-venv")
    fleet.execute("first", "python3", "-m", "venv", "/opt/trial")
    fleet.execute("first", "/opt/trial/bin/pip", "install", "--quiet", "msgspec")
    fleet.execute("first", "/opt/trial/bin/python", "-c", "import msgspec")


def test_a_playbook_that_changes_something_again_is_detected(fleet: Fleet, tmp_path: Path) -> None:
    playbook = tmp_path / "site.yml"
    playbook.write_text(PLAYBOOK)
    changed = fleet.converge(playbook).changed
    assert set(changed) == {"first: Write a file", "second: Write a file"}
    fleet.assert_idempotent(playbook)
    fleet.execute("second", "rm", "/etc/greeting")
    with pytest.raises(AssertionError, match="second: Write a file"):
        fleet.assert_idempotent(playbook)
    assert fleet.playbook(playbook, "--limit=nobody").succeeded is False


def test_a_unit_is_rated(fleet: Fleet) -> None:
    assert 0 < security_score(fleet, "first", "ssh.service") <= 10


def test_a_pulled_cable_cuts_a_host_off(fleet: Fleet) -> None:
    assert connects(fleet, "client", "second", SSH)
    fleet.set_link("second", "down")
    assert not connects(fleet, "client", "second", SSH)
    fleet.set_link("second", "up")
    wait(lambda: connects(fleet, "client", "second", SSH), "the cable works again", 30)


def test_a_host_comes_back_from_a_reboot_with_its_files(fleet: Fleet) -> None:
    fleet.execute("first", "touch", "/etc/kept", "/run/lost")
    fleet.reboot("first")
    assert fleet.state("first") == "running"
    fleet.execute("first", "test", "-e", "/etc/kept")
    assert fleet.execute("first", "test", "-e", "/run/lost", check=False).returncode == 1
    assert connects(fleet, "client", "first", SSH)


def test_two_runs_are_separate_and_down_leaves_nothing(boot: Boot, fleet: Fleet) -> None:
    here = fleet.address("first")
    with boot("bookworm", "first") as other:
        assert other.run.number != fleet.run.number
        assert other.execute("first", "ping", "-c1", "-W1", here, check=False).returncode
        assert _traces(other)
    assert _traces(other) == []
    assert fleet.state("first") == "running"


def _traces(fleet: Fleet) -> list[str]:
    """What a run has on the machine outside the cache: routes, namespaces, mounts, cgroups."""
    run = fleet.run
    routes = subprocess.run(["ip", "route", "show", run.subnet], capture_output=True, text=True)
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    places = ("/run/netns", "/etc/netns", "/run", "/run/systemd/nspawn/propagate")
    return [
        *routes.stdout.splitlines(),
        *(mount for mount in mounts if str(run.directory) in mount),
        *(str(path) for place in places for path in Path(place).glob(f"{run.prefix}*")),
        *(str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{run.prefix}*")),
        *(str(path) for path in Path("/sys/fs/cgroup").glob(f"{run.prefix}*")),
        *map(str, run.directory.parent.glob(run.name)),
    ]
