"""The prototype's own example commands, and what its page says of its calls."""

from __future__ import annotations

import subprocess
import uuid

import pytest
from support.running_stack import Stack, Target

PAGE = {
    "job_id", "product_id", "status", "detailed_status", "destination_path", "submitter",
    "fts_jobid", "stager_path", "stager_hostname", "stager_status", "time_submitted",
    "time_staging", "time_transferring", "time_success",
}  # fmt: skip


def test_the_two_example_commands(stack: Stack, target: Target) -> None:
    """`submitTransfer -d product_id=005 -d destination_path=...`, then `transferStatus?job_id=`."""
    answer = stack.curl(
        "/submitTransfer", "-d", "product_id=005", "-d", f"destination_path={target.url}"
    )
    assert answer.status == 202
    assert answer.document["error"] is False
    assert isinstance(answer.document["msg"], str)
    job_id = answer.document["job_id"]
    assert str(uuid.UUID(job_id)) == job_id

    status = stack.curl(f"/transferStatus?job_id={job_id}")
    assert status.status == 200
    assert status.document["job_id"] == job_id
    assert status.document["product_id"] == "005"
    assert status.document["submitter"] == stack.user("alice").dn

    with stack.client() as client:
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    assert (target.directory / "005").stat().st_size == stack.testbed["products"]["005"]["size"]


def test_status_has_the_pages_columns_and_no_others_of_ours(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        answer = client.wait(client.submit("synthetic-10", target.url), timeout=400)
    assert answer.keys() >= PAGE
    assert "stager_callback" not in answer
    internal = {"version", "due_at", "destination_key", "request_digest", "idempotency_key"}
    assert not answer.keys() & internal
    assert None not in answer.values()
    order = ["time_submitted", "time_staging", "time_staged", "time_transferring", "time_success"]
    times = [answer[name] for name in order]
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)


def test_json_is_taken_as_well(stack: Stack, target: Target) -> None:
    body = f'{{"product_id": "synthetic-11", "destination_path": "{target.url}"}}'
    answer = stack.curl("/submitTransfer", "-H", "Content-Type: application/json", "-d", body)
    assert answer.status == 202


def test_somebody_elses_job_is_403(stack: Stack, target: Target) -> None:
    with stack.client("alice") as client:
        job_id = client.submit("synthetic-12", target.url)
    assert stack.curl(f"/transferStatus?job_id={job_id}", user="alice").status == 200
    assert stack.curl(f"/transferStatus?job_id={job_id}", user="operator").status == 200
    for stranger in ("bob", "stager"):
        answer = stack.curl(f"/transferStatus?job_id={job_id}", user=stranger)
        assert answer.status == 403
        assert answer.document["error"] is True
        assert "product_id" not in answer.document


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?job_id=b8b14f92-e6f3-11e6-8265-fa163e434fb2", 404),
        ("?job_id=nonsense", 404),
        ("", 400),
        ("?job_id=", 400),
        ("?job=1", 400),
        ("?job_id=%FF", 400),
    ],
)
def test_status_codes_of_status(stack: Stack, query: str, status: int) -> None:
    answer = stack.curl(f"/transferStatus{query}")
    assert answer.status == status
    assert answer.document["error"] is True
    assert answer.document["msg"]


def test_without_a_certificate_there_is_no_answer(stack: Stack) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        stack.curl("/transferStatus?job_id=x", user=None)


def test_a_plain_certificate_is_as_good_as_a_proxy(stack: Stack) -> None:
    alice = stack.user("alice")
    answer = stack.curl(
        "/transferStatus?job_id=x", "--cert", alice.cert, "--key", alice.key, user=None
    )
    assert answer.status == 404


def test_the_stager_may_not_submit(stack: Stack, target: Target) -> None:
    answer = stack.curl(
        "/submitTransfer",
        "-d",
        "product_id=005",
        "-d",
        f"destination_path={target.url}",
        user="stager",
    )
    assert answer.status == 403
    assert answer.document["job_id"] is None


REPORT = (
    "product_id=silent-005", "authcode=" + "0" * 32, "success=true", "staged_to=127.0.0.1",
    "path=/x", "msg=staged",
)  # fmt: skip


def test_a_made_up_report_is_403_and_changes_nothing(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        job_id = client.submit("silent-005", target.url)
        options = [part for field in (f"job_id={job_id}", *REPORT) for part in ("-d", field)]
        for caller in ("stager", "alice"):
            answer = stack.curl("/doneStaging", *options, user=caller)
            assert (answer.status, answer.document["error"]) == (403, True)
        assert client.status(job_id)["status"] in {"SUBMITTED", "STAGING"}
        assert "time_staged" not in client.status(job_id)


@pytest.mark.parametrize(
    "fields",
    [
        ["job_id=x"],
        ["success=perhaps", "job_id=x", "product_id=y", "authcode=z"],
        ["size=-1", "success=true", "job_id=x", "product_id=y", "authcode=z"],
        ["checksum=MD5:0", "success=true", "job_id=x", "product_id=y", "authcode=z"],
    ],
)
def test_a_malformed_report_is_400(stack: Stack, fields: list[str]) -> None:
    options = [part for field in fields for part in ("-d", field)]
    assert stack.curl("/doneStaging", *options, user="stager").status == 400
