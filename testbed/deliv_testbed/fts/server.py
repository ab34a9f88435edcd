"""Puts the parts together and runs them until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal

from cryptography import x509
from tornado.httpserver import HTTPServer

from deliv.identity.x509.dn import oneline
from deliv_testbed.fts.app import application
from deliv_testbed.fts.bans import Bans
from deliv_testbed.fts.database import Database
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.handler import Peers, Service
from deliv_testbed.fts.jobs import Jobs
from deliv_testbed.fts.scheduler import Scheduler
from deliv_testbed.fts.settings import Settings
from deliv_testbed.fts.tls import server_context

log = logging.getLogger("deliv_testbed.fts")

BODY_LIMIT = 64 * 2**20


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; the processes of copies under way end with it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.state / "fts.sqlite")
    scheduler = Scheduler(settings, database)
    scheduler.recover()
    delegation = Delegation(database)
    bans = Bans(database)
    jobs = Jobs(settings, database, delegation, bans, scheduler.stop)
    own = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
    service = Service(
        settings=settings,
        jobs=jobs,
        delegation=delegation,
        bans=bans,
        peers=Peers(),
        administrator=oneline(own.subject),
    )
    server = HTTPServer(
        application(service),
        ssl_options=server_context(settings),
        idle_connection_timeout=settings.keep_alive,
        max_body_size=BODY_LIMIT,
    )
    server.listen(settings.port, settings.host)
    log.info("listening on %s:%d", settings.host, settings.port)
    rounds = asyncio.create_task(scheduler.run(jobs))
    rounds.add_done_callback(lambda done: stop.set())  # a server that copies nothing is of no use
    await stop.wait()
    server.stop()
    rounds.cancel()
    await asyncio.wait([rounds])
    await server.close_all_connections()
    database.close()
    if not rounds.cancelled():
        rounds.result()
