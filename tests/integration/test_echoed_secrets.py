"""A stager that quotes what it was asked: the one-time code goes no further than the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from structlog.testing import capture_logs
from support.private_mariadb import Server
from support.samples import admitted

from deliv.delivery import authcode
from deliv.errors import InvalidRequest
from deliv.http.handlers.job_view import public
from deliv.model.job import Job, StageReport
from deliv.store import Store
from integration.scripted_fts import Asked, Grid, Reply, reply
from integration.test_stager_gateway import SETTINGS, now, stagers, staging

Answer = Callable[[Asked], Reply]
HOST = SETTINGS.stager.gridftp_hosts[0]


def code_in(asked: Asked) -> str:
    return str(json.loads(asked.body)["authcode"])


def percent(text: str) -> str:
    return "".join(f"%{ord(one):02X}" for one in text)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(one):04x}" for one in text)


def plainly(status: int, write: Callable[[str], str]) -> Answer:
    """The request's body as text, as `write` puts it."""
    return lambda asked: Reply(
        status=status,
        body=f"can't read: {write(asked.body.decode())}".encode(),
        content_type="text/plain",
    )


ECHOES: dict[str, Answer] = {
    "4xx": lambda asked: reply({"msg": f"bad request: {asked.body.decode()}"}, 400),
    "5xx": lambda asked: reply({"msg": f"failed on {asked.body.decode()}"}, 500),
    "not me": lambda asked: reply({"message": json.loads(asked.body)}, 403),
    "as text": plainly(422, str),
    "cut off": lambda asked: reply({"msg": f"authcode={code_in(asked)[:20]}..."}, 400),
    "in a URL": plainly(400, quote),
    "wholly in percents": lambda asked: reply({"msg": percent(code_in(asked))}, 400),
    "in capitals": lambda asked: reply({"msg": code_in(asked).upper()}, 500),
    "escaped in JSON": lambda asked: Reply(
        status=409, body=f'{{"msg": "had {escaped(code_in(asked))}"}}'.encode()
    ),
    "as its content type": lambda asked: Reply(
        status=500, body=b"<html>", content_type=f"text/html; boundary={code_in(asked)}"
    ),
    "no HTTP": lambda asked: Reply(status=200, drop=True),
}


def everything(server: Server) -> str:
    tables = ("jobs", "jobs_archive", "job_events", "job_events_archive", "outbox")
    return str([server.run(f"SELECT * FROM {table}") for table in tables])  # noqa: S608 - constants


def traces(code: str, *places: Any) -> list[str]:
    """Parts of the code of half its length, wherever they are, in whatever case and escape."""
    text = unquote(str(places)).lower()
    text = re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    return [code[n : n + 16] for n in range(17) if code[n : n + 16] in text]


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
async def test_an_answer_that_quotes_the_request(
    grid: Grid, store: Store, migrated: Server, echo: Answer
) -> None:
    job = await admitted(store)
    with capture_logs() as logged:
        async with stagers(grid) as (stager, server):
            server.on("POST", "/stage", echo)
            await staging(store, stager).proceed(job)
            code = code_in(server.asked[0])
            reason = stager.breaker.reason
    job = await now(store, job)
    assert traces(code, everything(migrated), logged, public(job), reason) == []
    assert logged
    assert "[redacted]" in str(public(job)) or echo is ECHOES["no HTTP"]


async def expecting(store: Store, job: Job) -> str:
    code = authcode.new()
    await store.update(job, stager_callback=authcode.digest(code))
    return code


def report(job: Job, code: str, **fields: Any) -> StageReport:
    usual = {"success": True, "staged_to": HOST, "path": "/copy/a.fits", "msg": None}
    given = {"job_id": job.job_id, "product_id": job.product_id, "authcode": code}
    return StageReport(**{**usual, **given, **fields})


@pytest.mark.parametrize("success", [True, False])
async def test_a_report_that_quotes_its_code(
    grid: Grid, store: Store, migrated: Server, success: bool
) -> None:
    job = await admitted(store)
    code = await expecting(store, job)
    with capture_logs() as logged:
        async with stagers(grid) as (stager, _):
            broken_up = f"{code[:9]}\0{code[9:]}", f"{code[:20]}<b></b>\u200b {code[20:]}"
            text = f"done with {code}, {percent(code)}; {'; '.join(broken_up)}"
            await staging(store, stager).report(report(job, code, success=success, msg=text))
    job = await now(store, job)
    assert "done with [redacted], [redacted]" in str(job.stager_status)
    assert traces(code, everything(migrated), logged, public(job)) == []


@pytest.mark.parametrize(
    "place", [{"path": "/copy/{}/a.fits"}, {"staged_to": "{}.example.org"}], ids=["path", "host"]
)
async def test_a_place_that_has_the_code_in_it_is_refused(
    grid: Grid, store: Store, migrated: Server, place: dict[str, str]
) -> None:
    """The code stays good, so nothing may say it."""
    job = await admitted(store)
    code = await expecting(store, job)
    named = {name: value.format(code) for name, value in place.items()}
    with capture_logs() as logged:
        async with stagers(grid) as (stager, _):
            with pytest.raises(InvalidRequest, match="must not have the one-time code") as refused:
                await staging(store, stager).report(report(job, code, **named))
    job = await now(store, job)
    assert traces(code, everything(migrated), logged, public(job), refused.value) == []
    assert str(job.stager_status).startswith("its report was refused:")
