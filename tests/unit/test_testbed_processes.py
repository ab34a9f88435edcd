"""Processes of a testbed, shown on small shell commands run as the caller."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.processes import Processes, Program, wait

CALLER = Account(name=pwd.getpwuid(os.geteuid()).pw_name, uid=os.geteuid(), gid=os.getegid())


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    running = Processes(tmp_path, CALLER)
    yield running
    for name in running.names():
        running.kill(name)


def shell(tmp_path: Path, script: str, deadline: float = 10, name: str = "part") -> Program:
    """A part that is ready when it has made the file `ready`."""
    ready = tmp_path / f"{name} is ready"
    ready.unlink(missing_ok=True)
    return Program(
        name=name,
        command=("/bin/sh", "-c", script, "sh", ready),
        environment={"SAID": "yes"},
        directory=tmp_path,
        ready=ready.exists,
        deadline=deadline,
    )


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_a_part_lives_in_a_session_of_its_own_and_ends(
    tmp_path: Path, processes: Processes
) -> None:
    pid = processes.start(shell(tmp_path, 'touch "$1"; exec sleep 60'))
    assert processes.pid("part") == pid == os.getsid(pid)
    assert processes.state("part") == "running"
    processes.stop("part")
    assert not alive(pid)
    assert (processes.pid("part"), processes.names()) == (None, [])
    assert processes.state("part") == "not running"


def test_a_part_sees_nothing_of_the_callers_environment(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/elsewhere")
    processes.start(shell(tmp_path, 'env > seen; touch "$1"; exec sleep 60'))
    seen = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert {"SAID", "HOME", "TMPDIR", "PATH", "LANG"} <= seen
    assert seen <= {"SAID", "HOME", "TMPDIR", "PATH", "LANG", "DELIV_TESTBED_PART", "PWD", "_"}


def test_children_end_with_it_even_in_other_sessions(tmp_path: Path, processes: Processes) -> None:
    script = "setsid sleep 60 & echo $! > child; env -i /usr/bin/setsid /bin/sleep 60 & "
    script += 'echo $! > bare; touch "$1"; wait'
    pid = processes.start(shell(tmp_path, script))
    children = [int((tmp_path / name).read_text()) for name in ("child", "bare")]
    assert all(map(alive, (pid, *children)))
    processes.kill("part")
    assert not any(map(alive, (pid, *children)))


def test_what_a_crashed_part_left_is_found_and_ended(tmp_path: Path, processes: Processes) -> None:
    script = 'setsid sleep 60 & echo $! > child; touch "$1"; wait'
    pid = processes.start(shell(tmp_path, script))
    os.kill(pid, 9)
    assert wait(lambda: not alive(pid), 60)
    assert not processes.alive("part")
    child = int((tmp_path / "child").read_text())
    assert alive(child)
    assert Processes(tmp_path, CALLER).names() == ["part"]
    processes.start(shell(tmp_path, 'touch "$1"; exec sleep 60'))
    assert not alive(child)


def test_frozen_and_thawed_with_its_children(tmp_path: Path, processes: Processes) -> None:
    script = (
        'i=0; echo 0 > count; touch "$1"; while :; do i=$((i+1)); echo $i > count; sleep 0.01; done'
    )
    processes.start(shell(tmp_path, script))

    def count() -> str:
        return (tmp_path / "count").read_text()

    processes.freeze("part")
    assert wait(lambda: processes.state("part") == "frozen", 60)
    before = count()
    assert not wait(lambda: count() != before, 0.3)
    processes.thaw("part")
    assert wait(lambda: count() not in ("", before), 60)


def test_a_frozen_part_can_be_stopped(tmp_path: Path, processes: Processes) -> None:
    script = 'trap "touch ended; exit" TERM; touch "$1"; while :; do sleep 0.05; done'
    processes.start(shell(tmp_path, script))
    processes.freeze("part")
    processes.stop("part")
    assert (tmp_path / "ended").exists()


def test_one_that_ignores_the_request_is_killed(tmp_path: Path, processes: Processes) -> None:
    pid = processes.start(shell(tmp_path, 'trap "" TERM; touch "$1"; while :; do sleep 1; done'))
    processes.stop("part", grace=0.2)
    assert not alive(pid)


def test_a_reused_pid_is_never_taken_for_the_part(tmp_path: Path, processes: Processes) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    record = {"pid": stranger.pid, "started": 1}
    (tmp_path / "run" / "part.json").write_text(json.dumps(record))
    try:
        assert processes.names() == ["part"]
        assert processes.pid("part") is None
        processes.stop("part")
        processes.kill("part")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert processes.names() == []


def test_a_broken_record_is_no_process(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "run" / "part.json").write_text('{"pid": 1')
    assert processes.pid("part") is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such option; exit 3", "ended at once:\nno such option"),
        ("echo still at it; exec sleep 60", "was not ready in time:\nstill at it"),
    ],
)
def test_why_it_did_not_start(
    tmp_path: Path, processes: Processes, script: str, message: str
) -> None:
    with pytest.raises(TestbedError, match=message):
        processes.start(shell(tmp_path, script, deadline=0.5))


def test_starting_twice_is_refused(tmp_path: Path, processes: Processes) -> None:
    program = shell(tmp_path, 'touch "$1"; exec sleep 60')
    processes.start(program)
    with pytest.raises(TestbedError, match="running already"):
        processes.start(program)


def test_abandoned_starts_fail(tmp_path: Path, processes: Processes) -> None:
    processes.abandon()
    with pytest.raises(TestbedError, match="was not started"):
        processes.start(shell(tmp_path, "exec sleep 60"))


def test_freezing_what_does_not_run_is_refused(processes: Processes) -> None:
    for action in (processes.freeze, processes.thaw):
        with pytest.raises(TestbedError, match="part is not running"):
            action("part")


def test_commands_that_run_to_their_end(processes: Processes) -> None:
    assert processes.run(("/bin/sh", "-c", "echo said; echo so >&2")) == "said\nso\n"
    with pytest.raises(TestbedError, match=r"failed \(3\):\nbecause"):
        processes.run(("/bin/sh", "-c", "echo because; exit 3"))
    with pytest.raises(TestbedError, match="no-such-program is not installed"):
        processes.run(("no-such-program",))
    with pytest.raises(TestbedError, match=r"did not end within 0\.2 s"):
        processes.run(("/bin/sleep", "60"), timeout=0.2)
