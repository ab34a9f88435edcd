"""Run every check and the tests, and end with one line of counts.

run_tests.py          what must hold at every push
run_tests.py all      everything
run_tests.py deploy   all of the deployment tests, and nothing else

Four workers, for two cores because tests mostly wait, take from one queue, the longest work first.
At a push the turn decides which of the rotating tests are run and on which Debian: it follows from
the commit, or is the number in DELIV_TESTS_TURN.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "tests"
DEPLOY_PYTHON = str(ROOT / ".venv-deploy" / "bin" / "python")
WORKERS = 4
MEMORY, MEMORY_NEEDED = Path("/dev/shm"), 8 * 2**30  # noqa: S108 - below it, a new directory
TURN, DEBIAN = "DELIV_TESTS_TURN", "DELIV_TESTS_SUITES"
CHECK_SECONDS, ONE_HOST_SECONDS = 100, 700
ONE_HOST = tuple(f"tests/deploy/test_{name}.py" for name in ("vagrant", "single"))
DEBIANS = ("bookworm", "trixie")
FIRST_SERVED = {"deploy-tools", "deploy", "lab"}
LAB = "tests/deploy/test_lab.py"
VAGRANT = "tests/deploy/test_vagrant_up.py"
PACKAGES = ("deliv", "testbed")
SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadfile")
REASON = 1000  # characters
PRINTING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Result:
    suite: str
    exit_code: int
    seconds: float = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """`seconds` decides which is started first, no more."""

    seconds: int
    run: Callable[[], list[Result]]


def main(what: str = "push") -> int:
    REPORTS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # The local stack's parts run as a user who cannot write what Python compiles.
    for package in PACKAGES:
        compileall.compile_dir(ROOT / package, quiet=1)
    with memory():
        results = run(what)
    for result in results:
        if result.exit_code:
            print(f"{result.suite}: failed with exit code {result.exit_code}")
        for failure in result.failures:
            print(f"{result.suite}: failed: {failure}")
    print_table(results, time.monotonic() - began)
    if what == "push":
        turn, debian = os.environ[TURN], os.environ[DEBIAN]
        print(f"{TURN}={turn} makes the same choice again, on {debian}")
    print(counts(results))
    return int(any(result.exit_code for result in results))


@contextmanager
def memory() -> Iterator[None]:
    """Have temporary files in memory, where there is room: most are of databases, which sync."""
    if not usable(MEMORY):
        yield
        return
    with tempfile.TemporaryDirectory(
        prefix="deliv-", dir=MEMORY, ignore_cleanup_errors=True
    ) as directory:
        Path(directory).chmod(0o1777)  # as /tmp: parts of a stack run as another user
        os.environ["TMPDIR"] = directory
        yield


def usable(directory: Path) -> bool:
    """Whether it has room, and tests can run the programs that they write there."""
    if not directory.is_dir():
        return False
    system = os.statvfs(directory)
    runs = not system.f_flag & os.ST_NOEXEC
    return runs and system.f_bavail * system.f_frsize >= MEMORY_NEEDED


def run(what: str) -> list[Result]:
    # Else each of some hundred starts of Python compiles all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if what != "push":
        os.environ.pop(TURN, None)
        return (run_queue(queue()) if what == "all" else []) + run_hosts()
    turn = int(os.environ.setdefault(TURN, turn_of_commit()))
    os.environ.setdefault(DEBIAN, DEBIANS[turn % len(DEBIANS)])
    os.environ.setdefault("DELIV_TESTS_BUSY", "1")  # no clock, beside other workers
    host = Work(seconds=ONE_HOST_SECONDS, run=one_host)
    return run_queue([host, *queue(soak="tests/soak/test_short_soak.py")])


def turn_of_commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return str(int(done.stdout[:4], 16))


def queue(soak: str = "tests/soak") -> list[Work]:
    """The checks and all suites but the deployment tests; the seconds are those of a push."""
    suites = [
        (450, "crashes", ["tests/crashes"]),
        (350, "acceptance", ["tests/acceptance", "-m", "not own_stack"]),
        (300, "acceptance", ["tests/acceptance", "-m", "own_stack"]),
        (250, "outages", ["tests/outages"]),
        *((200, "integration", files("integration", part, of=3)) for part in range(3)),
        (150, "unit", ["tests/unit"]),
        (130, "soak", [soak]),
        (120, "contract", ["tests/contract"]),
        (30, "fuzz", ["tests/fuzz"]),
    ]
    work = [Work(seconds=CHECK_SECONDS, run=partial(run_make, "check"))]
    for number, (seconds, suite, arguments) in enumerate(suites):
        run = partial(run_suite, suite, *arguments, report=f"{suite}-{number}")
        work.append(Work(seconds=seconds, run=run))
    return work


def files(suite: str, part: int, of: int) -> list[str]:
    found = sorted((ROOT / "tests" / suite).rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found[part::of]]


def run_queue(work: list[Work]) -> list[Result]:
    ordered = sorted(work, key=lambda one: one.seconds, reverse=True)
    with ThreadPoolExecutor(WORKERS) as pool:
        return [
            result for results in pool.map(lambda one: one.run(), ordered) for result in results
        ]


def one_host() -> list[Result]:
    """From a bare host to a delivery, which needs root, and the deployment's lint beside it."""
    if os.geteuid():
        return run_suite("deploy", *ONE_HOST)
    (tools,) = run_make("deploy-tools")
    if tools.exit_code:
        return [tools]
    with ThreadPoolExecutor(1) as pool:
        lint = pool.submit(run_make, "check-deploy")
        return [*run_suite("deploy", *ONE_HOST, python=DEPLOY_PYTHON), *lint.result()]


def run_hosts() -> list[Result]:
    """The lab fills two cores, so does Vagrant's; of the other modules two run side by side."""
    others = ("tests/deploy", f"--ignore={LAB}", f"--ignore={VAGRANT}", *SIDE_BY_SIDE)
    return [
        *run_suite("lab", LAB, python=DEPLOY_PYTHON),
        *run_suite("vagrant", VAGRANT, python=DEPLOY_PYTHON),
        *run_suite("deploy", *others, python=DEPLOY_PYTHON),
    ]


def run_make(target: str) -> list[Result]:
    began = time.monotonic()
    exit_code = stream(target, ["make", "--no-print-directory", target])
    return [Result(suite=target, exit_code=exit_code, seconds=time.monotonic() - began)]


def run_suite(
    suite: str, *arguments: str, python: str = sys.executable, report: str = ""
) -> list[Result]:
    """One pytest run; its report is the source of the counts."""
    file, began = REPORTS / f"{report or suite}.xml", time.monotonic()
    file.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "--durations=15", f"--junitxml={file}", *arguments]
    exit_code = stream(suite, command)
    seconds = time.monotonic() - began
    if not file.exists():
        return [Result(suite=suite, exit_code=exit_code or 1, seconds=seconds)]
    suite_report = ElementTree.parse(file).getroot()[0]
    totals = suite_report.attrib
    failed = int(totals["failures"]) + int(totals["errors"])
    skipped = int(totals["skipped"])
    return [
        Result(
            suite=suite,
            exit_code=exit_code,
            seconds=seconds,
            passed=int(totals["tests"]) - failed - skipped,
            failed=failed,
            skipped=skipped,
            failures=tuple(failures(suite_report)),
        )
    ]


def failures(suite_report: ElementTree.Element) -> Iterator[str]:
    """Each with the begin of its reason: often the last lines are all that somebody gets to see."""
    for case in suite_report.iter("testcase"):
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                reason = " ".join((found.get("message") or "").split())[:REASON]
                yield f"{case.get('classname')}::{case.get('name')}: {reason}"


def stream(suite: str, command: list[str]) -> int:
    """Run a command, each line of its output headed by the suite's name; the exit code.

    The deployment takes longest, one step after another: the processor serves it first, yet the
    others get enough not to run into their time-outs.
    """
    niceness = 0 if suite in FIRST_SERVED else 3
    with subprocess.Popen(
        ["nice", "-n", str(niceness), *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            with PRINTING:
                print(f"{suite:>12} | {line}", end="", flush=True)
    return process.returncode


def print_table(results: list[Result], seconds: float) -> None:
    """A line for each suite, with the seconds of all its parts."""
    of_suite: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        of_suite[result.suite].append(result)
    print(f"{'suite':>12} {'seconds':>8}  tests")
    for suite, parts in of_suite.items():
        print(f"{suite:>12} {sum(part.seconds for part in parts):8.0f}  {counts(parts)}")
    print(f"{'all':>12} {seconds:8.0f}  by {WORKERS} workers")


def counts(results: list[Result]) -> str:
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    skipped = sum(result.skipped for result in results)
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
