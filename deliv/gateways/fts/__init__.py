"""deliv's client of FTS3, the file transfer service."""

from deliv.gateways.breaker import State
from deliv.gateways.fts.answers import Origin
from deliv.gateways.fts.client import Endpoint, Identity
from deliv.gateways.fts.endpoints import Fts
from deliv.gateways.fts.outcomes import Outcome, Verdict
from deliv.gateways.fts.transfer import LONGEST_URL, Transfer

__all__ = [
    "LONGEST_URL",
    "Endpoint",
    "Fts",
    "Identity",
    "Origin",
    "Outcome",
    "State",
    "Transfer",
    "Verdict",
]
