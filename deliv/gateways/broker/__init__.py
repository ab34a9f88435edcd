"""RabbitMQ: wakes the workers and reports transitions. The only importer of pika.

Topology, declared again at every connection (nothing transient, as RabbitMQ 4 wants it):

- `deliv.stage`, `deliv.transfer`: quorum queues of work, reached through the default exchange.
  A message that failed too often goes to `deliv.dead`.
- `deliv.dead`: quorum queue of what could not be handled, with the reason in its headers.
- `deliv.events`: durable topic exchange, one message per transition, routing key
  `job.<status in lower case>`, such as `job.success`; `job.*` is all of them.

MariaDB is the truth: losing every message loses nothing, and a duplicate changes nothing.
"""

from deliv.gateways.broker.dead_letters import DeadLetter, Depth
from deliv.gateways.broker.message import MalformedMessage, Message
from deliv.gateways.broker.service import Broker
from deliv.gateways.broker.topology import DEAD, EVENTS, QUEUES, STAGE, TRANSFER

__all__ = [
    "DEAD",
    "EVENTS",
    "QUEUES",
    "STAGE",
    "TRANSFER",
    "Broker",
    "DeadLetter",
    "Depth",
    "MalformedMessage",
    "Message",
]
