"""The official fts3 client against the stack's FTS: its own transfers, and those of deliv."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fts3.rest.client.easy as fts3
import pytest
import yaml
from fts3.rest.client.exceptions import ClientError, NotFound
from support.running_stack import Stack, Target, until

pytestmark = [
    # the client leaves the files it reads certificates from to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # and asks for the time without a zone
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def context(stack: Stack, cert: str, key: str) -> Any:
    return fts3.Context(stack.testbed["fts_url"], cert, key, capath=stack.ca)


@pytest.fixture
def alices(stack: Stack) -> Any:
    proxy = stack.user("alice").proxy
    return context(stack, proxy, proxy)


@pytest.fixture
def delivs(stack: Stack) -> Iterator[Any]:
    """FTS as deliv itself sees it, with the credential of its configuration."""
    config = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    credential = config["credential"]
    yield context(stack, credential["certificate"], credential["key"])


def test_whoami(stack: Stack, alices: Any) -> None:
    identity = fts3.whoami(alices)
    assert identity["user_dn"] == stack.user("alice").dn
    assert len(identity["delegation_id"]) == 16


def test_a_transfer_of_the_clients_own(stack: Stack, alices: Any, target: Target) -> None:
    fts3.delegate(alices, lifetime=timedelta(hours=8), force=True)
    archive = stack.testbed["gridftp"]["archive"]["url"]
    product = stack.testbed["products"]["005"]
    transfer = fts3.new_transfer(
        f"{archive}/products/005",
        f"{target.url}/005",
        checksum=f"ADLER32:{product['adler32']}",
        filesize=product["size"],
    )
    job_id = fts3.submit(alices, fts3.new_job([transfer], verify_checksum="both", retry=-1))
    until(lambda: state(alices, job_id) == "FINISHED", "the transfer has finished")
    assert (target.directory / "005").stat().st_size == product["size"]


def state(context: Any, job_id: str) -> str:
    state = str(fts3.get_job_status(context, job_id)["job_state"])
    assert state not in {"FAILED", "CANCELED", "FINISHEDDIRTY"}
    return state


def test_the_fts_job_of_a_delivery(stack: Stack, delivs: Any, target: Target) -> None:
    with stack.client() as client:
        answer = client.wait(client.submit("synthetic-40", target.url), timeout=400)
    job = fts3.get_job_status(delivs, answer["fts_jobid"], list_files=True)
    assert job["job_state"] == "FINISHED"
    assert job["job_metadata"]["deliv_job_id"] == answer["job_id"]
    (file,) = job["files"]
    assert file["dest_surl"] == f"{target.url}/synthetic-40"
    assert file["source_surl"].startswith(stack.testbed["gridftp"]["archive"]["url"])
    assert file["checksum"].upper() == str(answer["checksum"]).upper()


def test_an_unknown_job(alices: Any) -> None:
    with pytest.raises(NotFound):
        fts3.get_job_status(alices, "b8b14f92-e6f3-11e6-8265-fa163e434fb2")


def test_the_same_sid_twice_is_refused(stack: Stack, alices: Any, target: Target) -> None:
    fts3.delegate(alices, lifetime=timedelta(hours=8))
    archive = stack.testbed["gridftp"]["archive"]["url"]
    transfer = fts3.new_transfer(f"{archive}/products/005", f"{target.url}/005")
    job = fts3.new_job([transfer], id_generator="deterministic", sid=target.directory.name)
    fts3.submit(alices, job)
    with pytest.raises(ClientError, match="409"):
        fts3.submit(alices, job)
