"""The client over real TLS: what it sends, what it repeats, what it makes of every refusal."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from deliv_testbed import pki, ports

from deliv.client import (
    BadAnswer,
    Client,
    Conflict,
    CredentialRefused,
    CredentialUnusable,
    NotFound,
    PermissionRefused,
    Rejected,
    ServerNotTrusted,
    StillRunning,
    Unavailable,
    Unreachable,
    transport,
)
from integration.client_world import World
from integration.scripted_deliv import Reply, reply

ACCEPTED = reply(202, {"job_id": "J", "error": False, "msg": "accepted"})
SUCCESS = reply(200, {"job_id": "J", "status": "SUCCESS", "product_id": "005"})
STAGING = reply(200, {"job_id": "J", "status": "STAGING"}, Retry_After="0")
BUSY = reply(503, {"error": True, "msg": "full"}, Retry_After="0")
DROP = Reply(drop=True)
LENGTH, CHUNKED = {"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}
CUT = [
    Reply(body=b"", headers=LENGTH, close=True),
    Reply(body=b'{"job_id": "J"', headers=LENGTH, close=True),
    Reply(body=b'ff\r\n{"job_id": "J"', headers=CHUNKED, close=True),
    Reply(body=b'f\r\n{"job_id": "J"}\r\n', headers=CHUNKED, close=True),
]


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("client"))
    with world.deliv.running():
        yield world


@pytest.fixture
def world(module_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """With an environment that would mislead a client which listened to it."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere")
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    module_world.deliv.script.clear()
    module_world.deliv.calls.clear()
    return module_world


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


def test_one_connection_serves_many_calls(world: World) -> None:
    world.deliv.script += [SUCCESS, SUCCESS, SUCCESS]
    with world.client() as client:
        for _ in range(3):
            client.status("J")
    assert len({call.connection for call in world.deliv.calls}) == 1


def test_a_kept_connection_that_was_closed_is_replaced_at_once(world: World) -> None:
    world.deliv.script += [SUCCESS, DROP, SUCCESS]
    with world.client() as client:
        client.status("J")
        assert client.status("J")["status"] == "SUCCESS"


def test_a_renewed_proxy_is_used_for_the_next_connection(world: World) -> None:
    renewed = world.write("renewed", world.alice.proxy())
    world.deliv.script += [SUCCESS, DROP, SUCCESS]
    with world.client(renewed) as client:
        client.status("J")
        world.write("renewed", world.alice.proxy(lifetime=timedelta(minutes=-1)))
        with pytest.raises(CredentialUnusable, match="expired"):
            client.status("J")


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


def outcomes(*codes: int) -> Reply:
    """A job's id for each 202."""
    found = [
        {"code": code, "job_id": f"J{place}"} if code == 202 else {"code": code, "msg": "why not"}
        for place, code in enumerate(codes)
    ]
    return reply(200, {"error": False, "msg": "some", "outcomes": found})


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


@pytest.mark.parametrize("body", [b"{}", b'{"events": 1}', b'{"events": [1]}'])
def test_a_history_that_is_none(world: World, body: bytes) -> None:
    world.deliv.script += [Reply(body=body)]
    with world.client() as client, pytest.raises(BadAnswer):
        client.events("J")


def test_what_is_not_utf8_is_not_sent(world: World) -> None:
    with world.client() as client, pytest.raises(Rejected, match="UTF-8"):
        client.submit("a\udc80", "gsiftp://h/d")
    assert world.deliv.calls == []


def test_a_certificate_of_an_unknown_ca_is_refused(world: World) -> None:
    stranger = pki.Authority.create().issue(pki.user_name("mallory"))
    proxy = world.write("mallory", stranger.proxy())
    with (
        world.client(proxy) as client,
        pytest.raises((CredentialRefused, Unreachable), match="comes from a CA that the server"),
    ):
        client.status("J")
    assert world.deliv.calls == []


def test_a_server_of_another_name_is_not_trusted(world: World) -> None:
    other = world.authority.issue(pki.host_name("other"), hosts=["other.test"])
    impostor = world.server(other)
    with (
        impostor.running(),
        Client(impostor.url, world.proxy, world.proxy, world.ca, patience=20) as client,
        pytest.raises(ServerNotTrusted, match="name that is in its certificate"),
    ):
        client.status("J")
    assert impostor.calls == []


def test_a_server_of_another_ca_is_not_trusted(world: World) -> None:
    impostor = world.server(pki.Authority.create().issue_host())
    with (
        impostor.running(),
        Client(impostor.url, world.proxy, world.proxy, world.ca, patience=20) as client,
        pytest.raises(ServerNotTrusted, match="X509_CERT_DIR"),
    ):
        client.status("J")


def test_nobody_there(world: World) -> None:
    (port,) = ports.choose(1)
    client = Client(f"https://127.0.0.1:{port}", world.proxy, world.proxy, world.ca, patience=0)
    with pytest.raises(Unreachable, match="Connection refused"):
        client.status("J")


def test_a_server_that_says_nothing_is_left_in_time(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        client = Client(url, world.proxy, world.proxy, world.ca, timeout=0.3, patience=0)
        with pytest.raises(Unreachable, match="in time"):
            client.status("J")


def test_a_server_without_tls(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        thread = threading.Thread(target=_speak_plainly, args=(plain,))
        thread.start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        client = Client(url, world.proxy, world.proxy, world.ca, patience=0)
        with pytest.raises(Unreachable, match=r"(?i)wrong.version"):
            client.status("J")
        thread.join()


def _speak_plainly(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


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
    assert out.split() == [*(f"J{n}" for n in range(499)), "J0"]
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


def test_a_label_that_is_cancelled(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliv.script += [cancelled("A", left=False, refused=("B",))]
    assert world.command("cancel", "--label", "x") == 4
    out, err = capsys.readouterr()
    assert (out, err) == ("A: cancelled\n", "deliv: B: busy\n")


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
    """With what was there before, after which the error is told."""
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
