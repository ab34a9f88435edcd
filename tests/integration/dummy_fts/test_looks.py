"""The dummy FTS looks at a storage (/dm)."""

from __future__ import annotations

from integration.dummy_fts.copying import CLOSED, CONTENT, SIZE, UNKNOWN_HOST, settings
from integration.private_fts import Client, Fts, silent_port
from integration.recorded import Answer


def look(client: Client, how: str, url: str) -> Answer:
    return client.call("GET", f"/dm/{how}", params={"surl": url})


def test_a_look_at_a_storage(fts: Fts, alice: Client) -> None:
    fts.put_source("seen/file", CONTENT)
    fts.put_source("seen/below/file", CONTENT)
    there = (fts.source.root / "seen/file").stat()
    answer = look(alice, "stat", fts.at_source("seen/file"))
    assert answer.status == 200, answer
    assert answer.content.keys() == {"mode", "nlink", "size", "atime", "mtime", "ctime"}
    assert (answer.content["size"], answer.content["mtime"]) == (SIZE, int(there.st_mtime))
    answer = look(alice, "list", fts.at_source("seen"))
    assert answer.status == 200, answer
    assert {"file", "below/"} <= answer.content.keys()
    assert answer.content["file"].keys() == {"size", "mode", "mtime"}
    assert answer.content["file"]["size"] == SIZE


def test_a_look_is_refused(fts: Fts, alice: Client) -> None:
    closed = fts.source.root / "closed"
    closed.mkdir()
    fts.account.own(closed)
    closed.chmod(0)
    assert look(alice, "stat", fts.at_source("closed")).status == 200
    for how, url, status, words in (
        ("stat", fts.at_source("nosuch"), 404, "[2] "),
        ("stat", fts.at_source("closed/x"), 403, "[13] "),
        ("list", fts.at_source("closed"), 403, "[13] "),
        ("stat", fts.at_source("small/x"), 400, "[20] "),
        ("list", fts.at_source("small"), 500, "[21] "),
        ("stat", "foo://localhost/x", 400, "[93] "),
        ("stat", "file:///etc/hosts", 400, "Forbiden SURL scheme"),
        ("list", "", 400, "Missing surl parameter"),
        ("stat", CLOSED, 500, "Connection refused"),
        ("stat", UNKNOWN_HOST, 500, "Name or service not known"),
        ("stat", f"gsiftp://{fts.source.address}/tmp/outside", 500, "not allowed"),
    ):
        answer = look(alice, how, url)
        assert (answer.status, words in answer.content["message"]) == (status, True), answer
    assert fts.client(None).get("/dm/stat?surl=x").status == 403
    bob = fts.delegated("bob")
    bob.delete("/delegation/" + bob.get("/whoami").content["delegation_id"])
    answer = look(bob, "stat", fts.at_source("small"))
    assert (answer.status, answer.content["message"]) == (419, "No delegated proxy available")


def test_a_look_at_a_port_that_says_nothing(fts: Fts, alice: Client) -> None:
    with settings(fts, look_timeout=0.5), silent_port() as port:
        answer = look(alice, "stat", f"gsiftp://127.0.0.1:{port}/x")
        assert (answer.status, answer.content["message"]) == (503, "[110] Timeout expired")
