"""The service manager's protocol, against real sockets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from deliv.ops import systemd


def test_notifications_arrive(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        systemd.notify("READY=1", {"NOTIFY_SOCKET": address})
        assert manager.recv(64) == b"READY=1"


def test_nothing_happens_outside_systemd() -> None:
    systemd.notify("READY=1", {})
    assert systemd.watchdog_interval({}) is None
    assert systemd.passed_sockets({}) == []


def test_the_watchdog_is_for_the_process_it_names() -> None:
    wanted = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert systemd.watchdog_interval(wanted) == 30.0
    assert systemd.watchdog_interval({**wanted, "WATCHDOG_PID": "1"}) is None


def test_a_passed_socket_is_listened_on() -> None:
    program = (
        "import os; from deliv.ops import systemd;"
        "os.environ['LISTEN_PID'] = str(os.getpid());"
        "[s] = systemd.passed_sockets();"
        "print(s.getsockname()[1], s.getblocking())"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        script = f'exec 3<&{listening.fileno()}; exec "$0" -c "$1"'
        result = subprocess.run(
            ["bash", "-c", script, sys.executable, program],
            env={"LISTEN_FDS": "1", "PATH": os.environ["PATH"]},
            pass_fds=[listening.fileno()],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert result.stdout.split() == [str(port), "False"]
