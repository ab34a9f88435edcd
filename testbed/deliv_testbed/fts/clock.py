"""Times as FTS writes them: UTC without a zone, whole seconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

FORMAT = "%Y-%m-%dT%H:%M:%S"


def text(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime(FORMAT)


def now() -> str:
    return text(time.time())


def epoch(written: str) -> float:
    return datetime.strptime(written, FORMAT).replace(tzinfo=UTC).timestamp()
