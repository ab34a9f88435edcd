"""FTS, or a proxy in front of it, answers badly or not at all: each product arrives once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from deliv_testbed.layout import Layout
from support.running_stack import Target, frozen, until

from outages.conftest import INSTANCES, REQUEST_TIMEOUT, Pair
from outages.fts_front import Answer, Fault, Front, standing_before

SIZES = itertools.count(46_000)
PATIENCE = 120
JOB, JOBS = "/jobs/.+", "/jobs"


@pytest.fixture(scope="module")
def front(pair: Pair) -> Iterator[Front]:
    """deliv reaches its FTS through it, and looks for lost jobs often."""
    before = {number: pair.config(number).read_text(encoding="utf-8") for number in INSTANCES}
    with standing_before(pair) as front:
        for number in INSTANCES:
            fts = {"endpoints": {"fts": front.url}, "reconcile_every": "1s"}
            pair.configure(number, fts=fts)
            pair.restart(number)
        yield front
        for number in INSTANCES:
            pair.config(number).write_text(before[number], encoding="utf-8")
            pair.restart(number)


@pytest.fixture(autouse=True)
def harmless(front: Front) -> Iterator[None]:
    yield
    front.disarm()


def submit(pair: Pair, target: Target) -> tuple[str, int]:
    size = next(SIZES)
    with pair.instance(1).client() as client:
        return client.submit(f"synthetic-{size}", target.url), size


def ended(pair: Pair, job_id: str) -> dict[str, Any]:
    with pair.instance(2).client() as client:
        return dict(client.wait(job_id, timeout=PATIENCE))


def assert_delivered_once(
    pair: Pair, target: Target, job_id: str, size: int, attempt: int = 1
) -> None:
    answer = ended(pair, job_id)
    assert (answer["status"], answer["attempt"]) == ("SUCCESS", attempt), answer
    assert target.holds_synthetic(size)
    assert pair.attempts_at_fts()[job_id, attempt] == 1


def html(status: int) -> Fault:
    page = Answer(status=status, kind="text/html", body=b"<!DOCTYPE HTML><h1>No</h1>")
    return lambda ask: page


def said(status: int, document: object) -> Fault:
    body = json.dumps(document).encode()
    return lambda ask: Answer(status=status, kind="application/json", body=body)


def unheard(ask: Callable[[], Answer]) -> None:
    """FTS never sees the call."""


def lost(ask: Callable[[], Answer]) -> None:
    """FTS does what it was asked for, and deliv never hears so."""
    ask()


def broken_off(ask: Callable[[], Answer]) -> Answer:
    """FTS does it, and its database lacks a table when it writes the answer."""
    ask()
    return Answer(status=200, kind="application/json", body=b"[")


def late(ask: Callable[[], Answer]) -> Answer:
    """FTS does it at once, and the answer comes when deliv has stopped to wait for it."""
    answer = ask()
    threading.Event().wait(REQUEST_TIMEOUT + 1)
    return answer


def of_an_unknown_state(ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    body = answer.body.replace(b'"FINISHED"', b'"PONDERING"')
    return Answer(status=answer.status, kind=answer.kind, body=body)


NO_DELEGATION = said(
    419, {"status": "419 Authentication Timeout", "message": 'No delegation found for "deliv"'}
)


@pytest.mark.parametrize(
    ("method", "path", "fault", "times"),
    [
        pytest.param("POST", JOBS, html(200), 2, id="a page for a submission"),
        pytest.param("POST", JOBS, html(404), 2, id="no such page"),
        pytest.param("POST", JOBS, html(502), 2, id="a gateway's error"),
        pytest.param("POST", JOBS, said(429, {"message": "slow down"}), 2, id="too many requests"),
        pytest.param("POST", JOBS, unheard, 3, id="a submission cut off"),
        pytest.param("POST", JOBS, lost, 1, id="a submission's answer lost"),
        pytest.param("POST", JOBS, late, 1, id="a submission's answer late"),
        pytest.param("POST", JOBS, NO_DELEGATION, 1, id="a delegation gone"),
        pytest.param("POST", JOBS, broken_off, 1, id="a submission's answer broken off"),
        pytest.param("GET", JOBS, html(200), 3, id="a page for a list"),
        pytest.param("GET", JOBS, broken_off, 3, id="a list broken off"),
        pytest.param("GET", JOBS, lost, 3, id="a list lost"),
        pytest.param("GET", JOBS, late, 1, id="a list late"),
        pytest.param("GET", JOB, html(502), 2, id="a gateway's error for details"),
        pytest.param("GET", JOB, broken_off, 2, id="details broken off"),
        pytest.param("GET", JOB, of_an_unknown_state, 3, id="an unknown state"),
    ],
)
def test_it_ends_as_if_nothing_had_been(
    pair: Pair, target: Target, front: Front, method: str, path: str, fault: Fault, times: int
) -> None:
    front.arm(method, path, fault, times)
    job_id, size = submit(pair, target)
    assert_delivered_once(pair, target, job_id, size)
    assert front.spent
    file = target.directory / f"synthetic-{size}"
    assert until(lambda: pair.times_written(file), "the server logs the copy") == 1


def test_somebody_elses_copy_to_the_same_file(pair: Pair, target: Target, front: Front) -> None:
    """FTS's other 409: it is distinguished from the one that a repeated submission gets."""
    reason = "The submission is duplicated for job(s): [another one's]"
    front.arm("POST", JOBS, said(409, {"status": "409 Conflict", "message": reason}), 1)
    answer = ended(pair, submit(pair, target)[0])
    assert (answer["status"], answer["error_class"]) == ("ERROR", "exists")
    assert reason in answer["detailed_status"]
    assert not target.directory.exists()


def test_fts_loses_a_job(pair: Pair, target: Target, front: Front) -> None:
    """As after a restore of its database. Of two jobs it knows one: 207; that one is left alone."""
    with without_slots(pair):
        jobs = dict(submit(pair, target) for _ in range(2))
        gone, kept = jobs
        until(lambda: all(handed_over(pair, job_id) for job_id in jobs), "FTS has both")
        pair.control("kill", "fts")
        pair.forget_at_fts(gone)
    assert_delivered_once(pair, target, kept, jobs[kept])
    assert_delivered_once(pair, target, gone, jobs[gone], attempt=2)


def test_fts_dies_with_its_copies(pair: Pair, target: Target, front: Front) -> None:
    """It does not start them again; it fails them as stalled, and deliv makes a second attempt."""
    with frozen(pair, "gridftp-destination"):
        job_id, size = submit(pair, target)
        until(lambda: pair.copied_by_fts(job_id), "FTS copies")
        pair.control("kill", "fts")
    pair.control("start", "fts")
    assert_delivered_once(pair, target, job_id, size, attempt=2)
    job = ended(pair, job_id)
    assert pair.attempts_at_fts()[job_id, 1] == 1, job


@contextmanager
def without_slots(pair: Pair) -> Iterator[None]:
    """FTS takes jobs and begins none; it is restarted at the end."""
    file = Layout(directory=pair.directory).settings("fts")
    text = file.read_text(encoding="utf-8")
    pair.control("kill", "fts")
    file.write_text(json.dumps({**json.loads(text), "slots": 0}), encoding="utf-8")
    pair.control("start", "fts")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")
        pair.control("kill", "fts")
        pair.control("start", "fts")


def test_a_users_own_file_is_kept_when_fts_loses_the_job(
    pair: Pair, target: Target, front: Front
) -> None:
    """Nothing says that a copy of the job had begun: what is there may be anybody's."""
    with without_slots(pair):
        job_id, size = submit(pair, target)
        until(lambda: handed_over(pair, job_id), "FTS has the job")
        pair.control("kill", "fts")
        pair.forget_at_fts(job_id)
        file = target.put(f"synthetic-{size}", b"mine")
    answer = ended(pair, job_id)
    assert (answer["status"], answer["error_class"], answer["attempt"]) == ("ERROR", "exists", 2)
    assert file.read_bytes() == b"mine"
    assert "or a file of yours" in answer["detailed_status"]


def test_a_corrupt_staged_copy_is_given_back_and_staged_anew(
    pair: Pair, target: Target, front: Front
) -> None:
    """The stager would report the copy that it still has."""
    with without_slots(pair):
        job_id, size = submit(pair, target)
        until(lambda: handed_over(pair, job_id), "FTS has the job")
        (staged,) = (path for path in pair.staged_copy(job_id).rglob("*") if path.is_file())
        staged.write_bytes(b"x" * size)
    assert_delivered_once(pair, target, job_id, size, attempt=2)


def test_a_copy_says_that_fts_is_out(pair: Pair, target: Target, front: Front) -> None:
    def said() -> str:
        answer = pair.instance(1).curl(f"/transferStatus?job_id={job_id}")
        return str(answer.document.get("detailed_status"))

    with without_slots(pair):
        job_id, size = submit(pair, target)
        until(lambda: handed_over(pair, job_id), "FTS has the job")
        pair.control("kill", "fts")
        until(lambda: said().startswith("waiting: FTS"), "the status says so")
        assert "can't be asked" in said()
    assert_delivered_once(pair, target, job_id, size)


def handed_over(pair: Pair, job_id: str) -> bool:
    ((posted,),) = pair.query("SELECT fts_posted FROM jobs WHERE job_id = %s", job_id)
    return posted is not None
