"""The Vagrantfile is valid, and its machines are those of the inventory `lab`.

test_vagrant_up.py runs `vagrant up` and delivers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from deploy.fleet import ANSIBLE, CHECKOUT

LINES = 60  # a loop over data needs no more
LAB = yaml.safe_load((CHECKOUT / "vagrant" / "machines.yml").read_text())
NAMES = [machine["name"] for machine in LAB["machines"]]
ADDRESSES = {machine["name"]: machine["address"] for machine in LAB["machines"]}
# Prints how Vagrant reads the file: a line of JSON for each provider and machine.
DESCRIBE = """
gem "vagrant"
require "vagrant"
require "json"
environment = Vagrant::Environment.new(cwd: ARGV[0])
%i[virtualbox libvirt lxc].product(environment.machine_names).each do |provider, name|
  vm = environment.vagrantfile.machine_config(name, provider, nil, nil, false)[:config].vm
  addresses = vm.networks.select { |kind, _| kind == :private_network }.map { |_, it| it[:ip] }
  runs = vm.provisioners.map { |it| { limit: it.config.limit, host_vars: it.config.host_vars } }
  puts({ provider:, name:, hostname: vm.hostname, box: vm.box, addresses:, runs: }.to_json)
end
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as Vagrant understands it; `runs` are Ansible's, from that machine."""

    provider: str
    name: str
    hostname: str
    box: str
    addresses: list[str]
    runs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if not shutil.which("vagrant"):
        if os.environ.get("DELIV_TESTS_REQUIRE") == "1":
            pytest.fail("not installed: vagrant")
        pytest.skip("not installed: vagrant")
    home = tmp_path_factory.mktemp("vagrant")
    return os.environ | {"VAGRANT_HOME": f"{home}/home", "VAGRANT_DOTFILE_PATH": f"{home}/state"}


@pytest.fixture(scope="module")
def machines(environment: dict[str, str]) -> list[Machine]:
    output = run(environment, "ruby", "-e", DESCRIBE, str(CHECKOUT))
    return [Machine(**json.loads(line)) for line in output.splitlines()]


def test_vagrant_validates_it(environment: dict[str, str]) -> None:
    assert "validated successfully" in run(environment, "vagrant", "validate")


def test_it_is_a_loop_over_data() -> None:
    text = (CHECKOUT / "Vagrantfile").read_text()
    assert len(text.splitlines()) <= LINES
    assert not [name for name in NAMES if f'"{name}"' in text or ADDRESSES[name] in text]


def test_its_machines_are_the_labs() -> None:
    inventory = yaml.safe_load((ANSIBLE / "inventories" / "lab" / "hosts.yml").read_text())
    assert set(NAMES) == hosts(inventory)


def hosts(inventory: dict[str, Any]) -> set[str]:
    """All host names in a tree of groups."""
    found = set(inventory.get("hosts", {}))
    for name, child in inventory.items():
        if name != "hosts" and isinstance(child, dict):
            found |= hosts(child)
    return found


@pytest.mark.parametrize("provider", ["virtualbox", "libvirt", "lxc"])
def test_each_provider_makes_every_machine(provider: str, machines: list[Machine]) -> None:
    made = [machine for machine in machines if machine.provider == provider]
    assert [machine.name for machine in made] == NAMES
    for machine in made:
        assert (machine.box, machine.hostname) == (LAB["boxes"][provider], machine.name)
        own = [ADDRESSES[machine.name]] if provider == "virtualbox" else []
        assert machine.addresses == own


def test_ansible_runs_once_for_all(machines: list[Machine]) -> None:
    """When the last one is up. VirtualBox's machines need the addresses of the others."""
    for machine in machines:
        known = {name: {"common_address": address} for name, address in ADDRESSES.items()}
        addresses = known if machine.provider == "virtualbox" else {}
        wanted = [{"limit": "all", "host_vars": addresses}]
        assert machine.runs == (wanted if machine.name == NAMES[-1] else [])


def test_the_closing_message_asks_what_the_api_has() -> None:
    """test_vagrant_up.py types it, which takes minutes."""
    message = (CHECKOUT / "vagrant" / "templates" / "first-transfer.txt.j2").read_text()
    paths = yaml.safe_load((CHECKOUT / "deliv" / "http" / "openapi.yaml").read_text())["paths"]
    asked = re.findall(r":8443(/\w+)\?([^\s\"]+)", message)
    assert asked
    for path, query in asked:
        known = {parameter["name"] for parameter in paths[path]["get"]["parameters"]}
        assert set(parse_qs(query)) <= known


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
