"""The command `deliv check`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from deliv import config
from deliv.assembly import Parts, build
from deliv.commands.check.findings import Finding
from deliv.commands.check.repair import Repair
from deliv.commands.check.run import Run
from deliv.config import Config
from deliv.errors import DelivError
from deliv.ops import logs
from deliv.store import migrations

CLEAN, FOUND, UNCHECKED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_option(parser)
    parser.epilog = (
        "exit codes: 0 nothing found, or all of it repaired; 1 findings; 2 not all could be "
        "checked, and nothing was found in the rest"
    )
    parser.add_argument("--repair", action="store_true", help="repair what is safe, and say so")
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
    parts = build(settings)
    try:
        await migrations.check_applied(parts.database)
        fixer = repair(parts) if options.repair else None
        return await _report(run(parts), fixer, _Json() if options.json else _Text())
    finally:
        parts.close()


def run(parts: Parts) -> Run:
    return Run(
        parts.settings,
        parts.inspection,
        parts.store,
        parts.stager,
        parts.fts,
        parts.endpoints,
    )


def repair(parts: Parts) -> Repair:
    return Repair(parts.store, parts.stager, parts.fts, parts.endpoints, parts.transfers)


async def _report(run: Run, fixer: Repair | None, printer: _Text | _Json) -> int:
    found = repaired = 0
    async for finding in run.findings():
        if finding.doubtful and fixer is None:
            continue
        done, said = await fixer.repair(finding) if fixer else (False, None)
        found, repaired = found + 1, repaired + done
        printer.finding(finding, done, said)
    printer.summary(run, found, repaired)
    if found > repaired:
        return FOUND
    return UNCHECKED if run.unchecked else CLEAN


class _Text:
    def finding(self, finding: Finding, _done: bool, said: str | None) -> None:
        subject = f"job {finding.job_id} " if finding.job_id else ""
        print(logs.escaped(f"{subject}{finding.text}"))
        if said:
            print(f"    {said}")

    def summary(self, run: Run, found: int, repaired: int) -> None:
        for text in run.unchecked:
            print(logs.escaped(f"could not check {text}"))
        counts = run.counts
        print(
            f"{counts.jobs} jobs, {counts.archived} archived ones, {counts.events} events: "
            f"{found or 'no'} finding{'' if found == 1 else 's'}"
            + (f", {repaired} repaired" if repaired else "")
        )


class _Json:
    """Scripts read these names."""

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

    def summary(self, run: Run, found: int, repaired: int) -> None:
        document = {
            "jobs": run.counts.jobs,
            "archived": run.counts.archived,
            "events": run.counts.events,
            "findings": found,
            "mended": repaired,
            "unchecked": run.unchecked,
        }
        print(json.dumps(document))
