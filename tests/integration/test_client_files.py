"""The files of a product of several, from the library and the commands."""

from __future__ import annotations

import json

import pytest

from deliv.client import BadAnswer
from integration.client_world import (
    ACCEPTED,
    BUSY,
    World,
    module_world_fixture,  # noqa: F401 - fixtures are used by their names
    world_fixture,  # noqa: F401 - fixtures are used by their names
)
from integration.scripted_deliv import Reply, reply


def files(*names: str, state: str = "FINISHED", more: str | None = None) -> Reply:
    found = [{"name": name, "state": state, "size": 7, "partial": False} for name in names]
    return reply(200, {"job_id": "J", "files": found, "next": more})


def test_files_are_fetched_page_by_page(world: World) -> None:
    """Each page when it is needed, and no sooner."""
    world.deliv.script += [files("a", "b", more="1-2"), files("c")]
    with world.client() as client:
        found = client.files("J&K", state="FINISHED")
        assert world.deliv.calls == []
        assert [next(found)["name"], next(found)["name"]] == ["a", "b"]
        assert len(world.deliv.calls) == 1
        assert [file["name"] for file in found] == ["c"]
    assert [call.path for call in world.deliv.calls] == [
        "/transferFiles?job_id=J%26K&state=FINISHED&limit=100",
        "/transferFiles?job_id=J%26K&state=FINISHED&limit=100&cursor=1-2",
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"files": 1}', b'{"files": [1]}'])
def test_files_that_are_none(world: World, body: bytes) -> None:
    world.deliv.script += [Reply(body=body)]
    with world.client() as client, pytest.raises(BadAnswer):
        list(client.files("J"))


def test_files_for_scripts_are_one_object(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [files("a", more="1-1"), files("b"), files()]
    assert world.command("files", "J", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [file["name"] for file in document.pop("files")] == ["a", "b"]
    assert document == {"job_id": "J"}
    assert world.command("files", "J", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"job_id": "J", "files": []}


@pytest.mark.parametrize(
    ("answer", "exit_code", "kind"),
    [
        (reply(400, {"msg": "no such state"}), 2, "rejected"),
        (reply(403, {"msg": "not yours"}), 3, "permission"),
        (BUSY, 4, "unavailable"),
        (reply(404, {"msg": "no job"}), 5, "not found"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_files_that_break_off_are_one_object_too(
    world: World,
    capsys: pytest.CaptureFixture[str],
    answer: Reply,
    exit_code: int,
    kind: str,
    before: int,
) -> None:
    """With what was there before, after which the error is shown."""
    world.deliv.script += [*[files("a", more="1-1")][:before], answer]
    assert world.command("files", "J", "--json", "--patience", "0") == exit_code
    document = json.loads(capsys.readouterr().out)
    assert (document["error"], document["kind"], document["job_id"]) == (True, kind, "J")
    assert [file["name"] for file in document.get("files", [])] == ["a"][:before]


def test_what_is_missing_is_what_has_failed_first(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [
        files("refused", state="FAILED"), files(), files("untried", state="WAITING"),
    ]  # fmt: skip
    assert world.command("files", "J", "--missing") == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["STATE", "FAILED", "WAITING"]
    assert err == ""
    assert [call.path for call in world.deliv.calls] == [
        f"/transferFiles?job_id=J&state={state}&limit=100"
        for state in ("FAILED", "ASSIGNED", "WAITING")
    ]


def test_a_job_without_files_says_why(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [files(), files()]
    assert world.command("files", "J") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["STATE           SIZE  NAME  WHAT HAPPENED"]
    assert "deliv: no files are known of job J" in err
    assert world.command("files", "J", "--state", "FAILED") == 0
    assert capsys.readouterr().err == ""


FEW = {"job_id": "J", "files_total": 10, "files_done": 7, "bytes_total": 10, "bytes_done": 7}
NAMED = "deliv: see which files did not arrive with: deliv files --missing J\n"


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED"])
def test_a_job_that_brought_a_part_names_the_command_for_the_rest(
    world: World, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    ended = reply(200, {**FEW, "status": status, "detailed_status": "7 of 10 files arrived"})
    world.deliv.script += [ACCEPTED, ended, ended, ended, ended]
    for arguments in (("submit", "005", "gsiftp://h/d", "--wait"), ("status", "J")):
        assert world.command(*arguments) == 1
        assert capsys.readouterr().err.endswith(NAMED)
    assert world.command("status", "J", "--json") == 1
    assert capsys.readouterr().err == ""
    assert world.command("status", "J", "--wait", "--json") == 1
    assert "deliv files" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        {**FEW, "status": "TRANSFERRING"},
        {**FEW, "status": "SUCCESS", "files_done": 10},
        {"job_id": "J", "status": "ERROR"},
    ],
)
def test_where_nothing_is_missing_no_command_is_named(
    world: World, capsys: pytest.CaptureFixture[str], answer: dict[str, object]
) -> None:
    world.deliv.script += [reply(200, answer)]
    world.command("status", "J")
    assert capsys.readouterr().err == ""
