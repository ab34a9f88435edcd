"""The stager's HTTPS interface: POST and GET /stage, GET and DELETE /stage/JOB, GET /healthz."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from tornado.web import Application, RequestHandler

from deliv.errors import DelivError, NotFound
from deliv_testbed.serving import listening, stop_signal
from deliv_testbed.stager.access import Access
from deliv_testbed.stager.archive import Archive
from deliv_testbed.stager.callbacks import Callbacks
from deliv_testbed.stager.register import Register, Staging
from deliv_testbed.stager.reports import Reports
from deliv_testbed.stager.requests import JOB, parse
from deliv_testbed.stager.service import CannotRelease, StagingService
from deliv_testbed.stager.settings import StagerSettings
from deliv_testbed.stager.tokens import Tokens
from deliv_testbed.tls import client_context, server_context, stream_of, user_dn, verified_chain

BODY_LIMIT = 64 * 2**10
KEEP, HOLD = "keep", "hold"  # see faults.py


class StagerHandler(RequestHandler):
    def initialize(self, service: StagingService, access: Access) -> None:
        self.service, self.access = service, access

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": True, "msg": HTTPStatus(status_code).phrase})

    def refuse(self, error: DelivError) -> None:
        self.set_status(error.status)
        self.finish({"error": True, "msg": str(error)})


class ClientHandler(StagerHandler):
    """For those who may use the stager."""

    def prepare(self) -> None:
        try:
            self.access.admit(user_dn(verified_chain(stream_of(self.request))))
        except DelivError as error:
            self.refuse(error)


class StageHandler(ClientHandler):
    async def post(self) -> None:
        try:
            request = parse(self.request.body)
            self.access.admit_callback(request.callback)
            await self.service.accept(request)
        except DelivError as error:
            return self.refuse(error)
        self.set_status(HTTPStatus.ACCEPTED)
        self.finish({"error": False, "job_id": request.job_id, "msg": "accepted"})

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps([shown(staging) for staging in self.service.stagings()]))


class StagingHandler(ClientHandler):
    def get(self, job_id: str) -> None:
        staging = self.service.staging(job_id)
        if staging is None:
            return self.refuse(NotFound(f"no staging of job {job_id}"))
        self.finish(shown(staging))

    async def delete(self, job_id: str) -> None:
        try:
            released = await self.service.release(job_id)
        except CannotRelease as error:
            return self.refuse(error)
        if not released:
            return self.refuse(NotFound(f"no staging of job {job_id}"))
        self.finish({"error": False, "job_id": job_id, "msg": "released"})


class HealthHandler(StagerHandler):
    """Also at /, where deliv looks every few seconds whether anybody answers."""

    def get(self) -> None:
        self.finish({"error": False, "msg": "ok"})

    def _log(self) -> None:
        """Nothing: the log is of what is done."""


class StagerNotFoundHandler(StagerHandler):
    def prepare(self) -> None:
        self.refuse(NotFound("nothing here: the stager has /stage, /stage/JOB and /healthz"))


def shown(staging: Staging) -> dict[str, object]:
    """One staging as GET shows it: all but the code."""
    return {name: value for name, value in asdict(staging).items() if name != "authcode"}


def application(service: StagingService, access: Access) -> Application:
    arguments = {"service": service, "access": access}
    return Application(
        [
            ("/stage", StageHandler, arguments),
            (f"/stage/({JOB})", StagingHandler, arguments),
            ("/(?:healthz)?", HealthHandler, arguments),
        ],
        default_handler_class=StagerNotFoundHandler,
        default_handler_args=arguments,
    )


def build(settings: StagerSettings) -> StagingService:
    """The service with its directories; to be called with the event loop running."""
    settings.staging_directory.mkdir(parents=True, exist_ok=True)
    settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    context = client_context(
        settings.client_certificate, settings.client_key, settings.ca_directory
    )
    tokens = Tokens(settings.token, context) if settings.token else None
    reports = Reports(settings.gridftp, settings.staging_path, settings.staging_directory)
    callbacks = Callbacks(context, settings.calls, reports, tokens)
    return StagingService(
        Register(settings.state_directory / "stager.sqlite"),
        Archive(settings.archive_root),
        callbacks,
        settings.staging_directory,
        settings.copies,
        settings.state_directory / KEEP,
        settings.state_directory / HOLD,
        settings.capacity,
    )


async def serve(settings: StagerSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = stop_signal()
    service = build(settings)
    handlers = application(service, Access(settings.clients, settings.callbacks))
    context = server_context(settings, ssl.CERT_REQUIRED)
    async with listening(handlers, settings, context, max_body_size=BODY_LIMIT):
        service.resume()
        await stop.wait()
    await service.close()
