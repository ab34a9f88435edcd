"""Cancelling with the client and its command: jobs, all of a user's, a campaign."""

from __future__ import annotations

import json

import pytest

from deliv.client import Conflict, NotFound, PermissionRefused, Unavailable
from integration.client_world import (
    BUSY,
    DROP,
    SUCCESS,
    World,
    module_world_fixture,  # noqa: F401 - fixtures are used by their names
    world_fixture,  # noqa: F401 - fixtures are used by their names
)
from integration.scripted_deliv import Reply, reply

CANCELLED = {"job_id": "J", "status": "CANCELLED", "error": False, "msg": "cancelled"}
ENDED = reply(409, {"error": True, "msg": "the job has ended already"})


def test_cancels(world: World) -> None:
    stopping = {**CANCELLED, "status": "TRANSFERRING"}
    world.deliv.script += [reply(200, CANCELLED), reply(202, stopping)]
    with world.client() as client:
        assert client.cancel("J") == CANCELLED
        assert client.cancel("J") == stopping
    calls = [(call.method, call.path, call.fields) for call in world.deliv.calls]
    assert calls == [("POST", "/cancelTransfer", {"job_id": "J"})] * 2


def test_a_cancellation_whose_answer_was_lost_is_none_that_came_too_late(world: World) -> None:
    world.deliv.script += [DROP, ENDED, reply(200, {"job_id": "J", "status": "CANCELLED"})]
    with world.client(patience=20) as client:
        assert client.cancel("J") == {**CANCELLED, "msg": "cancelled before"}


def test_a_job_that_has_ended_is_not_cancelled(world: World) -> None:
    world.deliv.script += [ENDED, SUCCESS]
    with world.client() as client, pytest.raises(Conflict, match="has ended already"):
        client.cancel("J")


@pytest.mark.parametrize(
    ("status", "kind"), [(403, PermissionRefused), (404, NotFound), (503, Unavailable)]
)
def test_a_cancellation_that_is_refused(world: World, status: int, kind: type[Exception]) -> None:
    world.deliv.script += [reply(status, {"error": True, "msg": "the reason"})]
    with world.client() as client, pytest.raises(kind, match="the reason"):
        client.cancel("J")


def test_a_deliv_that_is_gone_is_asked_for_no_further_job(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [reply(200, CANCELLED), BUSY]
    arguments = ("cancel", "A", "B", "C", "--json", "--patience", "0")
    assert world.command(*arguments) == 4
    answers = json.loads(capsys.readouterr().out)["transfers"]
    assert [answer.get("kind") for answer in answers] == [None, "unavailable"]


def test_all_that_a_user_has_under_way_is_cancelled(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def page(*job_ids: str, more: str | None = None) -> Reply:
        return reply(200, {"transfers": [{"job_id": one} for one in job_ids], "next": more})

    def done(job_id: str) -> Reply:
        return reply(200, {**CANCELLED, "job_id": job_id})

    world.deliv.script += [page("3", more="3"), done("3"), page("2"), done("2")]
    world.deliv.script += [page(), page("1"), ENDED, SUCCESS]
    assert world.command("cancel", "--submitter", "/CN=a b") == 7
    assert capsys.readouterr().out.splitlines() == ["3: cancelled", "2: cancelled"]
    listed = [call.path for call in world.deliv.calls if call.path.startswith("/transfers?")]
    wanted = "submitter=%2FCN%3Da+b&limit=100"
    assert listed == [
        f"/transfers?status=SUBMITTED&{wanted}",
        f"/transfers?status=SUBMITTED&{wanted}&cursor=3",
        f"/transfers?status=STAGING&{wanted}",
        f"/transfers?status=TRANSFERRING&{wanted}",
    ]
    cancelled = [call.fields for call in world.deliv.calls if call.path == "/cancelTransfer"]
    assert cancelled == [{"job_id": "3"}, {"job_id": "2"}, {"job_id": "1"}]


def test_a_user_who_has_nothing_under_way_is_named(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A DN that is misspelt, or a pattern of the policy, must not look like work that is done."""
    world.deliv.script += [reply(200, {"transfers": [], "next": None})] * 3
    assert world.command("cancel", "--submitter", "/CN=*") == 0
    out, said = capsys.readouterr()
    assert (out, said) == ("", "deliv: nothing of '/CN=*' is under way\n")


@pytest.mark.parametrize("arguments", [(), ("A", "--submitter", "/CN=a")])
def test_a_cancellation_is_of_jobs_or_of_a_users(world: World, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        world.command("cancel", *arguments)
    assert world.deliv.calls == []


def cancelled(*jobs: str, left: bool, refused: tuple[str, ...] = ()) -> Reply:
    found: list[dict[str, object]] = [
        {"code": 200, "job_id": job, "status": "CANCELLED", "msg": "cancelled"} for job in jobs
    ]
    found += [{"code": 503, "job_id": job, "msg": "busy"} for job in refused]
    return reply(200, {"error": False, "msg": "some", "outcomes": found, "left": left})


def test_a_label_is_cancelled_call_by_call(world: World) -> None:
    """What is refused again is no reason to go on asking."""
    world.deliv.script += [
        cancelled("A", "B", left=True, refused=("C",)),
        cancelled("D", left=True, refused=("C",)),
        cancelled(left=True, refused=("C",)),
    ]
    with world.client() as client:
        found = [one["job_id"] for one in client.cancel_label("campaign")]
    assert found == ["A", "B", "C", "D"]
    assert [call.fields for call in world.deliv.calls] == [{"label": "campaign"}] * 3


def test_a_label_that_is_cancelled(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [cancelled("A", left=False, refused=("B",))]
    assert world.command("cancel", "--label", "x") == 4
    out, err = capsys.readouterr()
    assert (out, err) == ("A: cancelled\n", "deliv: B: busy\n")
