"""One host's own root: a copy-on-write view of the base with names, keys and settings."""

from __future__ import annotations

import os
import subprocess
import uuid
from functools import partial
from pathlib import Path

from tools.hosts.programs import run as call
from tools.hosts.programs import wait
from tools.hosts.registries import CERTIFICATES
from tools.hosts.runs import CACHE, GATEWAY_PORT, LOGIN, Host, Run

SIZE = os.environ.get("DELIV_HOSTS_SIZE", "4g")  # of what a host may write, held in memory
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
PIP_CACHE = "/var/cache/pip"


def prepare(run: Run, host: Host, base: Path, index: str) -> None:
    """Mount the host's root and configure it."""
    _mount(host, base)
    _give_identity(run, host)
    _allow_login(run, host)
    _configure_registries(run, host, index)


def pip_cache(run: Run) -> Path:
    """pip's cache of downloads and compiled wheels, shared by the hosts of one suite and kept."""
    return CACHE / "pip" / run.suite


def _mount(host: Host, base: Path) -> None:
    host.directory.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", host.namespace, str(host.directory))
    upper, work = host.directory / "upper", host.directory / "work"
    for directory in (upper, work, host.root):
        directory.mkdir()
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    call("mount", "-t", "overlay", "-o", options, host.namespace, str(host.root))


def _give_identity(run: Run, host: Host) -> None:
    etc = host.root / "etc"
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(names(run))
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").touch()
    key = host.root / HOST_KEY
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key))


def names(run: Run) -> str:
    """The hosts file of the run."""
    lines = ["127.0.0.1 localhost", f"{run.gateway} controller"]
    return "".join(f"{line}\n" for line in lines + [f"{h.address} {h.name}" for h in run.hosts])


def _allow_login(run: Run, host: Host) -> None:
    keys = host.root / "home" / LOGIN / ".ssh" / "authorized_keys"
    keys.write_text(run.key.with_suffix(".pub").read_text())
    owner = keys.parent.stat()
    os.chown(keys, owner.st_uid, owner.st_gid)


def _configure_registries(run: Run, host: Host, index: str) -> None:
    for path, content in registry_settings(run, index).items():
        (host.root / path).write_text(content)
    # as old as possible: a playbook's cache_valid_time must not skip its first update
    os.utime(host.root / "var/lib/apt/lists", (0, 0))
    (host.root / PIP_CACHE.lstrip("/")).mkdir(parents=True)


def registry_settings(run: Run, index: str) -> dict[str, str]:
    """The files, by their path in a root, that make apt and pip use the run's proxy."""
    proxy = f"http://{run.gateway}:{GATEWAY_PORT}"
    pip = {"index-url": index, "proxy": proxy, "cert": CERTIFICATES, "cache-dir": PIP_CACHE}
    lines = [f"{name} = {value}" for name, value in pip.items()]
    return {
        "etc/apt/apt.conf.d/90registries": (
            f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
        ),
        "etc/pip.conf": "\n".join(["[global]", *lines, ""]),
    }


def unmount_below(directory: Path) -> None:
    """Every mount inside the directory, the innermost first."""
    for mount in reversed(_mounts_below(directory)):
        wait(partial(_unmounted, mount), f"{mount} is free", 15)


def _unmounted(mount: str) -> bool:
    if os.path.ismount(mount):
        subprocess.run(["umount", "--quiet", mount], stderr=subprocess.DEVNULL)
    return not os.path.ismount(mount)


def _mounts_below(directory: Path) -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        places = [line.split()[1].replace("\\040", " ") for line in lines]
    return [place for place in places if place.startswith(f"{directory}/")]
