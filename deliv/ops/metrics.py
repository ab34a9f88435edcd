"""What deliv counts, for Prometheus. Labels come from enums and exist before the first event.

Times are the exception: before there is one, 0 would be taken for a time of long ago.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import PLATFORM_COLLECTOR, REGISTRY, Counter, Gauge, Histogram

from deliv.model.rest import PLACES
from deliv.model.states import Status

REGISTRY.unregister(PLATFORM_COLLECTOR)  # it gives Python's version


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Those of one port: `now` by stage, `closed` by why."""

    now: Gauge
    closed: Counter


def _connections(name: str, port: str) -> Connections:
    now = Gauge(name, f"Connections on the {port} port", ["stage"])
    closed = Counter(
        f"{name}_closed_total",
        "Closed without a request: no handshake in time (slow), in favour of a newer one "
        "(crowded), or as no more were possible (full)",
        ["why"],
    )
    for why in ("slow", "crowded", "full"):
        closed.labels(why=why)
    return Connections(now=now, closed=closed)


JOBS = Gauge("deliv_jobs", "Jobs by status, as last counted in the database", ["status"])
STAGING_JOBS = Gauge(
    "deliv_staging_jobs",
    "Jobs whose copy the archive is asked for, or has staged and was not given back yet",
    ["state"],
)
STAGING_BYTES = Gauge(
    "deliv_staging_bytes",
    "What the copies take, each once for all its jobs: as reported, and as expected of others",
    ["size"],
)
FTS_JOBS = Gauge(
    "deliv_fts_jobs", "Staged jobs that have a place at FTS, or wait for one", ["state"]
)
RESTING = Gauge(
    "deliv_destinations_resting",
    "Places that rest, as last counted in the database, by what for",
    ["waiting_for"],
)
REQUESTS = Counter("deliv_http_requests_total", "Answers given", ["call", "code"])
IN_FLIGHT = Gauge("deliv_http_requests_in_flight", "Requests in flight")
REQUEST_SECONDS = Histogram("deliv_http_request_seconds", "Time to answer", ["call"])
PERIODIC_FAILURES = Counter("deliv_periodic_failures_total", "Failed periodic runs", ["name"])
PERIODIC_SUCCESS = Gauge(
    "deliv_periodic_last_success_timestamp_seconds",
    "End of the last good run here; of shared work only where the lease was held",
    ["name"],
)
CERTIFICATE_END = Gauge(
    "deliv_certificate_end_timestamp_seconds",
    "End of the first to end in the chain that is in use: rest, or credential (stager and FTS)",
    ["of"],
)
CRL_END = Gauge(
    "deliv_crl_end_timestamp_seconds", "End of a revocation list, by its file's name", ["file"]
)
CRL_MISSING = Gauge(
    "deliv_crl_missing", "1 for a file that is missing before the lists of a CA", ["file", "ca"]
)
DEPENDENCY_UP = Gauge("deliv_dependency_up", "1 while a dependency answers", ["dependency"])
FTS_BREAKER = Gauge(
    "deliv_fts_breaker", "1 for the state of a FTS server's circuit breaker", ["endpoint", "state"]
)
FTS_CALLS = Counter("deliv_fts_calls_total", "Calls to a FTS server", ["endpoint"])
FTS_UNUSABLE_ANSWERS = Counter(
    "deliv_fts_unusable_answers_total",
    "Answers of a FTS server about a job that deliv can make nothing of",
    ["endpoint"],
)
CONNECTIONS = _connections("deliv_connections", "REST")
MONITORING_CONNECTIONS = _connections("deliv_monitoring_connections", "monitoring")
HANDSHAKE_SECONDS = Counter("deliv_handshake_cpu_seconds_total", "CPU time that handshakes took")
DATABASE_WAITING = Gauge(
    "deliv_database_calls_waiting", "Calls that wait for a connection to MariaDB", ["of"]
)
THROTTLED = Counter("deliv_throttled_total", "Requests over an identity's rate or number")
AUDIT_LINES = Counter("deliv_audit_lines_total", "Lines of the audit log", ["event", "outcome"])
AUDIT_MISSING = Counter("deliv_audit_missing_total", "Audit lines that could not be written")

CLOCK_STEPS = Counter(
    "deliv_database_clock_steps_total",
    "Steps of MariaDB's clock: ahead as each instance sees them, back where they were noted",
    ["direction"],
)

for _direction in ("ahead", "back"):
    CLOCK_STEPS.labels(direction=_direction)
for _of in ("callers", "deliv"):
    DATABASE_WAITING.labels(of=_of)
for _state in ("asked", "staged"):
    STAGING_JOBS.labels(state=_state)
for _size in ("reported", "expected"):
    STAGING_BYTES.labels(size=_size)
for _state in ("placed", "waiting"):
    FTS_JOBS.labels(state=_state)
for _cause in PLACES:
    RESTING.labels(waiting_for=_cause.value)
for _status in Status:
    JOBS.labels(status=_status.value)
