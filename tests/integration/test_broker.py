"""The broker on a real RabbitMQ that is cut off, killed, blocked, emptied and poisoned."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from deliv_testbed import pki

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker import (
    DEAD,
    EVENTS,
    STAGE,
    TRANSFER,
    Message,
    connection,
    publisher,
    repair,
    session,
)
from deliv.model.backoff import Backoff
from integration.broker_bench import (
    JOB,
    WORK,
    Recorder,
    connected,
    publish,
    raw,
    running,
    until,
    until_holds,
    until_published,
)
from integration.rabbit import Rabbit, rabbit_fixture, wire  # noqa: F401 - a fixture is used by its name


@pytest.fixture(autouse=True)
def clean(rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    """No queue from the test before, and no long waits between attempts to connect."""
    monkeypatch.setattr(connection, "RECONNECT", Backoff(0.5, 0.5))
    asyncio.run(_delete_queues(rabbit.settings()))


async def _delete_queues(settings: config.BrokerSettings) -> None:
    async with raw(settings) as channel:
        for queue in (STAGE, TRANSFER, DEAD):
            await channel.call("queue_delete", queue)
        await channel.call("exchange_delete", EVENTS)


async def test_work_is_confirmed_handled_and_acknowledged(rabbit: Rabbit) -> None:
    stage, transfer = Recorder(), Recorder()
    async with connected(rabbit.settings(), stage, transfer) as broker:
        assert broker.detail == "connected"
        await publish(broker, Message(routing="stage", job_id=JOB, payload={"attempt": 2}))
        await publish(broker, Message(routing="transfer", job_id=JOB))
        await until(lambda: stage.done and transfer.done)
    assert stage.got == [Message(routing="stage", job_id=JOB, payload={"attempt": 2})]
    assert [message.routing for message in transfer.got] == ["transfer"]
    await until_holds(rabbit.settings(), STAGE, 0)


async def test_many_at_once_each_have_their_confirm(rabbit: Rabbit) -> None:
    stage = Recorder()
    async with connected(rabbit.settings(), stage) as broker:
        await asyncio.gather(*(publish(broker, WORK) for _ in range(1000)))
        await until(lambda: stage.done == 1000)


async def test_events_are_routed_by_status_and_need_no_listener(rabbit: Rabbit) -> None:
    event = Message(routing="event", job_id=JOB, payload={"status": "SUCCESS", "attempt": 1})
    async with connected(rabbit.settings()) as broker, raw(rabbit.settings()) as channel:
        await publish(broker, event)
        frame = await channel.call("queue_declare", "", exclusive=True)
        queue = frame.method.queue
        await channel.call("queue_bind", queue, EVENTS, routing_key="job.success")
        await publish(broker, event)
        await publish(broker, Message(routing="event", job_id=JOB, payload={"status": "ERROR"}))
        method, _properties, body = await channel.get(queue)
        assert method.routing_key == "job.success"
        assert json.loads(body) == {"job_id": JOB, "status": "SUCCESS", "attempt": 1}
        assert await channel.get(queue) is None


async def test_unroutable_work_is_refused_and_the_topology_comes_back(rabbit: Rabbit) -> None:
    async with connected(rabbit.settings()) as broker:
        async with raw(rabbit.settings()) as channel:
            await channel.call("queue_delete", STAGE)
        with pytest.raises(BrokerUnavailable, match="NO_ROUTE"):
            await publish(broker, WORK)
        await until(lambda: not broker.ready)
        await until(lambda: broker.ready)
        await publish(broker, WORK)
    await until_holds(rabbit.settings(), STAGE, 1)


async def test_a_lost_events_exchange_comes_back(rabbit: Rabbit) -> None:
    event = Message(routing="event", job_id=JOB, payload={"status": "SUCCESS"})
    async with connected(rabbit.settings()) as broker:
        async with raw(rabbit.settings()) as channel:
            await channel.call("exchange_delete", EVENTS)
        with pytest.raises(BrokerUnavailable, match="NOT_FOUND"):
            await publish(broker, event)
        await until(lambda: broker.ready)
        await publish(broker, event)


async def test_messages_not_acknowledged_come_again_after_the_connections_are_closed(
    rabbit: Rabbit,
) -> None:
    stage, ups = Recorder(), []
    stage.open.clear()
    async with running(rabbit.settings(), stage, on_up=lambda: ups.append(1)) as broker:
        await until(lambda: broker.ready)
        await publish(broker, WORK)
        await until(lambda: len(stage.got) == 1)
        await asyncio.to_thread(rabbit.ctl, "close_all_connections", "the test says so")
        await until(lambda: len(stage.got) == 2)
        await until(lambda: len(ups) == 2)
        stage.open.set()
        await until(lambda: stage.done == 2)
    await until_holds(rabbit.settings(), STAGE, 0)


async def test_a_cut_wire_fails_what_waits_and_is_mended(rabbit: Rabbit) -> None:
    async with wire(rabbit.node.port) as proxy:
        async with connected(rabbit.settings(port=proxy.port)) as broker:
            proxy.silence()
            waiting = asyncio.create_task(publish(broker, WORK))
            await asyncio.sleep(0)
            await proxy.cut()
            with pytest.raises(BrokerUnavailable):
                await waiting
            await until(lambda: "Connection refused" in broker.detail)
            assert not broker.ready
            with pytest.raises(BrokerUnavailable, match="Connection refused"):
                await publish(broker, WORK)
            proxy.flow()
            await proxy.repair()
            await until(lambda: broker.ready)
            await publish(broker, WORK)


async def test_a_silent_broker_is_noticed(rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 0.5)
    async with wire(rabbit.node.port) as proxy:
        settings = rabbit.settings(port=proxy.port, heartbeat=config.Seconds(1))
        async with connected(settings) as broker:
            proxy.silence()
            with pytest.raises(BrokerUnavailable, match="no confirm"):
                await publish(broker, WORK)
            await until(lambda: not broker.ready)
            proxy.flow()
            await until(lambda: broker.ready)


async def test_readiness_asks_over_an_open_connection(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the broker hangs: the connection is open, and its last heartbeat is recent."""
    monkeypatch.setattr(session, "ANSWER_TIMEOUT", 0.5)
    async with wire(rabbit.node.port) as proxy:
        async with connected(rabbit.settings(port=proxy.port), Recorder()) as broker:
            assert await broker.probe() == "connected"
            proxy.silence()
            assert broker.ready
            with pytest.raises(BrokerUnavailable, match="no answer"):
                await broker.probe()
            await until(lambda: not broker.ready)
            proxy.flow()
            await until(lambda: broker.ready)
            assert await broker.probe() == "connected"


async def test_readiness_sees_a_broker_that_is_dead_inside(rabbit: Rabbit) -> None:
    """As after a full disk: it accepts connections, and its database has stopped."""
    async with connected(rabbit.settings(), Recorder()) as broker:
        rabbit.ctl("eval", "application:stop(mnesia).")
        try:
            with pytest.raises(BrokerUnavailable):
                await broker.probe()
            await until(lambda: not broker.ready)
        finally:
            rabbit.kill()
            rabbit.start()
        await until(lambda: broker.ready, 180)  # its tries are half a minute apart in the end


async def test_a_killed_server_comes_back_with_its_messages(rabbit: Rabbit) -> None:
    settings = rabbit.settings()
    async with connected(settings) as broker:
        declared = time.time()
        await until(lambda: rabbit.names_saved() > declared)
        await publish(broker, WORK)
        await asyncio.to_thread(rabbit.kill)
        await until(lambda: not broker.ready)
        with pytest.raises(BrokerUnavailable):
            await publish(broker, WORK)
        await asyncio.to_thread(rabbit.start)
        await until_published(broker)
    stage = Recorder()
    async with connected(settings, stage):
        await until(lambda: stage.done >= 2)


async def test_queues_that_die_with_the_server_are_declared_again(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 3.10 loses a queue that is deleted, declared and then killed within a second."""
    monkeypatch.setattr(repair, "PATIENCE", 0)
    monkeypatch.setattr(repair, "ATTEMPTS", 2)
    monkeypatch.setattr(session, "ANSWER_TIMEOUT", 6)
    for _ in range(5):
        await _delete_queues(rabbit.settings())
        async with connected(rabbit.settings()) as broker:
            await publish(broker, WORK)
    await asyncio.to_thread(rabbit.kill)
    await asyncio.to_thread(rabbit.start)
    stage = Recorder()
    async with running(rabbit.settings(), stage) as broker:
        await until(lambda: broker.ready, 90)
        await until_published(broker)
        await until(lambda: stage.done)
        assert await broker.dead_letters(1) == []


async def test_a_server_that_is_absent_at_the_start(rabbit: Rabbit) -> None:
    stage = Recorder()
    await asyncio.to_thread(rabbit.kill)
    async with running(rabbit.settings(), stage) as broker:
        await broker.settled(5)
        assert broker.detail == "connecting: Connection refused"
        await asyncio.to_thread(rabbit.start)
        await until_published(broker)
        await until(lambda: stage.done)


async def test_a_memory_alarm_blocks_publishing_but_not_consuming(rabbit: Rabbit) -> None:
    stage = Recorder()
    stage.open.clear()
    async with connected(rabbit.settings(), stage) as broker:
        await publish(broker, WORK)
        await until(lambda: stage.got)
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.0001")
        try:
            with pytest.raises(BrokerUnavailable, match="blocked: low on memory"):
                await publish(broker, WORK)
            assert not broker.ready
            assert broker.detail == "blocked: low on memory"
            with pytest.raises(BrokerUnavailable, match="blocked"):
                await publish(broker, WORK)
            stage.open.set()
            await until(lambda: stage.done == 1)
        finally:
            await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.4")
        await until(lambda: broker.ready)
        await publish(broker, WORK)


async def test_a_queue_deleted_under_the_consumer_is_declared_again(rabbit: Rabbit) -> None:
    stage = Recorder()
    async with connected(rabbit.settings(), stage) as broker:
        async with raw(rabbit.settings()) as channel:
            await channel.call("queue_delete", STAGE)
        await until(lambda: not broker.ready)
        await until(lambda: broker.ready)
        await publish(broker, WORK)
        await until(lambda: stage.done == 1)


async def test_a_poison_message_is_dead_lettered_with_its_reason_and_replayed(
    rabbit: Rabbit,
) -> None:
    stage = Recorder()
    stage.failing = KeyError("no such product")
    async with connected(rabbit.settings(delivery_limit=2), stage) as broker:
        await publish(broker, WORK)
        await until(lambda: len(stage.got) == 3)
        await until_holds(rabbit.settings(), DEAD, 1)
        (letter,) = await broker.dead_letters(10)
        assert letter.queue == STAGE
        assert letter.reason == "failed 3 times, last KeyError: 'no such product'"
        assert Message.decode(letter.body) == WORK
        assert letter.time is not None and abs(letter.time.timestamp() - time.time()) < 60
        stage.failing = None
        assert await broker.replay(10) == 1
        await until(lambda: stage.done == 1)
        assert await broker.dead_letters(10) == []


async def test_the_broker_itself_buries_what_kills_its_workers(rabbit: Rabbit) -> None:
    stage = Recorder()
    stage.open.clear()
    async with connected(rabbit.settings(delivery_limit=1), stage) as broker:
        await publish(broker, WORK)
        for deliveries in (1, 2):
            await until(lambda count=deliveries: len(stage.got) == count)
            await asyncio.to_thread(rabbit.ctl, "close_all_connections", "the worker died")
        await until_holds(rabbit.settings(), DEAD, 1)
        await until(lambda: broker.ready)
        (letter,) = await broker.dead_letters(10)
        assert (letter.queue, letter.reason) == (STAGE, "delivery_limit")
        assert len(stage.got) == 2
        stage.open.set()


async def test_malformed_messages_are_dead_lettered_unhandled(rabbit: Rabbit) -> None:
    stage = Recorder()
    bodies = [b"\xff", b"[]", b"{}", b'{"job_id":"a"}', b'{"job_id":1,"verb":"stage"}', b"[" * 9999]
    async with connected(rabbit.settings(), stage) as broker, raw(rabbit.settings()) as channel:
        for body in bodies:
            channel.do("basic_publish", "", STAGE, body)
        await until_holds(rabbit.settings(), DEAD, len(bodies))
        letters = await broker.dead_letters(10)
        assert {letter.body for letter in letters} == set(bodies)
        assert all(letter.reason.startswith("malformed: ") for letter in letters)
        assert await broker.dead_letters(2) == letters[:2]
    assert stage.got == []


async def test_looking_often_loses_no_dead_letter(rabbit: Rabbit) -> None:
    async with connected(rabbit.settings()) as broker:
        async with raw(rabbit.settings()) as channel:
            channel.do("basic_publish", "", DEAD, b"?")
            await until_holds(rabbit.settings(), DEAD, 1)
        for _ in range(25):
            assert len(await broker.dead_letters(5)) == 1
        assert await broker.replay(5) == 0, "a letter of no known queue stays"
        assert len(await broker.dead_letters(5)) == 1


async def test_stop_waits_for_the_running_handler(rabbit: Rabbit) -> None:
    stage = Recorder()
    stage.open.clear()
    async with connected(rabbit.settings(), stage) as broker:
        await publish(broker, WORK)
        await until(lambda: stage.got)
        stopping = asyncio.create_task(broker.stop(10))
        await publish(broker, WORK)
        stage.open.set()
        await stopping
        assert (stage.done, broker.ready, broker.detail) == (1, False, "stopped")
    await until_holds(rabbit.settings(), STAGE, 1)


async def test_stop_gives_back_what_is_not_done_in_time(rabbit: Rabbit) -> None:
    stage = Recorder()
    stage.open.clear()
    async with connected(rabbit.settings(), stage) as broker:
        await publish(broker, WORK)
        await until(lambda: stage.got)
        async with asyncio.timeout(60):
            await broker.stop(0.2)
    assert stage.done == 0
    await until_holds(rabbit.settings(), STAGE, 1)


async def test_a_queue_with_older_arguments_serves_as_well(rabbit: Rabbit) -> None:
    async with connected(rabbit.settings(delivery_limit=5)):
        pass
    stage = Recorder()
    async with connected(rabbit.settings(delivery_limit=6), stage) as broker:
        await publish(broker, WORK)
        await until(lambda: stage.done == 1)


async def test_a_wrong_password_is_reported_and_a_corrected_one_is_read(
    rabbit: Rabbit, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    async with running(rabbit.settings(password_file=password)) as broker:
        await broker.settled(5)
        assert f"the secret file {password} can't be read" in broker.detail
        password.write_text("wrong")
        await until(lambda: "ACCESS_REFUSED" in broker.detail)
        password.write_text(rabbit.node.password())
        await until(lambda: broker.ready)


async def test_a_missing_virtual_host_is_reported(rabbit: Rabbit) -> None:
    async with running(rabbit.settings(vhost="nowhere")) as broker:
        await broker.settled(5)
        assert "nowhere" in broker.detail and not broker.ready


async def test_tls_with_the_configured_authority(rabbit: Rabbit) -> None:
    stage = Recorder()
    settings = rabbit.settings(port=rabbit.tls_port, ca_file=rabbit.ca_file)
    async with connected(settings, stage) as broker:
        await publish(broker, WORK)
        await until(lambda: stage.done == 1)


async def test_tls_refuses_a_server_of_another_authority(rabbit: Rabbit, tmp_path: Path) -> None:
    stranger = tmp_path / "ca.pem"
    pki.write(stranger, pki.certificate_pem(pki.Authority.create().certificate))
    settings = rabbit.settings(port=rabbit.tls_port, ca_file=stranger)
    async with running(settings) as broker:
        await broker.settled(5)
        assert "certificate verify failed" in broker.detail.lower()
        assert not broker.ready
