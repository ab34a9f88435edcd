"""How a service talks to systemd: readiness, watchdog, passed sockets.

sd_notify(3) and sd_listen_fds(3), in the few lines of them that deliv needs. Outside systemd
every function does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

FIRST_PASSED = 3  # SD_LISTEN_FDS_START


def notify(message: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send READY=1, STOPPING=1, WATCHDOG=1 ... to the service manager, if there is one."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(message.encode(), address)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds within which systemd wants a WATCHDOG=1 from this process; None: it wants none."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = int(environ.get("WATCHDOG_USEC") or 0)
    return microseconds / 1e6 if microseconds else None


def passed_sockets(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """The listening sockets that systemd holds for this service, ready for the loop.

    Where several services share one, their units need NonBlocking=yes: whether a socket blocks is
    common to all of them, and systemd sets it at each start (systemd.exec(5)).
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.get("LISTEN_FDS") or 0)
    sockets = [socket.socket(fileno=FIRST_PASSED + n) for n in range(count)]
    for passed in sockets:
        passed.setblocking(False)
        passed.set_inheritable(False)
    return sockets
