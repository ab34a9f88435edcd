"""Which of bandit's findings count as answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import run_bandit
from tools.run_bandit import Finding, answered

SOURCE = '''"""A module."""
import subprocess

subprocess.run(["ls"])  # noqa: S603, S607 - a fixed command
QUERY = f"""
SELECT {COLUMNS}
"""  # noqa: S608 - fixed names
OTHER = f"SELECT {x}"  # noqa: F821
'''
BY_PATH = {"testbed/deliv_testbed/**": ["S603"]}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(run_bandit, "ROOT", tmp_path)
    (tmp_path / "deliv").mkdir()
    (tmp_path / "deliv" / "one.py").write_text(SOURCE)
    return "deliv/one.py"


@pytest.mark.parametrize(
    ("number", "lines", "expected"),
    [
        ("B603", (4,), True),
        ("B607", (4,), True),
        ("B602", (4,), False),
        ("B608", (5, 6, 7), True),
        ("B608", (8,), False),
        ("B404", (2,), True),
    ],
)
def test_answers_on_the_lines(
    file: str, number: str, lines: tuple[int, ...], expected: bool
) -> None:
    assert answered(Finding(number=number, file=file, lines=lines, text=""), BY_PATH) is expected


def test_answers_for_a_path(file: str) -> None:
    below = Finding(number="B603", file="testbed/deliv_testbed/fts/copier.py", lines=(2,), text="")
    assert answered(below, BY_PATH)
    assert not answered(Finding(number="B603", file=file, lines=(2,), text=""), BY_PATH)
