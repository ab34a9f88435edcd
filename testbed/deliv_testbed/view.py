"""A view of the file system in which an ordinary user reaches what lies in closed directories.

When root works in /root or in a directory of mktemp, the user that the testbed drops to can't get
there. A process with a mount namespace of its own can: in it, each closed directory is covered by
an empty one which holds nothing but the way to what the process needs, under the same paths.
Other processes see no change.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

STAGING = Path("/run")  # covered for a moment, in the namespace only


def closed_above(path: Path, can_enter: Callable[[Path], bool]) -> Path | None:
    """The topmost directory above `path` that can't be entered."""
    above = reversed(path.parents)
    return next((parent for parent in above if parent.is_dir() and not can_enter(parent)), None)


def command(closed: Iterable[Path], shown: Iterable[Path], uid: int, gid: int) -> tuple[str, ...]:
    """What to put before a command, to run it in the view and as that user."""
    apart = _apart(shown)
    places = [STAGING / str(number) for number in range(len(apart))]
    pairs = [(_quoted(path), place) for path, place in zip(apart, places, strict=True)]
    script = [
        "set -e",
        "here=$(pwd) mask=$(umask)",
        "umask 022",
        f"mount -t tmpfs -o mode=755 tmpfs {STAGING}",
        *(f"mkdir {place}; mount --rbind {path} {place}" for path, place in pairs),
        *(f"mount -t tmpfs -o mode=755 tmpfs {_quoted(path)}" for path in _apart(closed)),
        *(f"mkdir -p {path}; mount --move {place} {path}" for path, place in pairs),
        f"umount {STAGING}",
        'cd "$here"; umask "$mask"',
        f'exec setpriv --reuid={uid} --regid={gid} --clear-groups -- "$@"',
    ]
    start = ("unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c")
    return (*start, "\n".join(script), "sh")


def _apart(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in another one."""
    kept = set(paths)
    return sorted(path for path in kept if kept.isdisjoint(path.parents))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
