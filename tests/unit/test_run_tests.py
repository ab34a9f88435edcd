"""tools/run_tests.py counts what pytest really did, and no empty suite passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools import run_tests
from tools.run_tests import Result, counts, run_suite

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


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the test's own."""
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    monkeypatch.setattr(run_tests, "FIRST_SERVED", {"suite"})  # its test is served late already
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # none has a part in this
    (tmp_path / "tests" / "suite").mkdir(parents=True)
    return tmp_path


def write_suite(repository: Path, text: str) -> None:
    (repository / "tests" / "suite" / "test_it.py").write_text(text)


def run() -> Result:
    (result,) = run_suite("suite", "tests/suite")
    return result


def test_passed_failed_and_skipped_are_told_apart(repository: Path) -> None:
    write_suite(repository, SUITE)
    result = run()
    assert (result.passed, result.failed, result.skipped) == (1, 2, 1)
    assert result.exit_code == 1
    assert result.failures == (
        "tests.suite.test_it::test_fails: assert False",
        'tests.suite.test_it::test_with_a_broken_fixture: failed on setup with "ValueError"',
    )
    assert counts([result, result]) == "2 passed, 4 failed, 2 skipped"


def test_a_suite_without_tests_fails() -> None:
    assert run().exit_code


def test_a_suite_that_cannot_be_read_fails(repository: Path) -> None:
    write_suite(repository, "import no_such_module_anywhere")
    result = run()
    assert result.exit_code and result.failed == 1


def test_the_closing_line_of_a_good_run_has_no_more_than_the_counts() -> None:
    checks = Result(suite="check", exit_code=0)
    assert counts([checks, Result(suite="unit", exit_code=0, passed=7)]) == "7 passed, 0 failed"


def test_every_file_is_in_one_part(repository: Path) -> None:
    names = ["below/test_e", "test_a", "test_b", "test_c", "test_d"]
    (repository / "tests" / "suite" / "below").mkdir()
    for name in names:
        (repository / "tests" / "suite" / f"{name}.py").touch()
    found = [file for part in range(3) for file in run_tests.files("suite", part, of=3)]
    assert sorted(found) == [f"tests/suite/{name}.py" for name in names]


def test_temporary_files_are_in_memory_while_tests_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(run_tests, "MEMORY", tmp_path)
    monkeypatch.setattr(run_tests, "MEMORY_NEEDED", 1)
    with run_tests.memory():
        directory = Path(os.environ["TMPDIR"])
        assert directory.parent == tmp_path
        assert directory.stat().st_mode & 0o7777 == 0o1777
    assert not directory.exists()


@pytest.mark.parametrize(("place", "needed"), [("", 2**80), ("absent", 1)])
def test_without_room_in_memory_they_stay_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, needed: int
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(run_tests, "MEMORY", tmp_path / place)
    monkeypatch.setattr(run_tests, "MEMORY_NEEDED", needed)
    with run_tests.memory():
        assert os.environ["TMPDIR"] == "/elsewhere"
