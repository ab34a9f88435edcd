"""The FTS client against scripted answers: submitting and cancelling."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deliv import config
from deliv.errors import DelegationNeeded, Refused, Unreachable
from integration import recorded
from integration.fts_scene import COPY, JOB, TRANSFER, UNKNOWN, scene
from integration.scripted_delegation import REST, as_recorded
from integration.scripted_fts import Asked, Grid, Reply, html, reply

DELEGATION = recorded.sections("deleg.txt")
SID = recorded.sections("sid.txt")
DOWN = recorded.sections("dbdown.txt")
NOT_FOUND = {"job_id": JOB, "http_status": "404 Not Found", "http_message": "No job"}


async def test_submit(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"job_id": JOB}))
        assert await s.endpoint.submit(TRANSFER) == JOB
        (asked,) = s.server.calls("POST", "/jobs")
        assert asked.headers["Content-Type"] == "application/json"
        assert json.loads(asked.body)["params"]["sid"] == "deliv-tx-0001"


async def test_the_same_sid_again_is_the_same_job(grid: Grid) -> None:
    duplicated = SID[
        'deterministic job id: params {"id_generator":"deterministic","sid":"deliv-tx-0001"}, '
        "posted twice"
    ][1]
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(duplicated))
        s.server.on("GET", f"/jobs/{JOB}", reply({"job_id": JOB, "job_state": "CANCELED"}))
        assert await s.endpoint.submit(TRANSFER) == JOB


async def test_somebody_elses_transfer_to_that_destination(grid: Grid) -> None:
    busy = {"status": "409 Conflict", "message": "The submission is duplicated for job(s): [x]"}
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply(busy, 409))
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        with pytest.raises(Refused, match="The submission is duplicated") as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == 409


async def test_a_conflict_that_can_not_be_told_stays_open(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"status": "409", "message": "x"}, 409))
        s.server.on("GET", f"/jobs/{JOB}", html(500))
        with pytest.raises(Unreachable):
            await s.endpoint.submit(TRANSFER)


@pytest.mark.parametrize(
    "needed",
    [
        REST["POST /jobs, Bob never delegated"][0],
        DELEGATION["delegate Bob for 30 min, POST"][2],
    ],
)
async def test_419_delegates_once_for_all_and_tries_again(
    grid: Grid, needed: recorded.Answer
) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=20)  # and FTS lost it all the same
        wanting = [as_recorded(needed)] * 3

        def answer(asked: Asked) -> Reply:
            if s.delegating.put:
                return reply({"job_id": JOB})
            return wanting.pop() if wanting else reply({}, 500)

        s.server.on("POST", "/jobs", answer)
        ids = await asyncio.gather(*(s.endpoint.submit(TRANSFER) for _ in range(3)))
        assert ids == [JOB] * 3
        assert len(s.delegating.put) == 1


async def test_419_again_is_told(grid: Grid) -> None:
    async with scene(grid) as s:
        needed = as_recorded(DELEGATION["delegate Bob for 30 min, POST"][2])
        s.server.on("POST", "/jobs", needed)
        with pytest.raises(DelegationNeeded, match="less than one hour left") as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == 419
        assert len(s.server.calls("POST", "/jobs")) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (REST["POST /jobs, no cert"][0], 403),
        (REST["POST bad source URL (no scheme)"][0], 400),
        (REST["POST metadata too big"][0], 400),
    ],
)
async def test_refusals_carry_code_and_message(
    grid: Grid, answer: recorded.Answer, code: int
) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(answer))
        with pytest.raises(Refused) as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == code
        assert answer.content["message"] in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        as_recorded(DOWN["MariaDB down: GET /jobs/x and POST"][1]),
        as_recorded(REST["GET /jobs/J1 without cert"][0]),
        html(404),
        html(503),
        reply({"status": "429 Too Many Requests", "message": "slow down"}, 429),
        html(200),
        reply(["not", "a", "job"]),
        reply({"no": "id"}),
        Reply(drop=True),
        reply({"job_id": JOB}, delay=600),
    ],
)
async def test_what_is_no_answer_of_fts_leaves_the_outcome_open(grid: Grid, answer: Reply) -> None:
    patience = 3.0 if answer.delay else 30.0
    async with scene(grid, request_timeout=config.Seconds(patience)) as s:
        await s.endpoint.whoami()
        s.server.on("POST", "/jobs", answer)
        with pytest.raises(Unreachable) as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.sent


async def test_a_job_under_another_id_is_withdrawn(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"job_id": UNKNOWN}))
        s.server.on(
            "DELETE", f"/jobs/{UNKNOWN}", reply({"job_id": UNKNOWN, "job_state": "CANCELED"})
        )
        with pytest.raises(Refused, match="deliv's identity changed"):
            await s.endpoint.submit(TRANSFER, JOB)
        assert len(s.server.calls("DELETE", f"/jobs/{UNKNOWN}")) == 1
        await s.endpoint.whoami()
        assert len(s.server.calls("GET", "/whoami")) == 1  # asked again: a noted id needed none


async def test_a_wrong_transfer_is_not_posted(grid: Grid) -> None:
    async with scene(grid) as s:
        with pytest.raises(Refused):
            await s.endpoint.submit(
                replace(TRANSFER, copies=(replace(COPY, source=COPY.destination),))
            )
        assert s.server.asked == []


async def test_cancel_tells_the_state(grid: Grid) -> None:
    async with scene(grid) as s:
        for title, state in (
            ("DELETE /jobs/J2 (SUBMITTED)", "CANCELED"),
            ("DELETE /jobs/J1 (finished)", "FINISHED"),
        ):
            s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST[title][0]))
            assert await s.endpoint.cancel(JOB) == state


async def test_cancel_of_a_job_unknown_to_fts(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST["DELETE /jobs/unknown"][0]))
        assert await s.endpoint.cancel(JOB) is None
        s.server.on("DELETE", f"/jobs/{JOB}", html(404))
        with pytest.raises(Unreachable):
            await s.endpoint.cancel(JOB)
        s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST["DELETE /jobs/J1 as Bob"][0]))
        with pytest.raises(Refused):
            await s.endpoint.cancel(JOB)
