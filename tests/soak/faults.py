"""The table of what goes wrong in the soak: what each fault does, and what undoes it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deliv_testbed.layout import SERVERS
from support.running_stack import until

from deliv.client import Client
from soak.site import Accepted, Site
from soak.under_load import INSTANCES
from soak.verdict import FINAL

GRIDFTP = tuple(part for part in SERVERS if part.startswith("gridftp-"))  # it can't be stopped
OTHERS = ("mariadb", "rabbitmq", "issuer", "stager", "fts", *INSTANCES)
LONG_OUT = ("stager", "fts")
DELEGATOR = "bob"  # has copies made as himself
STRANGERS = b"of somebody else"
SIZE = 900  # bytes; smaller than those of the load
AHEAD, BEHIND = 600, -600  # seconds
WITHIN, PAUSE = 300.0, 2.0  # seconds
NOTICED = b"the database's clock has stepped"
NOTED = "SELECT 1 FROM clock WHERE ABS(TIMESTAMPDIFF(SECOND, seen, NOW())) < 60"
CLOCKS = ("mariadb", *INSTANCES)  # the parts whose clocks step

Deed = Callable[[Site, str], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to one of `parts`, and undone some seconds later, as `lasts` has it.

    `needs` are further parts that nothing else may disturb meanwhile. `often`: how often it comes
    for each part while others come once.
    """

    name: str
    parts: tuple[str, ...]
    does: Deed
    undoes: Deed
    lasts: tuple[float, float]
    needs: tuple[str, ...] = ()
    often: int = 1


def command(name: str) -> Deed:
    return lambda site, part: site.command(name, part)


def set_clock(seconds: int) -> Deed:
    """A step of a part's clock; the time since boot goes on as before."""
    return lambda site, part: site.layout.clock(part).step(seconds)


def set_database_clock(seconds: int) -> Deed:
    """A step of MariaDB's clock, which lasts until deliv has noticed it, and noted the time."""

    def step(site: Site, part: str) -> None:
        logs = {log: log.stat().st_size for log in site.stack.directory.glob("log/deliv@*.log")}
        site.layout.clock(part).step(seconds)
        until(
            lambda: any(NOTICED in log.read_bytes()[size:] for log, size in logs.items()),
            "deliv notices the step",
            timeout=WITHIN,
        )
        until(lambda: site.stack.query(NOTED), "deliv notes the time", timeout=WITHIN)

    return step


def end_credential(site: Site, _part: str) -> None:
    """What a user delegated is over, whatever FTS copies with it."""
    sql = "UPDATE delegations SET expires = NOW() - INTERVAL 1 SECOND WHERE dn = %s"
    site.stack.query(sql, site.stack.user(DELEGATOR).dn)


def delegate(site: Site, _part: str = "") -> None:
    """With the official client, which does so when little is left."""
    user = site.stack.user(DELEGATOR)
    subprocess.run(
        [
            Path(sys.executable).with_name("fts-rest-delegate"),
            *("-s", site.urls[0], "--capath", site.stack.ca),
            *("--cert", user.cert, "--key", user.key),
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(site.stack.directory)},
        capture_output=True, text=True, timeout=WITHIN, check=True,
    )  # fmt: skip


def forget(site: Site, fts: str) -> None:
    """FTS has a job, loses it before it copies, and a file of somebody else's comes to its place.

    It is down then.
    """
    settings = site.layout.settings(fts)
    before = settings.read_text(encoding="utf-8")
    site.command("kill", fts)
    _write(settings, json.dumps({**json.loads(before), "slots": 0}))
    try:
        site.start(fts)
        user, target, product = "alice", site.stack.target(), f"synthetic-{SIZE}"
        proxy = site.stack.user(user).proxy
        with Client(site.urls[0], proxy, proxy, site.stack.ca, patience=WITHIN) as client:
            job_id = client.submit(product, target.url)
        posted = "SELECT 1 FROM jobs WHERE job_id = %s AND fts_posted IS NOT NULL"
        until(lambda: site.stack.query(posted, job_id), "FTS has the job", timeout=WITHIN)
    finally:
        site.command("kill", fts)
        _write(settings, before)
    site.stack.forget_at_fts(job_id)
    site.accepted.append(
        Accepted(
            job_id=job_id,
            user=user,
            product=product,
            size=SIZE,
            file=target.put(product, STRANGERS),
            status="ERROR",
            error_class="exists",
            content=STRANGERS,
        )
    )


def keep(site: Site, _part: str) -> None:
    """The stager gives back no copy of a product `kept-`."""
    _kept(site).touch()


def give_back(site: Site, _part: str) -> None:
    """At once, not when the back-off of those that ended long ago has it."""
    _kept(site).unlink()
    kept = "product_id LIKE 'kept-%%' AND status IN %s AND due_at IS NOT NULL"
    rows = site.stack.query(f"SELECT job_id FROM jobs WHERE {kept}", FINAL)  # noqa: S608
    job_ids = [job_id for (job_id,) in rows]  # of a load that goes on others follow
    until(lambda: _given_back(site, job_ids), "the copies are given back", timeout=3 * WITHIN)


def _given_back(site: Site, job_ids: list[str]) -> bool:
    """Whether all are; those that back off are due now.

    What is claimed, or waits behind others that are due, is left alone.
    """
    if not job_ids:
        return True
    kept = "job_id IN %s AND due_at IS NOT NULL"
    backs_off = f"{kept} AND due_at > NOW(6) + INTERVAL 35 SECOND"  # `sweeps.hold` is 30
    site.stack.query(f"UPDATE jobs SET due_at = NOW(6) WHERE {backs_off}", job_ids)  # noqa: S608
    time.sleep(PAUSE)
    ((left,),) = site.stack.query(f"SELECT COUNT(*) FROM jobs WHERE {kept}", job_ids)  # noqa: S608
    return not left


def _kept(site: Site) -> Path:
    return site.layout.directory / "stager" / "keep"


def _write(file: Path, text: str) -> None:
    """In one step: it is read at any time."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.rename(file)


@contextmanager
def lasting(site: Site, fault: Fault) -> Iterator[None]:
    """The fault, for as long as a block takes."""
    (part,) = fault.parts
    fault.does(site, part)
    try:
        yield
    finally:
        fault.undoes(site, part)


START, THAW, RIGHT = Site.start, command("thaw"), set_clock(0)
AWAY, FROZEN, STEPPED = (0.5, 5.0), (1.0, 7.0), (5.0, 10.0)
FOR_LONG = (15.0, 40.0)  # longer than any pause before another try (under_load.SETTINGS)

# One neighbour's trouble, which must cost others nothing.
ALL_ALONG = Fault(name="keep copies", parts=("stager",), does=keep, undoes=give_back, lasts=(0, 0))
NEIGHBOURS = (
    Fault(
        name="end a credential", parts=("mariadb",), needs=INSTANCES[:1],
        does=end_credential, undoes=delegate, lasts=FROZEN, often=2,
    ),
    Fault(
        name="step ahead", parts=INSTANCES, does=set_clock(AHEAD), undoes=RIGHT, lasts=STEPPED,
    ),
    Fault(
        name="step back", parts=INSTANCES, does=set_clock(BEHIND), undoes=RIGHT, lasts=STEPPED,
    ),
)  # fmt: skip
FAULTS = (
    *NEIGHBOURS,
    Fault(
        name="step ahead", parts=("mariadb",),
        does=set_database_clock(AHEAD), undoes=RIGHT, lasts=STEPPED,
    ),
    Fault(
        name="step back", parts=("mariadb",),
        does=set_database_clock(BEHIND), undoes=RIGHT, lasts=STEPPED,
    ),
    Fault(
        name="forget a job", parts=("fts",), needs=("mariadb",),
        does=forget, undoes=START, lasts=AWAY, often=3,
    ),
    Fault(
        name="kill", parts=(*OTHERS, *GRIDFTP), does=command("kill"), undoes=START, lasts=AWAY,
    ),
    Fault(
        name="kill for long", parts=(*LONG_OUT, *GRIDFTP), does=command("kill"), undoes=START,
        lasts=FOR_LONG,
    ),
    Fault(name="stop", parts=OTHERS, does=Site.stop, undoes=START, lasts=AWAY),
    Fault(
        name="freeze", parts=(*OTHERS, *GRIDFTP), does=command("freeze"), undoes=THAW, lasts=FROZEN,
    ),
)  # fmt: skip
