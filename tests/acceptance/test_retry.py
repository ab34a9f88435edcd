"""What ended in ERROR is submitted once more, by the call and by the command."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.running_stack import Answer, Stack, Target, until

from acceptance.test_audit_log import audited, holds
from acceptance.test_campaign import unfinished
from acceptance.test_commands import deliv
from acceptance.test_policy_changes import changed

pytestmark = pytest.mark.timeout(300)
FAILING, LATER = "fail-synthetic-1", "silent-synthetic-1"  # it fails at once, it never comes
COUNT = "SELECT COUNT(*) FROM jobs WHERE retry_of = %s"
UNKNOWN = "b8b14f92-e6f3-11e6-8265-fa163e434fb2"


@pytest.fixture
def label(stack: Stack) -> Iterator[str]:
    """One of the test's own; what has it does not outlast the test."""
    label = f"again-{uuid.uuid4().hex[:8]}"
    yield label
    with stack.client() as alice:
        list(alice.cancel_label(label))
        until(lambda: unfinished(alice.totals(label)) == 0, "all have ended", timeout=120)


def retry(stack: Stack, document: dict[str, Any], user: str = "alice") -> Answer:
    options = ("-H", "Content-Type: application/json", "-d", json.dumps(document))
    return stack.curl("/retryTransfer", *options, user=user)


def status(stack: Stack, job_id: str) -> dict[str, Any]:
    return dict(stack.curl(f"/transferStatus?job_id={job_id}").document)


def failed(stack: Stack, target: Target, label: str | None = None, **more: Any) -> str:
    with stack.client() as alice:
        job = alice.submit(FAILING, target.url, label=label, **more)
        until(lambda: alice.status(job)["status"] == "ERROR", "it has failed")
    return job


def overdue(stack: Stack, target: Target, label: str) -> str:
    """A job whose deadline is over. What repeats it is under way until it is cancelled."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    with stack.client() as alice:
        job = alice.submit(LATER, target.url, label=label, deadline=ahead)
        with stack.as_root() as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE jobs SET deadline = NOW(6) WHERE job_id = %s", (job,))
        until(lambda: alice.status(job)["status"] == "ERROR", "its deadline is over")
    return job


def test_a_job_that_failed_is_submitted_as_another_one(
    stack: Stack, target: Target, label: str
) -> None:
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    job = failed(stack, target, label, deadline=ahead)
    answer = retry(stack, {"job_id": job})
    assert answer.status == 202, answer.body
    again = answer.document["job_id"]
    assert again > job
    assert answer.document == {
        "job_id": again, "retry_of": job, "status": "SUBMITTED", "error": False,
        "msg": "accepted for delivery",
    }  # fmt: skip
    old, new = status(stack, job), status(stack, again)
    same = ("product_id", "destination_path", "label", "submitter", "deadline", "copied_as")
    assert {name: old[name] for name in same} == {name: new[name] for name in same}
    assert (old["retried_by"], new["retry_of"]) == (again, job)
    assert "retry_of" not in old
    listed = stack.curl(f"/transfers?label={label}").document["transfers"]
    assert [one.get("retry_of") for one in listed] == [job, None]
    assert [one.get("retried_by") for one in listed] == [None, again]
    assert holds(audited(stack, answer), action="submit", outcome="allowed", job_id=again)
    # It fails as well: it is the one that is repeated then, whichever is named.
    until(lambda: status(stack, again)["status"] == "ERROR", "it has failed, too")
    third = stack.curl("/retryTransfer", "-d", f"job_id={job}")
    assert (third.status, third.document["retry_of"]) == (202, again)


def test_calls_at_once_make_one_job(stack: Stack, target: Target, label: str) -> None:
    job = overdue(stack, target, label)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(retry, stack, {"job_ids": [job, job]}) for _ in range(6)]
        answers = [call.result() for call in calls]
    assert {answer.status for answer in answers} == {200}
    found = [one for answer in answers for one in answer.document["outcomes"]]
    assert {one["retry_of"] for one in found} == {job}
    assert len({one["job_id"] for one in found}) == 1
    assert stack.query(COUNT, job) == [(1,)]


def test_what_has_not_failed_in_the_end_is_skipped(
    stack: Stack, target: Target, label: str
) -> None:
    with stack.client() as alice:
        done = alice.submit("synthetic-41", target.url, label=label)
        going, stopped = (alice.submit(LATER, target.url, label=label) for _ in range(2))
        alice.cancel(stopped)
        alice.wait(done, timeout=120)
    answer = retry(stack, {"job_ids": [done, stopped, UNKNOWN, going]})
    outcomes = answer.document["outcomes"]
    assert [one["code"] for one in outcomes] == [200, 200, 404, 200]
    assert [one["job_id"] for one in outcomes] == [done, stopped, UNKNOWN, going]
    assert [one.get("skipped") for one in outcomes] == [
        "the job is delivered", "the job was cancelled", None, "the job has not ended",
    ]  # fmt: skip
    numbers = {name: answer.document[name] for name in ("accepted", "skipped", "refused", "next")}
    assert numbers == {"accepted": 0, "skipped": 3, "refused": 1, "next": None}
    assert holds(audited(stack, answer), accepted=0, refused=1)
    alone = stack.curl("/retryTransfer", "-d", f"job_id={done}")
    assert (alone.status, alone.document["skipped"]) == (200, "the job is delivered")
    assert retry(stack, {"job_id": UNKNOWN}).status == 404
    for wrong in ({}, {"job_id": done, "label": label}, {"job_ids": []}, {"cursor": done}):
        assert retry(stack, wrong).status == 400


def test_a_job_is_its_submitters_to_repeat(stack: Stack, target: Target, label: str) -> None:
    job = failed(stack, target, label)
    stranger = retry(stack, {"job_id": job}, "bob")
    assert (stranger.status, stack.query(COUNT, job)) == (403, [(0,)])
    assert holds(audited(stack, stranger), outcome="refused", owner=stack.user("alice").dn)
    operator = retry(stack, {"job_ids": [job]}, "operator").document
    (outcome,) = operator["outcomes"]
    assert (outcome["code"], outcome["job_id"]) == (403, job)
    assert "its submitter alone" in outcome["msg"]
    assert retry(stack, {"label": label}, "bob").document["outcomes"] == []
    assert stack.query(COUNT, job) == [(0,)]


def test_the_policy_of_now_counts(stack: Stack, target: Target, label: str) -> None:
    jobs = [overdue(stack, target, label) for _ in range(2)]
    alice = stack.user("alice").dn

    def having(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def change(policy: dict[str, Any]) -> dict[str, Any]:
            rules = [
                rule | (changes if rule.get("dn") == alice else {}) for rule in policy["rules"]
            ]
            return policy | {"rules": rules}

        return change

    with changed(stack, having(destinations=["elsewhere.test"])):
        refused = retry(stack, {"label": label}).document["outcomes"]
    assert [one["code"] for one in refused] == [403, 403]
    assert [one["job_id"] for one in refused] == jobs[::-1]
    assert "may not deliver to" in refused[0]["msg"]
    assert retry(stack, {"job_id": jobs[0]}).status == 202
    with changed(stack, having(quota=1)):  # which that one is
        answer = retry(stack, {"job_id": jobs[1]})
    assert (answer.status, "its quota" in answer.document["msg"]) == (403, True)


def test_a_deadline_that_is_over_is_not_the_new_jobs(
    stack: Stack, target: Target, label: str
) -> None:
    """Or the new one is given, which must not be over."""
    job, ahead = overdue(stack, target, label), datetime.now(UTC) + timedelta(days=1)
    past = retry(stack, {"job_ids": [job], "deadline": "2001-01-01T00:00:00Z"}).document
    assert [one["code"] for one in past["outcomes"]] == [400]
    assert "is over already" in past["outcomes"][0]["msg"]
    new = retry(stack, {"job_id": job}).document["job_id"]
    assert "deadline" not in status(stack, new)
    other = failed(stack, target, label)
    given = retry(stack, {"job_id": other, "deadline": ahead.isoformat()}).document["job_id"]
    assert datetime.fromisoformat(status(stack, given)["deadline"]) == ahead


def test_a_campaign_is_submitted_once_more(stack: Stack, target: Target, label: str) -> None:
    """As the command does it: what failed, again and again, until nothing has failed."""
    with stack.client() as alice:
        done = alice.submit("synthetic-42", target.url, label=label)
        jobs = [alice.submit(f"fail-synthetic-{n}", target.url, label=label) for n in range(3)]
        until(lambda: alice.totals(label)["ERROR"] == len(jobs), "they have failed")
        alice.wait(done, timeout=120)
    first = deliv(stack, "retry", "--label", label)
    assert (first.returncode, first.stderr) == (0, "")
    again = first.stdout.split()
    assert [status(stack, one)["retry_of"] for one in again] == jobs[::-1]
    with stack.client() as alice:
        until(lambda: alice.totals(label)["ERROR"] == 2 * len(jobs), "they have failed again")
    named = deliv(stack, "retry", jobs[0], done, UNKNOWN, "--json")
    assert named.returncode == 5, named.stderr
    new, skipped, unknown = json.loads(named.stdout)["transfers"]
    assert (new["code"], new["retry_of"]) == (202, again[2])
    assert (skipped["code"], skipped["job_id"], unknown["code"]) == (200, done, 404)
    with stack.client() as alice:
        until(lambda: alice.totals(label)["ERROR"] == 2 * len(jobs) + 1, "that one, too")
    last = deliv(stack, "retry", "--label", label)
    assert last.returncode == 0, last.stderr
    assert len(last.stdout.split()) == len(jobs)
    repeated = [status(stack, one)["retry_of"] for one in last.stdout.split()]
    assert repeated == [new["job_id"], again[1], again[0]]
