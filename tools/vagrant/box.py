"""A box for vagrant-lxc, packed from the Debian root of `tools.hosts`.

A box is a tar of metadata.json, rootfs.tar.gz and lxc-config; see BOXES.md in Debian's package
vagrant-lxc.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.hosts import base
from tools.hosts.errors import HostsError
from tools.hosts.programs import run
from tools.hosts.runs import CACHE

PACKING_TIMEOUT = 300.0
METADATA = {"provider": "lxc", "version": "1.0.0"}
SETTINGS = "lxc.include = /usr/share/lxc/config/common.conf\n"  # fewer rights than LXC's default
# Below it, the key that a new box trusts; Vagrant replaces it at the first login.
GEMS = "/usr/share/rubygems-integration/all/gems"
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
HOST_KEY_UNIT = f"""\
[Unit]
Description=Host key of a new machine
ConditionPathExists=!{HOST_KEY}
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}
[Install]
WantedBy=ssh.service
"""
CUSTOMISE = (
    "useradd --create-home --shell /bin/bash vagrant",
    "echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant",
    "chmod 440 /etc/sudoers.d/vagrant",
    "chown -R vagrant: /home/vagrant",
    "systemctl --quiet enable systemd-networkd host-key",
    "touch -d @0 /var/lib/apt/lists",  # too old for any cache_valid_time
)


def name(suite: str) -> str:
    return f"deliv-{suite}"


def pack(suite: str) -> Path:
    """The box of a suite, packed when it is missing; its name identifies what it was made of."""
    root = base.ensure(suite)
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    box = CACHE / "boxes" / f"{root.name}-{recipe}.box"
    if not box.exists():
        box.parent.mkdir(parents=True, exist_ok=True)
        _pack(root, box)
    return box


def _pack(root: Path, box: Path) -> None:
    with tempfile.TemporaryDirectory(dir=box.parent) as scratch, _customised(root) as machine:
        parts = Path(scratch)
        (parts / "metadata.json").write_text(json.dumps(METADATA))
        (parts / "lxc-config").write_text(SETTINGS)
        run(
            "tar", "--create", "--use-compress-program=gzip -1", "--numeric-owner", "--xattrs",
            f"--file={parts}/rootfs.tar.gz", f"--directory={machine.parent}", f"./{machine.name}",
            timeout=PACKING_TIMEOUT,
        )  # fmt: skip
        run("tar", "--create", f"--file={parts}/box", f"--directory={parts}",
            "metadata.json", "rootfs.tar.gz", "lxc-config", timeout=PACKING_TIMEOUT)  # fmt: skip
        os.replace(parts / "box", box)


@contextmanager
def _customised(root: Path) -> Iterator[Path]:
    """A copy-on-write view of the root, configured as a machine for Vagrant."""
    with tempfile.TemporaryDirectory() as scratch:
        upper, work, machine = (Path(scratch, part) for part in ("upper", "work", "rootfs"))
        for directory in (upper, work, machine):
            directory.mkdir()
        options = f"lowerdir={root},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "-o", options, "box", str(machine))
        try:
            _customise(machine)
            yield machine
        finally:
            run("umount", str(machine))


def _customise(machine: Path) -> None:
    files = {
        "etc/machine-id": "",  # written at the first boot
        "etc/hostname": "",  # LXC gives the name
        "etc/hosts": "127.0.0.1 localhost\n",  # Vagrant adds the name
        "etc/systemd/network/eth0.network": NETWORK,
        "etc/systemd/system/host-key.service": HOST_KEY_UNIT,
        "home/vagrant/.ssh/authorized_keys": _public_key(),
    }
    for path, content in files.items():
        (machine / path).parent.mkdir(parents=True, exist_ok=True)
        (machine / path).write_text(content)
    (machine / "home/vagrant/.ssh").chmod(0o700)
    run("chroot", str(machine), "sh", "-ec", "\n".join(CUSTOMISE))


def _public_key() -> str:
    for key in Path(GEMS).glob("vagrant-[0-9]*/keys/vagrant.pub"):
        return key.read_text()
    raise HostsError("Vagrant's public key is not there: is vagrant installed?")
