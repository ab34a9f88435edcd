"""The commands for callers: what they print, and their exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from integration.client_world import (
    ACCEPTED,
    BUSY,
    DROP,
    STAGING,
    SUCCESS,
    World,
    module_world_fixture,  # noqa: F401 - fixtures are used by their names
    outcomes,
    world_fixture,  # noqa: F401 - fixtures are used by their names
)
from integration.scripted_deliv import Reply, reply


def test_submit_prints_the_job_id(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [ACCEPTED]
    assert world.command("submit", "005", "gsiftp://h/d") == 0
    assert capsys.readouterr() == ("J\n", "")


def test_submit_and_wait(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [ACCEPTED, STAGING, SUCCESS]
    assert world.command("submit", "005", "gsiftp://h/d", "--wait") == 0
    out, news = capsys.readouterr()
    assert "delivered: 005" in out
    assert "job J" in news
    assert "STAGING" in news


def test_a_failed_delivery_is_exit_code_1(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"job_id": "J", "status": "ERROR", "detailed_status": "The disk is full. Free some."}
    world.deliv.script += [ACCEPTED, reply(200, failed), reply(200, failed)]
    assert world.command("submit", "005", "gsiftp://h/d", "--wait") == 1
    assert "The disk is full. Free some." in capsys.readouterr().out
    assert world.command("status", "J", "--json") == 1
    assert json.loads(capsys.readouterr().out) == failed


@pytest.mark.parametrize(
    ("answer", "exit_code", "kind"),
    [
        (reply(400, {"msg": "no host"}), 2, "rejected"),
        (reply(403, {"msg": "not yours"}), 3, "permission"),
        (reply(404, {"msg": "no job"}), 5, "not found"),
        (reply(200, {"status": "STAGING"}, Retry_After="1"), 6, "running"),
    ],
)
def test_errors_for_scripts(
    world: World,
    capsys: pytest.CaptureFixture[str],
    answer: Reply,
    exit_code: int,
    kind: str,
) -> None:
    world.deliv.script += [answer] * 50
    arguments = ("status", "J", "--wait", "--timeout", "0.2", "--json")
    assert world.command(*arguments) == exit_code
    out, news = capsys.readouterr()
    document = json.loads(out)
    assert (document["error"], document["kind"], document["job_id"]) == (True, kind, "J")
    assert kind not in news  # it may tell how the wait fared


def test_an_empty_key_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What a script's unset variable gives would make two jobs of a repeated submission."""
    assert world.command("submit", "005", "gsiftp://h/d", "--idempotency-key", "") == 2
    assert "the idempotency key is empty" in capsys.readouterr().err
    assert world.deliv.calls == []


@pytest.mark.parametrize("key", ["a\nX-Other: header", "\u20ac", "a\tb", "a" * 256])
def test_a_key_that_no_header_takes_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert world.command("submit", "005", "gsiftp://h/d", "--idempotency-key", key) == 2
    assert "1 to 255 printable ASCII characters" in capsys.readouterr().err
    assert world.deliv.calls == []


@pytest.mark.parametrize("part", ["/CN=alice", "alice"])
def test_a_part_of_a_submitters_dn_may_begin_with_a_slash(
    world: World, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    jobs = [{"job_id": name, "submitter": f"/O=Grid/CN={name}"} for name in ("Alice", "Bob")]
    exact = [reply(200, {"transfers": [], "next": None})] if part.startswith("/") else []
    world.deliv.script += [*exact, reply(200, {"transfers": jobs, "next": None})]
    assert world.command("list", "--submitter", part, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"transfers": jobs[:1]}


def test_an_unsure_submission_tells_how_to_repeat_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [DROP]
    assert world.command("submit", "005", "gsiftp://h/d", "--patience", "0") == 4
    key = world.deliv.calls[0].key
    assert f"--idempotency-key {key}" in capsys.readouterr().err


def test_the_lines_of_a_file(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call has a part of them; what is refused is named, and does not end it."""
    file = tmp_path / "products.csv"
    file.write_text("P\n" * 502, encoding="ascii")
    world.deliv.script += [outcomes(*[202] * 499, 403), outcomes(202, 422)]
    arguments = ("submit", "--from", str(file), "gsiftp://h/d", "--label", "x")
    assert world.command(*arguments) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [*(f"J{n}" for n in range(499)), "J0"]
    assert err.splitlines() == [
        "deliv: line 500: why not",
        "500 of 502 lines, 1 refused",
        "deliv: line 502: why not",
        "502 of 502 lines, 2 refused",
    ]
    first, second = (json.loads(call.body)["transfers"] for call in world.deliv.calls)
    assert (len(first), len(second)) == (500, 2)
    assert {item["label"] for item in first + second} == {"x"}
    assert len({item["idempotency_key"] for item in first + second}) == 502
    world.deliv.script += [outcomes(*[202] * 500), outcomes(202, 202)]
    assert world.command(*arguments) == 0
    again = [json.loads(call.body)["transfers"] for call in world.deliv.calls[2:]]
    assert again == [first, second]


def test_a_file_that_is_wrong_is_not_sent(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "products.csv"
    assert world.command("submit", "--from", str(file)) == 2
    assert "products.csv can't be read: No such file" in capsys.readouterr().err
    file.write_text("005,gsiftp://h/d\n006\n", encoding="ascii")
    assert world.command("submit", "--from", str(file)) == 2
    assert "line 2 has no destination_path" in capsys.readouterr().err
    assert world.deliv.calls == []


def test_a_deliv_that_is_gone_leaves_word_of_how_far_it_came(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "products.csv"
    file.write_text("P,gsiftp://h/d\n" * 501, encoding="ascii")
    world.deliv.script += [outcomes(*[202] * 500), BUSY]
    assert world.command("submit", "--from", str(file), "--patience", "0", "--json") == 4
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "unavailable"
    assert "500 of 501 lines are done: repeat the command to go on" in document["msg"]


def test_the_standard_input_has_lines_too(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.deliv.script += [outcomes(202)]
    lines = io.TextIOWrapper(io.BytesIO(b'{"product_id": "P"}\n'))
    monkeypatch.setattr("sys.stdin", lines)
    assert world.command("submit", "--from", "-", "gsiftp://h/d", "--json") == 0
    answer = {"line": 1, "code": 202, "job_id": "J0"}
    assert json.loads(capsys.readouterr().out) == {
        "error": False, "accepted": 1, "refused": 0, "transfers": [answer],
    }  # fmt: skip


def test_a_list_of_a_label_has_its_totals(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    page = {"transfers": [{"job_id": "J", "status": "ERROR", "submitter": "/CN=a"}], "next": None}
    numbers = {"totals": {"SUCCESS": 1200, "ERROR": 1, "STAGING": 0}}
    world.deliv.script += [reply(200, page | numbers)] * 2 + [reply(200, {"user_dn": "/CN=a"})]
    assert world.command("list", "--label", "x") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err == "deliv: x: 1,200 SUCCESS, 1 ERROR\n"
    assert [call.path for call in world.deliv.calls[:2]] == [
        "/transfers?label=x&limit=50", "/transfers?label=x&limit=1",
    ]  # fmt: skip
