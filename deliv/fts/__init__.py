"""deliv's client of FTS3, the file transfer service."""

from deliv.fts.answers import Origin
from deliv.fts.breaker import State
from deliv.fts.client import Endpoint, Identity
from deliv.fts.endpoints import Fts
from deliv.fts.outcomes import Outcome, Verdict
from deliv.fts.transfer import Transfer

__all__ = ["Endpoint", "Fts", "Identity", "Origin", "Outcome", "State", "Transfer", "Verdict"]
