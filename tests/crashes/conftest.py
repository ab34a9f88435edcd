"""A stack that retries quickly, so that what a crash leaves behind is taken up soon."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.running_stack import Stack, brought_up, until

KINDS = {"kill": "kill", "drop": "drop", "hang": "hang 4"}  # longer than `sweeps.hold`
CELL = re.compile(r"\[([a-z-]+)-(kill|drop|hang)\]")
QUICK = {
    "sweeps": {"every": "500ms", "lease": "2s", "hold": "3s", "ask_again": "1s"},
    "retries": {
        "timeout": {"attempts": 2, "backoff": "500ms"},
        "other": {"attempts": 2, "backoff": "500ms"},
    },
    # A staged copy is given back before its destination is tried again.
    "rests": {"first_pause": "1s", "longest_pause": "2s", "keep_staged": "500ms"},
}


# for transfers that FTS has lost
LOOKING_OFTEN = {"poll_every": "500ms", "reconcile_every": "1s"}

# so that few files are several transfers
SMALL_TRANSFERS = {"files_per_transfer": 5}
# so that they are handed over in turn
FEW_AT_FTS = {"files_per_pair": 10}
# so that a job to where nobody answers ends soon
IMPATIENT_RESTS = {"patience_new": "15s"}

PATIENT, IMPATIENT = "60s", "2s"  # for the stager


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with brought_up("--without", "deliv") as stack:
        faults = stack.directory / "faults"
        faults.mkdir()
        faults.chmod(0o777)  # deliv runs as another user when the tests run as root
        fts = settings(stack)["fts"] | LOOKING_OFTEN | SMALL_TRANSFERS
        changes = {"fts": fts, "limits": FEW_AT_FTS | IMPATIENT_RESTS, "faults": str(faults)}
        start(stack, {**settings(stack), **QUICK, **changes})
        yield stack


def configure(stack: Stack, changes: dict[str, Any]) -> None:
    """Change deliv's configuration as its operator would; restart it where that changes it.

    By a stop, which hands the leases on: a killed one leaves that of its looks for lost transfers,
    which lasts as long as the configuration before had it.
    """
    before = settings(stack)
    config = {**before, **changes}
    if config == before:
        return
    stack.stop("deliv@1")
    start(stack, config)


def start(stack: Stack, config: dict[str, Any]) -> None:
    Path(stack.testbed["config"]).write_text(yaml.safe_dump(config), encoding="utf-8")
    stack.control("start", "deliv@1")
    until(lambda: stack.ready().get("status") == "ready", "deliv is ready")


def settings(stack: Stack) -> dict[str, Any]:
    path = Path(stack.testbed["config"])
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def be_patient(stack: Stack, timeout: str) -> None:
    """Set how long the stager may take."""
    stager = settings(stack)["stager"]
    configure(stack, {"stager": {**stager, "timeout": timeout, "request_timeout": "3s"}})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The matrix as a table: a line for each failpoint, a column for each kind of fault."""
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if match := CELL.search(report.nodeid):
                point, kind = match.groups()
                table[point][kind] = "ok" if outcome == "passed" else "FAILED"
    terminalreporter.section("crash matrix")
    terminalreporter.write_line(f"{'failpoint':24}" + "".join(f"{kind:>8}" for kind in KINDS))
    for point, cells in table.items():
        line = "".join(f"{cells.get(kind, '-'):>8}" for kind in KINDS)
        terminalreporter.write_line(f"{point:24}{line}")
