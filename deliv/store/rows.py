"""Rows of the tables beside `jobs`. Their columns: deliv/store/sql/0001_initial.sql."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deliv.model.states import Status


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """One step in a job's history. `staged`: a staged copy was there."""

    event_id: int
    job_id: str
    submitter: str
    status: Status
    attempt: int
    staged: bool
    detailed_status: str | None
    error_class: str | None
    time: datetime


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """A message that the broker has not confirmed yet. `routing`: see outbox.Routing."""

    id: int
    routing: str
    job_id: str
    payload: Mapping[str, Any]
