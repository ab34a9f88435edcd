"""`deliv check` finds what the stager and FTS hold that no job needs, and gives it back."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import fts3.rest.client.easy as fts3
import pytest
from deliv_testbed.layout import Layout
from support.running_stack import Target, frozen, until

from deliv.gateways.fts.transfer import Copy, Transfer, submission
from outages.conftest import Pair

pytestmark = [
    # the client leaves the files it reads certificates from to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # and asks for the time without a zone
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def as_deliv(pair: Pair, url: str, *options: str) -> str:
    """A call with deliv's own certificate; the answer's body."""
    certificate, key = Layout(directory=pair.directory).credential("services/deliv")
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20"]
    command += ["--capath", pair.ca, "--cert", str(certificate), "--key", str(key)]
    done = subprocess.run(
        [*command, *options, url], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def delivered(pair: Pair, target: Target, size: int) -> str:
    """A job that has ended and whose staged copy was given back."""
    with pair.instance(1).client() as client:
        job_id = str(client.submit(f"synthetic-{size}", target.url))
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    sql = "SELECT 1 FROM jobs WHERE job_id = %s AND time_released IS NOT NULL AND due_at IS NULL"
    until(lambda: pair.query(sql, job_id), "it is closed")
    return job_id


def stage(pair: Pair, job_id: str, product: str) -> None:
    """Have the stager stage, as if deliv had asked. deliv does not hear of it."""
    callback = f"{pair.settings(1)['rest']['public_url']}/doneStaging"
    body = {
        "job_id": job_id,
        "product_id": f"silent-{product}",
        "authcode": "0" * 32,
        "callback": callback,
    }
    as_deliv(pair, f"{pair.testbed['stager_url']}/stage", "--json", json.dumps(body))  # answers 202
    until(lambda: pair.staged_copy(job_id).exists(), "there is a copy")


def test_a_copy_at_the_stager_that_nobody_needs(pair: Pair, target: Target) -> None:
    job_id = delivered(pair, target, 45_000)
    stage(pair, job_id, "synthetic-45000")
    text = f"job {job_id} has given its staged copy back, but the stager holds one"
    found = pair.check()
    assert (found.returncode, found.stdout.splitlines()[0]) == (1, text)
    assert pair.staged_copy(job_id).exists()
    repaired = pair.check("--repair")
    assert (repaired.returncode, repaired.stdout.splitlines()[:2]) == (
        0, [text, "    repaired: the stager has given the copy back"],
    )  # fmt: skip
    until(lambda: not pair.staged_copy(job_id).exists(), "it is gone")


def test_a_copy_of_an_unknown_job_is_left_alone(pair: Pair) -> None:
    """It may be another deliv's."""
    job_id = str(uuid.uuid4())
    stage(pair, job_id, "synthetic-45010")
    try:
        for options in ((), ("--repair",)):
            found = pair.check("--json", *options)
            first, *_, last = map(json.loads, found.stdout.splitlines())
            assert (found.returncode, first["job_id"], first["rule"]) == (1, job_id, "stager")
            assert (last["findings"], last["mended"]) == (1, 0)
        assert pair.staged_copy(job_id).exists()
    finally:
        as_deliv(pair, f"{pair.testbed['stager_url']}/stage/{job_id}", "--request", "DELETE")


def test_a_transfer_that_nobody_needs(pair: Pair, target: Target) -> None:
    job_id = delivered(pair, target, 45_020)
    with foreign_copy(pair, target, job_id) as fts_id:
        text = f"job {job_id} has gone on, but FTS fts works on the transfer {fts_id} for it"
        found = pair.check()
        assert (found.returncode, found.stdout.splitlines()[0]) == (
            1, text.replace("has gone on", "has ended"),
        )  # fmt: skip
        assert fts_state(pair, fts_id) in {"SUBMITTED", "READY", "ACTIVE"}
        repaired = pair.check("--repair")
        assert (repaired.returncode, "repaired: FTS was asked to stop it" in repaired.stdout) == (
            0,
            True,
        )
        assert fts_state(pair, fts_id) == "CANCELED"


@contextmanager
def foreign_copy(pair: Pair, target: Target, job_id: str, *options: str) -> Iterator[str]:
    """A transfer for a job of deliv's that deliv did not ask for, and that does not end."""
    copy = Copy(
        source=f"{pair.testbed['gridftp']['archive']['url']}/nothing",
        destination=f"{target.url}/nothing",
    )
    transfer = Transfer(
        sid=str(uuid.uuid4()),
        copies=(copy,),
        metadata={"deliv_job_id": job_id},
    )
    body = submission(transfer, max_time_in_queue="24h").decode()
    with frozen(pair, "gridftp-archive"):
        answer = as_deliv(pair, f"{pair.testbed['fts_url']}/jobs", "--json", body, *options)
        yield str(json.loads(answer)["job_id"])


def fts_state(pair: Pair, fts_id: str) -> str:
    answer = as_deliv(pair, f"{pair.testbed['fts_url']}/jobs/{fts_id}")
    return str(json.loads(answer)["job_state"])


def test_a_transfer_under_a_users_identity(pair: Pair, target: Target) -> None:
    """FTS shows it to the user alone, and deliv can act as the user."""
    job_id = delivered(pair, target, 45_030)
    alice = pair.user("alice")
    one = pair.instance(1)
    contexts = [
        fts3.Context(url, alice.proxy, alice.proxy, capath=pair.ca)
        for url in (one.url, pair.testbed["fts_url"])
    ]
    delegations = [fts3.delegate(context, force=True) for context in contexts]
    try:
        with foreign_copy(
            pair, target, job_id, "--cert", alice.proxy, "--key", alice.proxy
        ) as fts_id:
            found = pair.check()
            assert f"works on the transfer {fts_id} for it" in found.stdout
            assert found.returncode == 1
            assert pair.check("--repair").returncode == 0
            assert fts3.get_job_status(contexts[1], fts_id)["job_state"] == "CANCELED"
    finally:
        one.curl(f"/delegation/{delegations[0]}", "--request", "DELETE")


def test_what_does_not_answer_is_not_called_clean(pair: Pair) -> None:
    pair.control("kill", "stager")
    try:
        found = pair.check()
        assert found.returncode == 2
        assert "could not check the stager" in found.stdout
    finally:
        pair.control("start", "stager")
    pair.control("kill", "mariadb")
    try:
        found = pair.check()
        assert (found.returncode, "not available" in found.stderr) == (2, True)
    finally:
        pair.control("start", "mariadb")
