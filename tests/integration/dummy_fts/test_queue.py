"""The dummy FTS: its queue, what is cancelled in it, and bans."""

from __future__ import annotations

import pytest

from integration.dummy_fts.copying import CONTENT, copy, reason, settings, submitted
from integration.private_fts import Client, Fts, wait_for


def test_time_in_the_queue(fts: Fts, alice: Client) -> None:
    with fts.all_slots_taken(2):
        job = copy(fts, alice, "small", "late", max_time_in_queue="1s")
        assert alice.ended(job) == "CANCELED"
    job_reason = alice.get(f"/jobs/{job}").content["reason"]
    assert "stayed in the queue for too long" in job_reason
    assert reason(alice, job) == job_reason


def test_the_target_is_checked_where_a_checksum_is_given(fts: Fts, alice: Client) -> None:
    body = fts.transfer(fts.at_source("small"), fts.at_destination("by-default"))
    body["files"][0]["checksum"] = "ADLER32:00000001"
    job = submitted(alice.submit(body))
    assert alice.get(f"/jobs/{job}/verify_checksum").content == "t"
    assert alice.ended(job) == "FAILED"
    assert "USER_DEFINE and DST checksums are different" in reason(alice, job)


def test_higher_priority_goes_first(fts: Fts, alice: Client) -> None:
    with settings(fts, slots=1):
        with fts.all_slots_taken(1):
            low = copy(fts, alice, "small", "low", priority=1)
            high = copy(fts, alice, "small", "high", priority=5)
        alice.ended(low)
        ends = [alice.get(f"/jobs/{job}/files").content[0] for job in (high, low)]
        assert ends[0]["start_time"] <= ends[1]["start_time"]
        assert ends[0]["log_file"] != ends[1]["log_file"]


def test_one_file_of_two_is_canceled(fts: Fts, alice: Client) -> None:
    with fts.all_slots_taken(2):
        body = fts.transfer(fts.at_source("small"), fts.at_destination("left"))
        body["files"] *= 2
        job = submitted(alice.submit(body))
        first, second = (file["file_id"] for file in alice.get(f"/jobs/{job}/files").content)
        assert alice.delete(f"/jobs/{job}/files/{second}").content == "CANCELED"
        assert alice.state(job) == "SUBMITTED"
        states = alice.delete(f"/jobs/{job}/files/{second},0").content
        assert states == ["CANCELED", "File does not belong to the job"]
    assert alice.ended(job) == "CANCELED"
    assert first != second


def test_a_file_that_is_canceled_by_itself_is_copied_to_its_end(fts: Fts, alice: Client) -> None:
    """Of a job; FTS stops the copy only when the job is canceled."""
    fts.processes.freeze(fts.destination.name)
    try:
        job = copy(fts, alice, "small", "by-itself")
        wait_for(lambda: alice.get(f"/jobs/{job}/files").content[0]["pid"])
        (file,) = alice.get(f"/jobs/{job}/files").content
        assert alice.delete(f"/jobs/{job}/files/{file['file_id']}").content == "CANCELED"
        assert (alice.state(job), reason(alice, job)) == ("CANCELED", "")
    finally:
        fts.processes.thaw(fts.destination.name)
    there = fts.destination.root / "by-itself"
    wait_for(lambda: there.exists() and there.read_bytes() == CONTENT)
    assert alice.state(job) == "CANCELED"


def test_each_pair_of_hosts_has_slots_of_its_own(fts: Fts, alice: Client) -> None:
    """Ports don't matter: all from the same host share them."""
    with fts.all_slots_taken(2):
        waits = copy(fts, alice, "small", "same-host")
        source = fts.at_source("small").replace("127.0.0.1", "localhost")
        body = fts.transfer(source, fts.at_destination("another-host"))
        job = submitted(alice.submit(body))
        assert alice.ended(job) == "FINISHED", reason(alice, job)
        assert alice.state(waits) == "SUBMITTED"
    assert alice.ended(waits) == "FINISHED"


def test_all_copies_share_the_processes(fts: Fts, alice: Client) -> None:
    with settings(fts, processes=1):
        with fts.all_slots_taken(1):
            source = fts.at_source("small").replace("127.0.0.1", "localhost")
            job = submitted(alice.submit(fts.transfer(source, fts.at_destination("last"))))
            wait_for(lambda: fts.sql("SELECT 1 FROM files WHERE file_state = 'READY'"))
            assert alice.state(job) == "SUBMITTED"
        assert alice.ended(job) == "FINISHED"


def test_a_banned_user_is_refused_everything_in_html(fts: Fts, alice: Client) -> None:
    with fts.all_slots_taken(2):
        job = copy(fts, alice, "small", "banned-user")
        with fts.banned(dn=fts.users["alice"].credential.dn) as canceled:
            assert canceled == [job]
            for method, path in (("GET", "/whoami"), ("POST", "/jobs"), ("GET", "/nosuch")):
                answer = alice.call(method, path)
                assert (answer.status, answer.kind) == (403, "text/html; charset=utf-8")
                assert "<p>The user has been banned</p>" in answer.body
            assert fts.client("bob").get("/whoami").status == 200
        assert alice.state(job) == "CANCELED"
        assert alice.get(f"/jobs/{job}").content["reason"] == "User banned"
        assert reason(alice, job) == "User banned"


@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_banned_storage_takes_no_jobs(fts: Fts, alice: Client, end: str) -> None:
    """Whatever the port."""
    urls = {"source": "gsiftp://source.example:2811/x", "destination": "gsiftp://127.0.0.1/x"}
    banned = f"gsiftp://{end}.banned.example"
    urls[end] = f"{banned}:1234/x"
    with fts.banned(storage=banned) as canceled:
        assert canceled == []
        answer = alice.submit(fts.transfer(urls["source"], urls["destination"]))
        assert (answer.status, answer.kind) == (403, "application/json")
        assert answer.content == {
            "status": "403 Forbidden",
            "message": f"{banned} is banned",
        }
    assert alice.submit(fts.transfer(urls["source"], urls["destination"])).status == 200


def test_what_waits_for_a_banned_storage_is_canceled(fts: Fts, alice: Client) -> None:
    with fts.all_slots_taken(2):
        job = copy(fts, alice, "small", "banned-storage")
        with fts.banned(storage="gsiftp://127.0.0.1") as canceled:
            assert job in canceled
        assert (alice.state(job), reason(alice, job)) == ("CANCELED", "Storage banned")


@pytest.mark.parametrize("path", ["/ban/dn", "/ban/se"])
def test_only_the_host_itself_bans(fts: Fts, alice: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = alice.call(method, path)
        assert (answer.status, answer.content["message"]) == (403, "Not enough permissions")
