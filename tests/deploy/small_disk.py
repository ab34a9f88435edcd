"""A service of a host with its data on a small disk of its own, a tmpfs, to be filled up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.fleet import Fleet

FILLER = "filler"
# $1 service, $2 directory, $3 size
MOVE_IN = """
systemctl stop "$1"
mount -t tmpfs -o size="$3",mode="$(stat -c %a "$2")" tmpfs /mnt
chown --reference="$2" /mnt
cp -a --sparse=never "$2/." /mnt
mount --bind /mnt "$2"
umount /mnt
systemctl start "$1"
"""
MOVE_OUT = """
systemctl stop "$1"
umount "$2"
systemctl reset-failed "$1" || true
systemctl start "$1"
"""


@contextmanager
def small_disk(fleet: Fleet, host: str, service: str, directory: str, size: str) -> Iterator[None]:
    """The data as they are now are on the small disk; what is changed there goes with it."""
    shell = ("sh", "-ec")
    fleet.execute(host, *shell, MOVE_IN, "-", service, directory, size, timeout=300)
    try:
        yield
    finally:
        fleet.execute(host, *shell, MOVE_OUT, "-", service, directory, timeout=300)


def fill(fleet: Fleet, host: str, directory: str) -> None:
    """To the last byte."""
    command = f"cat /dev/zero >{directory}/{FILLER}"
    done = fleet.execute(host, "sh", "-c", command, check=False)
    assert "No space left" in done.stderr


def clear(fleet: Fleet, host: str, directory: str) -> None:
    fleet.execute(host, "rm", f"{directory}/{FILLER}")
