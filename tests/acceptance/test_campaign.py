"""POST /submitTransfers, and the label by which a campaign is found, counted and cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from support import live_client
from support.resting import resting
from support.running_stack import Answer, Stack, Target, until

from acceptance.test_audit_log import audit_file, entries, holds
from acceptance.test_commands import deliv
from deliv.client import campaign
from deliv.model.job import idempotency_digest

IN_FLIGHT = "deliv_http_requests_in_flight"
COUNT = "SELECT COUNT(*) FROM jobs WHERE label = %s"
TAKE_KEY = """
INSERT INTO jobs
  (job_id, product_id, status, destination_path, destination_host, submitter, idempotency_digest)
VALUES (%s, 'x', 'SUBMITTED', 'gsiftp://h/d', 'h', '/CN=nobody', %s)
"""
UNFINISHED = ("SUBMITTED", "STAGING", "TRANSFERRING")


@pytest.fixture
def label(stack: Stack) -> Iterator[str]:
    """One of the test's own; what has it does not outlast the test."""
    label = f"campaign-{uuid.uuid4().hex[:8]}"
    yield label
    with stack.client() as alice:
        for outcome in alice.cancel_label(label):
            assert "status" in outcome, outcome
        until(lambda: unfinished(alice.totals(label)) == 0, "all have ended")


def unfinished(totals: dict[str, int]) -> int:
    return sum(totals[status] for status in UNFINISHED)


def item(target: Target, label: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Its product never comes, so that there is time to cancel it."""
    product = f"silent-synthetic-{3000 + number}"
    return {"product_id": product, "destination_path": target.url, "label": label, **more}


def submit(
    stack: Stack,
    tmp_path: Path,
    items: list[Any],
    *options: str,
    lines: bool = False,
    user: str = "alice",
) -> Answer:
    body = tmp_path / uuid.uuid4().hex
    array = json.dumps({"transfers": items})
    body.write_text("\n".join(map(json.dumps, items)) if lines else array, encoding="utf-8")
    kind = "application/x-ndjson" if lines else "application/json"
    given = ("-H", f"Content-Type: {kind}", "--data-binary", f"@{body}", *options)
    return stack.curl("/submitTransfers", *given, user=user)


def job_ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [outcome["job_id"] for outcome in answer.document["outcomes"]]


def cancel(stack: Stack, document: dict[str, Any], user: str = "alice") -> Answer:
    options = ("-H", "Content-Type: application/json", "-d", json.dumps(document))
    return stack.curl("/cancelTransfer", *options, user=user)


@pytest.mark.parametrize("lines", [True, False])
def test_each_item_has_an_outcome_in_its_place(
    stack: Stack, target: Target, label: str, tmp_path: Path, lines: bool
) -> None:
    elsewhere = "gsiftp://elsewhere.test/home/alice"
    items = [
        item(target, label),
        {"product_id": "005"},
        item(target, label, destination_path=elsewhere),
        item(target, label, 1, idempotency_key=f"{label}-key"),
        item(target, label, 2, idempotency_key=f"{label}-key"),
        [],
    ]
    answer = submit(stack, tmp_path, items, lines=lines)
    assert answer.status == 200, answer.body
    document = answer.document
    assert [one["code"] for one in document["outcomes"]] == [202, 400, 403, 202, 422, 400]
    assert (document["accepted"], document["refused"], document["error"]) == (2, 4, False)
    assert "destination_path is missing" in document["outcomes"][1]["msg"]
    assert "may not deliver to elsewhere.test" in document["outcomes"][2]["msg"]
    taken = [one["job_id"] for one in document["outcomes"] if "job_id" in one]
    listed = stack.curl(f"/transfers?label={label}").document
    assert [job["job_id"] for job in listed["transfers"]] == taken[::-1]
    assert stack.curl(f"/transferStatus?job_id={taken[0]}").document["label"] == label
    wanted = answer.headers["x-request-id"]
    found = [one for one in entries(audit_file(stack)) if one.get("request_id") == wanted]
    (decision,) = [one for one in found if one["event"] == "decision"]
    assert holds(decision, outcome="refused", destination_host="elsewhere.test", action="submit")
    (line,) = [one for one in found if one["event"] == "request"]
    assert holds(line, accepted=2, refused=4, action="submit", dn=stack.user("alice").dn)


@pytest.fixture
def queued(stack: Stack) -> Iterator[None]:
    """Jobs wait in the queue, however many and for however long."""
    with resting(stack.testbed["config"], "127.0.0.1"):
        yield


@pytest.mark.usefixtures("queued")
def test_the_same_call_gives_the_same_jobs(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    """More than are taken in one transaction, and by two callers at once."""
    items = [item(target, label, number) for number in range(600)]
    key = ("-H", f"Idempotency-Key: {label}")
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(submit, stack, tmp_path, items, *key) for _ in range(2)]
        first, second = (job_ids(one.result()) for one in both)
    assert first == second
    assert len(set(first)) == len(items)
    assert job_ids(submit(stack, tmp_path, items, *key, lines=True)) == first
    assert first == sorted(first)
    totals = stack.curl(f"/transfers?label={label}&limit=1").document["totals"]
    assert unfinished(totals) == sum(totals.values()) == len(items)
    assert stack.query(COUNT, label) == [(len(items),)]
    items[1]["product_id"] = "another"
    changed = submit(stack, tmp_path, items[:2], *key).document["outcomes"]
    assert [one["code"] for one in changed] == [202, 422]
    # An item's key is the call's and its place.
    one = urlencode({name: items[2][name] for name in ("product_id", "destination_path", "label")})
    alone = stack.curl("/submitTransfer", "-H", f"Idempotency-Key: {label}#3", "-d", one)
    assert alone.document["job_id"] == first[2]


@contextmanager
def kept_from(stack: Stack, user: str, key: str) -> Iterator[None]:
    """No batch with this key of theirs can be stored meanwhile: another transaction is about to."""
    digest = idempotency_digest(stack.user(user).dn, key)
    with stack.as_root() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(TAKE_KEY, (str(uuid.uuid4()), digest))
        yield
        cursor.execute("ROLLBACK")


@pytest.mark.usefixtures("queued")
def test_anothers_submission_is_taken_in_between(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    items = [item(target, label, number) for number in range(600)]
    items[400]["idempotency_key"] = label
    with ThreadPoolExecutor(1) as pool, stack.client("bob") as bob:
        with kept_from(stack, "alice", label):
            many = pool.submit(submit, stack, tmp_path, items)
            until(lambda: stack.query(COUNT, label) == [(250,)], "the first batch is stored")
            bob.submit("fail-synthetic-1", target.url)
            assert not many.done()
        assert len(set(job_ids(many.result()))) == len(items)


def test_of_one_caller_one_call_is_worked_on_at_a_time(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    first = [item(target, label, number, idempotency_key=f"{label}-{number}") for number in (0, 1)]
    second = [item(target, label, 2)]
    with ThreadPoolExecutor(2) as pool:
        with kept_from(stack, "alice", f"{label}-1"):
            held = pool.submit(submit, stack, tmp_path, first)
            until(lambda: stack.metric(IN_FLIGHT) == 1, "the first call has come")
            waiting = pool.submit(submit, stack, tmp_path, second)
            until(lambda: stack.metric(IN_FLIGHT) == 2, "the second call has come")
            assert submit(stack, tmp_path, [{}], user="bob").document["refused"] == 1
            assert not waiting.done()
            assert stack.query(COUNT, label) == [(0,)]
        assert len(job_ids(held.result())) == 2
        assert len(job_ids(waiting.result())) == 1


def test_calls_that_break_off_keep_no_turn(stack: Stack, tmp_path: Path) -> None:
    head = b"POST /submitTransfers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    port = int(stack.url.rpartition(":")[2])
    trusted = live_client.lax_context(
        Path(stack.testbed["ca_file"]), Path(stack.user("alice").proxy)
    )
    for _ in range(6):
        with live_client.connected(port, trusted) as secure:
            secure.sendall(head)
            until(lambda: stack.metric(IN_FLIGHT) == 1, "it has come")
    assert submit(stack, tmp_path, [{}]).status == 200


@pytest.mark.parametrize(
    ("items", "wanted"),
    [([], "no transfers"), ([{}] * 10_001, "10001 transfers are more than 10000")],
)
@pytest.mark.parametrize("lines", [True, False])
def test_too_few_and_too_many(
    stack: Stack, tmp_path: Path, items: list[Any], wanted: str, lines: bool
) -> None:
    before = stack.how_many_jobs()
    answer = submit(stack, tmp_path, items, lines=lines)
    assert answer.status == 400
    assert wanted in answer.document["msg"]
    assert stack.how_many_jobs() == before


def test_a_body_that_is_too_large(stack: Stack, target: Target, tmp_path: Path) -> None:
    large = [{"product_id": "x" * 1000}] * 4_500
    answer = submit(stack, tmp_path, large)
    assert (answer.status, answer.document["msg"]) == (
        413, "the body is larger than 4194304 bytes",
    )  # fmt: skip
    assert submit(stack, tmp_path, [{}]).status == 200  # it was this caller's turn, and is again


def test_what_is_wrong_with_the_call(stack: Stack, tmp_path: Path) -> None:
    assert stack.curl("/submitTransfers", "-d", "product_id=005").status == 415
    assert stack.curl("/submitTransfers?x=1", "-d", "{}").status == 400
    long = submit(stack, tmp_path, [{}], "-H", f"Idempotency-Key: {'k' * 250}")
    assert "at most 249 characters" in long.document["msg"]
    assert stack.curl("/submitTransfers").status == 405


def test_a_label_is_its_submitters(stack: Stack, target: Target, label: str) -> None:
    with stack.client() as alice, stack.client("bob") as bob:
        jobs = [alice.submit(f"fail-synthetic-{n}", target.url, label=label) for n in range(2)]
        bobs = bob.submit("fail-synthetic-7", target.url, label=label)
        until(lambda: alice.totals(label)["ERROR"] == 2, "they have ended")
        until(lambda: bob.totals(label)["ERROR"] == 1, "it has ended")
        assert [job["job_id"] for job in alice.transfers(label=label)] == jobs[::-1]
        assert [job["job_id"] for job in bob.transfers(label=label)] == [bobs]
    owner = quote(stack.user("alice").dn, safe="")
    found = stack.curl(f"/transfers?label={label}&submitter={owner}", user="operator").document
    assert [job["job_id"] for job in found["transfers"]] == jobs[::-1]
    assert found["totals"]["ERROR"] == 2
    refused = stack.curl(f"/transfers?label={label}&submitter={owner}", user="bob")
    assert refused.status == 403
    none = stack.curl(f"/transfers?label={label}", user="operator").document
    assert none["transfers"] == []


@pytest.mark.parametrize("label_", ["", "a b", "-x", "x" * 65, "é", "a/b"])
def test_what_is_no_label(stack: Stack, target: Target, label_: str) -> None:
    fields = urlencode({"product_id": "005", "destination_path": target.url, "label": label_})
    answer = stack.curl("/submitTransfer", "-d", fields)
    assert answer.status == 400
    assert "label must be 1 to 64 ASCII letters" in answer.document["msg"]
    assert stack.curl(f"/transfers?{urlencode({'label': label_})}").status == 400


def test_several_jobs_are_cancelled_each_with_an_outcome(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    mine = job_ids(submit(stack, tmp_path, [item(target, label, number) for number in range(3)]))
    with stack.client("bob") as bob:
        theirs = bob.submit("silent-synthetic-1", target.url)
    unknown = "b8b14f92-e6f3-11e6-8265-fa163e434fb2"
    answer = cancel(stack, {"job_ids": [mine[0], theirs, unknown, mine[1], "x"]})
    assert answer.status == 200
    outcomes = answer.document["outcomes"]
    assert [one["code"] for one in outcomes] == [200, 403, 404, 200, 404]
    assert [one["job_id"] for one in outcomes] == [mine[0], theirs, unknown, mine[1], "x"]
    assert answer.document["left"] is False
    form = stack.curl("/cancelTransfer", "-d", f"job_ids={mine[0]}&job_ids={mine[2]}").document
    assert [one["code"] for one in form["outcomes"]] == [409, 200]
    assert cancel(stack, {"job_id": theirs}, "bob").document["status"] == "CANCELLED"
    for wrong in ({}, {"job_id": mine[0], "label": label}, {"job_ids": []}, {"submitter": "/CN=a"}):
        assert cancel(stack, wrong).status == 400


@pytest.mark.usefixtures("queued")
def test_a_campaign_is_cancelled_by_its_label(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    items = [item(target, label, number) for number in range(1_100)]
    assert submit(stack, tmp_path, items).document["accepted"] == len(items)
    alice = stack.user("alice").dn
    assert cancel(stack, {"label": label, "submitter": alice}, "bob").status == 403
    assert cancel(stack, {"label": label}, "bob").document["outcomes"] == []
    first = cancel(stack, {"label": label, "submitter": alice}, "operator").document
    assert len(first["outcomes"]) <= 1_000
    assert first["left"] is True
    with stack.client() as client:
        rest = list(client.cancel_label(label))
        assert len(first["outcomes"]) + len(rest) == len(items)
        assert client.totals(label)["CANCELLED"] == len(items)
    again = cancel(stack, {"label": label}).document
    assert (again["outcomes"], again["left"]) == ([], False)


@pytest.mark.usefixtures("queued")
def test_the_command_goes_on_where_it_was_interrupted(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    """By Ctrl-C, in its second call."""
    lines = 1_200
    file = tmp_path / "products.csv"
    file.write_text("".join(f"silent-synthetic-{n}\n" for n in range(lines)), encoding="ascii")
    defaults = {"destination_path": target.url, "label": label}
    key = campaign.read(file.read_bytes(), defaults, None)[700].item["idempotency_key"]
    arguments = ("submit", "--from", str(file), target.url, "--label", label)
    environment = {
        "DELIV_URL": stack.url,
        "X509_USER_PROXY": stack.user("alice").proxy,
        "X509_CERT_DIR": stack.ca,
    }
    with (
        kept_from(stack, "alice", key),
        subprocess.Popen(
            [sys.executable, "-m", "deliv.cli", *arguments], env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        until(lambda: stack.query(COUNT, label) == [(500,)], "the first call is answered")
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(500)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert (process.returncode, rest) == (130, ""), said
    assert "500 of 1200 lines are done: repeat the command to go on" in said
    whole = deliv(stack, *arguments)
    assert whole.returncode == 0, whole.stderr
    jobs = whole.stdout.splitlines(keepends=True)
    assert len(set(jobs)) == lines
    assert jobs[:500] == printed
    assert "1,200 of 1,200 lines" in whole.stderr
    assert stack.query(COUNT, label) == [(lines,)]
    listed = deliv(stack, "list", "--label", label, "--limit", "2", "--json")
    document = json.loads(listed.stdout)
    assert [f"{job['job_id']}\n" for job in document["transfers"]] == jobs[:-3:-1]
    assert sum(document["totals"].values()) == lines
    cancelled = deliv(stack, "cancel", "--label", label)
    totals = stack.curl(f"/transfers?label={label}&limit=1").document["totals"]
    assert (cancelled.returncode, len(cancelled.stdout.splitlines())) == (0, lines)
    assert totals["CANCELLED"] == lines


def test_a_line_that_is_refused_is_named(
    stack: Stack, target: Target, label: str, tmp_path: Path
) -> None:
    file = tmp_path / "products.jsonl"
    lines = [
        item(target, label),
        item(target, label, destination_path="gsiftp://elsewhere.test/"),
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = deliv(stack, "submit", "--from", str(file), "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert (document["accepted"], document["refused"]) == (1, 1)
    assert [one["line"] for one in document["transfers"]] == [1, 2]
    assert "line 2: " in done.stderr
    assert "may not deliver to elsewhere.test" in done.stderr
