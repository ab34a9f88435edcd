"""Which of the processes in a guest's cgroup is its PID 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.hosts import cgroups


@pytest.fixture(autouse=True)
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PID 1 of the guest `web` and its helpers: one of a lower number, and one that has ended."""
    monkeypatch.setattr(cgroups, "TOP", tmp_path)
    monkeypatch.setattr(cgroups, "PROC", tmp_path / "proc")
    scope = tmp_path / "web" / cgroups.PAYLOAD
    scope.mkdir(parents=True)
    (scope / "cgroup.procs").write_text("301\n18112\n29000\n300\n")
    for pid, in_guest in (("301", "7865"), ("18112", "1"), ("29000", "11")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{in_guest}\n")


def test_pid_1_is_known_by_its_number_inside() -> None:
    assert cgroups.leader("web") == 18112


def test_a_guest_that_is_down_has_none() -> None:
    assert cgroups.leader("mail") is None
