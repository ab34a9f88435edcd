"""Submitting once more with the client and its command: jobs, a campaign."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from deliv.client import BadAnswer
from integration.client_world import (
    DROP,
    World,
    module_world_fixture,  # noqa: F401 - fixtures are used by their names
    world_fixture,  # noqa: F401 - fixtures are used by their names
)
from integration.scripted_deliv import Reply, reply

NEW: dict[str, Any] = {"code": 202, "job_id": "N", "status": "SUBMITTED", "retry_of": "A"}
GOING: dict[str, Any] = {
    "code": 200, "job_id": "G", "status": "STAGING", "retry_of": "B",
    "skipped": "job G, which repeats it, has not ended",
}  # fmt: skip
DONE: dict[str, Any] = {
    "code": 200, "job_id": "C", "status": "SUCCESS", "skipped": "the job is delivered",
}  # fmt: skip
STOPPED = {**DONE, "job_id": "D", "status": "CANCELLED", "skipped": "the job was cancelled"}
REFUSED: dict[str, Any] = {"code": 403, "job_id": "E", "msg": "not yours"}


def answer(*outcomes: dict[str, Any], following: str | None = None) -> Reply:
    document = {"error": False, "msg": "some", "outcomes": outcomes, "next": following}
    return reply(200, document)


def asked(world: World) -> list[object]:
    assert {(call.method, call.path) for call in world.deliv.calls} == {("POST", "/retryTransfer")}
    return [json.loads(call.body) for call in world.deliv.calls]


def test_jobs_are_submitted_once_more(world: World) -> None:
    world.deliv.script += [DROP, answer(NEW, REFUSED)]
    moment = datetime(2030, 1, 31, 18, tzinfo=UTC)
    with world.client(patience=20) as client:
        assert list(client.retry(["A", "E"], deadline=moment)) == [NEW, REFUSED]
    assert asked(world) == [{"job_ids": ["A", "E"], "deadline": "2030-01-31T18:00:00+00:00"}] * 2


def test_very_many_are_several_calls(world: World) -> None:
    world.deliv.script += [answer(*[NEW] * 1000), answer(DONE)]
    with world.client() as client:
        assert list(client.retry(["A"] * 1001)) == [*[NEW] * 1000, DONE]
    assert asked(world) == [{"job_ids": ["A"] * 1000}, {"job_ids": ["A"]}]


def test_each_job_has_an_outcome(world: World) -> None:
    world.deliv.script += [answer(NEW)]
    with world.client() as client, pytest.raises(BadAnswer, match="for each job"):
        list(client.retry(["A", "B"]))


def test_a_label_is_gone_through_page_by_page(world: World) -> None:
    world.deliv.script += [answer(NEW, following="x"), answer(following="y"), answer(GOING)]
    with world.client() as client:
        assert list(client.retry_label("m31")) == [NEW, GOING]
    assert asked(world) == [
        {"label": "m31"}, {"label": "m31", "cursor": "x"}, {"label": "m31", "cursor": "y"},
    ]  # fmt: skip


def test_the_command_prints_what_is_under_way_and_says_what_is_not_new(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [answer(NEW, GOING, DONE)]
    assert world.command("retry", "A", "B", "C") == 0
    out, err = capsys.readouterr()
    assert out == "N\nG\n"
    assert err == (
        "deliv: B: job G, which repeats it, has not ended\ndeliv: C: the job is delivered\n"
    )


@pytest.mark.parametrize(("outcome", "exit_code"), [(STOPPED, 1), (REFUSED, 3), (NEW, 0)])
def test_the_exit_code_is_that_of_the_first_job_that_will_not_come(
    world: World, outcome: dict[str, Any], exit_code: int
) -> None:
    world.deliv.script += [answer(DONE, outcome, REFUSED if outcome is STOPPED else DONE)]
    assert world.command("retry", "C", "X", "Y") == exit_code


def test_the_command_for_a_label(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What was cancelled before is no failure of this call."""
    stopped = {**STOPPED, "retry_of": "F"}
    world.deliv.script += [answer(NEW, following="x"), answer(stopped)]
    assert world.command("retry", "--label", "m31", "--deadline", "2030-01-31T18:00Z") == 0
    assert capsys.readouterr() == ("N\n", "deliv: F: the job was cancelled\n")
    deadlines = {str(one["deadline"]) for one in asked(world) if isinstance(one, dict)}
    assert len(deadlines) == 1
    assert datetime.fromisoformat(deadlines.pop()) == datetime(2030, 1, 31, 18, tzinfo=UTC)


def test_a_label_without_failures_is_named(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [answer()]
    assert world.command("retry", "--label", "m31") == 0
    assert capsys.readouterr() == ("", "deliv: nothing of 'm31' has failed\n")


def test_in_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [answer(NEW, REFUSED)]
    assert world.command("retry", "A", "E", "--json") == 3
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"transfers": [NEW, REFUSED]}, "")


def test_an_interruption_says_how_to_go_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [answer(NEW, following="x"), reply(503, {"msg": "full"})]
    assert world.command("retry", "--label", "m31", "--patience", "0") == 4
    out, err = capsys.readouterr()
    assert out == "N\n"
    assert "repeat the command to go on: nothing is submitted twice" in err


@pytest.mark.parametrize("arguments", [(), ("A", "--label", "m31")])
def test_it_is_of_jobs_or_of_a_label(world: World, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        world.command("retry", *arguments)
    assert world.deliv.calls == []
