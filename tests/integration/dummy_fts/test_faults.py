"""The dummy FTS: restarts, faults of the storage, and the proxies it copies with."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integration.dummy_fts.copying import CONTENT, arrived, copy, reason, settings
from integration.private_fts import Client, Fts, wait_for

STALLED = (
    "No FTS server has updated the transfer status the last {seconds:g} seconds. Probably stalled"
)
LARGE = 2**35  # bytes, of which few are copied


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
