"""The command `deliv check`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from deliv import config
from deliv.commands.check.findings import Finding
from deliv.commands.check.repair import Repair
from deliv.commands.check.run import Run
from deliv.config import Config
from deliv.db.database import Database
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import DatabaseUnavailable, DelivError
from deliv.gateways.fts import Fts
from deliv.gateways.fts.users import UserEndpoints
from deliv.gateways.https import HttpsClient
from deliv.gateways.stager import Stager
from deliv.identity.sealing import KeySealer
from deliv.ops import logs
from deliv.store import Delegations, Store, migrations
from deliv.store.inspection import Inspection

CLEAN, FOUND, UNCHECKED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "exit codes: 0 nothing found, or all of it mended; 1 findings; 2 not all could be checked, "
        "and nothing was found in the rest"
    )
    parser.add_argument("--repair", action="store_true", help="mend what is safe, and say so")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object for each finding, then one for the run"
    )


def command(options: argparse.Namespace) -> int:
    """Check, print, and return the exit code."""
    try:
        settings = config.load(config.find(options.config))
        logs.configure(config.Log(level="error", format="text"))
        return asyncio.run(_check(settings, options))
    except DelivError as error:
        print(logs.escaped(f"deliv check: {error}", "\n"), file=sys.stderr)
        return UNCHECKED


async def _check(settings: Config, options: argparse.Namespace) -> int:
    database = Database(settings.database)
    https = HttpsClient(settings.credential, settings.ca_directory)
    try:
        if pending := await migrations.pending(database):
            raise DatabaseUnavailable(f"migrations are pending: {', '.join(pending)}")
        store, fts = Store(database), Fts(settings.fts, https)
        stager = Stager(settings.stager, https, f"{settings.rest.public_url}/doneStaging")
        copiers = _copiers(settings, database, fts)
        run = Run(settings, Inspection(database), store, stager, fts, copiers)
        mending = Repair(store, stager, fts, copiers) if options.repair else None
        return await _report(run, mending, _Json() if options.json else _Text())
    finally:
        https.close()
        database.close()


def _copiers(settings: Config, database: Database, fts: Fts) -> EndpointResolver:
    """FTS under the identities of those who have delegated, where that is configured."""
    users = UserEndpoints(settings.fts, settings.ca_directory)
    if settings.delegation is None:
        return EndpointResolver(fts, users, None)
    vault = KeySealer.load(settings.delegation.key_file)
    return EndpointResolver(
        fts, users, CredentialDelegation(Delegations(database), vault, settings.delegation)
    )


async def _report(run: Run, mending: Repair | None, printer: _Text | _Json) -> int:
    found = mended = 0
    async for finding in run.findings():
        done, said = await mending.mend(finding) if mending else (False, None)
        found, mended = found + 1, mended + done
        printer.finding(finding, done, said)
    printer.summary(run, found, mended)
    if found > mended:
        return FOUND
    return UNCHECKED if run.unchecked else CLEAN


class _Text:
    def finding(self, finding: Finding, _done: bool, said: str | None) -> None:
        subject = f"job {finding.job_id} " if finding.job_id else ""
        print(logs.escaped(f"{subject}{finding.text}"))
        if said:
            print(f"    {said}")

    def summary(self, run: Run, found: int, mended: int) -> None:
        for text in run.unchecked:
            print(logs.escaped(f"could not check {text}"))
        counts = run.counts
        print(
            f"{counts.jobs} jobs, {counts.archived} archived ones, {counts.events} events: "
            f"{found or 'no'} finding{'' if found == 1 else 's'}"
            + (f", {mended} mended" if mended else "")
        )


class _Json:
    def finding(self, finding: Finding, done: bool, said: str | None) -> None:
        document: dict[str, Any] = {
            "rule": finding.rule,
            "job_id": finding.job_id,
            "subject": finding.subject,
            "msg": finding.text,
            "mended": done if said else None,
            "repair": said,
        }
        print(json.dumps({name: value for name, value in document.items() if value is not None}))

    def summary(self, run: Run, found: int, mended: int) -> None:
        document = {
            "jobs": run.counts.jobs,
            "archived": run.counts.archived,
            "events": run.counts.events,
            "findings": found,
            "mended": mended,
            "unchecked": run.unchecked,
        }
        print(json.dumps(document))
