"""tools/install-packages, run for real against a dpkg-query that says what a test wants."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "install-packages"


def wanted() -> list[str]:
    lines = (ROOT / "tools" / "packages").read_text("utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return [row[1] for row in rows if row[0] in {"python", "stack"}]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


class Runner:
    """Runs the tool as an ordinary user on a machine with the given packages."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, installed: str) -> subprocess.CompletedProcess[str]:
        self._program("dpkg-query", f"cat <<'END'\n{installed}\nEND")
        self._program("id", "echo 1000")
        path = f"{self._directory}:{os.environ['PATH']}"
        return subprocess.run(
            [TOOL, "python", "stack"],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def _program(self, name: str, script: str) -> None:
        file = self._directory / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


def test_nothing_is_said_when_all_is_there(run: Runner) -> None:
    done = run("\n".join(f"install ok installed {package}" for package in wanted()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_held_package_counts_as_installed(run: Runner) -> None:
    done = run("\n".join(f"hold ok installed {package}" for package in wanted()))
    assert done.returncode == 0


def test_what_is_missing_is_named_with_the_command_for_an_administrator(run: Runner) -> None:
    done = run("install ok installed gcc\ndeinstall ok config-files curl")
    (command,) = [line.strip() for line in done.stderr.splitlines() if "apt-get install" in line]
    names = command.partition("--no-install-recommends ")[2].split()
    assert done.returncode == 1
    assert command.startswith("apt-get update && apt-get install ")
    assert set(names) == set(wanted()) - {"gcc"}
