"""The monitoring port, HTTP on loopback: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import Application, HTTPError, RequestHandler

from deliv.config import Rest
from deliv.http.connections.in_flight import InFlight
from deliv.http.connections.limiter import ConnectionLimiter
from deliv.http.connections.listener import Listener
from deliv.ops import metrics

CONNECTIONS = 64
READ_HEADER = 2**14
Readiness = Callable[[], Awaitable[dict[str, Any]]]


class MonitoringCall(RequestHandler):
    """Answers errors in JSON, without the name of the software."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": True, "msg": self._reason})


class UnknownMonitoringPath(MonitoringCall):
    def prepare(self) -> None:
        raise HTTPError(404)


class Live(MonitoringCall):
    """GET /live: 200 while the process's event loop runs."""

    def get(self) -> None:
        self.write({"status": "alive"})


class Ready(MonitoringCall):
    """GET /ready: each dependency's state; 503 while requests can't be served at all."""

    def initialize(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def get(self) -> None:
        report = await self._readiness()
        self.set_status(503 if report["status"] == "unavailable" else 200)
        self.write(report)


class Metrics(MonitoringCall):
    """GET /metrics, in Prometheus' text format."""

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.write(generate_latest())


def server(readiness: Readiness, rest: Rest) -> Listener:
    """With the time limits of the REST port. A request has no body."""
    return Listener(
        application(readiness),
        rest=rest,
        limiter=ConnectionLimiter(
            most=CONNECTIONS, per_host=CONNECTIONS, count=metrics.MONITORING_CONNECTIONS
        ),
        in_flight=InFlight(),
        max_header_size=READ_HEADER,
        max_body_size=0,
    )


def application(readiness: Readiness) -> Application:
    return Application(
        [
            ("/live", Live),
            ("/ready", Ready, {"readiness": readiness}),
            ("/metrics", Metrics),
        ],
        default_handler_class=UnknownMonitoringPath,
    )
