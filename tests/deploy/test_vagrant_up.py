"""`vagrant up` with vagrant-lxc, then the commands of its closing message: a product is delivered.

`make test-vagrant` runs it alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.client import FINAL
from deploy.deployment import ARCHIVE_ROOT, sha256
from deploy.fleet import CHECKOUT, Fleet, Play
from tools.hosts import runs
from tools.hosts.programs import wait
from tools.vagrant import lab

SUITE = os.environ.get("DELIV_TESTS_SUITE", "bookworm")
COMMAND = re.compile(r"^  (\S(?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def run() -> Iterator[runs.Run]:
    if os.geteuid() or not shutil.which("lxc-start"):
        why = "needs root, and lxc and vagrant-lxc, which Debian 12 has"
        if os.environ.get("DELIV_TESTS_REQUIRE") == "1":
            pytest.fail(why)
        pytest.skip(why)
    name = f"vagrant-{os.getpid()}"
    try:
        lab.up(name, SUITE)
        yield runs.load(name)
    finally:
        lab.down(name)


@pytest.fixture
def commands(run: runs.Run) -> list[str]:
    """Those of the closing message, in its order."""
    message = (run.directory / "vagrant" / "lab" / "first-transfer.txt").read_text()
    return COMMAND.findall(message)


def test_the_closing_message_leads_to_a_delivered_product(
    run: runs.Run, commands: list[str]
) -> None:
    enter, submit, ask, look = commands
    fleet = Fleet(run)

    def shell(command: str) -> dict[str, object]:
        answer = fleet.in_hub("bash", "-ec", f"{enter}\n{command}").stdout
        return dict(json.loads(answer))

    job = shell(submit)
    ask = ask.replace("JOB", str(job["job_id"]))
    wait(lambda: (job.update(shell(ask)), job["status"] in FINAL)[1], "the job ends", 120)
    assert job["status"] == "SUCCESS", job
    assert "005" in output(run, "bash", "-ec", look)
    archive = rootfs(run, "archive") / ARCHIVE_ROOT.relative_to("/")
    products = json.loads((archive / "products.json").read_text())
    original = archive / products["005"]["file"]
    assert sha256(rootfs(run, "dtn") / "srv/user/005") == sha256(original)


def test_provisioning_again_changes_nothing(run: runs.Run) -> None:
    shown = output(run, "vagrant", "provision", "deliv")
    assert Play(exit_code=0, output=shown, recap={}).changed == []


def rootfs(run: runs.Run, machine: str) -> Path:
    return run.directory / "lxc" / f"deliv-{machine}" / "rootfs"


def output(run: runs.Run, *command: str) -> str:
    """Of a command in the lab."""
    done = subprocess.run(
        lab.command(run, *command), cwd=CHECKOUT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
