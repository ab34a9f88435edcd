"""Run every check and every test, and end with one line of counts.

Two lanes run side by side, for two cores: the static checks with the quick suites, and what mostly
waits for a running stack. The first of the deployment tests follow alone: they fill both cores with
hosts. `run_tests.py deploy` runs all of the deployment tests, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "tests"
LANES = (
    ("check", "unit", "fuzz", "integration", "soak", "crashes"),
    ("acceptance", "contract", "outages"),
)
DEPLOY_PYTHON = ROOT / ".venv-deploy" / "bin" / "python"
LAB = "tests/deploy/test_lab.py"
# From a bare machine to a delivery, on Debian 12; `make test-deploy` takes all the rest too.
FIRST = (
    *(f"tests/deploy/test_{name}.py" for name in ("hosts", "vagrant", "single")),
    *("-k", "not TestSingle or bookworm"),
)
SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadfile")
PRINTING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Result:
    suite: str
    exit_code: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    names_of_failed: tuple[str, ...] = ()


def main(only: str = "") -> int:
    REPORTS.mkdir(parents=True, exist_ok=True)
    results = run_hosts() if only == "deploy" else run_lanes() + run_deploy()
    for result in results:
        if result.exit_code:
            print(f"{result.suite}: failed with exit code {result.exit_code}")
        for name in result.names_of_failed:
            print(f"{result.suite}: failed: {name}")
    print(counts(results))
    return int(any(result.exit_code for result in results))


def run_lanes() -> list[Result]:
    with ThreadPoolExecutor(len(LANES)) as pool:
        return [result for lane in pool.map(run_lane, LANES) for result in lane]


def run_lane(suites: tuple[str, ...]) -> list[Result]:
    return [run_checks() if suite == "check" else run_suite(suite) for suite in suites]


def run_checks() -> Result:
    return Result(suite="check", exit_code=stream("check", ["make", "check"]))


def run_deploy() -> list[Result]:
    """The deployment's lint and tests; where nobody can build hosts, the tests are skipped."""
    if os.geteuid():
        return [run_suite("deploy")]
    lint = Result(suite="lint", exit_code=stream("lint", ["make", "check-deploy"]))
    if lint.exit_code:
        return [lint]
    return [lint, run_suite("deploy", *FIRST, *SIDE_BY_SIDE, python=str(DEPLOY_PYTHON))]


def run_hosts() -> list[Result]:
    """The lab fills two cores by itself; of the other modules two run side by side."""
    python = str(DEPLOY_PYTHON)
    others = ("tests/deploy", f"--ignore={LAB}", *SIDE_BY_SIDE)
    return [run_suite("lab", LAB, python=python), run_suite("deploy", *others, python=python)]


def run_suite(suite: str, *arguments: str, python: str = sys.executable) -> Result:
    """One pytest run, over tests/SUITE unless told; its report is the source of the counts."""
    report = REPORTS / f"{suite}.xml"
    report.unlink(missing_ok=True)
    arguments = arguments or (f"tests/{suite}",)
    command = [python, "-m", "pytest", *arguments, f"--junitxml={report}"]
    exit_code = stream(suite, command)
    if not report.exists():
        return Result(suite=suite, exit_code=exit_code or 1)
    suite_report = ElementTree.parse(report).getroot()[0]
    totals = suite_report.attrib
    failed = int(totals["failures"]) + int(totals["errors"])
    skipped = int(totals["skipped"])
    return Result(
        suite=suite,
        exit_code=exit_code,
        passed=int(totals["tests"]) - failed - skipped,
        failed=failed,
        skipped=skipped,
        names_of_failed=tuple(names_of_failed(suite_report)),
    )


def names_of_failed(suite_report: ElementTree.Element) -> Iterator[str]:
    for case in suite_report.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            yield f"{case.get('classname')}::{case.get('name')}"


def stream(suite: str, command: list[str]) -> int:
    """Run a command, each line of its output headed by the suite's name; the exit code."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            with PRINTING:
                print(f"{suite:>11} | {line}", end="", flush=True)
    return process.returncode


def counts(results: list[Result]) -> str:
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    skipped = sum(result.skipped for result in results)
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
