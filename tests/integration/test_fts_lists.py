"""The FTS client against scripted answers: lists, details and the archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from deliv.errors import Unreachable
from deliv.gateways.fts import BreakerState, Endpoint, Verdict
from deliv.gateways.fts.client import BULK
from deliv.model.error_classes import ErrorClass
from integration import recorded
from integration.fts_scene import JOB, TRANSFER, UNKNOWN, scene
from integration.scripted_delegation import REST, as_recorded
from integration.scripted_fts import Asked, Grid, Reply, html, reply

DELEGATION = recorded.sections("deleg.txt")
CUT_OFF = Reply(body=b"[")
NOT_FOUND = {"job_id": JOB, "http_status": "404 Not Found", "http_message": "No job"}


async def test_what_finished_lately(grid: Grid) -> None:
    answer = REST[
        "GET /jobs?state_in=FINISHED&time_window=1&limit=2&fields=job_id,job_state,submit_time"
    ][0]
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", as_recorded(answer))
        assert await s.endpoint.finished(125) == {
            "ce023ca2-e7ca-11f1-8f40-02fc00000001": "FAILED",
            "ca3d9404-e7ca-11f1-8f40-02fc00000001": "FAILED",
        }
        (asked,) = s.server.calls("GET", "/jobs")
        assert asked.query == (
            "state_in=FINISHED,FAILED,FINISHEDDIRTY,CANCELED&time_window=2:5"
            "&fields=job_id,job_state"
        )


async def test_what_is_unfinished(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", as_recorded(REST["GET /jobs (active only)"][0]))
        assert set((await s.endpoint.unfinished()).values()) == {"SUBMITTED"}
        s.server.on("GET", "/jobs", reply([]))
        assert await s.endpoint.unfinished() == {}


@pytest.mark.parametrize("answer", [html(200), reply({"a": 1}), CUT_OFF])
async def test_a_list_that_is_none(grid: Grid, answer: Reply) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", answer)
        with pytest.raises(Unreachable):
            await s.endpoint.unfinished()


Call = Callable[[Endpoint], Awaitable[object]]
CALLS: dict[str, Call] = {
    "submit": lambda endpoint: endpoint.submit(TRANSFER, JOB),
    "finished": lambda endpoint: endpoint.finished(2),
    "unfinished": lambda endpoint: endpoint.unfinished(),
    "details": lambda endpoint: endpoint.details([JOB, UNKNOWN]),
    "origins": lambda endpoint: endpoint.origins([JOB, UNKNOWN]),
    "cancel": lambda endpoint: endpoint.cancel(JOB),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_that_fts_breaks_off_is_an_outage(grid: Grid, name: str) -> None:
    """A 200 of one character: its database lost a table after the answer had begun."""
    async with scene(grid) as s:
        for method, path in (
            ("POST", "/jobs"),
            ("GET", "/jobs"),
            ("GET", f"/jobs/{JOB},{UNKNOWN}"),
            ("DELETE", f"/jobs/{JOB}"),
        ):
            s.server.on(method, path, CUT_OFF)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await CALLS[name](s.endpoint)
        one = s.endpoint
        breaker = one.cancel_breaker if name == "cancel" else one.breaker
        assert breaker.state is BreakerState.OPEN
        assert "broke off" in breaker.reason


async def test_an_archive_that_breaks_off_loses_no_job(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", CUT_OFF)
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN
        s.server.on("GET", f"/archive/{JOB}", reply({"job_id": JOB, "job_state": "FINISHED"}))
        s.server.on("GET", f"/archive/{JOB}/files", CUT_OFF)
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN


async def test_a_bulk_with_an_unknown_id(grid: Grid) -> None:
    answer = REST["GET /jobs/J1,unknown bulk"][0]
    known = answer.content[0]["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{known},{UNKNOWN}", as_recorded(answer))
        s.server.on("GET", f"/archive/{UNKNOWN}", as_recorded(REST["GET /nosuch"][0]))
        details = await s.endpoint.details([known, UNKNOWN, known])
        assert details.keys() == {known}
        assert details[known].verdict is Verdict.FINISHED  # CANCELED after its file had finished


async def test_one_id_comes_bare(grid: Grid) -> None:
    answer = DELEGATION["retries of the dead-port job"][0]
    job_id = answer.content["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{job_id}", as_recorded(answer))
        outcome = (await s.endpoint.details([job_id]))[job_id]
        assert outcome.verdict is Verdict.FAILED
        assert outcome.error_class is ErrorClass.UNREACHABLE
        assert outcome.reason.startswith("SOURCE [70] globus_xio: Unable to connect")


async def test_one_unknown_id_is_looked_up_in_the_archive(grid: Grid) -> None:
    archived = {"job_id": JOB, "job_state": "FAILED", "reason": "generic"}
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", reply(archived))
        s.server.on(
            "GET",
            f"/archive/{JOB}/files",
            reply([{"file_state": "FAILED", "reason": "DESTINATION [28] No space left on device"}]),
        )
        outcome = (await s.endpoint.details([JOB]))[JOB]
        assert outcome.error_class is ErrorClass.DESTINATION_FULL


async def test_an_archived_job_without_files(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", reply({"job_id": JOB, "job_state": "FINISHED"}))
        s.server.on("GET", f"/archive/{JOB}/files", reply(NOT_FOUND, 404))
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.FINISHED


async def test_a_web_servers_404_is_no_miss(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", html(404))
        with pytest.raises(Unreachable):
            await s.endpoint.details([JOB])
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", html(404))
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN


async def test_bulks_are_small_enough_and_matched_by_id(grid: Grid) -> None:
    ids = [f"00000000-0000-0000-0000-{number:012d}" for number in range(BULK + 50)]

    def answer(asked: Asked) -> Reply:
        asked_for = asked.path.rpartition("/")[2].split(",")
        assert len(asked_for) <= BULK
        return reply(
            [
                {"job_id": one, "job_state": "FAILED", "reason": f"SOURCE [5] {one}", "files": []}
                for one in reversed(asked_for)
                if one != ids[3]
            ]
        )

    async with scene(grid) as s:
        for chunk in (ids[:BULK], ids[BULK:]):
            s.server.on("GET", f"/jobs/{','.join(chunk)}", answer)
        details = await s.endpoint.details(ids)
        assert details.keys() == set(ids)
        assert details[ids[3]].verdict is Verdict.UNKNOWN
        del details[ids[3]]
        assert all(outcome.reason.endswith(one) for one, outcome in details.items())


async def test_a_job_that_deliv_may_not_see_is_not_lost(grid: Grid) -> None:
    answer = REST["GET /jobs/J1 as Bob (other VO)"][0]
    job_id = answer.content["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{job_id}", as_recorded(answer))
        outcome = (await s.endpoint.details([job_id]))[job_id]
        assert outcome.verdict is Verdict.FORBIDDEN
        assert "Not enough permissions" in outcome.reason


async def test_no_ids_are_no_call(grid: Grid) -> None:
    async with scene(grid) as s:
        assert await s.endpoint.details([]) == {}
        assert s.server.asked == []
