"""The dummy FTS and FTS's own client."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import fts3.rest.client.easy as fts3
import pytest

from integration.dummy_fts.copying import CONTENT, arrived
from integration.private_fts import Fts, wait_for

SCRIPTS = Path(sys.executable).parent
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
