"""deliv while parts of its world are absent or silent: it starts, says so, goes on by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.running_stack import Stack, Target, brought_up, until

PARTS = {"mariadb": "mariadb", "rabbitmq": "rabbitmq", "stager": "stager", "fts": "fts:fts"}

pytestmark = pytest.mark.own_stack


@pytest.fixture(scope="module")
def bare() -> Iterator[Stack]:
    """A stack of its own, of which only deliv and the GridFTP servers were started."""
    with brought_up("--without", *PARTS) as stack:
        yield stack


def waiting_for(stack: Stack) -> set[str]:
    return set(stack.ready().get("waiting_for", ()))


def start(stack: Stack, missing: set[str], part: str) -> None:
    """Start a part; from then on deliv waits for one less, by itself."""
    stack.control("start", part)
    missing.discard(PARTS[part])
    until(lambda: waiting_for(stack) == missing, f"deliv has found {part}")


def test_each_absent_part_is_waited_for_and_found(bare: Stack) -> None:
    missing, target = set(PARTS.values()), bare.target()
    until(lambda: waiting_for(bare) == missing, f"deliv waits for {missing}")
    until(lambda: _in_log(bare) == missing, "its log names all of them")
    _assert_unavailable(bare, target)

    start(bare, missing, "mariadb")
    with bare.client() as client:
        job_id = client.submit("synthetic-50", target.url)
        for part in ("rabbitmq", "stager", "fts"):
            assert client.status(job_id)["status"] in {"SUBMITTED", "STAGING"}
            start(bare, missing, part)
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    assert target.holds_synthetic(50)
    assert bare.ready()["status"] == "ready"


def _in_log(stack: Stack) -> set[str]:
    log = (stack.directory / "log" / "deliv@1.log").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in log.rpartition("\n")[0].splitlines()]
    waiting = [line for line in lines if line["event"] == "waiting for a dependency"]
    return {line["dependency"] for line in waiting}


def _assert_unavailable(stack: Stack, target: Target) -> None:
    """Without MariaDB nothing can be recorded, so nothing is accepted."""
    fields = ("-d", "product_id=synthetic-50", "-d", f"destination_path={target.url}")
    answer = stack.curl("/submitTransfer", *fields)
    assert (answer.status, answer.document["job_id"]) == (503, None)
    assert int(answer.headers["retry-after"]) > 0


def test_jobs_go_on_without_rabbitmq(bare: Stack) -> None:
    """RabbitMQ only makes attention come at once: the sweeps see to every job as well."""
    target = bare.target()
    bare.control("kill", "rabbitmq")
    with bare.client() as client:
        job_id = client.submit("synthetic-51", target.url)
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    bare.control("start", "rabbitmq")
    assert target.holds_synthetic(51)


def test_a_silent_stager_runs_into_the_timeout(bare: Stack) -> None:
    _set_staging_timeout(bare, "2s")
    with bare.client() as client:
        answer = client.wait(client.submit("silent-005", bare.target().url), timeout=400)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "timeout")
    assert answer["attempt"] == 2
    assert "did not deliver within 2 s" in answer["detailed_status"]
    until(lambda: not bare.staged_copy(answer["job_id"]).exists(), "the silent copy is released")


def _set_staging_timeout(stack: Stack, timeout: str) -> None:
    """Change deliv's configuration as its operator would, and restart it."""
    path = Path(stack.testbed["config"])
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["stager"]["timeout"] = timeout
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    stack.control("kill", "deliv@1")
    stack.control("start", "deliv@1")
    until(lambda: stack.ready().get("status") == "ready", "deliv is ready again")
