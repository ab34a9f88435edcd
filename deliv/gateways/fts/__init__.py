"""deliv's client of FTS3, the file transfer service."""

from deliv.gateways.breaker import BreakerState
from deliv.gateways.fts.answers import Origin
from deliv.gateways.fts.client import Endpoint, FtsIdentity
from deliv.gateways.fts.endpoints import Fts
from deliv.gateways.fts.outcomes import TransferOutcome, Verdict, forbidden
from deliv.gateways.fts.transfer import LONGEST_URL, Copy, Transfer

__all__ = [
    "LONGEST_URL",
    "BreakerState",
    "Copy",
    "Endpoint",
    "Fts",
    "FtsIdentity",
    "Origin",
    "Transfer",
    "TransferOutcome",
    "Verdict",
    "forbidden",
]
