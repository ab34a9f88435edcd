"""deliv's client of FTS3, the file transfer service."""

from deliv.breaker import State
from deliv.fts.answers import Origin
from deliv.fts.client import Endpoint, Identity
from deliv.fts.endpoints import Fts
from deliv.fts.outcomes import Outcome, Verdict
from deliv.fts.transfer import LONGEST_URL, Transfer

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
