"""A repeated submission is one job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from support.running_stack import Stack, Target


def submit(
    stack: Stack, target: Target, key: str, product: str = "synthetic-20"
) -> tuple[int, str]:
    answer = stack.curl(
        "/submitTransfer",
        "-H",
        f"Idempotency-Key: {key}",
        "-d",
        f"product_id={product}",
        "-d",
        f"destination_path={target.url}",
    )
    return answer.status, answer.document["job_id"]


def test_the_same_key_is_the_same_job(stack: Stack, target: Target) -> None:
    key = target.directory.name
    status, job_id = submit(stack, target, key)
    assert status == 202
    assert submit(stack, target, key) == (202, job_id)
    assert submit(stack, target, key, "synthetic-21") == (422, None)
    assert submit(stack, target, f"{key}-2", "synthetic-22")[1] != job_id
    twice = ("-H", "Idempotency-Key: a", "-H", "Idempotency-Key: b")
    place = f"destination_path={target.url}"
    answer = stack.curl("/submitTransfer", *twice, "-d", "product_id=synthetic-20", "-d", place)
    assert (answer.status, answer.document["job_id"]) == (400, None)
    assert "Idempotency-Key is given more than once" in answer.document["msg"]


def test_at_the_same_time_too(stack: Stack, target: Target) -> None:
    key = target.directory.name
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(stack, target, key), range(16)))
    assert len(set(answers)) == 1
    assert answers[0][0] == 202
    ((count,),) = stack.query("SELECT COUNT(*) FROM jobs WHERE destination_path = %s", target.url)
    assert count == 1


def test_a_key_is_its_users_own(stack: Stack, target: Target) -> None:
    key = target.directory.name
    with stack.client("alice") as alice, stack.client("bob") as bob:
        first = alice.submit("synthetic-23", target.url, idempotency_key=key)
        second = bob.submit("synthetic-24", target.url, idempotency_key=key)
    assert first != second
