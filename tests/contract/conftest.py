"""A running stack: that of DELIV_TESTBED (path to testbed.json), or a new one.

And what its calls are described by: as all callers have it, and narrowed to what there is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.running_stack import Stack, brought_up, until

from deliv.http.handlers.description import TEXT

MANY = 20  # items of one call
PRODUCTS = ("synthetic-1000", "fail-synthetic-1000")  # one is delivered, one is not


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if testbed := os.environ.get("DELIV_TESTBED"):
        yield Stack(Path(testbed).resolve().parent)
        return
    with brought_up() as stack:
        yield stack


@pytest.fixture(scope="session")
def described(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`wide`: deliv/http/openapi.yaml. `narrow`: good requests find their job, and get far."""
    directory = tmp_path_factory.mktemp("contract")
    documents = {"wide": TEXT, "narrow": yaml.safe_dump(_narrowed(stack)).encode()}
    for name, text in documents.items():
        (directory / f"{name}.yaml").write_bytes(text)
    return {name: directory / f"{name}.yaml" for name in documents}


def _narrowed(stack: Stack) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(TEXT)
    schemas = document["components"]["schemas"]
    target = stack.target().url
    soon = datetime.now(UTC) + timedelta(hours=1)
    schemas["AnyJobId"]["enum"] = _ended_jobs(stack, target)
    schemas["Directory"]["enum"] = [target]
    schemas["DelegationId"]["enum"] = [stack.curl("/whoami").document["delegation_id"]]
    schemas["Deadline"]["enum"] = [soon.isoformat()]
    # Good ones become jobs of this stack.
    schemas["SubmitManyParameters"]["properties"]["transfers"]["maxItems"] = MANY
    many = ("CancelParameters", "RetryParameters")
    for name in (*many, *(f"{name}InJson" for name in many)):
        ids = schemas[name]["properties"]["job_ids"]
        next(one for one in (ids, *ids.get("anyOf", ())) if "maxItems" in one)["maxItems"] = MANY
    return document


def _ended_jobs(stack: Stack, target: str) -> list[str]:
    with stack.client() as alice:
        jobs = [alice.submit(product, target) for product in PRODUCTS]
        ended = {"SUCCESS", "ERROR"}
        until(lambda: {alice.status(job)["status"] for job in jobs} == ended, "their ends")
    return jobs
