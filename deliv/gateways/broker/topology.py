"""Queues and the exchange, and their declaration."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import structlog

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.session import Session

STAGE = "deliv.stage"
TRANSFER = "deliv.transfer"
DEAD = "deliv.dead"
EVENTS = "deliv.events"
# The outbox's routing to the queue that carries it.
QUEUES = MappingProxyType({"stage": STAGE, "transfer": TRANSFER})

DEAD_LETTERS_KEPT = 100_000
# Looking at a dead letter takes and returns it. RabbitMQ 4 would drop it at the 21st look.
LOOKS = 1_000_000_000
PRECONDITION_FAILED = 406

log = structlog.get_logger()


async def declare(session: Session, settings: config.BrokerSettings) -> None:
    """Declare everything; what exists stays as it is."""
    channel = await session.channel()
    await channel.call("exchange_declare", EVENTS, exchange_type="topic", durable=True)
    await channel.close()
    await _queue(session, DEAD, {"x-max-length": DEAD_LETTERS_KEPT, "x-delivery-limit": LOOKS})
    work = {
        "x-delivery-limit": settings.delivery_limit,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD,
    }
    for queue in QUEUES.values():
        await _queue(session, queue, work)


async def _queue(session: Session, name: str, arguments: dict[str, Any]) -> None:
    channel = await session.channel()
    arguments = {"x-queue-type": "quorum", **arguments}
    try:
        await channel.call("queue_declare", name, durable=True, arguments=arguments)
    except BrokerUnavailable as error:
        if channel.code != PRECONDITION_FAILED:
            raise
        # Made with other settings. It serves as well; deleting it is the operator's decision.
        log.warning("queue keeps its older arguments", queue=name, reason=str(error))
        channel = await session.channel()
        await channel.call("queue_declare", name, passive=True)
    await channel.close()
