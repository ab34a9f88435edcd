"""The hosts of a test: commands in them, and playbooks over them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tools.hosts import guest, network, runs

CHECKOUT = runs.CHECKOUT
ANSIBLE = CHECKOUT / "ansible"
BIN = CHECKOUT / ".venv-deploy" / "bin"
RECAP = re.compile(r"^(\S+)\s+: (ok=\d+ .*)$", re.MULTILINE)
CHANGED = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.+?)\]|^changed: \[([^\]]+)\]", re.MULTILINE)
FAILURES = ("failed", "unreachable")


@dataclass(frozen=True, kw_only=True)
class Play:
    """The result of one ansible-playbook."""

    exit_code: int
    output: str
    recap: dict[str, dict[str, int]] = field(repr=False)

    @property
    def succeeded(self) -> bool:
        failed = any(counts[kind] for counts in self.recap.values() for kind in FAILURES)
        return self.exit_code == 0 and bool(self.recap) and not failed

    @property
    def changed(self) -> list[str]:
        """`HOST: TASK` of each task and handler that changed something."""
        task, found = "", []
        for name, host in CHANGED.findall(self.output):
            task = name or task
            if host:
                found.append(f"{host}: {task}")
        return found


class Fleet:
    """A run of hosts, as a test uses it."""

    def __init__(self, run: runs.Run) -> None:
        self.run = run

    @property
    def names(self) -> tuple[str, ...]:
        return self.run.managed

    def address(self, name: str) -> str:
        return self.run.host(name).address

    def root(self, name: str) -> Path:
        """The host's root directory on this machine."""
        return self.run.host(name).root

    def put(self, name: str, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file on a host, owned by root, with the directories above it."""
        file = self.root(name) / path.relative_to("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)

    def execute(
        self, name: str, *command: str, check: bool = True, timeout: float = 120, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a host as root; with `check` a failure shows its output."""
        inside = guest.enter_command(self.run.host(name), list(command))
        return _finish(inside, check=check, timeout=timeout, stdin=stdin)

    def in_hub(
        self, *command: str, check: bool = True, timeout: float = 120, cwd: Path = CHECKOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine in the network of the hosts."""
        tool = [str(BIN / "python"), "-m", "tools.hosts", "--run", self.run.name]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        inside = [*tool, "in", *command]
        return _finish(inside, check=check, timeout=timeout, cwd=cwd, environment=environment)

    def playbook(
        self,
        path: Path,
        *options: str,
        inventories: Sequence[Path] = (),
        variables: dict[str, str] | None = None,
        timeout: float = 3600,
        plain: bool = False,
    ) -> Play:
        """Run a playbook over the hosts. The given inventories have groups and settings.

        With `plain` it runs as operators run it; else with Mitogen, where that is installed and a
        play names no strategy, in a third of the time.
        """
        sources = [f"--inventory={source}" for source in (*inventories, self.run.inventory)]
        extra = [f"--extra-vars={name}={value}" for name, value in (variables or {}).items()]
        done = self.in_hub(
            "env", "ANSIBLE_NOCOLOR=1", *_configuration(), *([] if plain else mitogen()),
            str(BIN / "ansible-playbook"),
            *sources, *extra, *options, str(path),
            check=False, timeout=timeout, cwd=ANSIBLE if ANSIBLE.exists() else CHECKOUT,
        )  # fmt: skip
        output = done.stdout + done.stderr
        return Play(exit_code=done.returncode, output=output, recap=_recap(output))

    def converge(self, path: Path, *options: str, inventories: Sequence[Path] = ()) -> Play:
        """The playbook must succeed; else the end of its output is shown."""
        play = self.playbook(path, *options, inventories=inventories)
        assert play.succeeded, f"{path.name} failed:\n{play.output[-8000:]}"
        return play

    def assert_idempotent(
        self, path: Path, *options: str, inventories: Sequence[Path] = ()
    ) -> None:
        """Once more: it must succeed and change nothing, on no host."""
        play = self.converge(path, *options, inventories=inventories)
        assert not play.changed, f"{path.name} changed again: {play.changed}"
        counts = {name: recap["changed"] for name, recap in play.recap.items()}
        assert not any(counts.values()), f"{path.name} changed again: {counts}"

    def reboot(self, name: str) -> None:
        guest.reboot(self.run.host(name))

    def state(self, name: str) -> str:
        """systemd's state: "running" when no unit has failed."""
        return guest.state(self.run.host(name))

    def set_link(self, name: str, state: str) -> None:
        network.set_link(self.run, self.run.host(name), state)


def _configuration() -> list[str]:
    file = ANSIBLE / "ansible.cfg"
    return [f"ANSIBLE_CONFIG={file}"] if file.exists() else []


def mitogen() -> list[str]:
    """The settings for it, where it is installed: for the Ansible that it fits."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or found.origin is None:
        return []
    strategies = Path(found.origin).parent / "plugins" / "strategy"
    return [f"ANSIBLE_STRATEGY_PLUGINS={strategies}", "ANSIBLE_STRATEGY=mitogen_linear"]


def _recap(output: str) -> dict[str, dict[str, int]]:
    recaps = {}
    for name, counts in RECAP.findall(output):
        pairs = (pair.split("=") for pair in counts.split())
        recaps[name] = {kind: int(number) for kind, number in pairs}
    return recaps


def _finish(
    command: list[str],
    *,
    check: bool,
    timeout: float,
    stdin: str = "",
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True,
        errors="replace", timeout=timeout,
    )  # fmt: skip
    report = f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert not check or done.returncode == 0, report
    return done
