"""The dummy FTS at work: the official client, restarts, faults of the storage, its switches."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import fts3.rest.client.easy as fts3
import pytest

from integration.private_fts import Client, Fts, running_or_skipped, wait_for
from integration.recorded import Answer

STALLED = (
    "No FTS server has updated the transfer status the last {seconds:g} seconds. Probably stalled"
)
SCRIPTS = Path(sys.executable).parent
SIZE = 1000
CONTENT = bytes(range(250)) * (SIZE // 250)
LARGE = 2**35  # bytes, of which few are copied


@pytest.fixture(scope="module")
def stack() -> Iterator[Fts]:
    with running_or_skipped(slots=2) as server:
        server.put_source("small", CONTENT)
        yield server


@pytest.fixture
def fts(stack: Fts) -> Fts:
    """Up, whatever the last test did."""
    for server in (stack.source, stack.destination):
        if not stack.processes.alive(server.name):
            stack.processes.start(server.program())
    if not stack.processes.alive("fts"):
        stack.start(slots=2)
    return stack


@pytest.fixture
def alice(fts: Fts) -> Client:
    return fts.delegated("alice")


@contextmanager
def settings(fts: Fts, **changes: Any) -> Iterator[None]:
    """The server with other settings, for as long as the block runs."""
    fts.stop()
    fts.start(**{"slots": 2, **changes})
    try:
        yield
    finally:
        fts.stop()
        fts.start(slots=2)


def submitted(answer: Answer) -> str:
    assert answer.status == 200, answer
    return str(answer.content["job_id"])


def copy(fts: Fts, client: Client, source: str, target: str, **params: Any) -> str:
    """Submit one copy between our two servers; the job's id."""
    body = fts.transfer(fts.at_source(source), fts.at_destination(target), **params)
    return submitted(client.submit(body))


def reason(client: Client, job: str) -> str:
    (file,) = client.get(f"/jobs/{job}/files").content
    return str(file["reason"])


def arrived(fts: Fts, name: str) -> bytes:
    return (fts.destination.root / name).read_bytes()


def copiers(fts: Fts) -> list[int]:
    """The copying processes of this server that live."""
    return [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_copier(pid, fts)
    ]


def is_copier(pid: int, fts: Fts) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return b"copier.py" in command and str(fts.state).encode() in environment


# --- the official client

# It leaves its certificate file open, and asks for the time without a zone.
lenient = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::DeprecationWarning",
)


@pytest.fixture
def context(fts: Fts) -> Any:
    user = fts.users["alice"]
    return fts3.Context(
        fts.url, ucert=str(user.proxy), ukey=str(user.proxy), capath=str(fts.ca_directory)
    )


@lenient
def test_the_official_client(fts: Fts, context: Any) -> None:
    fts3.delegate(context, lifetime=timedelta(hours=10), force=True)
    transfer = fts3.new_transfer(
        fts.at_source("small"), fts.at_destination("by-client"), metadata={"is": "a file"}
    )
    job = fts3.new_job([transfer], verify_checksum="both", metadata={"is": "a job"}, retry=-1)
    ids = [fts3.submit(context, job)]
    wait_for(lambda: fts3.get_job_status(context, ids[0])["job_state"] == "FINISHED")
    ids.append(fts3.submit(context, {**job, "params": {"retry": -1}}))
    wait_for(lambda: fts3.get_job_status(context, ids[1])["job_state"] == "FAILED")
    found = fts3.get_job_status(context, ids[0], list_files=True)
    assert found["job_state"] == "FINISHED"
    assert found["job_metadata"] == {"is": "a job", "auth_method": "certificate"}
    assert found["files"][0]["file_metadata"] == {"is": "a file"}
    assert arrived(fts, "by-client") == CONTENT
    statuses = fts3.get_jobs_statuses(context, ids, list_files=True)
    assert [status["job_id"] for status in statuses] == ids
    assert fts3.cancel(context, ids[0])["http_status"] == "304 Not Modified"
    assert fts3.list_jobs(context) == []


@lenient
def test_the_official_client_cancels(fts: Fts, context: Any) -> None:
    with fts.all_slots_taken(2):
        transfer = fts3.new_transfer(fts.at_source("small"), fts.at_destination("never"))
        job = fts3.submit(context, fts3.new_job([transfer]))
        assert [found["job_id"] for found in fts3.list_jobs(context)] == [job]
        assert fts3.cancel(context, job)["job_state"] == "CANCELED"
        assert fts3.list_jobs(context) == []


def run(fts: Fts, script: str, *arguments: str) -> str:
    user = fts.users["alice"]
    done = subprocess.run(
        [
            SCRIPTS / script, "-s", fts.url, "--capath", fts.ca_directory,
            "--cert", user.certificate, "--key", user.key, *arguments,
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(fts.directory)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_console_scripts(fts: Fts) -> None:
    assert "CN=Alice Transfer" in run(fts, "fts-rest-whoami")
    assert "dc50f980e1a9a3a2" in run(fts, "fts-rest-delegate", "--force")
    said = run(
        fts, "fts-rest-transfer-submit", "--blocking", "--interval", "1", "--overwrite",
        "--compare-checksum", fts.at_source("small"), fts.at_destination("by-script"),
    )  # fmt: skip
    assert "Job finished with state FINISHED" in said
    assert arrived(fts, "by-script") == CONTENT
    (job,) = [line.split()[-1] for line in said.splitlines() if "Job id:" in line]
    assert "Status: FINISHED" in run(fts, "fts-rest-transfer-status", job)
    files = json.loads(run(fts, "fts-rest-transfer-status", "--json", job))["files"]
    assert [file["file_state"] for file in files] == ["FINISHED"]
    assert run(fts, "fts-rest-transfer-cancel", job).strip() == "FINISHED"
    assert job not in run(fts, "fts-rest-transfer-list")
    run(fts, "fts-rest-server-status")


# --- what is copied


def test_names_are_percent_encoded(fts: Fts, alice: Client) -> None:
    names = ("with space", "čáp na střeše", "100%25?#&+;=,", "deep/er/and/deeper", "a'b\"c")
    for name in names:
        fts.put_source(name, CONTENT)
    files = [
        {"sources": [fts.at_source(name)], "destinations": [fts.at_destination(f"names/{name}")]}
        for name in names
    ]
    job = submitted(alice.submit({"files": files, "params": {"verify_checksum": "both"}}))
    assert alice.ended(job) == "FINISHED", alice.get(f"/jobs/{job}/files").content
    assert [arrived(fts, f"names/{name}") for name in names] == [CONTENT] * len(names)


def test_a_name_outside_ascii_can_not_be_sent_raw(fts: Fts, alice: Client) -> None:
    """What gfal2 does, and why deliv has to encode."""
    fts.put_source("čáp", CONTENT)
    raw = f"{fts.source.url}/čáp"
    job = submitted(alice.submit(fts.transfer(raw, fts.at_destination("x"))))
    assert alice.ended(job) == "FAILED"
    assert "an invalid value for url was used" in reason(alice, job)


def test_an_empty_file(fts: Fts, alice: Client) -> None:
    fts.put_source("empty", b"")
    job = copy(fts, alice, "empty", "empty", verify_checksum="both")
    assert alice.ended(job) == "FINISHED", reason(alice, job)
    assert arrived(fts, "empty") == b""


def test_a_shorter_file_replaces_a_longer_one(fts: Fts, alice: Client) -> None:
    (fts.destination.root / "longer").write_bytes(CONTENT * 3)
    fts.account.own(fts.destination.root / "longer")
    job = copy(fts, alice, "small", "longer", overwrite=True)
    assert alice.ended(job) == "FINISHED", reason(alice, job)
    assert arrived(fts, "longer") == CONTENT


@pytest.mark.parametrize("mode", ["target", "both", "source"])
def test_checksums(fts: Fts, alice: Client, mode: str) -> None:
    body = fts.transfer(
        fts.at_source("small"), fts.at_destination(f"sum-{mode}"), verify_checksum=mode
    )
    body["files"][0]["checksum"] = "ADLER32:00000001"
    job = submitted(alice.submit(body))
    assert alice.ended(job) == "FAILED"
    which = "DST" if mode == "target" else "SRC"
    assert reason(alice, job).startswith(
        f"TRANSFER [5] TRANSFER CHECKSUM MISMATCH USER_DEFINE and {which} checksums are different."
    )


def test_a_directory_that_may_not_be_written(fts: Fts, alice: Client) -> None:
    directory = fts.destination.root / "closed"
    directory.mkdir()
    fts.account.own(directory)
    directory.chmod(0o555)
    job = copy(fts, alice, "small", "closed/x")
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job).startswith("TRANSFER [13] ")
    assert "Permission denied" in reason(alice, job)


def test_a_path_outside_of_what_is_served(fts: Fts, alice: Client) -> None:
    outside = f"gsiftp://{fts.destination.address}/tmp/outside"
    job = submitted(alice.submit(fts.transfer(fts.at_source("small"), outside)))
    assert alice.ended(job) == "FAILED"
    assert "not allowed" in reason(alice, job)


def test_a_scheme_that_nobody_speaks(fts: Fts, alice: Client) -> None:
    body = fts.transfer("foo://localhost/x", fts.at_destination("x"))
    job = submitted(alice.submit(body))
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job).startswith("SOURCE [93] Protocol not supported")


# --- faults


def start_large(fts: Fts, client: Client, target: str, **params: Any) -> str:
    """A copy that would take minutes, with something at the destination already."""
    fts.put_source("large", LARGE)
    job = copy(fts, client, "large", target, **params)
    partial = fts.destination.root / target
    wait_for(lambda: partial.exists() and partial.stat().st_size)
    return job


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_copy_ends_with_the_server(fts: Fts, alice: Client, end: str) -> None:
    """No process is left; back again, the server fails the copy after a while."""
    job = start_large(fts, alice, end)
    getattr(fts, end)()
    wait_for(lambda: not copiers(fts))
    left = (fts.destination.root / end).stat().st_size
    assert left < LARGE
    with settings(fts, stalled_after=0.5):
        assert alice.ended(job) == "FAILED"
    assert reason(alice, job) == STALLED.format(seconds=0.5)
    assert (fts.destination.root / end).stat().st_size == left


def test_a_copy_whose_process_dies_has_stalled(fts: Fts, alice: Client) -> None:
    """It is ACTIVE until then, holds its slot, and is not tried again, whatever the job says."""
    with settings(fts, slots=1):
        job = start_large(fts, alice, "orphan", retry=3)
        for pid in copiers(fts):
            os.kill(pid, 9)
        wait_for(lambda: not copiers(fts))
        after = copy(fts, alice, "small", "after-orphan")
        assert alice.state(job) == "ACTIVE"
        assert alice.state(after) == "SUBMITTED"
        fts.stop()
        fts.start(slots=1, stalled_after=1.0)
        assert alice.ended(job) == "FAILED"
        assert alice.ended(after) == "FINISHED"
    (file,) = alice.get(f"/jobs/{job}/files").content
    assert (file["reason"], file["retry"]) == (STALLED.format(seconds=1), 0)


@pytest.mark.parametrize("end", ["source", "destination"])
def test_kept_logins_do_not_outlive_a_gridftp_server(fts: Fts, alice: Client, end: str) -> None:
    """A restarted server is not a reason for a copy to fail."""
    assert alice.ended(copy(fts, alice, "small", f"before-{end}")) == "FINISHED"
    server = getattr(fts, end)
    fts.processes.kill(server.name)
    fts.processes.start(server.program())
    job = copy(fts, alice, "small", f"after-{end}", verify_checksum="both")
    assert alice.ended(job) == "FINISHED", reason(alice, job)
    assert arrived(fts, f"after-{end}") == CONTENT


def test_a_gridftp_server_that_dies_in_the_middle(fts: Fts, alice: Client) -> None:
    job = start_large(fts, alice, "broken")
    fts.processes.kill(fts.destination.name)
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job).startswith("TRANSFER [")


def test_a_slot_is_free_again_after_a_cancel(fts: Fts, alice: Client) -> None:
    with settings(fts, slots=1):
        job = start_large(fts, alice, "canceled")
        assert alice.delete(f"/jobs/{job}").content["job_state"] == "CANCELED"
        after = copy(fts, alice, "small", "after-cancel")
        assert alice.ended(after) == "FINISHED"
        assert alice.state(job) == "CANCELED"


def test_idle_processes_end(fts: Fts, alice: Client) -> None:
    with settings(fts, idle=0.5):
        assert alice.ended(copy(fts, alice, "small", "idle")) == "FINISHED"
        wait_for(lambda: not copiers(fts))


def cached_proxy(fts: Fts) -> Path:
    """Alice's, with which the server copies."""
    (proxy,) = (fts.state / "proxies").glob("dc50f980e1a9a3a2-*.pem")
    assert proxy.stat().st_mode & 0o777 == 0o600
    return proxy


def test_a_proxy_is_used_while_it_is_valid(fts: Fts, alice: Client) -> None:
    """Whatever became of the delegation: renewed, or deleted while a job waits."""
    assert alice.ended(copy(fts, alice, "small", "cached", overwrite=True)) == "FINISHED"
    before = cached_proxy(fts).read_text()
    fts.delegated("alice")
    with fts.all_slots_taken(2):
        job = copy(fts, alice, "small", "cached", overwrite=True)
        assert alice.delete("/delegation/dc50f980e1a9a3a2").status == 204
    assert alice.ended(job) == "FINISHED"
    assert cached_proxy(fts).read_text() == before


def test_a_proxy_that_is_short_gives_way_to_what_is_delegated(fts: Fts) -> None:
    for old in (fts.state / "proxies").glob("dc50f980e1a9a3a2-*.pem"):
        old.unlink()
    alice = fts.client("alice")
    for hours in (1.4, 12):
        alice.delegate(fts.users["alice"].credential, timedelta(hours=hours))
        assert alice.ended(copy(fts, alice, "small", "short", overwrite=True)) == "FINISHED"
        ((stored,),) = fts.sql("SELECT proxy FROM credentials WHERE dlg_id = 'dc50f980e1a9a3a2'")
        assert cached_proxy(fts).read_text() == stored


def test_without_any_proxy(fts: Fts, alice: Client) -> None:
    with fts.all_slots_taken(2):
        job = copy(fts, alice, "small", "unlent")
        alice.delete("/delegation/dc50f980e1a9a3a2")
        for old in (fts.state / "proxies").glob("dc50f980e1a9a3a2-*.pem"):
            old.unlink()
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job) == "GENERAL_FAILURE [13] No credential found"


# --- the queue, the list and the archive


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


# --- bans


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


# --- a database that lacks something


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
    """The second meaning of a 409, which FTS has where it is told to check."""
    with settings(fts, check_duplicates=True):
        with fts.all_slots_taken(1):
            body = fts.transfer(fts.at_source("small"), fts.at_destination("twice"))
            with fts.all_slots_taken(1):
                job = submitted(alice.submit(body))
                answer = alice.submit(body)
                assert answer.status == 409
                assert answer.content["message"].startswith("The submission is duplicated")
        assert alice.ended(job) == "FINISHED"
        assert alice.submit(body).status == 200


# --- connections


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
