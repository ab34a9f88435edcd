"""What deliv is for: products arrive, byte for byte, once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.running_stack import Stack, Target, until

PRODUCTS = ["005", "1510850130-empty.rdb", "M31 HI cube.fits", "Südhimmel-β.fits"]
SIZES = range(1_000, 1_139)
PLACES = 50  # limits.per_submitter_and_destination


def test_seed_products_arrive_byte_for_byte(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        jobs = {product: client.submit(product, target.url) for product in PRODUCTS}
        for job_id in jobs.values():
            answer = client.wait(job_id, timeout=400)
            assert answer["status"] == "SUCCESS", answer
    archive = Path(stack.testbed["gridftp"]["archive"]["root"]) / "products"
    assert target.names() == set(PRODUCTS)
    for product in PRODUCTS:
        assert (target.directory / product).read_bytes() == (archive / product).read_bytes()


def test_the_staged_copy_is_released(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        done = client.submit("synthetic-5000", target.url)
        failed = client.submit("nothing-of-that-name", target.url)
        client.wait(done, timeout=400)
        client.wait(failed, timeout=400)
    for job_id in (done, failed):
        until(lambda job_id=job_id: not stack.staged_copy(job_id).exists(), "the copy is released")
        until(lambda job_id=job_id: released(stack, job_id), "the release is on record")


def released(stack: Stack, job_id: str) -> bool:
    ((time,),) = stack.query("SELECT time_released FROM jobs WHERE job_id = %s", job_id)
    return time is not None


def test_140_products_of_two_users_all_arrive_once_with_few_at_fts(
    stack: Stack, target: Target
) -> None:
    other = stack.target()
    alices = _submit_all(stack, target)
    with stack.client("bob") as client:
        bobs = client.submit("synthetic-1139", other.url)

    answers = [_ended(stack, "alice", job_id) for job_id in alices]
    last = _ended(stack, "bob", bobs)
    assert [answer["status"] for answer in (*answers, last)] == ["SUCCESS"] * 140

    assert target.names() == {f"synthetic-{size}" for size in SIZES}
    assert all(target.holds_synthetic(size) for size in SIZES)
    assert other.names() == {"synthetic-1139"}
    assert other.holds_synthetic(1139)
    _assert_written_once(stack, [*target.directory.iterdir(), *other.directory.iterdir()])
    assert {answer["attempt"] for answer in (*answers, last)} == {1}
    assert len({answer["fts_jobid"] for answer in (*answers, last)}) == 140
    _assert_few_at_fts(answers)


def _submit_all(stack: Stack, target: Target) -> list[str]:
    """Every product of SIZES, by several connections of alice's at once."""

    def submit(part: int) -> list[str]:
        with stack.client("alice") as client:
            return [client.submit(f"synthetic-{size}", target.url) for size in SIZES[part::8]]

    with ThreadPoolExecutor(8) as pool:
        return [job_id for part in pool.map(submit, range(8)) for job_id in part]


def _ended(stack: Stack, user: str, job_id: str) -> dict[str, object]:
    with stack.client(user) as client:
        return client.wait(job_id, timeout=400)


def _assert_written_once(stack: Stack, files: list[Path]) -> None:
    until(lambda: all(map(stack.times_written, files)), "the server logs every copy")
    assert {file.name: stack.times_written(file) for file in files} == {
        file.name: 1 for file in files
    }


def _assert_few_at_fts(answers: list[dict[str, object]]) -> None:
    """While all of hers may be staged at once, of one user and to one host."""
    times = [(str(one["time_transferring"]), 1) for one in answers]
    times += [(str(one["time_success"]), -1) for one in answers]
    at_once = list(itertools.accumulate(change for _, change in sorted(times)))
    assert max(at_once) <= PLACES
