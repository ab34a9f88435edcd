"""The Debian root below every host, built once per suite and kept in the cache.

It has the packages of any Debian server and sshd; a role installs what it needs.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.hosts.programs import run
from tools.hosts.registries import debian_mirrors
from tools.hosts.runs import CACHE, LOGIN

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "iproute2",
    "iputils-ping", "nftables", "ca-certificates", "curl", "procps", "less",
)  # fmt: skip
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUILD_TIMEOUT = 900.0


def ensure(suite: str) -> Path:
    """The directory of the suite's root; building it takes half a minute or more."""
    root = CACHE / "base" / f"{suite}-{_recipe()}"
    with _one_builder(suite):
        if not root.exists():
            _build(suite, root)
    return root


def _recipe() -> str:
    """Changes whenever this file or the machine's extra CA certificates do."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for certificate in sorted(EXTRA_CERTIFICATES.glob("*.crt")):
        digest.update(certificate.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _one_builder(suite: str) -> Iterator[None]:
    (CACHE / "base").mkdir(parents=True, exist_ok=True)
    with (CACHE / "base" / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(suite: str, root: Path) -> None:
    """Built beside its final path and renamed, so that an incomplete root is never used."""
    unfinished = root.with_suffix(".unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    hooks = [f"--customize-hook={command}" for command in _customise()]
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
        "--skip=cleanup/apt/lists", f"--include={','.join(PACKAGES)}", *hooks,
        suite, str(unfinished), *debian_mirrors().sources(suite), timeout=BUILD_TIMEOUT,
    )  # fmt: skip
    unfinished.rename(root)


def _customise() -> list[str]:
    """Shell commands after the packages are installed; $1 is the new root."""
    return [
        f"cp {EXTRA_CERTIFICATES}/*.crt $1{EXTRA_CERTIFICATES}/ 2>/dev/null || true",
        "chroot $1 update-ca-certificates >/dev/null",
        "rm -f $1/etc/ssh/ssh_host_*",
        f"chroot $1 useradd --create-home --shell /bin/bash {LOGIN}",
        f"echo '{LOGIN} ALL=(ALL) NOPASSWD: ALL' >$1/etc/sudoers.d/{LOGIN}",
        f"chmod 440 $1/etc/sudoers.d/{LOGIN}",
        f"install -d -m 700 $1/home/{LOGIN}/.ssh",
        f"chroot $1 chown {LOGIN}: /home/{LOGIN}/.ssh",
    ]
