"""The client over real TLS: what it sends, what it repeats, what it makes of every refusal."""

from __future__ import annotations

import json

import pytest

from deliv.client import (
    BadAnswer,
    NotFound,
    PermissionRefused,
    Rejected,
    StillRunning,
    Unavailable,
    Unreachable,
    transport,
)
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

LENGTH, CHUNKED = {"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}
CUT = [
    Reply(body=b"", headers=LENGTH, close=True),
    Reply(body=b'{"job_id": "J"', headers=LENGTH, close=True),
    Reply(body=b'ff\r\n{"job_id": "J"', headers=CHUNKED, close=True),
    Reply(body=b'f\r\n{"job_id": "J"}\r\n', headers=CHUNKED, close=True),
]


def test_submits_as_the_prototype_wants_it(world: World) -> None:
    world.deliv.script += [ACCEPTED]
    with world.client() as client:
        assert client.submit("Süd 1", "gsiftp://h/d", idempotency_key="K") == "J"
    (call,) = world.deliv.calls
    assert (call.method, call.path, call.key) == ("POST", "/submitTransfer", "K")
    assert call.fields == {"product_id": "Süd 1", "destination_path": "gsiftp://h/d"}


def test_every_submission_has_a_key_of_its_own(world: World) -> None:
    world.deliv.script += [ACCEPTED, ACCEPTED]
    with world.client() as client:
        client.submit("P", "gsiftp://h/d")
        client.submit("P", "gsiftp://h/d")
    first, second = (call.key for call in world.deliv.calls)
    assert first
    assert second
    assert first != second


@pytest.mark.parametrize(
    "lost", [DROP, BUSY, reply(502, {}), Reply(status=500, body=b"<html>"), *CUT]
)
def test_a_lost_answer_is_asked_for_again_with_the_same_key(world: World, lost: Reply) -> None:
    world.deliv.script += [lost, lost, ACCEPTED]
    with world.client(patience=20) as client:
        assert client.submit("P", "gsiftp://h/d") == "J"
    assert len(world.deliv.calls) == 3
    assert len({call.key for call in world.deliv.calls}) == 1


def test_patience_ends(world: World) -> None:
    world.deliv.script += [BUSY]
    with world.client() as client, pytest.raises(Unavailable, match="full") as raised:
        client.submit("P", "gsiftp://h/d")
    assert raised.value.status == 503
    assert len(world.deliv.calls) == 1


@pytest.mark.parametrize("cut", CUT)
def test_an_answer_that_breaks_off_is_told(world: World, cut: Reply) -> None:
    world.deliv.script += [cut]
    with world.client() as client, pytest.raises(Unreachable, match="in the middle of its answer"):
        client.status("J")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000000000000"}])
def test_no_more_is_read_than_the_largest_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 30)
    world.deliv.script += [Reply(body=b'{"job_id": "%s"}' % (b"J" * 100), headers=headers)]
    with world.client(patience=20) as client, pytest.raises(BadAnswer):
        client.status("J")
    assert len(world.deliv.calls) == 1


def test_waits_for_the_end(world: World) -> None:
    world.deliv.script += [STAGING, STAGING, STAGING, SUCCESS]
    heard: list[object] = []
    with world.client() as client:
        answer = client.wait("J", on_status=lambda answer: heard.append(answer["status"]))
    assert answer["status"] == "SUCCESS"
    assert heard == ["STAGING"] * 3 + ["SUCCESS"]


def test_waiting_outlasts_an_outage(world: World) -> None:
    world.deliv.script += [STAGING, DROP, BUSY, DROP, SUCCESS]
    with world.client() as client:
        assert client.wait("J")["status"] == "SUCCESS"


def test_waiting_has_an_end(world: World) -> None:
    world.deliv.script += [STAGING] * 100
    with world.client() as client, pytest.raises(StillRunning, match="J"):
        client.wait("J", timeout=0.3)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Rejected), (403, PermissionRefused), (404, NotFound)]
)
def test_a_refusal_is_final(world: World, status: int, kind: type[Exception]) -> None:
    world.deliv.script += [reply(status, {"error": True, "msg": "the reason"})]
    with world.client(patience=20) as client, pytest.raises(kind, match="the reason"):
        client.status("J")
    assert len(world.deliv.calls) == 1


@pytest.mark.parametrize(
    "answer", [Reply(body=b"<html>"), Reply(body=b"[]"), reply(200, {}), reply(302, {"a": 1})]
)
def test_an_answer_that_is_not_delivs(world: World, answer: Reply) -> None:
    world.deliv.script += [answer]
    with world.client(patience=20) as client, pytest.raises((BadAnswer, Rejected)):
        client.status("J")


def test_a_job_id_can_not_break_out_of_the_query(world: World) -> None:
    world.deliv.script += [SUCCESS]
    with world.client() as client:
        client.status("a&b=/../ü\udc80")
    assert world.deliv.calls[0].path == "/transferStatus?job_id=a%26b%3D%2F..%2F%C3%BC%3F"


ITEMS = [{"product_id": f"P{n}", "destination_path": "gsiftp://h/d"} for n in range(2)]


def test_many_are_one_call(world: World) -> None:
    world.deliv.script += [DROP, outcomes(202, 403)]
    with world.client(patience=10) as client:
        first, second = client.submit_many(ITEMS)
    assert (first["job_id"], second["msg"]) == ("J0", "why not")
    lost, call = world.deliv.calls
    assert (call.path, json.loads(call.body)) == ("/submitTransfers", {"transfers": ITEMS})
    assert call.key
    assert call.key == lost.key


def test_what_the_database_was_too_busy_for_is_tried_again(world: World) -> None:
    world.deliv.script += [outcomes(202, 503), outcomes(202, 202)]
    with world.client(patience=10) as client:
        found = client.submit_many(ITEMS, idempotency_key="K")
    assert [one["code"] for one in found] == [202, 202]
    assert [call.key for call in world.deliv.calls] == ["K", "K"]


def test_an_outcome_is_missing(world: World) -> None:
    world.deliv.script += [outcomes(202)]
    with world.client() as client, pytest.raises(BadAnswer, match="one outcome for each item"):
        client.submit_many(ITEMS)


def test_who_the_caller_is(world: World) -> None:
    world.deliv.script += [reply(200, {"user_dn": "/CN=alice", "roles": []})]
    with world.client() as client:
        assert client.whoami()["user_dn"] == "/CN=alice"
    assert world.deliv.calls[0].path == "/whoami"


def test_a_list_is_fetched_page_by_page(world: World) -> None:
    pages: list[dict[str, object]] = [
        {"transfers": [{"job_id": "3"}, {"job_id": "2"}], "next": "2"},
        {"transfers": [{"job_id": "1"}], "next": None},
    ]
    world.deliv.script += [reply(200, page) for page in pages]
    with world.client() as client:
        found = client.transfers(status="ERROR", submitter="/CN=a b", since=None)
        assert [job["job_id"] for job in found] == ["3", "2", "1"]
    assert [call.path for call in world.deliv.calls] == [
        "/transfers?status=ERROR&submitter=%2FCN%3Da+b",
        "/transfers?status=ERROR&submitter=%2FCN%3Da+b&cursor=2",
    ]


def test_a_history(world: World) -> None:
    world.deliv.script += [Reply(body=b'{"job_id": "J", "events": [{"status": "SUBMITTED"}]}')]
    with world.client() as client:
        assert client.events("J") == [{"status": "SUBMITTED"}]
    assert world.deliv.calls[0].path == "/transferEvents?job_id=J"


@pytest.mark.parametrize("body", [b"{}", b'{"events": 1}', b'{"events": [1]}'])
def test_a_history_that_is_none(world: World, body: bytes) -> None:
    world.deliv.script += [Reply(body=body)]
    with world.client() as client, pytest.raises(BadAnswer):
        client.events("J")


def test_what_is_not_utf8_is_not_sent(world: World) -> None:
    with world.client() as client, pytest.raises(Rejected, match="UTF-8"):
        client.submit("a\udc80", "gsiftp://h/d")
    assert world.deliv.calls == []
