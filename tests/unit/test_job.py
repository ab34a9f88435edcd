"""What of a job its callers can see."""

from __future__ import annotations

from dataclasses import fields

from deliv.model.job import PUBLIC, Job

# Secrets, and what others could make use of or would be misled by.
NEVER = {
    "stager_callback", "destination_key", "idempotency_key", "idempotency_digest", "request_digest",
    "version", "due_at", "submitter_fqans", "partial", "fts_misses",
}  # fmt: skip


def test_a_column_is_hidden_unless_it_is_marked() -> None:
    names = [field.name for field in fields(Job)]
    marked = [field.name for field in fields(Job) if str(field.type).startswith("Shown[")]
    assert list(PUBLIC) == marked
    assert NEVER <= set(names) - set(PUBLIC)
