"""A job is withdrawn by its owner: while it waits for the stager, and while it is being copied."""

from __future__ import annotations

from support.running_stack import Answer, Stack, Target, frozen, until


def submitted(stack: Stack, product: str, target: Target) -> str:
    with stack.client() as client:
        return str(client.submit(product, target.url))


def status(stack: Stack, job_id: str) -> str:
    return str(stack.curl(f"/transferStatus?job_id={job_id}").document["status"])


def cancel(stack: Stack, job_id: str, user: str = "alice") -> Answer:
    return stack.curl("/cancelTransfer", "--data", f"job_id={job_id}", user=user)


def test_while_the_stager_is_silent(stack: Stack, target: Target) -> None:
    job_id = submitted(stack, "silent-synthetic-2000", target)
    until(lambda: status(stack, job_id) == "STAGING", "the stager was asked")
    answer = cancel(stack, job_id)
    assert (answer.status, answer.document["status"]) == (200, "CANCELLED")
    assert status(stack, job_id) == "CANCELLED"
    assert cancel(stack, job_id).status == 409
    assert not target.directory.exists()


def test_a_strangers_cancel_has_no_effect(stack: Stack, target: Target) -> None:
    job_id = submitted(stack, "silent-synthetic-2001", target)
    assert cancel(stack, job_id, user="bob").status == 403
    assert status(stack, job_id) != "CANCELLED"
    assert cancel(stack, job_id, user="operator").status == 200


def test_an_unknown_job(stack: Stack) -> None:
    assert cancel(stack, "b8b14f92-e6f3-11e6-8265-fa163e434fb2").status == 404


def test_while_it_is_copied(stack: Stack, target: Target) -> None:
    with frozen(stack, "gridftp-destination"):
        job_id = submitted(stack, "synthetic-2002", target)
        until(lambda: stack.copied_by_fts(job_id), "the copy has begun")
        answer = cancel(stack, job_id)
        assert answer.status in {200, 202}, answer
        until(lambda: status(stack, job_id) == "CANCELLED", "FTS confirmed")
    [(released,)] = until(
        lambda: stack.query(
            "SELECT time_released FROM jobs WHERE job_id = %s AND time_released IS NOT NULL", job_id
        ),
        "what it held is given back",
    )
    assert released is not None
