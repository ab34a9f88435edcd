"""An Idempotency-Key leads to its job from every instance, and after every restart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from support.running_stack import Answer, Target, until

from outages.conftest import Pair


def submit(pair: Pair, number: int, target: Target, product: str = "synthetic-40000") -> Answer:
    """Through one of the instances, with the key that is the target's name."""
    fields = ("-d", f"product_id={product}", "-d", f"destination_path={target.url}")
    key = f"Idempotency-Key: {target.directory.name}"
    return pair.instance(number).curl("/submitTransfer", "-H", key, *fields)


def test_from_every_instance_and_after_every_restart(pair: Pair, target: Target) -> None:
    answer = submit(pair, 1, target)
    assert answer.status == 202
    job_id = answer.document["job_id"]
    pair.kill(1)
    assert submit(pair, 2, target).document["job_id"] == job_id
    pair.start(1)
    pair.kill(2)
    assert submit(pair, 1, target).document["job_id"] == job_id
    assert submit(pair, 1, target, "synthetic-40001").status == 422
    pair.start(2)
    with pair.instance(2).client() as client:
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    for number in (1, 2):
        assert submit(pair, number, target).document["job_id"] == job_id
    ((jobs,),) = pair.query("SELECT COUNT(*) FROM jobs WHERE destination_path = %s", target.url)
    assert jobs == 1


def test_of_many_at_once_one_makes_the_job(pair: Pair, target: Target) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: submit(pair, 1 + n % 2, target), range(16)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.document["job_id"] for answer in answers}) == 1
    with pair.instance(1).client() as client:
        assert client.wait(answers[0].document["job_id"], timeout=400)["status"] == "SUCCESS"
    file = target.directory / "synthetic-40000"
    assert until(lambda: pair.times_written(file), "the server logs the copy") == 1
