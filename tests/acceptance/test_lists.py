"""GET /transfers and /transferEvents: who sees which jobs, page by page, and what happened to them.

And GET /openapi.yaml.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest
import yaml
from support.running_stack import Stack, Target, until

PRODUCT = "fail-listed-"
FINAL = {"SUCCESS", "ERROR", "CANCELLED"}


@pytest.fixture(scope="module")
def jobs(stack: Stack) -> dict[str, list[str]]:
    """Three jobs of alice's and one of bob's that have ended, in the order of submission."""
    url = stack.target().url
    made: dict[str, list[str]] = {"alice": [], "bob": []}
    for number, user in enumerate(("alice", "alice", "bob", "alice")):
        with stack.client(user) as client:
            made[user].append(client.submit(f"{PRODUCT}{number}", url))
    for user, ids in made.items():
        with stack.client(user) as client:
            until(lambda: {client.status(job)["status"] for job in ids} <= FINAL, "their ends")  # noqa: B023
    return made


def page(stack: Stack, user: str = "alice", **parameters: str) -> dict[str, Any]:
    answer = stack.curl(f"/transfers?{urlencode(parameters)}", user=user)
    assert answer.status == 200, answer.body
    return answer.document


def ids(document: dict[str, Any]) -> list[str]:
    return [job["job_id"] for job in document["transfers"]]


def test_each_caller_sees_their_own_the_last_first(
    stack: Stack, jobs: dict[str, list[str]]
) -> None:
    for user, own in jobs.items():
        listed = page(stack, user)
        assert ids(listed)[: len(own)] == own[::-1]
        assert {job["submitter"] for job in listed["transfers"]} == {stack.user(user).dn}


def test_operators_see_all_or_one_submitters(stack: Stack, jobs: dict[str, list[str]]) -> None:
    known = {*jobs["alice"], *jobs["bob"]}
    assert known <= set(ids(page(stack, "operator")))
    bobs = page(stack, "operator", submitter=stack.user("bob").dn)
    assert {job["submitter"] for job in bobs["transfers"]} == {stack.user("bob").dn}


def test_anothers_are_refused(stack: Stack, jobs: dict[str, list[str]]) -> None:
    bob = quote(stack.user("bob").dn, safe="")
    assert stack.curl(f"/transfers?submitter={bob}").status == 403
    assert stack.curl(f"/transferEvents?job_id={jobs['bob'][0]}").status == 403
    assert stack.curl("/transfers", user="stager").status == 403


def test_pages_follow_each_other(stack: Stack, jobs: dict[str, list[str]]) -> None:
    first = page(stack, limit="2")
    assert ids(first) == jobs["alice"][:0:-1]
    second = page(stack, limit="2", cursor=first["next"])
    assert ids(second)[0] == jobs["alice"][0]
    last = page(stack, "bob", product_id=f"{PRODUCT}2", until="9999-01-01T00:00:00Z", limit="100")
    assert last["next"] is None


def test_filters(stack: Stack, jobs: dict[str, list[str]]) -> None:
    one = jobs["alice"][1]
    assert ids(page(stack, product_id=f"{PRODUCT}1"))[0] == one
    failed = page(stack, status="ERROR")
    assert {job["status"] for job in failed["transfers"]} == {"ERROR"}
    assert set(jobs["alice"]) <= set(ids(failed))
    assert ids(page(stack, since="9999-01-01T00:00:00Z")) == []
    assert ids(page(stack, until="2001-01-01T00:00:00Z")) == []
    since = stack.curl(f"/transferStatus?job_id={one}").document["time_submitted"]
    assert jobs["alice"][0] not in ids(page(stack, since=since))


def test_a_job_in_a_list_is_that_of_its_status(stack: Stack, jobs: dict[str, list[str]]) -> None:
    listed = page(stack, limit="1")["transfers"][0]
    status = stack.curl(f"/transferStatus?job_id={jobs['alice'][-1]}").document
    assert listed.items() <= status.items()
    assert set(status) - set(listed) <= {"stager_status", "fts_details"}


def test_the_history_of_a_delivery(stack: Stack, target: Target) -> None:
    with stack.client() as alice:
        job = alice.submit("synthetic-1000", target.url)
        alice.wait(job, timeout=400)
    document = stack.curl(f"/transferEvents?job_id={job}").document
    assert document["job_id"] == job
    steps = [(event["status"], event["staged"]) for event in document["events"]]
    assert steps == [
        ("SUBMITTED", False),
        ("STAGING", False),
        ("STAGING", True),
        ("TRANSFERRING", True),
        ("SUCCESS", True),
    ]
    numbers = [event["event_id"] for event in document["events"]]
    assert numbers == sorted(numbers)
    operators = stack.curl(f"/transferEvents?job_id={job}", user="operator")
    assert operators.document == document


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "status=DONE", "since=now", "cursor=1", "page=2", "limit="]
)
def test_what_is_no_filter_is_refused_by_name(stack: Stack, query: str) -> None:
    answer = stack.curl(f"/transfers?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in answer.document["msg"]


def test_the_history_of_no_job(stack: Stack) -> None:
    assert stack.curl("/transferEvents?job_id=01890a5d-ac96-774b-bcce-b302099a8057").status == 404


def test_the_description_is_served(stack: Stack) -> None:
    answer = stack.curl("/openapi.yaml")
    assert answer.headers["content-type"].startswith("application/yaml")
    assert "/transfers" in yaml.safe_load(answer.body)["paths"]
