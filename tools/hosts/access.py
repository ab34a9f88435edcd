"""How Ansible and ssh reach the hosts: the run's own key, and a known_hosts file."""

from __future__ import annotations

import json

from tools.hosts.programs import run as call
from tools.hosts.roots import HOST_KEY
from tools.hosts.runs import LOGIN, Run


def make_key(run: Run) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", run.name, "-f", str(run.key))


def write(run: Run) -> None:
    """known_hosts, and the inventory: addresses and logins only, no groups and no settings."""
    lines = []
    for host in run.hosts:
        kind, key, _ = (host.root / f"{HOST_KEY}.pub").read_text().split()
        lines.append(f"{host.name},{host.address} {kind} {key}\n")
    run.known_hosts.write_text("".join(lines))
    run.inventory.write_text(json.dumps(_inventory(run), indent=2) + "\n")


def _inventory(run: Run) -> dict[str, object]:
    options = f"-o UserKnownHostsFile={run.known_hosts} -o StrictHostKeyChecking=yes"
    variables = {
        "ansible_user": LOGIN,
        "ansible_ssh_private_key_file": str(run.key),
        "ansible_ssh_common_args": options,
        "ansible_control_path_dir": f"/run/{run.prefix}ssh",  # a socket's path must be short
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {
        "all": {
            "hosts": {h.name: {"ansible_host": h.address} for h in run.hosts if h.managed},
            "vars": variables,
        }
    }
