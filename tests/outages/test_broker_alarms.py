"""RabbitMQ short of memory or disk takes no messages: that is shown, and no job waits for it.

So it is with one that has stopped working inside, as a full disk makes it do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deliv_testbed import accounts, layout
from deliv_testbed.parts import Parts
from deliv_testbed.processes import Processes
from support.running_stack import Target, until
from support.small_disk import on_small_disk

from outages.conftest import Pair

CTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
BOTH = (1, 2)


def rabbitmqctl(pair: Pair, *words: str) -> None:
    where, account = layout.Layout(directory=pair.directory), accounts.unprivileged()
    plan = layout.load(where)
    assert plan is not None
    *_, server = Parts(where, plan, account).programs("rabbitmq")
    Processes(where.directory, account).run((CTL, "-q", *words), server.environment)


def broker(pair: Pair, number: int) -> dict[str, Any]:
    """What an instance says of RabbitMQ, and of itself."""
    report = pair.readiness(number)
    state: dict[str, Any] = report.get("dependencies", {}).get("rabbitmq", {})
    return state | {"status": report.get("status")}


def deliver(pair: Pair, target: Target, product: str) -> None:
    with pair.instance(1).client() as client:
        job_id = client.submit(product, target.url)
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"


def assert_blocked(pair: Pair, target: Target, product: str, why: str) -> None:
    """A job is taken and delivered all the same, and both instances say what is wrong."""
    deliver(pair, target, product)
    shown = {"up": False, "detail": f"blocked: {why}", "status": "degraded"}
    until(lambda: all(broker(pair, n) == shown for n in BOTH), f"both say: {why}")


def assert_unblocked(pair: Pair, target: Target, product: str) -> None:
    """By itself; what could not be sent meanwhile is sent now."""
    until(lambda: all(broker(pair, n)["up"] for n in BOTH), "both can publish again")
    until(lambda: not pair.query("SELECT id FROM outbox"), "everything has been sent")
    deliver(pair, target, product)


def test_short_of_memory(pair: Pair, target: Target) -> None:
    rabbitmqctl(pair, "set_vm_memory_high_watermark", "0.0001")
    try:
        assert_blocked(pair, target, "synthetic-43000", "low on memory")
    finally:
        rabbitmqctl(pair, "set_vm_memory_high_watermark", "0.4")
    assert_unblocked(pair, target, "synthetic-43001")


def test_a_full_disk(pair: Pair, target: Target) -> None:
    """Full for RabbitMQ is less than its `disk_free_limit`, 50 MB, of a disk of 120."""
    with on_small_disk(pair, "rabbitmq", pair.directory / "rabbitmq" / "mnesia", "120m") as disk:
        until(lambda: all(broker(pair, n).get("up") for n in BOTH), "both are connected")
        disk.fill(leave=2**23)
        assert_blocked(pair, target, "synthetic-43010", "low on disk")
        disk.clear()
        assert_unblocked(pair, target, "synthetic-43011")
    until(lambda: all(broker(pair, n).get("up") for n in BOTH), "both are connected again")


def test_dead_inside(pair: Pair, target: Target) -> None:
    """It keeps its connections and accepts new ones, but has no database any more."""
    rabbitmqctl(pair, "eval", "application:stop(mnesia).")
    try:
        until(lambda: not any(broker(pair, n)["up"] for n in BOTH), "both see that it is out")
        assert all(broker(pair, n)["status"] == "degraded" for n in BOTH)
        deliver(pair, target, "synthetic-43020")
        assert not any(broker(pair, n)["up"] for n in BOTH)
    finally:
        pair.command("kill", "rabbitmq")
        pair.command("start", "rabbitmq")
    assert_unblocked(pair, target, "synthetic-43021")
