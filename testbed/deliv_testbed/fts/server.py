"""Puts the parts together and runs them until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import ssl

from cryptography import x509

from deliv.identity.x509.dn import oneline
from deliv_testbed.fts.app import application
from deliv_testbed.fts.bans import Bans
from deliv_testbed.fts.database import FtsDatabase
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.handler import Connections, FtsService
from deliv_testbed.fts.jobs import Jobs
from deliv_testbed.fts.scheduler import Scheduler
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.fts.storage import Storage
from deliv_testbed.fts.workers import Workers
from deliv_testbed.serving import listening, stop_signal
from deliv_testbed.tls import server_context

BODY_LIMIT = 64 * 2**20


async def serve(settings: FtsSettings) -> None:
    """Run until SIGTERM or SIGINT; the processes of copies under way end with it."""
    stop = stop_signal()
    logging.getLogger("tornado.access").setLevel(logging.WARNING)  # it is asked all the time
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = FtsDatabase(settings.state / "fts.sqlite")
    workers = Workers(settings)
    scheduler = Scheduler(settings, database, workers)
    scheduler.recover()
    delegation = Delegation(database)
    bans = Bans(database)
    jobs = Jobs(settings, database, delegation, bans)
    own = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
    service = FtsService(
        settings=settings,
        jobs=jobs,
        delegation=delegation,
        bans=bans,
        storage=Storage(settings, delegation, workers),
        connections=Connections(),
        administrator=oneline(own.subject),
    )
    context = server_context(settings, ssl.CERT_OPTIONAL)  # without a certificate: "anon"
    async with listening(
        application(service),
        settings,
        context,
        idle_connection_timeout=settings.keep_alive,
        max_body_size=BODY_LIMIT,
    ):
        rounds = asyncio.create_task(scheduler.run(jobs))
        rounds.add_done_callback(lambda done: stop.set())  # a server that copies nothing is no use
        await stop.wait()
    rounds.cancel()
    await asyncio.wait([rounds])
    database.close()
    if not rounds.cancelled():
        rounds.result()
