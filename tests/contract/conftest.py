"""A running stack: that of DELIV_TESTBED (path to testbed.json), or a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running_stack import Stack, brought_up, until

from deliv.http.description import TEXT

PRODUCTS = ("synthetic-1000", "fail-synthetic-1000")  # one is delivered, one is not


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if testbed := os.environ.get("DELIV_TESTBED"):
        yield Stack(Path(testbed).resolve().parent)
        return
    with brought_up() as stack:
        yield stack


@pytest.fixture(scope="session")
def description(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """deliv/http/openapi.yaml, with what there is in this stack beside all that there could be.

    Which requests are good stays the same; some of them now find a job, or may be delivered.
    """
    document: dict[str, Any] = yaml.safe_load(TEXT)
    schemas = document["components"]["schemas"]
    target = stack.target().url
    _add(schemas, "AnyJobId", *_ended_jobs(stack, target))
    _add(schemas, "Directory", target)
    _add(schemas, "DelegationId", stack.curl("/whoami").document["delegation_id"])
    path = tmp_path_factory.mktemp("contract") / "openapi.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def _ended_jobs(stack: Stack, target: str) -> list[str]:
    with stack.client() as alice:
        jobs = [alice.submit(product, target) for product in PRODUCTS]
        ended = {"SUCCESS", "ERROR"}
        until(lambda: {alice.status(job)["status"] for job in jobs} == ended, "their ends")
    return jobs


def _add(schemas: dict[str, Any], name: str, *values: str) -> None:
    schemas[name] = {"anyOf": [{"enum": list(values)}, schemas[name]]}
