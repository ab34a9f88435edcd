"""The dummy FTS: lists, the archive, a database that lacks something, connections."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integration.dummy_fts.copying import copy, settings, submitted
from integration.private_fts import Client, Fts, wait_for
from integration.recorded import Answer


def names(answer: Answer) -> set[str]:
    return {job["job_id"] for job in answer.content}


def test_listing(fts: Fts, alice: Client) -> None:
    job = copy(fts, alice, "small", "listed")
    alice.ended(job)
    states = "FINISHED,FAILED,FINISHEDDIRTY,CANCELED"
    recent = f"/jobs?state_in={states}&time_window=0:2"
    assert job in names(alice.get(recent))
    assert job not in names(alice.get("/jobs"))
    assert job not in names(alice.get(f"/jobs?state_in={states}"))
    assert job not in names(alice.get("/jobs?state_in=FAILED&time_window=0:2"))
    assert job in names(alice.get(f"{recent}&dest_se=gsiftp://127.0.0.1"))
    assert job not in names(alice.get(f"{recent}&dest_se=gsiftp://elsewhere"))
    assert alice.get(f"{recent}&limit=1&fields=job_id").content == [{"job_id": job}]
    assert job not in names(fts.client("bob").get(recent))
    fts.sql("UPDATE jobs SET job_finished = '2020-01-01T00:00:00' WHERE job_id = ?", job)
    assert job not in names(alice.get(recent))


def test_listing_is_refused(fts: Fts, alice: Client) -> None:
    assert alice.get("/jobs?dlg_id=0123456789abcdef").status == 403
    assert alice.get("/jobs?user_dn=/CN=somebody").status == 400
    assert alice.get("/jobs?limit=501").status == 400
    assert fts.client(None).get("/jobs").status == 403


def test_the_archive(fts: Fts, alice: Client) -> None:
    job = copy(fts, alice, "small", "archived")
    alice.ended(job)
    for path in (f"/archive/{job}", f"/archive/{job}/files"):
        answer = alice.get(path)
        assert answer.status == 404
        assert answer.content == {
            "status": "404 Not Found",
            "message": f'No job with the id "{job}" has been found in the archive',
        }
    with settings(fts, archive_after=0.5):
        wait_for(lambda: alice.get(f"/jobs/{job}").status == 404)
        answer = alice.get(f"/archive/{job}")
        files = alice.get(f"/archive/{job}/files").content
        assert fts.client("bob").get(f"/archive/{job}").status == 403
        assert alice.get(f"/archive/{job}/nosuch").content["message"] == "No such field"
    assert answer.content["job_state"] == "FINISHED"
    assert answer.content["files"] == files
    assert [file["file_state"] for file in files] == ["FINISHED"]


def test_duplicate_destinations(fts: Fts, alice: Client) -> None:
    """The second meaning of a 409, which FTS has where it is configured to check."""
    with settings(fts, check_duplicates=True):
        with fts.all_slots_taken(1):
            body = fts.transfer(fts.at_source("small"), fts.at_destination("twice"))
            with fts.all_slots_taken(1):
                job = submitted(alice.submit(body))
                answer = alice.submit(body)
                assert answer.status == 409
                assert answer.content["message"].startswith("The submission is duplicated")
        assert alice.ended(job) == "FINISHED"
        assert alice.ended(submitted(alice.submit(body))) == "FAILED"  # it is there already


def test_a_list_breaks_off_where_the_database_does(fts: Fts, alice: Client) -> None:
    jobs = [copy(fts, alice, "small", "broken-off", overwrite=True) for _ in range(2)]
    for job in jobs:
        alice.ended(job)
    window = "state_in=FINISHED&time_window=0:2"
    with fts.without("jobs"):
        for path in ("/jobs", f"/jobs?{window}&fields=job_id,job_state"):
            assert broken_off(alice.get(path)), path
        assert alice.get(f"/jobs/{jobs[0]}").status == 500
        assert alice.get(f"/jobs?{window}&limit=5").status == 500
    with fts.without("files"):
        assert broken_off(alice.get(f"/jobs/{','.join(jobs)}?files=file_state"))
        assert broken_off(alice.get(f"/jobs/{jobs[0]}/files"))
        assert alice.get(f"/jobs/{jobs[0]}?files=file_state").status == 500
        assert alice.get(f"/jobs/{jobs[0]}").content["job_state"] == "FINISHED"


def broken_off(answer: Answer) -> bool:
    return (answer.status, answer.kind, answer.body) == (200, "application/json", "[")


@pytest.mark.parametrize("last", ["/whoami", "/nosuch"])
def test_a_connection_is_closed_after_its_share_of_requests(fts: Fts, last: str) -> None:
    with settings(fts, connection_requests=3), connected(fts) as stream:
        answers = [ask(stream, path) for path in ("/whoami", "/whoami", last)]
        assert answers == [None, None, "close"]
        assert stream.read() == b""


def test_an_idle_connection_is_closed(fts: Fts) -> None:
    with settings(fts, keep_alive=0.3), connected(fts) as stream:
        ask(stream)
        assert stream.read() == b""


@contextmanager
def connected(fts: Fts) -> Iterator[Any]:
    context = ssl.create_default_context(cafile=str(fts.ca_file))
    with (
        socket.create_connection(("localhost", fts.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
        secure.makefile("rwb") as stream,
    ):
        yield stream


def ask(stream: Any, path: str = "/whoami") -> str | None:
    """One GET over an open connection; what the answer says about the connection."""
    stream.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    stream.flush()
    headers = dict[str, str]()
    assert stream.readline().startswith(b"HTTP/1.1 ")
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    stream.read(int(headers["content-length"]))
    return headers.get("connection")
