"""All SQL of the service: what it asks and changes in MariaDB, as methods of Store."""

from deliv.store.columns import NOW
from deliv.store.delegations import Delegations
from deliv.store.files import SliceLimits
from deliv.store.leases import Fence
from deliv.store.outbox import Routing
from deliv.store.rests import waiting
from deliv.store.rows import JobEvent, OutboxRow
from deliv.store.store import Store
from deliv.store.turns import Turn

__all__ = [
    "NOW",
    "Delegations",
    "Fence",
    "JobEvent",
    "OutboxRow",
    "Routing",
    "SliceLimits",
    "Store",
    "Turn",
    "waiting",
]
