"""Products of many files, and many products of one, against the same copies asked of FTS alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import requests
import yaml
from deliv_testbed.trees import Tree
from support.running_stack import Stack, Target, brought_up, until

from bench.figures import Figure

FILES, SIZE = 1000, 1000
CALLS_EACH = 50  # files for one call to FTS
FIRST = 50  # files that are copied before another user comes
PATIENCE = 1200
CALLS = 'deliv_fts_calls_total{endpoint="fts"}'


def figures() -> Iterator[Figure]:
    with brought_up() as stack:
        target = stack.target()
        with stack.client() as client:  # deliv has delegated to FTS then
            client.wait(client.submit("synthetic-1000", target.url), timeout=PATIENCE)
        asked_of_fts(stack, target, FIRST)  # its processes are there, as they are for all others
        alone = asked_of_fts(stack, target, FILES)
        many, calls = as_a_tree(stack, target)
        single = as_single_files(stack, target)
        others, ahead = beside_a_tree(stack, target)
    against = "the same of FTS alone"
    yield Figure(
        what=f"a product of {FILES} files", value=many, against=against, base=alone, unit="s",
        most=2,
    )  # fmt: skip
    yield Figure(
        what=f"calls to FTS for {FILES} files", value=calls, against=f"one for {CALLS_EACH}",
        base=FILES / CALLS_EACH, unit="", most=4,
    )  # fmt: skip
    yield Figure(
        what=f"{FILES} products of one file", value=single, against=against, base=alone, unit="s",
        most=4,
    )  # fmt: skip
    yield Figure(
        what="files copied before another user's one", value=others, against="those at FTS before",
        base=ahead, unit="", most=1,
    )  # fmt: skip


def asked_of_fts(stack: Stack, target: Target, count: int) -> float:
    """Seconds from the POST of so many copies to the end of the last."""
    place = stack.testbed["gridftp"]["archive"]
    sources = Path(place["root"]) / f"for-fts-alone-{count}"
    names = [*Tree(files=count, size=SIZE).names]
    for name in names:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_bytes(bytes(SIZE))
    for made in (sources, *sources.rglob("*")):
        made.chmod(0o755)
    url = f"{place['url']}/{sources.name}"
    files = [
        {"sources": [f"{url}/{name}"], "destinations": [f"{target.url}/alone-{count}/{name}"],
         "checksum": "ADLER32", "filesize": SIZE}
        for name in names
    ]  # fmt: skip
    config = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    (fts,) = config["fts"]["endpoints"].values()
    with requests.Session() as session:
        session.trust_env = False
        session.verify = stack.testbed["ca_file"]
        session.cert = config["credential"]["certificate"], config["credential"]["key"]
        body = {"files": files, "params": {"verify_checksum": "both"}}
        started = time.monotonic()
        answer = session.post(f"{fts}/jobs", json=body, timeout=60)
        assert answer.status_code == requests.codes.ok, answer.text
    job = answer.json()["job_id"]
    until(lambda: finished(stack, "job_id = ?", job) == count, "FTS copies", timeout=PATIENCE)
    return time.monotonic() - started


def as_a_tree(stack: Stack, target: Target) -> tuple[float, float]:
    """Seconds from the hand-over to SUCCESS, and the calls to FTS for it."""
    calls = stack.metric(CALLS)
    with stack.client() as client:
        job_id = client.submit(f"tree-{FILES}-{SIZE}", target.url)
        answer = client.wait(job_id, timeout=PATIENCE)
    assert answer["status"] == "SUCCESS", answer
    return at_fts(stack, [job_id]), stack.metric(CALLS) - calls


def beside_a_tree(stack: Stack, target: Target) -> tuple[int, int]:
    """The files that FTS copies before another user's only one, and those that it had before."""
    with stack.client() as client, stack.client("bob") as other:
        job_id = client.submit(f"tree-{FILES}-{SIZE + 1}", target.url)
        until(lambda: copied(stack, job_id) > FIRST, "many are under way", timeout=PATIENCE)
        before = all_finished(stack)
        sql = "SELECT SUM(files_at_fts) FROM jobs WHERE status = 'TRANSFERRING'"
        ((ahead,),) = stack.query(sql)
        other.wait(other.submit("synthetic-1001", target.url), timeout=PATIENCE)
        passed = all_finished(stack) - before - 1
    return passed, int(ahead)


def as_single_files(stack: Stack, target: Target) -> float:
    """Seconds from the first hand-over to the last SUCCESS, of products that came in one call."""
    items = [
        {"product_id": f"synthetic-{2 * SIZE + number}", "destination_path": target.url,
         "label": "single"}
        for number in range(FILES)
    ]  # fmt: skip
    with stack.client() as client:
        jobs = [outcome["job_id"] for outcome in client.submit_many(items)]
    sql = "SELECT COUNT(*) FROM jobs WHERE label = 'single' AND status = 'SUCCESS'"
    until(lambda: stack.query(sql) == [(FILES,)], "all arrive", timeout=PATIENCE)
    return at_fts(stack, jobs)


def at_fts(stack: Stack, jobs: list[str]) -> float:
    """Seconds from the first hand-over to the last SUCCESS."""
    sql = """
        SELECT TIMESTAMPDIFF(MICROSECOND, MIN(time_transferring), MAX(time_success)) FROM jobs
        WHERE job_id IN %s
        """
    ((taken,),) = stack.query(sql, jobs)
    return float(taken) / 1e6


def copied(stack: Stack, job_id: str) -> int:
    return finished(stack, "job_metadata LIKE ?", f"%{job_id}%")


def all_finished(stack: Stack) -> int:
    return finished(stack, "1 = ?", 1)


def finished(stack: Stack, condition: str, value: object) -> int:
    """Files that FTS has copied, of its jobs that are of this condition."""
    file = stack.directory / "fts" / "fts.sqlite"
    sql = f"""
        SELECT COUNT(*) FROM files JOIN jobs USING (job_id)
        WHERE file_state = 'FINISHED' AND {condition}
        """  # noqa: S608 - constants
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        ((number,),) = database.execute(sql, (value,)).fetchall()
    return int(number)
