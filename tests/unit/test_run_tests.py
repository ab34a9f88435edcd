"""tools/run_tests.py counts what pytest really did, and no empty suite passes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "run_tests.py"
SUITE = """
import pytest

def test_passes(): pass
def test_fails(): assert False
@pytest.mark.skip(reason="a reason")
def test_skipped(): pass
@pytest.fixture
def broken(): raise ValueError
def test_with_a_broken_fixture(broken): pass
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, working on a repository of the test's own."""
    spec = importlib.util.spec_from_file_location("run_tests", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tests", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REPORTS", tmp_path)
    (tmp_path / "tests" / "suite").mkdir(parents=True)
    return module


def write_suite(directory: Path, text: str) -> None:
    (directory / "tests" / "suite" / "test_it.py").write_text(text)


def test_passed_failed_and_skipped_are_told_apart(tool: ModuleType, tmp_path: Path) -> None:
    write_suite(tmp_path, SUITE)
    result = tool.run_suite("suite")
    assert (result.passed, result.failed, result.skipped) == (1, 2, 1)
    assert result.exit_code == 1
    assert tool.counts([result, result]) == "2 passed, 4 failed, 2 skipped"


def test_a_suite_without_tests_fails(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.run_suite("suite").exit_code
    assert tool.run_suite("no-such-suite").exit_code


def test_a_suite_that_cannot_be_read_fails(tool: ModuleType, tmp_path: Path) -> None:
    write_suite(tmp_path, "import no_such_module_anywhere")
    result = tool.run_suite("suite")
    assert result.exit_code and result.failed == 1


def test_the_closing_line_of_a_good_run_has_no_more_than_the_counts(tool: ModuleType) -> None:
    results = [tool.Result(suite="check", exit_code=0)]
    results.append(tool.Result(suite="unit", exit_code=0, passed=7))
    assert tool.counts(results) == "7 passed, 0 failed"
