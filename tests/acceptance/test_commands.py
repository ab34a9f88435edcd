"""`deliv submit`, `status`, `list`, `events`, `files` and `cancel` as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deliv_testbed.trees import name
from support.running_stack import Stack, Target

from deliv import cli
from deliv.client import commands
from deliv.model.error_classes import ADVICE, ErrorClass


def deliv(
    stack: Stack, *arguments: str, user: str = "alice", **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command with the grid's environment variables, and with some that must not matter."""
    grid = {
        "DELIV_URL": stack.url,
        "X509_USER_PROXY": stack.user(user).proxy,
        "X509_CERT_DIR": stack.ca,
        "SSL_CERT_FILE": "/nowhere",
        "REQUESTS_CA_BUNDLE": "/nowhere",
    }
    return subprocess.run(
        [sys.executable, "-m", "deliv.cli", *arguments],
        env={**os.environ, **grid, **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_submit_and_wait(stack: Stack, target: Target) -> None:
    done = deliv(stack, "submit", "synthetic-30", target.url, "--wait")
    assert done.returncode == 0, done.stderr
    assert "delivered: synthetic-30" in done.stdout
    assert done.stderr.startswith("deliv: job ")  # where it is by then, is chance
    assert "SUCCESS" in done.stderr
    assert target.holds_synthetic(30)


def test_which_files_of_a_product_did_not_arrive(stack: Stack, target: Target) -> None:
    """One of twelve is not where the stager says; the command that is named lists it."""
    done = deliv(stack, "submit", "lost-2-tree-12-2000", target.url, "--wait")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^ +files: +11 of 12$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +bytes: +21\.5 KiB of 23\.4 KiB$", done.stdout, re.MULTILINE)
    named = re.search(r"with: deliv (files --missing \S+)$", done.stderr)
    assert named
    missing = deliv(stack, *named[1].split())
    assert (missing.returncode, missing.stderr) == (0, "")
    (line,) = missing.stdout.splitlines()[1:]
    lost = name(2)
    assert re.match(rf"FAILED +2\.0 KiB +{lost} +", line)
    assert ADVICE[ErrorClass.SOURCE_MISSING] in line
    job_id = named[1].split()[-1]
    files = json.loads(deliv(stack, "files", job_id, "--json").stdout)["files"]
    states = {file["name"]: file["state"] for file in files}
    assert states == {name(n): "FAILED" if n == 2 else "FINISHED" for n in range(1, 13)}
    assert deliv(stack, "files", job_id, user="bob").returncode == 3
    assert deliv(stack, "files", job_id, "--state", "LOST").returncode == 2


def test_submit_then_status(stack: Stack, target: Target) -> None:
    submitted = deliv(stack, "submit", "synthetic-31", target.url)
    assert (submitted.returncode, submitted.stderr) == (0, "")
    job_id = submitted.stdout.strip()
    shown = deliv(stack, "status", job_id, "--wait", "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["job_id"], document["status"]) == (job_id, "SUCCESS")
    assert job_id in deliv(stack, "status", job_id).stdout


def test_list_and_events(stack: Stack, target: Target) -> None:
    product = f"fail-{target.directory.name}"
    jobs = [deliv(stack, "submit", product, target.url).stdout.strip() for _ in range(2)]
    assert deliv(stack, "status", jobs[0], "--wait").returncode == 1
    listed = deliv(stack, "list", "--product", product, "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [job["job_id"] for job in json.loads(listed.stdout)["transfers"]] == jobs[::-1]
    listing = deliv(stack, "list", "--product", product, "--since", "1h", "--limit", "1").stdout
    header, line = listing.splitlines()
    assert header.startswith("JOB ")
    assert "SUBMITTER" not in header  # they are one's own
    assert line.startswith(jobs[1])
    assert product in line
    events = deliv(stack, "events", jobs[0])
    assert (events.returncode, events.stderr) == (0, "")
    assert [word in events.stdout for word in ("SUBMITTED", "STAGING", "ERROR")] == [True] * 3
    nothing = deliv(stack, "list", "--until", "2001-01-01", "--json")
    assert json.loads(nothing.stdout) == {"transfers": []}
    refused = deliv(stack, "list", "--submitter", stack.user("bob").dn)
    assert refused.returncode == 3
    assert deliv(stack, "list", "--status", "DONE").returncode == 2


@pytest.mark.parametrize("who", ["whole", "name"])
def test_an_operator_lists_the_jobs_of_a_user(stack: Stack, target: Target, who: str) -> None:
    product = f"fail-{target.directory.name}"
    jobs = {user: deliv(stack, "submit", product, target.url, user=user).stdout.strip()
            for user in ("alice", "bob")}  # fmt: skip
    wanted = stack.user("alice").dn if who == "whole" else "ALICE"
    listed = deliv(stack, "list", "--product", product, "--submitter", wanted, user="operator")
    assert (listed.returncode, listed.stderr) == (0, "")
    header, line = listed.stdout.splitlines()
    assert "SUBMITTER" in header
    assert stack.user("alice").dn in line
    assert line.startswith(jobs["alice"])


def test_not_all_jobs_are_looked_through_for_a_name(
    stack: Stack,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    product = f"fail-{target.directory.name}"
    for _ in range(3):
        assert deliv(stack, "submit", product, target.url).returncode == 0
    monkeypatch.setattr(commands, "LOOKED_THROUGH", 2)
    proxy = stack.user("operator").proxy
    whom = ("--submitter", "alice", "--product", product)
    where = ("--url", stack.url, "--cert", proxy, "--ca", stack.ca)
    assert cli.main(["list", *whom, *where]) == 0
    out, news = capsys.readouterr()
    assert len(out.splitlines()) == 3  # the header, and two
    assert "only the last 2 jobs were looked at for 'alice'" in news
    assert cli.main(["list", *whom, *where, "--limit", "2"]) == 0
    assert "looked at" not in capsys.readouterr().err


def test_cancel(stack: Stack, target: Target) -> None:
    product = "silent-synthetic-2002"
    jobs = [deliv(stack, "submit", product, target.url).stdout.strip() for _ in range(2)]
    strangers = deliv(stack, "cancel", *jobs, user="bob")
    assert strangers.returncode == 3
    assert [line.split()[1] for line in strangers.stderr.splitlines()] == [f"{j}:" for j in jobs]
    done = deliv(stack, "cancel", *jobs)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{job}: cancelled" for job in jobs]
    assert deliv(stack, "status", jobs[0]).returncode == 1
    again = deliv(stack, "cancel", jobs[0])
    assert (again.returncode, again.stdout) == (0, f"{jobs[0]}: cancelled before\n")


def test_cancel_what_can_not_be_cancelled(stack: Stack, target: Target) -> None:
    failed = deliv(stack, "submit", "fail-005", target.url).stdout.strip()
    assert deliv(stack, "status", failed, "--wait").returncode == 1
    too_late = deliv(stack, "cancel", failed)
    assert too_late.returncode == 7
    assert too_late.stderr == f"deliv: {failed}: the job has ended already: ERROR\n"
    unknown = "b8b14f92-e6f3-11e6-8265-fa163e434fb2"
    going = deliv(stack, "submit", "silent-synthetic-2003", target.url).stdout.strip()
    several = deliv(stack, "cancel", unknown, going, failed, "--json")
    assert (several.returncode, several.stderr) == (5, "")
    answers = json.loads(several.stdout)["transfers"]
    assert [answer["job_id"] for answer in answers] == [unknown, going, failed]
    assert [answer.get("kind") for answer in answers] == ["not found", None, "conflict"]
    assert answers[1]["status"] == "CANCELLED"


def test_a_failure_is_told_with_its_reason(stack: Stack, target: Target) -> None:
    done = deliv(stack, "submit", "fail-005", target.url, "--wait")
    assert done.returncode == 1
    assert "the tape can't be read" in done.stdout
    assert "check the product id" in done.stdout


def test_a_certificate_and_its_key(stack: Stack, target: Target) -> None:
    alice = stack.user("alice")
    done = deliv(
        stack, "submit", "synthetic-32", target.url, "--cert", alice.cert, "--key", alice.key
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "user", "exit_code", "kind"),
    [
        (["submit", "005", "gsiftp://u@127.0.0.1/x"], "alice", 2, "rejected"),
        (["submit", "005", "gsiftp://elsewhere.test/x"], "alice", 3, "permission"),
        (["submit", "005", "gsiftp://127.0.0.1/x"], "stager", 3, "permission"),
        (["status", "b8b14f92-e6f3-11e6-8265-fa163e434fb2"], "alice", 5, "not found"),
        (["status", "x", "--url", "https://127.0.0.1:1", "--patience", "0"], "alice", 4,
         "unreachable"),
        (["status", "x", "--ca", "/tmp"], "alice", 3, "trust"),
        (["status", "x", "--cert", "/nowhere"], "alice", 3, "credential"),
    ],
)  # fmt: skip
def test_exit_codes(
    stack: Stack, arguments: list[str], user: str, exit_code: int, kind: str
) -> None:
    done = deliv(stack, *arguments, user=user)
    assert done.returncode == exit_code
    assert done.stderr.startswith("deliv: ")
    assert "Traceback" not in done.stderr
    for_scripts = deliv(stack, *arguments, "--json", user=user)
    assert for_scripts.returncode == exit_code
    assert for_scripts.stderr == ""
    assert json.loads(for_scripts.stdout)["kind"] == kind


def test_a_refused_credential_is_explained(stack: Stack, tmp_path: Path) -> None:
    """A proxy of a CA that deliv does not know: under TLS 1.3 that is reported late."""
    from deliv_testbed import pki

    stranger = pki.Authority.create().issue(pki.user_name("alice"))
    proxy = tmp_path / "stranger"
    pki.write_proxy(proxy, stranger.proxy())
    done = deliv(stack, "status", "x", "--cert", str(proxy), "--patience", "0")
    assert done.returncode in {3, 4}
    assert "comes from a CA that the server trusts" in done.stderr
